"""Everything against a revert to an external snapshot."""

from __future__ import annotations

from ...hypervisor import DomainFacts
from ...model import SnapshotInfo
from .blocker import Blocker
from .external import external_blockers
from .terms import RevertTerms


def revert_external_blockers(
    facts: DomainFacts, snapshot: SnapshotInfo, terms: RevertTerms
) -> list[Blocker]:
    """Everything against reverting to it now; facts are about this snapshot."""
    return [*external_blockers(facts.info, facts.snapshots, snapshot, "revert to")]
