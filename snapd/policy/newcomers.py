"""A VM made anew under the name of one that is gone: said once, since nothing is carried over."""

from __future__ import annotations

import logging

from ..inventory import Change, DomainPicture, Inventory
from ..journal import about
from ..settings import matches
from .engine import Engine
from .policies import Policies

log = logging.getLogger(__name__)


class Newcomers:
    """Listens for VMs that a policy has not seen before. Once it has, it has a row for them: so
    this is said once, over restarts too."""

    def __init__(self, inventory: Inventory, policies: Policies, engine: Engine) -> None:
        self._inventory, self._policies, self._engine = inventory, policies, engine
        inventory.on_change(self._on_change)
        inventory.on_status(self._on_status)

    def _on_change(self, change: Change) -> None:
        if change.before is None and change.after and not self._inventory.loading:
            self._look(change.after)

    def _on_status(self) -> None:
        if self._inventory.connected and not self._inventory.loading:
            for picture in self._inventory.domains.values():
                self._look(picture)

    def _look(self, picture: DomainPicture) -> None:
        info, slots = picture.info, self._engine.slots
        for policy in self._policies.in_force.values():
            if (policy.name, info.uuid) in slots or not matches(policy, info.name, info.uuid):
                continue
            for row in slots.values():
                gone = row.domain not in self._inventory.domains
                if row.policy == policy.name and row.domain_name == info.name and gone:
                    log.warning(
                        "VM %s is another one than policy %s had under that name (UUID %s, now "
                        "%s): it begins anew there, the snapshots of the old one are not its own",
                        info.name,
                        policy.name,
                        row.domain,
                        info.uuid,
                        extra=about(info, policy=policy.name),
                    )
                    break
