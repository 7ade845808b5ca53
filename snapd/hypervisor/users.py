"""Who else needs the files of a domain's disks: a verb that rewrites them would take theirs away.

Other domains' chains come from their XML and, where that is silent, from the images' headers, one
layer at a time in the format that the layer above declares; volumes' from libvirt's pools. The
search is bounded in time: what could not be looked at is told as such.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial

from ..errors import Inconsistent, NoSuchDomain, SnapdError
from .chains import LAYERED, Chain, Chains, Volume, plain_path
from .files import Files, Identity
from .images import Images
from .protocol import FileUse

SECONDS = 10.0
AT_ONCE = 4
DEPTH = 64
HEADERS = 10_000

Uses = set[tuple[str, str]]
"""(target, how), as in FileUse."""


@dataclass(frozen=True, slots=True)
class Sources:
    """How to ask libvirt. others(): UUID -> name of every domain; chains(uuid): a domain's;
    volumes(seconds): those that are backed, and the pools that could not be read in that time."""

    others: Callable[[], Awaitable[Mapping[str, str]]]
    chains: Callable[[str], Awaitable[Chains]]
    volumes: Callable[[float], Awaitable[tuple[list[Volume], list[str]]]]


@dataclass(frozen=True, slots=True)
class _Mine:
    """The files in question by target, and what else is the domain's own."""

    disks: Mapping[str, Identity]
    own: Collection[Identity]

    def target(self, file: Identity) -> str:
        return next((t for t, mine in self.disks.items() if mine.is_same(file)), "")


@dataclass(slots=True)
class Users:
    """The search; it remembers headers of files that have not changed since."""

    sources: Sources
    images: Images
    files: Files
    _headers: dict[Identity, tuple[str, str]] = field(default_factory=dict)

    async def find(
        self, uuid: str, disks: Mapping[str, str], own: Collection[str]
    ) -> list[FileUse]:
        """Everybody but the domain itself. disks: target -> file; own: all files that it or its
        snapshots name, which are no others'. Never raises: what can't be told is `unchecked`."""
        deadline = asyncio.get_running_loop().time() + SECONDS
        mine = _Mine(
            {target: await self._identity(path) for target, path in disks.items()},
            [await self._identity(path) for path in own],
        )
        (by_domains, tops), (volumes, unread) = await asyncio.gather(
            self._by_domains(uuid, mine, deadline), self._volumes(deadline)
        )
        # after the domains: their disks' formats are declared, a volume's is libvirt's guess
        by_volumes = await asyncio.gather(
            *(self._uses(v.who, partial(self._volume, v, mine, tops), deadline) for v in volumes)
        )
        return [*by_domains, *(use for uses in by_volumes for use in uses), *unread]

    async def _by_domains(
        self, uuid: str, mine: _Mine, deadline: float
    ) -> tuple[list[FileUse], set[str]]:
        """Their uses, and the real paths of all their disks."""
        slots = asyncio.Semaphore(AT_ONCE)
        tops: set[str] = set()

        async def look(other: str) -> Uses:
            async with slots:
                chains = await self.sources.chains(other)
            for chain in (*chains.live, *chains.stored):
                tops.add((await self._identity(chain.layers[0][0])).real)
            return await self._domain(chains, mine)

        try:
            others = await self.sources.others()
        except SnapdError:
            return [FileUse("", "the other VMs", "unchecked")], tops
        found = await asyncio.gather(
            *(self._uses(n, partial(look, o), deadline) for o, n in others.items() if o != uuid)
        )
        return [use for uses in found for use in uses], tops

    async def _volumes(self, deadline: float) -> tuple[list[Volume], list[FileUse]]:
        left = deadline - asyncio.get_running_loop().time()
        try:
            found, unread = await self.sources.volumes(left)
        except SnapdError:
            return [], [FileUse("", "the storage pools", "unchecked")]
        return found, [FileUse("", f"pool {pool}", "unchecked") for pool in unread]

    async def _uses(
        self, who: str, look: Callable[[], Awaitable[Uses]], deadline: float
    ) -> list[FileUse]:
        try:
            async with asyncio.timeout_at(deadline):
                found = await look()
        except NoSuchDomain:
            return []
        except (SnapdError, TimeoutError):
            found = {("", "unchecked")}
        return [FileUse(target, who, how) for target, how in sorted(found)]

    async def _domain(self, chains: Chains, mine: _Mine) -> Uses:
        uses: Uses = set()
        for chain in chains.live:
            if target := mine.target(await self._identity(chain.layers[0][0])):
                uses.add((target, "active"))
        for chain in chains.to_follow():
            uses |= await self._below(chain, mine)
        return uses

    async def _volume(self, volume: Volume, mine: _Mine, tops: Collection[str]) -> Uses:
        top = await self._identity(volume.path)
        if top.real in tops or mine.target(top) or any(top.is_same(own) for own in mine.own):
            return set()
        if target := mine.target(await self._identity(volume.backing)):
            return {(target, "backing")}
        return await self._below(Chain(((volume.path, volume.format),)), mine)

    async def _below(self, chain: Chain, mine: _Mine) -> Uses:
        """Which of our files lie below the top of a chain."""
        uses: Uses = set()
        layers = list(chain.layers)
        for depth in range(1, DEPTH):
            if depth == len(layers):
                path, form = layers[-1]
                below = ("", "") if chain.whole or form != LAYERED else await self._header(path)
                if not below[0]:
                    return uses
                layers.append(below)
            if target := mine.target(await self._identity(layers[depth][0])):
                uses.add((target, "backing"))
        raise Inconsistent(f"a chain of over {DEPTH} backing files")

    async def _header(self, path: str) -> tuple[str, str]:
        """(file, format) that an image is backed by; ("", "") = none that is a file here.

        A file that isn't there, or isn't what it is declared to be, can't run: it needs nothing.
        """
        key = await self._identity(path)
        if key in self._headers:
            return self._headers[key]
        try:
            info = await self.images.info(path, LAYERED)
        except SnapdError:
            missing, _unknown = await self.files.missing([path])
            if missing or await self.files.is_qcow2(path) is False:
                return "", ""
            raise
        if len(self._headers) >= HEADERS:
            self._headers.clear()
        below = plain_path(info.backing), info.backing_format
        if key.changed:
            self._headers[key] = below
        return below

    async def _identity(self, path: str) -> Identity:
        return await self.files.identity(path) or Identity(path)
