"""Why a file could not be looked at, and the way out. Pure: from the host's error to words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unseen:
    """why: for after a colon; ways: as a Blocker's."""

    why: str
    ways: tuple[str, ...] = ("try-again",)


SILENT = Unseen("its storage does not answer")
DENIED = Unseen(
    "virtsnapd may not read it: on a network file system the server decides, and has to let user "
    "virtsnapd read there",
    ("allow-reading",),
)
HIDDEN = Unseen(
    "virtsnapd's service sees no devices: give it a drop-in with PrivateDevices=no and "
    "DeviceAllow=block-* r (systemctl edit virtsnapd)",
    ("allow-devices",),
)
OURS_ALONE = Unseen(
    "libvirt sees it, and virtsnapd's service does not: its settings hide it, or it is on a mount "
    "that the service does not get (systemctl restart virtsnapd)",
    ("allow-reading",),
)


def unseen(error: Exception, *, device: bool) -> Unseen:
    """What an OSError (or a ValueError: no path at all) tells of a file. device: it is in /dev."""
    if device and isinstance(error, FileNotFoundError | PermissionError):
        return HIDDEN
    if isinstance(error, TimeoutError):
        return SILENT
    if isinstance(error, PermissionError):
        return DENIED
    return Unseen(f"its storage fails: {getattr(error, 'strerror', '') or error}")
