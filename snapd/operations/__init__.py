"""The guarded verbs, and the queue that each domain's jobs stand in.

Every verb is check, record the intent, act, verify, record the result. `Operations` is the way in.
"""

from ..hypervisor import ChainFacts
from .catalog import Catalog
from .halfmade import HalfMade
from .job import DAEMON, WAITING, Job, Outcome, Request
from .jobs import Jobs
from .operations import Asker, Operations, identity
from .ownership import Ownership
from .preflight import Blocker, MergeOrder, merge_order, redefined
from .preview import Preview
from .support import NO_CHAINS, Outlook, Tree, delete_blocker, outlook, revert_blocker, support
from .thaw import FrozenGuest
from .wishes import DeleteWish, RevertWish, Wish

__all__ = [
    "DAEMON",
    "NO_CHAINS",
    "WAITING",
    "Asker",
    "Blocker",
    "Catalog",
    "ChainFacts",
    "DeleteWish",
    "FrozenGuest",
    "HalfMade",
    "Job",
    "Jobs",
    "MergeOrder",
    "Operations",
    "Outcome",
    "Outlook",
    "Ownership",
    "Preview",
    "Request",
    "RevertWish",
    "Tree",
    "Wish",
    "delete_blocker",
    "identity",
    "merge_order",
    "outlook",
    "redefined",
    "revert_blocker",
    "support",
]
