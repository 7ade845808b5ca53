"""Calls that a guest's agent carries out, its own time-out (seconds) set first: a restart of
libvirtd may have lost it. Plain functions for a thread."""

from __future__ import annotations

import libvirt

SECONDS = 10


def freeze(dom: libvirt.virDomain, seconds: int) -> int:
    """Freeze the file systems; how many."""
    dom.agentSetResponseTimeout(seconds, 0)
    return int(dom.fsFreeze(None, 0))


def thaw(dom: libvirt.virDomain, seconds: int) -> int:
    """Thaw the file systems; how many."""
    dom.agentSetResponseTimeout(seconds, 0)
    return int(dom.fsThaw(None, 0))


def set_time(dom: libvirt.virDomain, time: int) -> None:
    """Set the clock, to seconds since 1970."""
    dom.agentSetResponseTimeout(SECONDS, 0)
    dom.setTime({"seconds": time})
