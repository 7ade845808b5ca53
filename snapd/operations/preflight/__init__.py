"""Preflight: pure verdicts over facts. Nothing here asks anybody anything.

A blocker names the rule by its reason word, the offending thing, and the ways out. The rules are
LIBVIRT.md's sections 9 and 10: each was earned by a loss that somebody replayed.
"""

from .blocker import Blocker
from .create import create_blockers
from .delete import delete_blockers
from .disks import disk_blockers, monitor_blockers, writable
from .domain import holder_blockers, memory_blockers, redefined, state_blockers, tree_blockers
from .external import (
    cheap_external_blockers,
    external_blockers,
    external_create_blockers,
    later_blockers,
)
from .external_revert import delete_after_blockers, revert_external_blockers
from .merge import merge_blockers, rest_blockers, shape_blockers
from .merge_order import MergeOrder, merge_order
from .revert import bitmap_blockers, revert_blockers
from .space import create_needs, space_blockers, unmeasured_blockers
from .terms import RevertTerms

__all__ = [
    "Blocker",
    "MergeOrder",
    "RevertTerms",
    "bitmap_blockers",
    "cheap_external_blockers",
    "create_blockers",
    "create_needs",
    "delete_after_blockers",
    "delete_blockers",
    "disk_blockers",
    "external_blockers",
    "external_create_blockers",
    "holder_blockers",
    "later_blockers",
    "memory_blockers",
    "merge_blockers",
    "merge_order",
    "monitor_blockers",
    "redefined",
    "rest_blockers",
    "revert_blockers",
    "revert_external_blockers",
    "shape_blockers",
    "space_blockers",
    "state_blockers",
    "tree_blockers",
    "unmeasured_blockers",
    "writable",
]
