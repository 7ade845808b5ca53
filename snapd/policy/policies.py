"""Which policies are in force: the admin's files, the API's files, and what is wrong with them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from ..errors import Changed, NoSuchPolicy, PermissionDenied, Protected
from ..journal import about
from ..model import Policy, Warned
from ..operations import DAEMON
from ..settings import (
    FileError,
    check_policy_name,
    definition_to_toml,
    load_policies,
    policy_from_definition,
    system_timezone,
)

log = logging.getLogger(__name__)
ADMIN, API = "admin", "api"


class Policies:
    """The policies in force by name. The admin's folder is never written; the API's is ours.

    changed_by: whose act is being read now: a uid, -1 = that of whoever writes the files.
    """

    def __init__(self, admin: Path, api: Path) -> None:
        self.in_force: dict[str, Policy] = {}
        self.warnings: dict[str, list[Warned]] = {}
        self.errors: list[FileError] = []
        self.shadowed: list[FileError] = []
        self.changed_by = DAEMON
        self._admin, self._api = admin, api
        self._lock = asyncio.Lock()
        self._listeners: list[Callable[[str, Policy | None, Policy | None], None]] = []
        self._readers: list[Callable[[], None]] = []

    def on_change(self, call: Callable[[str, Policy | None, Policy | None], None]) -> None:
        """Have it told when a policy comes (None, new), goes (old, None) or changes."""
        self._listeners.append(call)

    def on_load(self, call: Callable[[], None]) -> None:
        """Have it called when the files have been read, whatever came of it."""
        self._readers.append(call)

    def get(self, name: str) -> Policy:
        """A policy in force. Raises NoSuchPolicy."""
        if name not in self.in_force:
            bad = next((e.message for e in self.errors if e.name == name), "")
            why = f": {bad}" if bad else "; 'virtsnap policy list' shows those that are"
            raise NoSuchPolicy(f"no policy {name[:64]!r} is in force{why}", item=name[:64])
        return self.in_force[name]

    async def load(self) -> list[FileError]:
        """Read all files again; returns what is wrong, which is logged with what is odd. A file
        that turned bad keeps its last good version in force: that it can't be read never means
        that there is no policy."""
        async with self._lock:
            await self._read()
            for error in self.errors:
                fields = about(policy=error.name)
                log.info("%s; %s", error.message, self.consequence(error), extra=fields)
            for shadowed in self.shadowed:
                log.info("%s", shadowed.message, extra=about(policy=shadowed.name))
            for name in sorted(self.in_force):
                self._warn(name)
            log.info("%d policies are in force", len(self.in_force))
            return [*self.errors, *self.shadowed]

    def consequence(self, error: FileError) -> str:
        """What a bad file, or a folder that can't be read, has done to the policies in force."""
        if not error.name:
            return "the last good versions of its policies stay in force"
        kept = error.name in self.in_force
        return "its last good version stays in force" if kept else "it is not in force"

    def _warn(self, name: str) -> None:
        for warning in self.warnings.get(name, ()):
            fields = about(policy=name)
            log.warning("policy %s: %s: %s", name, warning.item, warning.message, extra=fields)

    async def _read(self) -> None:
        """With the lock held."""
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
        self.warnings = {n: loaded.warnings.get(n, self.warnings.get(n, [])) for n in wanted}
        self._replace(wanted)
        for call in self._readers:
            call()

    def _replace(self, wanted: dict[str, Policy]) -> None:
        before, self.in_force = self.in_force, wanted
        for name in before.keys() | wanted.keys():
            old, new = before.get(name), wanted.get(name)
            if old != new:
                for call in self._listeners:
                    call(name, old, new)

    async def set(
        self, name: str, definition: Mapping[str, object], if_revision: str, by: int = DAEMON
    ) -> Policy:
        """Write an API policy, whole or not at all. by: who does it. Raises InvalidArgument,
        Protected, Changed."""
        check_policy_name(name)
        async with self._by(by):
            await self._writable(name, if_revision)
            zone = await asyncio.to_thread(system_timezone)
            policy, _warnings = await asyncio.to_thread(
                policy_from_definition, name, definition, API, zone
            )
            content = definition_to_toml(policy.definition)
            await asyncio.to_thread(_write, self._api / f"{name}.toml", content)
            await self._read()
            self._warn(name)
            return self.get(name)

    async def remove(self, name: str, if_revision: str, by: int = DAEMON) -> None:
        """Remove an API policy; its snapshots stay."""
        check_policy_name(name)
        async with self._by(by):
            await self._writable(name, if_revision)
            await asyncio.to_thread(_unlink, self._api / f"{name}.toml")
            # its last good version must not stay in force when the file was a bad one
            self._replace({n: p for n, p in self.in_force.items() if n != name})
            await self._read()

    @contextlib.asynccontextmanager
    async def _by(self, uid: int) -> AsyncIterator[None]:
        """The lock, and whose act it is."""
        async with self._lock:
            self.changed_by = uid
            try:
                yield
            finally:
                self.changed_by = DAEMON

    async def _writable(self, name: str, if_revision: str) -> None:
        """Raises Protected for a name that the admin's folder has, be it read yet or not."""
        path = self._admin / f"{name}.toml"
        present = self.in_force.get(name)
        held = present is not None and present.source == ADMIN
        if held or await asyncio.to_thread(os.path.lexists, path):
            raise Protected(
                f"policy {name!r} is the admin's file {path.name}: edit it there, then reload",
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
        _settle(path.parent)
    except OSError as e:
        raise PermissionDenied(f"policy file {path.name} cannot be written: {e.strerror}") from e


def _unlink(path: Path) -> None:
    """Remove a file durably."""
    try:
        path.unlink()
        _settle(path.parent)
    except FileNotFoundError as e:
        name = path.stem
        raise NoSuchPolicy(f"no policy {name!r} was set through the API", item=name) from e
    except OSError as e:
        raise PermissionDenied(f"policy file {path.name} cannot be removed: {e.strerror}") from e


def _settle(path: Path) -> None:
    """Have a folder's names on disk."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
