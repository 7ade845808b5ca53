"""Policy files, and the folders that hold them: one bad file disables only itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import tomli_w

from ..errors import Internal, InvalidArgument
from ..model import Policy, Warned
from .policies import check_definition
from .values import parse_toml, printable, read_file


@dataclass(frozen=True, slots=True)
class FileError:
    """A policy file that cannot be used, or (name "") a folder that cannot be read.

    The last good version of that policy, or of all of that source, is to stay in force: an
    unreadable file does not mean that there is no policy. name: the file's stem, escaped where it
    cannot be printed.
    """

    name: str
    source: str
    path: Path
    message: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the folders hold.

    policies, warnings: by policy name. shadowed: policies of later folders that a file of the same
    name in an earlier one, good or bad, puts out of force.
    """

    policies: dict[str, Policy] = field(default_factory=dict)
    warnings: dict[str, list[Warned]] = field(default_factory=dict)
    errors: list[FileError] = field(default_factory=list)
    shadowed: list[FileError] = field(default_factory=list)


def load_policies(folders: Iterable[tuple[Path, str]], system_zone: str) -> Loaded:
    """All policies of the folders, given as (folder, source) with the stronger first.

    Taken are `*.toml` files that do not start with a dot. A folder that is not there is empty.
    """
    loaded = Loaded()
    seen: dict[str, Path] = {}
    for folder, source in folders:
        try:
            paths = sorted(path for path in folder.iterdir() if _is_policy(path))
        except FileNotFoundError:
            continue
        except OSError as error:
            message = f"{folder.name}: cannot be read: {error.strerror}"
            loaded.errors.append(FileError("", source, folder, message))
            continue
        for path in paths:
            if path.stem in seen:
                message = f"policy {path.stem!r} ({source}) is out of force: a file comes first"
                loaded.shadowed.append(FileError(printable(path.stem), source, path, message))
                continue
            seen[path.stem] = path
            _load_one(loaded, path, source, system_zone)
    return loaded


def _is_policy(path: Path) -> bool:
    return path.suffix == ".toml" and not path.name.startswith(".")


def _load_one(loaded: Loaded, path: Path, source: str, system_zone: str) -> None:
    try:
        policy, warnings = load_policy(path, path.stem, source, system_zone)
    except InvalidArgument as error:
        loaded.errors.append(FileError(printable(path.stem), source, path, error.message))
        return
    loaded.policies[policy.name] = policy
    loaded.warnings[policy.name] = warnings


def load_policy(
    file: Path | bytes, name: str, source: str, system_zone: str
) -> tuple[Policy, list[Warned]]:
    """The policy in a file, or in the content of one. InvalidArgument names the file and the keys.

    source and system_zone: as in policy_from_definition().
    """
    label = printable(file.name if isinstance(file, Path) else f"{name}.toml")
    try:
        content = read_file(file) if isinstance(file, Path) else file
        checked = check_definition(name, parse_toml(content), source, system_zone)
    except OSError as error:
        raise InvalidArgument(f"{label}: cannot be read: {error.strerror}") from error
    except InvalidArgument as error:
        raise InvalidArgument(f"{label}: {error.message}", item=error.item) from error
    return checked.demand(label)


def definition_to_toml(definition: Mapping[str, object]) -> bytes:
    """A checked definition as a policy file; read back it gives the same definition."""
    content = tomli_w.dumps(dict(definition)).encode()
    if parse_toml(content) != definition:
        raise Internal("a policy definition does not survive being written as TOML")
    return content
