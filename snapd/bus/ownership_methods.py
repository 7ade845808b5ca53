"""The Manager's methods about whose a snapshot is, and who keeps his hands off: Adopt, Hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidArgument, NoSuchDomain, Unavailable
from ..inventory import DomainPicture
from ..model import DomainInfo, SnapshotInfo, State
from ..settings import matches
from . import verbs
from .rooms import Rooms
from .router import Call

MAX_NAMES = 1000
MAX_REASON = 1024
SHOWN = 5
METHODS = ("Adopt", "Hold", "Unhold")
Options = dict[str, Any]


class OwnershipMethods:
    """Adopt, Hold, Unhold."""

    _rooms: Rooms

    async def adopt(
        self, call: Call, domain: str, names: list[str], policy: str, options: Options
    ) -> None:
        uid = await call.uid()
        picture, infos = self._named(domain, names)
        meant = self._rooms.policies.get(policy)
        info = picture.info
        if not matches(meant, info.name, info.uuid):
            raise InvalidArgument(
                f"policy {policy} does not match VM {info.name}, so it would never look after what "
                "it is given; add the VM to it, or name another policy",
                item=policy,
            )
        await self._rooms.ownership.adopt(picture, infos, policy, uid)

    def _named(self, domain: str, names: list[str]) -> tuple[DomainPicture, list[SnapshotInfo]]:
        """The snapshots meant, each once. Raises NoSuchSnapshot with the first that isn't there."""
        if not 1 <= len(names) <= MAX_NAMES:
            raise InvalidArgument(f"{len(names)} names are given; it is 1 to {MAX_NAMES}")
        inventory = self._rooms.inventory
        found = [inventory.find_snapshot(domain, name)[1] for name in names]
        return inventory.find(domain), list({info.name: info for info in found}.values())

    async def hold(
        self, call: Call, domain: str, policy: str, until: int, reason: str, options: Options
    ) -> None:
        info = self._rooms.inventory.find(domain).info if domain else None
        if policy:
            self._rooms.policies.get(policy)
        await self._rooms.holds.hold(
            policy, info, until=until, reason=checked_reason(reason), owner=await call.uid()
        )

    async def unhold(self, call: Call, domain: str, policy: str, options: Options) -> None:
        if policy and not any(row.policy == policy for row in self._rooms.holds.in_force()):
            self._rooms.policies.get(policy)
        info = self._held_domain(domain)
        await self._rooms.holds.unhold(policy, info, owner=await call.uid())

    def _held_domain(self, domain: str) -> DomainInfo | None:
        """The domain meant; one that is gone by its UUID, as long as something is held on it."""
        if not domain:
            return None
        try:
            return self._rooms.inventory.find(domain).info
        except (NoSuchDomain, Unavailable):
            if any(row.domain == domain for row in self._rooms.holds.in_force()):
                return DomainInfo(domain, domain, State.UNKNOWN)
            raise

    def _about(self, method: str, arguments: Mapping[str, Any]) -> dict[str, str]:
        """What the act is about, for whoever has to allow it; of an Adopt each snapshot's identity
        with it, since the names can be used again while somebody is asked."""
        domain, policy = arguments["domain"], arguments["policy"]
        about = {"verb": method, "policy": policy}
        if method == "Adopt":
            picture, infos = self._named(domain, arguments["names"])
            names = [info.name for info in infos]
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            identity = repr([(info.name, info.created) for info in infos])
            about["snapshot"] = ", ".join(names[:SHOWN]) + more
            about["identity"] = hashlib.sha256(identity.encode()).hexdigest()[:16]
            return {**about, **verbs.domain_details(method, picture.info)}
        info = self._held_domain(domain)
        return {**about, **(verbs.domain_details(method, info) if info else {})}


def checked_reason(text: str) -> str:
    """A reason in a person's words. Raises InvalidArgument."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_REASON:
        raise InvalidArgument(f"the reason has {size} bytes, at most {MAX_REASON} are allowed")
    return text
