"""The Manager's methods that look after what is there: audit, and clearing up what is ours."""

from __future__ import annotations

from typing import Any

from ..wire import paths
from . import verbs
from .rooms import Rooms
from .router import Call

Options = dict[str, Any]


class UpkeepMethods:
    """Audit, DeleteOwnSnapshots."""

    _rooms: Rooms

    async def audit(self, call: Call, domain: str, options: Options) -> str:
        await self._rooms.inventory.ready("cannot audit")
        info = self._rooms.inventory.find(domain).info if domain else None
        job = await self._rooms.operations.audit(info, await verbs.asker(call, options))
        return paths.job(job.id)

    async def delete_own_snapshots(self, call: Call, domain: str, options: Options) -> str:
        await self._rooms.inventory.ready("cannot delete snapshots")
        info = self._rooms.inventory.find(domain).info
        job = await self._rooms.operations.delete_own(
            info,
            await verbs.asker(call, options),
            dry_run=options["dry_run"],
            manual=options["manual"],
        )
        return paths.job(job.id)
