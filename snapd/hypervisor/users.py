"""Who else needs the files of a domain's disks: a verb that rewrites them would take theirs away.

Other domains' chains come from their XML and, where that is silent, from the images' headers, one
layer at a time in the format that the layer above declares; volumes' from libvirt's pools. The
search is bounded in time. Who doesn't answer is taken by what it said last, so that a VM that is
stuck keeps no other from a revert; what never said anything is told as such.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial

from ..errors import Busy, Inconsistent, NoSuchDomain, SnapdError, TimedOut
from .chains import LAYERED, Chain, Chains, Volume, plain_path
from .files import Files, Identity
from .images import Images
from .protocol import FileUse

SECONDS = 10.0
ASK_PART = 0.6  # of this time is for libvirt's answers about the VMs
AT_ONCE = 4
DEPTH = 64
HEADERS = 10_000

Uses = set[tuple[str, str, str]]
"""(target, how, file), as in FileUse."""


@dataclass(frozen=True, slots=True)
class Sources:
    """How to ask libvirt. others(): UUID -> name of every domain; chains(uuid): a domain's;
    volumes(seconds): pool -> those that are backed, and the pools that could not be read in that
    time."""

    others: Callable[[], Awaitable[Mapping[str, str]]]
    chains: Callable[[str], Awaitable[Chains]]
    volumes: Callable[[float], Awaitable[tuple[dict[str, list[Volume]], list[str]]]]


@dataclass(frozen=True, slots=True)
class _Mine:
    """The files in question by target and path, and what else is the domain's own."""

    files: Mapping[tuple[str, str], Identity]
    own: Collection[Identity]

    def which(self, file: Identity) -> tuple[str, str] | None:
        return next((which for which, mine in self.files.items() if mine.is_same(file)), None)


@dataclass(slots=True)
class Users:
    """The search; it remembers headers of files that have not changed since, and what was said of
    each domain, pool and file last."""

    sources: Sources
    images: Images
    files: Files
    _headers: dict[Identity, tuple[str, str]] = field(default_factory=dict)
    _last_headers: dict[str, tuple[str, str]] = field(default_factory=dict)
    _last_chains: dict[str, Chains] = field(default_factory=dict)
    _last_pools: dict[str, list[Volume]] = field(default_factory=dict)

    def remember(self, uuid: str, chains: Chains) -> None:
        """What libvirt says now, for when it doesn't answer."""
        self._last_chains[uuid] = chains

    async def find(
        self,
        uuid: str,
        disks: Mapping[str, str],
        own: Collection[str],
        more: Collection[tuple[str, str]] = (),
    ) -> list[FileUse]:
        """Everybody but the domain itself. disks: target -> file; own: all files that it or its
        snapshots name, which are no others'; more: (target, file) of others that are asked about.
        Never raises: what can't be told is `unchecked`."""
        deadline = asyncio.get_running_loop().time() + SECONDS
        files = list(dict.fromkeys([*disks.items(), *more]))
        every = [*(path for _target, path in files), *own]
        found = await asyncio.gather(*(self._identity(path) for path in every))
        mine = _Mine(dict(zip(files, found, strict=False)), found[len(files) :])
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
        asked = deadline - SECONDS * (1 - ASK_PART)
        tops: set[str] = set()

        async def look(other: str) -> Uses:
            chains = await self._chains(other, slots, asked)
            for chain in (*chains.live, *chains.stored):
                tops.add((await self._identity(chain.layers[0][0])).real)
            return await self._domain(chains, mine)

        try:
            others = await self.sources.others()
        except SnapdError:
            return [FileUse("", "the other VMs", "unchecked")], tops
        for gone in self._last_chains.keys() - others.keys():
            del self._last_chains[gone]
        found = await asyncio.gather(
            *(self._uses(n, partial(look, o), deadline) for o, n in others.items() if o != uuid)
        )
        return [use for uses in found for use in uses], tops

    async def _chains(self, uuid: str, slots: asyncio.Semaphore, asked: float) -> Chains:
        """A domain's. One that doesn't answer runs by now on whatever it could have started on."""
        try:
            async with asyncio.timeout_at(asked), slots:
                chains = await self.sources.chains(uuid)
        except (TimeoutError, TimedOut, Busy):
            last = self._last_chains.get(uuid)
            if last is None:
                raise
            return Chains((*last.live, *last.stored), last.stored)
        self.remember(uuid, chains)
        return chains

    async def _volumes(self, deadline: float) -> tuple[list[Volume], list[FileUse]]:
        left = deadline - asyncio.get_running_loop().time()
        try:
            found, unread = await self.sources.volumes(left)
        except SnapdError:
            found, unread = {}, list(self._last_pools)
            if not unread:
                return [], [FileUse("", "the storage pools", "unchecked")]
        known = {pool: self._last_pools[pool] for pool in unread if pool in self._last_pools}
        self._last_pools = {**found, **known}
        unchecked = [
            FileUse("", f"pool {pool}", "unchecked") for pool in unread if pool not in known
        ]
        return [v for volumes in self._last_pools.values() for v in volumes], unchecked

    async def _uses(
        self, who: str, look: Callable[[], Awaitable[Uses]], deadline: float
    ) -> list[FileUse]:
        try:
            async with asyncio.timeout_at(deadline):
                found = await look()
        except NoSuchDomain:
            return []
        except (SnapdError, TimeoutError):
            found = {("", "unchecked", "")}
        return [FileUse(target, who, how, file) for target, how, file in sorted(found)]

    async def _domain(self, chains: Chains, mine: _Mine) -> Uses:
        uses: Uses = set()
        for chain in chains.live:
            if which := mine.which(await self._identity(chain.layers[0][0])):
                uses.add((which[0], "active", which[1]))
        for chain in chains.to_follow():
            uses |= await self._below(chain, mine)
        return uses

    async def _volume(self, volume: Volume, mine: _Mine, tops: Collection[str]) -> Uses:
        top = await self._identity(volume.path)
        if top.real in tops or mine.which(top) or any(top.is_same(own) for own in mine.own):
            return set()
        if which := mine.which(await self._identity(volume.backing)):
            return {(which[0], "backing", which[1])}
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
            if which := mine.which(await self._identity(layers[depth][0])):
                uses.add((which[0], "backing", which[1]))
        raise Inconsistent(f"a chain of over {DEPTH} backing files")

    async def _header(self, path: str) -> tuple[str, str]:
        """(file, format) that an image is backed by; ("", "") = none that is a file here.

        A file that isn't there, or isn't what it is declared to be, can't run: it needs nothing.
        """
        key = await self._identity(path)
        if key in self._headers:
            return self._headers[key]
        if not key.changed and path in self._last_headers:
            missing, _unknown = await self.files.missing([path])
            return ("", "") if missing else self._last_headers[path]
        try:
            info = await self.images.info(path, LAYERED)
        except SnapdError:
            missing, _unknown = await self.files.missing([path])
            if missing or await self.files.is_qcow2(path) is False:
                return "", ""
            raise
        if len(self._headers) >= HEADERS:
            self._headers.clear()
            self._last_headers.clear()
        below = self._last_headers[path] = plain_path(info.backing), info.backing_format
        if key.changed:
            self._headers[key] = below
        return below

    async def _identity(self, path: str) -> Identity:
        return await self.files.identity(path) or Identity(path)
