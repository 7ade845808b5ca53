"""The store: one SQLite file, one daemon, one writer thread.

`Store.open` is the way in. It holds only what libvirt cannot: see schema.py.
"""

from .aside import asides, set_aside
from .opening import StoreBroken, StoreInUse
from .rows import REMOVED_OUTSIDE, HistoryRow, HoldRow, JobRow, RestRow, RunRow, SlotRow
from .store import Store

__all__ = [
    "REMOVED_OUTSIDE",
    "HistoryRow",
    "HoldRow",
    "JobRow",
    "RestRow",
    "RunRow",
    "SlotRow",
    "Store",
    "StoreBroken",
    "StoreInUse",
    "asides",
    "set_aside",
]
