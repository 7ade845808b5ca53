"""A blocker: one thing that is in the way of a verb."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...errors import SnapdError


@dataclass(frozen=True, slots=True)
class Blocker:
    """Why not: error class, reason word, the thing, a sentence's end, and the ways out (words).

    need, have: bytes, where it is about room.
    """

    error: type[SnapdError]
    reason: str
    item: str
    message: str
    ways: tuple[str, ...] = field(default=())
    need: int | None = None
    have: int | None = None

    def exception(self, what: str) -> SnapdError:
        """As an error of the act: `cannot snapshot VM web-1`."""
        disk = self.item if self.reason in _DISK_REASONS else ""
        return self.error(
            f"{what}: {self.message}",
            reason=self.reason,
            disk=disk,
            item=self.item,
            need=self.need,
            have=self.have,
            ways=self.ways,
        )


_DISK_REASONS = {
    "raw-disk",
    "block-device",
    "network-disk",
    "shared-disk",
    "shared-base",
    "missing-disk",
    "wrong-format",
    "transient-disk",
    "encrypted-disk",
    "data-file",
    "image-unreadable",
    "other-file",
    "pending-config",
}
