"""virtsnapd.toml: the daemon's own settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidArgument
from .values import (
    Fault,
    Table,
    duration,
    join_faults,
    parse_toml,
    read_file,
    text,
    whole,
    yes_or_no,
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What virtsnapd.toml says, or the defaults.

    uri: libvirt's, None = the one that belongs to the bus. monitor: whether direct monitor
    commands may be used. safety_last, safety_max_age (seconds): how long safety snapshots are kept.
    parallel: domains at work at once.
    """

    uri: str | None = None
    monitor: bool = True
    safety_last: int = 3
    safety_max_age: int = 14 * 86400
    parallel: int = 4


def load_daemon(path: Path) -> Settings:
    """The settings of that file; the defaults where there is no file.

    InvalidArgument names the file, each wrong key and the reason.
    """
    try:
        raw = parse_toml(read_file(path))
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        raise InvalidArgument(f"{path.name}: cannot be read: {error.strerror}") from error
    except InvalidArgument as error:
        raise InvalidArgument(f"{path.name}: {error.message}") from error
    faults: list[Fault] = []
    settings = _settings(raw, faults)
    if faults:
        raise InvalidArgument(f"{path.name}: {join_faults(faults)}", item=faults[0].key)
    return settings


def _settings(raw: dict[str, object], faults: list[Fault]) -> Settings:
    default = Settings()
    top = Table(raw, faults)
    libvirt, safety, limits = top.table("libvirt"), top.table("safety"), top.table("limits")
    settings = Settings(
        uri=libvirt.take("uri", text, None),
        monitor=libvirt.take("monitor", yes_or_no, default.monitor),
        safety_last=safety.take("last", whole(1, 1000), default.safety_last),
        safety_max_age=safety.take("max_age", duration(), default.safety_max_age),
        parallel=limits.take("parallel", whole(1, 64), default.parallel),
    )
    for table in (top, libvirt, safety, limits):
        table.finish()
    return settings
