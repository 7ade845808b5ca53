"""The guarded verbs, and the queue that each domain's jobs stand in.

Every verb is check, record the intent, act, verify, record the result. `Operations` is the way in.
"""

from .catalog import Catalog
from .create import Wish
from .job import DAEMON, Job, Outcome, Request
from .jobs import Jobs
from .operations import Asker, Operations, identity
from .revert import RevertWish
from .support import delete_blocker, revert_blocker, support

__all__ = [
    "DAEMON",
    "Asker",
    "Catalog",
    "Job",
    "Jobs",
    "Operations",
    "Outcome",
    "Request",
    "RevertWish",
    "Wish",
    "delete_blocker",
    "identity",
    "revert_blocker",
    "support",
]
