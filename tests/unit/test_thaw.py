"""A guest is never left frozen: the orders in which agent, verb and daemon can fail.

The stand-in is a guest whose agent obeys one command after the other, also those that nobody waits
for any more, as qemu-ga on its channel does (LIBVIRT.md 9). What counts is how the guest ends.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import libvirt
import pytest

from snapd.errors import AgentUnavailable, LibvirtError, NoSuchDomain, TimedOut, Unavailable
from snapd.hypervisor import DomainEvent, EventKind, Hypervisor
from snapd.hypervisor.errormap import translate
from snapd.model import DomainInfo, State
from snapd.operations import quiesce, thaw
from snapd.operations.quiesce import frozen
from snapd.operations.thaw import FrozenGuest, FrozenGuests
from snapd.policy.problems import still_frozen
from snapd.store import Store

VM = "22222222-2222-4222-8222-222222222201"
ANSWER = 0.05  # seconds that libvirt waits for the agent


class Guest:
    """A VM with two file systems, its agent, and the libvirt that talks to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.instance = 7
        self.frozen = False
        self.by_others = False
        self.thaws_one = False
        self.awake = asyncio.Event()
        self.awake.set()
        self.connected = True
        self.said: list[str] = []
        self.on_disk: list[str] = []
        self._channel = asyncio.Lock()
        self._left: set[asyncio.Task[int]] = set()
        self._told: list[Callable[[bool], None]] = []
        self._events: list[Callable[[DomainEvent], None]] = []

    @property
    def info(self) -> DomainInfo:
        return DomainInfo(VM, "web-1", State.RUNNING, agent=True, instance=self.instance)

    def on_connection(self, call: Callable[[bool], None]) -> None:
        self._told.append(call)

    def on_event(self, call: Callable[[DomainEvent], None]) -> None:
        self._events.append(call)

    def event(self, kind: EventKind) -> None:
        for call in self._events:
            call(DomainEvent(VM, kind))

    def connect(self, on: bool) -> None:
        self.connected = on
        for call in self._told:
            call(on)

    async def domain(self, uuid: str) -> DomainInfo:
        if not self.instance:
            raise NoSuchDomain("no such VM")
        return self.info

    async def freeze(self, uuid: str, agent_timeout: int) -> int:
        self.on_disk = stored(self.folder)
        return await self._ask("freeze")

    async def thaw(self, uuid: str, agent_timeout: int) -> int:
        return await self._ask("thaw")

    async def _ask(self, word: str) -> int:
        if not self.connected:
            raise Unavailable("no connection to libvirt")
        self.said.append(word)
        task = asyncio.create_task(self._obey(word))
        self._left.add(task)
        task.add_done_callback(self._left.discard)
        done, _ = await asyncio.wait({task}, timeout=ANSWER)
        if not done:
            raise AgentUnavailable("Guest agent not available for now")
        return task.result()

    async def _obey(self, word: str) -> int:
        async with self._channel:
            await self.awake.wait()
            if word == "freeze" and (self.frozen or self.by_others):
                raise LibvirtError("Command guest-fsfreeze-freeze has been disabled")
            was = self.frozen
            self.frozen = word == "freeze"
            if word == "thaw":
                self.by_others = False
            return 2 - self.thaws_one if self.frozen or was else 0


class Bed:
    """A guest, a store, and the ledger of one daemon after the other."""

    def __init__(self, guest: Guest, store: Store) -> None:
        self.guest, self.store = guest, store
        self.guests = self.daemon()

    def daemon(self) -> FrozenGuests:
        self.guests = FrozenGuests(cast(Hypervisor, self.guest), self.store, lambda: 1000)
        return self.guests

    async def settled(self) -> None:
        """Wait until nobody is frozen any more, by the guest and by the file."""
        async with asyncio.timeout(3):
            while self.guest.frozen or stored(self.store.folder):
                await asyncio.sleep(0.01)


Body = Callable[[Bed], Coroutine[Any, Any, None]]


def play(folder: Path, body: Body) -> None:
    async def main() -> None:
        store = await Store.open(folder)
        bed = Bed(Guest(folder), store)
        try:
            async with asyncio.timeout(20):
                await body(bed)
                await bed.guests.stop(1)
        finally:
            await store.close()

    asyncio.run(main())


def stored(folder: Path) -> list[str]:
    """The names in the ledger on disk, read as any other program would."""
    with closing(sqlite3.connect(folder / "store.sqlite")) as db:
        sql = "SELECT json_extract(value, '$.name') FROM json_each((SELECT value FROM facts WHERE "
        return [row[0] for row in db.execute(sql + "key = 'frozen'))")]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thaw, "RETRY", (0.02, 0.1))
    monkeypatch.setattr(thaw, "CALL_SECONDS", 0.4)


def test_frozen_guest_stands_on_disk_before_it_is_asked_and_until_it_is_thawed(
    tmp_path: Path,
) -> None:
    async def body(bed: Bed) -> None:
        async with frozen(bed.guests, bed.guest.info, "require") as quiet:
            assert bed.guest.on_disk == ["web-1"]
            assert bed.guest.frozen
            assert bed.guests.listed() == [FrozenGuest(VM, "web-1", 7, 1000)]
        assert (quiet.frozen, quiet.thawed, quiet.held, quiet.shortfall) == (2, 2, True, "")
        assert not bed.guest.frozen
        assert (stored(tmp_path), bed.guest.said) == ([], ["freeze", "thaw"])

    play(tmp_path, body)


def test_freeze_that_nobody_answers_is_said_and_thawed_when_it_comes_late(tmp_path: Path) -> None:
    async def body(bed: Bed) -> None:
        bed.guest.awake.clear()
        async with frozen(bed.guests, bed.guest.info, "try") as quiet:
            pass
        assert not quiet.held
        assert "not available" in quiet.shortfall
        await asyncio.sleep(0.2)
        assert stored(tmp_path) == ["web-1"], "forgotten before it was thawed"
        bed.guest.awake.set()
        await bed.settled()

    play(tmp_path, body)


@pytest.mark.parametrize("late", [True, False])
def test_daemon_that_ends_with_a_guest_in_the_ledger_leaves_it_to_the_next(
    tmp_path: Path, late: bool
) -> None:
    async def body(bed: Bed) -> None:
        if late:
            bed.guest.awake.clear()
            with pytest.raises(AgentUnavailable):
                await bed.guests.freeze(bed.guest.info)
        else:
            await bed.guests.freeze(bed.guest.info)
            bed.guest.awake.clear()
        await bed.guests.stop(0)
        bed.guest.connect(False)
        following = bed.daemon()
        await following.load()
        assert following.listed() == [FrozenGuest(VM, "web-1", 7, 1000, late)]
        bed.guest.awake.set()
        bed.guest.connect(True)
        await bed.settled()

    play(tmp_path, body)


@pytest.mark.parametrize("after", [0.0, 0.001, 0.02, 0.1])
@pytest.mark.parametrize("asleep", [False, True])
def test_verb_that_is_cancelled_leaves_nobody_frozen(
    tmp_path: Path, after: float, asleep: bool
) -> None:
    async def body(bed: Bed) -> None:
        if asleep:
            bed.guest.awake.clear()

        async def verb() -> None:
            async with frozen(bed.guests, bed.guest.info, "try"):
                await asyncio.sleep(10)

        task = asyncio.create_task(verb())
        await asyncio.sleep(after)
        task.cancel()
        await asyncio.sleep(0.01)
        task.cancel()  # once more, while it thaws
        await asyncio.gather(task, return_exceptions=True)
        bed.guest.awake.set()
        await asyncio.sleep(0.2)
        await bed.settled()

    play(tmp_path, body)


def test_agent_that_dies_while_frozen_is_asked_until_it_answers_and_nothing_is_redefined(
    tmp_path: Path,
) -> None:
    async def body(bed: Bed) -> None:
        async with frozen(bed.guests, bed.guest.info, "try") as quiet:
            bed.guest.awake.clear()
        assert "not answered" in quiet.shortfall
        with pytest.raises(TimedOut, match="may still be frozen"):
            await bed.guests.not_while_frozen(bed.guest.info)
        bed.guest.awake.set()
        await bed.guests.not_while_frozen(bed.guest.info)
        assert not bed.guest.frozen
        await bed.settled()

    play(tmp_path, body)


def test_redefine_does_not_wait_for_a_freeze_that_was_given_up(tmp_path: Path) -> None:
    async def body(bed: Bed) -> None:
        bed.guest.awake.clear()
        async with frozen(bed.guests, bed.guest.info, "try"):
            pass
        async with asyncio.timeout(ANSWER / 2):
            await bed.guests.not_while_frozen(bed.guest.info)

    play(tmp_path, body)


def test_agent_that_refuses_to_freeze_is_not_asked_to_thaw_what_others_froze(
    tmp_path: Path,
) -> None:
    async def body(bed: Bed) -> None:
        bed.guest.by_others = True
        async with frozen(bed.guests, bed.guest.info, "try") as quiet:
            pass
        await asyncio.sleep(0.1)
        assert "disabled" in quiet.shortfall
        assert (stored(tmp_path), bed.guest.by_others) == ([], True)

    play(tmp_path, body)


@pytest.mark.parametrize("instance", [0, -1, 8])
def test_vm_that_ended_or_was_started_anew_leaves_the_ledger(tmp_path: Path, instance: int) -> None:
    async def body(bed: Bed) -> None:
        bed.guest.awake.clear()
        with pytest.raises(AgentUnavailable):
            await bed.guests.freeze(bed.guest.info)
        await asyncio.sleep(0.2)
        assert stored(tmp_path) == ["web-1"]
        bed.guest.instance = instance
        bed.guest.event(EventKind.STOPPED)
        await bed.settled()

    play(tmp_path, body)


def test_next_freeze_comes_after_the_thaw_of_a_late_one_and_is_left_alone(tmp_path: Path) -> None:
    async def body(bed: Bed) -> None:
        bed.guest.awake.clear()
        async with frozen(bed.guests, bed.guest.info, "try"):
            pass
        begun = bed.guest.said.count("freeze")
        with pytest.raises(AgentUnavailable, match="its agent has not answered since"):
            async with frozen(bed.guests, bed.guest.info, "require"):
                raise AssertionError("it was not frozen")
        assert bed.guest.said.count("freeze") == begun, "one more freeze that comes late"
        bed.guest.awake.set()
        async with frozen(bed.guests, bed.guest.info, "require") as quiet:
            bed.guest.event(EventKind.RESUMED)
            await asyncio.sleep(0.12)  # longer than any keeper waits
            assert bed.guest.frozen
        assert quiet.held
        await bed.settled()

    play(tmp_path, body)


def test_body_that_takes_too_long_loses_the_frozen_guest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiesce, "THAW_AFTER_SECONDS", 0.2)

    async def body(bed: Bed) -> None:
        async with frozen(bed.guests, bed.guest.info, "require") as quiet:
            await asyncio.sleep(0.3)
            assert not bed.guest.frozen
        assert not quiet.held
        assert quiet.shortfall.startswith("it was thawed after 0.2 s")
        assert bed.guest.said == ["freeze", "thaw"]

    play(tmp_path, body)


def test_fewer_thawed_than_frozen_is_not_held(tmp_path: Path) -> None:
    async def body(bed: Bed) -> None:
        async with frozen(bed.guests, bed.guest.info, "require") as quiet:
            bed.guest.thaws_one = True
        assert not quiet.held
        assert quiet.shortfall == "2 file systems were frozen and only 1 thawed"

    play(tmp_path, body)


@pytest.mark.parametrize(
    ("info", "why"),
    [
        (DomainInfo(VM, "web-1", State.PAUSED, agent=True), "only a running guest"),
        (DomainInfo(VM, "web-1", State.RUNNING), "no guest agent"),
    ],
)
def test_guest_that_cannot_be_asked_is_said_and_nothing_written(
    tmp_path: Path, info: DomainInfo, why: str
) -> None:
    async def body(bed: Bed) -> None:
        async with frozen(bed.guests, info, "try") as quiet:
            assert why in quiet.shortfall
        with pytest.raises(AgentUnavailable, match=why):
            async with frozen(bed.guests, info, "require"):
                raise AssertionError("it was not frozen")
        assert (bed.guest.said, await bed.store.fact("frozen")) == ([], None)

    play(tmp_path, body)


def test_guest_in_the_ledger_for_more_than_30_seconds_is_a_problem() -> None:
    guests = [FrozenGuest(VM, "web-1", 7, 1795600800, late=True)]
    assert list(still_frozen(guests, 1795600830)) == []
    (problem,) = still_frozen(guests, 1795600831)
    assert (problem.problem, problem.severity, problem.since) == ("frozen", "critical", 1795600800)
    assert problem.message.startswith(
        "VM web-1 was to be frozen and may be, since 2026-11-25 10:00 UTC:"
    )
    assert problem.ways == ("restart-agent", "reset")


@pytest.mark.parametrize("number", [86, 97, 112])  # 112 since 9.2, which 9.0's bindings don't name
def test_translate_agent_that_gave_no_answer_is_never_a_refusal(number: int) -> None:
    error = libvirt.libvirtError("freeze")
    error.err = (number, libvirt.VIR_FROM_QEMU, "no answer", 2, None, None, None, -1, -1)
    assert isinstance(translate(error, "cannot freeze VM web-1", changing=True), AgentUnavailable)


def test_agent_that_dies_while_frozen_is_kept_at_after_the_verb_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiesce, "THAW_AFTER_SECONDS", 0.1)

    async def body(bed: Bed) -> None:
        async with frozen(bed.guests, bed.guest.info, "require") as quiet:
            bed.guest.awake.clear()
            await asyncio.sleep(0.1 + ANSWER / 2)  # the watchdog has begun to thaw it
        assert (quiet.expired, quiet.thawed) == (True, -1)
        await asyncio.sleep(ANSWER * 2)
        assert stored(tmp_path) == ["web-1"]
        bed.guest.awake.set()
        await bed.settled()

    play(tmp_path, body)
