"""Snapshot names: the rule for those that we make, and the names that we make up.

Names that others made are never judged here: they are listed, reverted and deleted as they are.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from .errors import InvalidName
from .model import Origin

MAX_BYTES = 128
VM_CHARACTERS = 60
_RULE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def check(name: str) -> str:
    """Return the name, or raise InvalidName with what is wrong and a name that works.

    The rule is what every libvirt from 9.0 to 11.3 keeps, reverts and deletes (LIBVIRT.md 10).
    """
    fault = _fault(name)
    if fault:
        raise InvalidName(
            f"snapshot name {name[:64]!r} {fault}; {propose(name)!r} works "
            "(letters, digits, '.', '_', '-'; free text belongs in the description)",
            item=name[:64],
        )
    return name


def _fault(name: str) -> str:
    size = len(name.encode("utf-8", "surrogatepass"))
    if not name:
        return "is empty"
    if size > MAX_BYTES:
        return f"has {size} bytes, at most {MAX_BYTES} are allowed"
    if name.isdigit():
        return "must not be digits only: QEMU would take it for an image snapshot's number"
    if name[0] in ".-":
        return f"must not start with {name[0]!r}"
    if not _RULE.fullmatch(name):
        bad = next(c for c in name if not re.fullmatch(r"[A-Za-z0-9._-]", c))
        return f"must not contain {bad!r}"
    return ""


def propose(name: str) -> str:
    """A name that passes check() and is as near as can be to the one that didn't."""
    near = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[: MAX_BYTES - 5].rstrip("-.")
    if not near or near.isdigit():
        near = f"snap-{near}" if near else "snapshot-1"
    return near


def generated(stem: str, at: int, taken: frozenset[str] = frozenset(), tail: str = "") -> str:
    """`STEM-20261124T013000Z` (UTC), with the given random tail where that is taken.

    stem: a policy's name, or an origin's word (see stem_of). at: slot or time of taking.
    """
    name = f"{stem}-{datetime.fromtimestamp(at, UTC):%Y%m%dT%H%M%SZ}"
    return f"{name}-{tail}" if name in taken else name


def stem_of(origin: Origin) -> str:
    """The first word of generated names of snapshots that no policy asked for."""
    return origin.value if origin in (Origin.SAFETY, Origin.TRIAL) else Origin.MANUAL.value


def overlay_file(vm: str, target: str, snapshot: str, tail: str = "") -> str:
    """The name of the file that a disk is written to once an external snapshot is made:
    `web-1-vda.NAME.qcow2`; AppArmor's helper reads by endings (LIBVIRT.md 9).

    snapshot: one that passes check(). tail: a short random word, where that name is taken.
    """
    return f"{_stem(vm)}-{target}.{snapshot}{_tail(tail)}.qcow2"


def memory_file(vm: str, snapshot: str, tail: str = "") -> str:
    """The same of the file that holds an external snapshot's RAM: `web-1.NAME.ram`."""
    return f"{_stem(vm)}.{snapshot}{_tail(tail)}.ram"


def _stem(vm: str) -> str:
    """What a VM's files begin with: libvirt takes almost any name, folders and tools don't."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", vm).strip("-.")[:VM_CHARACTERS] or "vm"


def _tail(tail: str) -> str:
    return f"-{tail}" if tail else ""
