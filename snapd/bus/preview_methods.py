"""The Manager's previews: what a verb would do, with the reasons; nothing is changed."""

from __future__ import annotations

from typing import Any

from ..model import Warned
from ..operations import Blocker, DeleteWish, Preview, identity
from . import verbs
from .listing import Row
from .rooms import Rooms
from .router import Call

Options = dict[str, Any]


class PreviewMethods:
    """PreviewCreate, PreviewRevert, PreviewDelete."""

    _rooms: Rooms

    async def preview_create(self, call: Call, domain: str, name: str, options: Options) -> Row:
        await self._rooms.inventory.ready("cannot look at the VM")
        info = self._rooms.inventory.find(domain).info
        wish = verbs.create_wish(info.name, name, options)
        return preview_row(await self._rooms.operations.preview_create(info, wish))

    async def preview_revert(self, call: Call, domain: str, name: str, options: Options) -> Row:
        await verbs.look_again(self._rooms, domain)
        picture, info = self._rooms.inventory.find_snapshot(domain, name)
        key = identity(picture.info, info, options["created"])
        wish = verbs.revert_wish(key, options)
        return preview_row(await self._rooms.operations.preview_revert(wish))

    async def preview_delete(self, call: Call, domain: str, name: str, options: Options) -> Row:
        await verbs.look_again(self._rooms, domain)
        picture, info = self._rooms.inventory.find_snapshot(domain, name)
        wish = DeleteWish(identity(picture.info, info, options["created"]), options["children"])
        return preview_row(await self._rooms.operations.preview_delete(wish))


def preview_row(preview: Preview) -> Row:
    return {
        "Verdict": preview.verdict,
        "Blockers": [_blocker(b) for b in preview.blockers],
        "Kind": preview.kind,
        "Consistency": preview.consistency,
        "Disks": list(preview.disks),
        "DisksLeftOut": list(preview.left_out),
        "FinalState": preview.final_state,
        "Loses": [_loss(w) for w in preview.loses],
        "LosesSince": preview.loses_since,
        "PauseMilliseconds": preview.pause_ms,
        "SpaceNeed": preview.need,
        "SpaceHave": preview.have,
        "Foreign": preview.foreign,
    }


def _blocker(blocker: Blocker) -> Row:
    return {
        "Reason": blocker.reason,
        "Item": blocker.item,
        "Message": blocker.message,
        "Ways": list(blocker.ways),
    }


def _loss(loss: Warned) -> Row:
    return {"Reason": loss.reason, "Item": loss.item, "Message": loss.message}
