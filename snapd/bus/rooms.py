"""The rooms that the bus objects answer from, in one hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..hypervisor import Hypervisor
from ..inventory import Inventory
from ..operations import Catalog, Jobs, Operations, Ownership
from ..policy import Engine, Health, Holds, Policies, Pruner
from ..settings import Settings
from ..store import Store
from .known import Known


@dataclass(frozen=True)
class Rooms:
    """Built by daemon.py. clock: seconds UTC. config: the folder of the admin's files."""

    hypervisor: Hypervisor
    inventory: Inventory
    store: Store
    jobs: Jobs
    operations: Operations
    catalog: Catalog
    ownership: Ownership
    policies: Policies
    engine: Engine
    holds: Holds
    pruner: Pruner
    health: Health
    settings: Settings
    config: Path
    clock: Callable[[], float] = time.time
    known: Known = field(default_factory=Known)
