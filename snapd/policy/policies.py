"""Which policies are in force: the admin's files, the API's files, and what is wrong with them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import Changed, NoSuchPolicy, PermissionDenied, Protected
from ..model import Policy, Warned
from ..settings import (
    FileError,
    check_policy_name,
    definition_to_toml,
    load_policies,
    policy_from_definition,
    system_timezone,
)

ADMIN, API = "admin", "api"


class Policies:
    """The policies in force by name. The admin's folder is never written; the API's is ours."""

    def __init__(self, admin: Path, api: Path) -> None:
        self.in_force: dict[str, Policy] = {}
        self.warnings: dict[str, list[Warned]] = {}
        self.errors: list[FileError] = []
        self.shadowed: list[FileError] = []
        self._admin, self._api = admin, api
        self._lock = asyncio.Lock()
        self._listeners: list[Callable[[str, Policy | None, Policy | None], None]] = []

    def on_change(self, call: Callable[[str, Policy | None, Policy | None], None]) -> None:
        """Have it told when a policy comes (None, new), goes (old, None) or changes."""
        self._listeners.append(call)

    def get(self, name: str) -> Policy:
        """A policy in force. Raises NoSuchPolicy."""
        if name not in self.in_force:
            bad = next((e.message for e in self.errors if e.name == name), "")
            why = f": {bad}" if bad else "; 'virtsnap policy list' shows those that are"
            raise NoSuchPolicy(f"no policy {name[:64]!r} is in force{why}", item=name[:64])
        return self.in_force[name]

    async def load(self) -> list[FileError]:
        """Read all files again; returns what is wrong. A file that turned bad keeps its last good
        version in force: that it can't be read never means that there is no policy."""
        async with self._lock:
            folders = [(self._admin, ADMIN), (self._api, API)]
            zone = await asyncio.to_thread(system_timezone)
            loaded = await asyncio.to_thread(load_policies, folders, zone)
            wanted = dict(loaded.policies)
            for error in loaded.errors:
                for name, policy in self.in_force.items():
                    same_source = not error.name and policy.source == error.source
                    if name == error.name or same_source:
                        wanted.setdefault(name, policy)
            self.errors, self.shadowed = loaded.errors, loaded.shadowed
            self.warnings = loaded.warnings
            self._replace(wanted)
            return [*loaded.errors, *loaded.shadowed]

    def _replace(self, wanted: dict[str, Policy]) -> None:
        before, self.in_force = self.in_force, wanted
        for name in before.keys() | wanted.keys():
            old, new = before.get(name), wanted.get(name)
            if old != new:
                for call in self._listeners:
                    call(name, old, new)

    async def set(self, name: str, definition: Mapping[str, object], if_revision: str) -> Policy:
        """Write an API policy, whole or not at all. Raises InvalidArgument, Protected, Changed."""
        check_policy_name(name)
        self._writable(name, if_revision)
        zone = await asyncio.to_thread(system_timezone)
        policy, _warnings = policy_from_definition(name, definition, API, zone)
        content = definition_to_toml(policy.definition)
        await asyncio.to_thread(_write, self._api / f"{name}.toml", content)
        await self.load()
        return self.get(name)

    async def remove(self, name: str, if_revision: str) -> None:
        """Remove an API policy; its snapshots stay."""
        check_policy_name(name)
        path = self._api / f"{name}.toml"
        self._writable(name, if_revision)
        try:
            await asyncio.to_thread(path.unlink)
        except FileNotFoundError as e:
            raise NoSuchPolicy(f"no policy {name!r} was set through the API", item=name) from e
        # its last good version must not stay in force when the file was a bad one
        self._replace({n: p for n, p in self.in_force.items() if n != name})
        await self.load()

    def _writable(self, name: str, if_revision: str) -> None:
        admins = (self._admin / f"{name}.toml").name
        present = self.in_force.get(name)
        held = present is not None and present.source == ADMIN
        held = held or any(e.name == name and e.source == ADMIN for e in self.errors)
        if held:
            raise Protected(
                f"policy {name!r} is the admin's file {admins}: edit it there, then reload",
                item=name,
            )
        if if_revision and (present is None or present.revision != if_revision):
            now = present.revision if present else "not there"
            raise Changed(f"policy {name!r} is {now}, not {if_revision}: look again", item=name)


def _write(path: Path, content: bytes) -> None:
    """Replace a file atomically and durably."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        handle, temporary = tempfile.mkstemp(prefix=".", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as f:
                f.write(content)
                f.flush()
                os.fsync(f.fileno())
            Path(temporary).replace(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(temporary).unlink()
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as e:
        raise PermissionDenied(f"policy file {path.name} cannot be written: {e.strerror}") from e
