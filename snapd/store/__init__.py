"""The store: one SQLite file, one daemon, one writer thread.

`Store.open` is the way in. It holds only what libvirt cannot: see schema.py.
"""

from .rows import HistoryRow, JobRow, RunRow, SlotRow
from .store import Store, StoreBroken, StoreInUse, asides, set_aside

__all__ = [
    "HistoryRow",
    "JobRow",
    "RunRow",
    "SlotRow",
    "Store",
    "StoreBroken",
    "StoreInUse",
    "asides",
    "set_aside",
]
