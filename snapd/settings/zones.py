"""Time zones by IANA name, and the host's own."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from zoneinfo import ZoneInfo

from ..errors import InvalidArgument

FALLBACK = "UTC"
# files beside the zones: what the host is set to, copies, zones that count leap seconds
_NO_PLACE = re.compile(r"localtime|posixrules|Factory|(?:posix|right)/.*", re.DOTALL)


def load_zone(name: str) -> ZoneInfo:
    """The zone of that IANA name; InvalidArgument where this host does not know it."""
    try:
        if _NO_PLACE.fullmatch(name):
            raise KeyError(name)
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        # ZoneInfoNotFoundError is a KeyError; a path or a folder's name gives the others
        raise InvalidArgument(
            f"time zone {name[:64]!r} is not known here; write it as 'Europe/Berlin' "
            "(timedatectl list-timezones shows all)"
        ) from error


def system_timezone(
    environ: Mapping[str, str] = os.environ,
    localtime: Path = Path("/etc/localtime"),
    timezone: Path = Path("/etc/timezone"),
) -> str:
    """The host's zone as an IANA name: TZ, where /etc/localtime points, /etc/timezone, or UTC."""
    candidates = [environ.get("TZ", "").removeprefix(":"), _target(localtime)]
    try:
        candidates.append(timezone.read_text("utf-8").strip())
    except (OSError, ValueError):
        candidates.append("")  # Debian 13 has no such file
    for name in candidates:
        plain = name.removeprefix("posix/").removeprefix("right/")
        if plain and _known(plain):
            return plain
    return FALLBACK


def _target(localtime: Path) -> str:
    """`Europe/Berlin` of .../zoneinfo/Europe/Berlin; "" where it points elsewhere or is a copy."""
    _, found, name = os.path.realpath(localtime).rpartition("/zoneinfo/")
    return name if found else ""


def _known(name: str) -> bool:
    try:
        load_zone(name)
    except InvalidArgument:
        return False
    return True
