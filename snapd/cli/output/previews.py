"""A Preview as lines for people: what will be, what it costs, what is lost, what is in the way."""

from __future__ import annotations

from typing import Any

from . import times, ways

GOT = {
    "offline": "the VM was off",
    "memory": "with RAM",
    "quiesced": "quiesced by the guest agent",
    "crash": "crash-consistent",
}
REFUSED = 4
"""The exit code for what would be refused."""


def lines(preview: dict[str, Any], bus: str, *, verb: str) -> list[str]:
    """What a preview of that verb (Create, Revert, Delete) says; the last lines are what is in the
    way and the ways out."""
    got = GOT.get(preview["Consistency"], preview["Consistency"])
    what = [preview["Kind"], *([got] if got else [])]
    without = preview["DisksLeftOut"]
    # of a snapshot that is there and has no record of ours, libvirt may know none
    disks = f"disks {', '.join(preview['Disks']) or ('none' if verb == 'Create' else 'unknown')}"
    if without:
        disks += f" (without {', '.join(without)})"
    found = [f"  snapshot: {', '.join([*what, disks])}"]
    found += ["  made by another tool"] if preview["Foreign"] else []
    if preview["FinalState"]:
        found.append(f"  the VM afterwards: {preview['FinalState']}")
    found += _costs(preview)
    found += [f"  lost: {times.local(one['Message'])}" for one in preview["Loses"]]
    for blocker in preview["Blockers"]:
        found.append(f"  refused now ({blocker['Reason']}): {times.local(blocker['Message'])}")
        found += [f"    way out: {way}" for way in ways.told(blocker["Ways"], bus)]
    return found


def _costs(preview: dict[str, Any]) -> list[str]:
    pause, need = preview["PauseMilliseconds"], preview["SpaceNeed"]
    found = []
    if pause > 0:
        found.append(f"  the VM stands still for about {span(pause)}")
    elif pause < 0:
        found.append("  the VM stands still for a moment; how long isn't known")
    if need:
        have = f", {_mib(preview['SpaceHave'])} MiB are free" if preview["SpaceHave"] else ""
        found.append(f"  room: at most {_mib(need)} MiB{have}")
    return found


def span(milliseconds: int) -> str:
    """`40 ms`, `12 s`: how long a guest stands still."""
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.0f} s"


def _mib(size: int) -> int:
    return size >> 20


def size(count: int) -> str:
    """`512 MiB`, `40.0 GiB`."""
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{_mib(count)} MiB"
