"""The Snapshot's methods that make no job: pin, describe, look inside."""

from __future__ import annotations

from typing import Any

from ..inventory import DomainPicture
from ..model import Snapshot
from . import verbs
from .ownership_methods import checked_reason
from .rooms import Rooms
from .router import Call

Options = dict[str, Any]


class SnapshotMethods:
    """Pin, Unpin, SetDescription, GetXML."""

    _rooms: Rooms
    _picture: DomainPicture
    _snapshot: Snapshot

    async def pin(self, call: Call, reason: str, options: Options) -> None:
        uid = await call.uid()
        info = self._snapshot.info
        await self._rooms.ownership.pin(self._picture, info, checked_reason(reason), uid)

    async def unpin(self, call: Call, options: Options) -> None:
        uid = await call.uid()
        await self._rooms.ownership.unpin(self._picture, self._snapshot.info, uid)

    async def set_description(self, call: Call, text: str, options: Options) -> None:
        domain, key = self._picture.info, self._snapshot.key
        checked = verbs.checked_description(text, domain.name, key.name)
        await self._rooms.operations.describe(domain, key, checked, await call.uid())

    async def get_xml(self, call: Call, options: Options) -> str:
        snapshot = self._snapshot
        return await self._rooms.hypervisor.snapshot_xml(snapshot.domain, snapshot.info.name)
