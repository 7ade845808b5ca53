"""What a VM, as it is, does not allow: not tried again until it, or the policy, is another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..errors import SnapdError
from ..inventory import DomainPicture, Inventory
from ..model import DomainInfo, Kind, Policy, Record
from .coverage import outlook_of

YES = "yes"


@dataclass(frozen=True, slots=True)
class _Refusal:
    revision: str
    seen: tuple[DomainInfo, frozenset[str]]
    error: SnapdError


class Refusals:
    """Refusals that lists show as well, by what libvirt tells of a VM; those that only a
    deep look finds may go without a sign, and are found again at each slot. records: ours of a
    domain."""

    def __init__(self, inventory: Inventory, records: Callable[[str], Sequence[Record]]) -> None:
        self._inventory, self._records = inventory, records
        self._noted: dict[tuple[str, str], _Refusal] = {}

    def note(self, policy: Policy, picture: DomainPicture, error: SnapdError) -> bool:
        """Note why a policy's snapshot was refused; whether it is of the kind that stands."""
        hypervisor = self._inventory.hypervisor
        found = outlook_of(
            policy,
            picture,
            self._records(picture.info.uuid),
            monitor=hypervisor.has_monitor,
            has_images=hypervisor.has_images,
            chains=hypervisor.chains,
            version=hypervisor.version,
        )
        if found.verdict == YES:
            return False
        key = (policy.name, picture.info.uuid)
        self._noted[key] = _Refusal(policy.revision, _seen(picture), error)
        return True

    def forget(self, policy: str, uuid: str) -> None:
        self._noted.pop((policy, uuid), None)

    def standing(self, policy: Policy, picture: DomainPicture) -> SnapdError | None:
        """The refusal that stands, of this very policy and of the VM as it is; None = try."""
        found = self._noted.get((policy.name, picture.info.uuid))
        if found is None:
            return None
        same = found.revision == policy.revision and found.seen == _seen(picture)
        return found.error if same else None


def _seen(picture: DomainPicture) -> tuple[DomainInfo, frozenset[str]]:
    """What a refusal can come from; what changes by itself is left out."""
    info = replace(picture.info, current="", busy_since=0, instance=-1, io_error=False)
    others = {s.name for s in picture.snapshots.values() if s.kind is Kind.EXTERNAL}
    return info, frozenset(others)
