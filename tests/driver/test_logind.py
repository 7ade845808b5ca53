"""The host itself, as logind tells of it and as it is held up: a stand-in's words, and systemd's
own tool."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from snapd import logind
from snapd.logind import HostStop, Inhibitor
from snapd.model import Verb
from snapd.operations import Job, Jobs, Outcome, Request
from snapd.store import Store
from tests.bus import PrivateBus, private_bus
from tests.client import TOP
from tests.driver.fake_logind import FakeLogind
from tests.unit.jobs_on_store import OTHER, VM, play

HELD = "shutdown:sleep block virtsnapd: a snapshot of VM web-1 is being made"


@pytest.fixture
def system_bus(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateBus]:
    with private_bus(system_limits=True) as bus:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
        yield bus


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logind, "RETRY_SECONDS", (0.1, 0.2))
    monkeypatch.setattr(logind, "DEADLINE", 1.0)


async def becomes(what: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not what():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def followed() -> AsyncIterator[HostStop]:
    host = HostStop()
    task = asyncio.create_task(host.run())
    try:
        yield host
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# ---- is the host stopping


def test_host_stops_and_goes_on_as_logind_says(system_bus: PrivateBus) -> None:
    async def main() -> None:
        fake = await FakeLogind.at(system_bus.address, preparing=True)
        async with followed() as host:
            await becomes(lambda: host.stopping)
            await fake.prepare(False)
            await becomes(lambda: not host.stopping)
            await fake.prepare(True)
            await becomes(lambda: host.stopping)
        await fake.close()

    asyncio.run(main())


def test_signal_of_anybody_else_stops_nothing(system_bus: PrivateBus) -> None:
    async def main() -> None:
        fake = await FakeLogind.at(system_bus.address)
        poser = await FakeLogind.at(system_bus.address, named=False)
        async with followed() as host:
            await becomes(lambda: host.reachable)
            names = await _names(poser)
            for name in names:  # to everybody, and to each who is there
                await poser.prepare(True, to=name)
            await asyncio.sleep(0.3)
            assert not host.stopping
            await fake.prepare(True)
            await becomes(lambda: host.stopping)
        await poser.close()
        await fake.close()

    asyncio.run(main())


async def _names(fake: FakeLogind) -> list[str]:
    from dbus_next.message import Message

    bus = "org.freedesktop.DBus"
    call = Message(bus, "/org/freedesktop/DBus", bus, "ListNames")
    reply = await fake.bus.call(call)
    assert reply is not None
    return ["", *(name for name in reply.body[0] if name.startswith(":"))]


def test_logind_that_was_restarted_is_believed_and_the_old_one_is_not(
    system_bus: PrivateBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logind, "LOOK_SECONDS", 0.3)

    async def main() -> None:
        old = await FakeLogind.at(system_bus.address)
        async with followed() as host:
            await becomes(lambda: host.reachable)
            await old.prepare(True)
            await becomes(lambda: host.stopping)
            await old.bus.release_name(logind.LOGIND)
            new = await FakeLogind.at(system_bus.address)
            await becomes(lambda: not host.stopping)  # a new one knows of no shutdown
            await old.prepare(True)
            await asyncio.sleep(0.2)
            assert not host.stopping
            await new.prepare(True)
            await becomes(lambda: host.stopping)
        await old.close()
        await new.close()

    asyncio.run(main())


def test_no_bus_and_no_logind_is_said_once_and_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")
    caplog.set_level("INFO")

    async def main() -> None:
        async with followed() as host:
            await asyncio.sleep(0.6)
            assert (host.stopping, host.reachable) == (False, False)
            with private_bus(system_limits=True) as bus:
                monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
                await asyncio.sleep(0.6)
                assert not host.reachable
                fake = await FakeLogind.at(bus.address, preparing=True)
                await becomes(lambda: host.stopping)
                assert caplog.text.count("no logind to ask") == 1
                await fake.close()
            monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")
            await becomes(lambda: not host.stopping)  # the bus is gone for good
            assert caplog.text.count("no logind to ask") == 2

    asyncio.run(main())


def test_logind_that_does_not_answer_is_not_waited_for(
    system_bus: PrivateBus, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def main() -> None:
        fake = await FakeLogind.at(system_bus.address)
        fake.mute = True
        async with followed() as host:
            await becomes(lambda: "did not answer Get within 1 s" in caplog.text)
            assert (host.stopping, host.reachable) == (False, False)
            fake.mute, fake.preparing = False, True
            await becomes(lambda: host.stopping)
        await fake.close()

    asyncio.run(main())


def test_bus_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/mute")

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as mute:
            mute.bind(f"{tmp_path}/mute")
            mute.listen()
            async with followed() as host:
                assert not host.asked.is_set()
                await becomes(host.asked.is_set)
                assert (host.stopping, host.reachable) == (False, False)

    asyncio.run(main())


# ---- holding it up


class There:
    """A host whose logind answers."""

    stopping = False
    reachable = True


def wanted(verb: Verb = Verb.CREATE, domain: str = VM) -> Request:
    return Request(verb, domain, "web-1")


async def job(jobs: Jobs, end: asyncio.Event, request: Request | None = None) -> Job:
    """A job that is at work until the event is set."""

    async def work(_job: Job) -> Outcome:
        await end.wait()
        return Outcome()

    return await jobs.submit(request or wanted(), work)


Body = Callable[[Jobs, FakeLogind], Awaitable[None]]


def holding(folder: Path, address: str, body: Body, host: There | None = None) -> None:
    """Run a test's body beside an inhibitor, which leaves nothing held."""

    async def main(jobs: Jobs, _store: Store) -> None:
        fake = await FakeLogind.at(address)
        inhibitor = Inhibitor(jobs, host or There())
        inhibitor.start()
        await body(jobs, fake)
        await inhibitor.stop()
        await becomes(lambda: not fake.held())
        await fake.close()

    play(folder, main)


def test_host_is_held_up_from_a_jobs_first_second_to_its_end(
    system_bus: PrivateBus, tmp_path: Path
) -> None:
    async def body(jobs: Jobs, fake: FakeLogind) -> None:
        end = asyncio.Event()
        made = await job(jobs, end)
        await asyncio.sleep(0.5)
        assert fake.held() == []
        await becomes(lambda: fake.held() == [HELD])
        end.set()
        await made.ended.wait()
        await becomes(lambda: not fake.held())

    holding(tmp_path, system_bus.address, body)


def test_short_jobs_and_those_that_do_not_act_hold_nothing_up(
    system_bus: PrivateBus, tmp_path: Path
) -> None:
    async def body(jobs: Jobs, fake: FakeLogind) -> None:
        end, never = asyncio.Event(), asyncio.Event()
        end.set()
        for _ in range(10):
            await (await job(jobs, end)).ended.wait()
        for verb in (Verb.AUDIT, Verb.RUN):
            await job(jobs, never, wanted(verb, "" if verb is Verb.RUN else VM))

        async def work(job: Job) -> Outcome:
            job.wait_for("somebody's backup")
            await never.wait()
            return Outcome()

        await jobs.submit(wanted(domain=OTHER), work)
        await asyncio.sleep(2)
        assert fake.given == []
        never.set()

    holding(tmp_path, system_bus.address, body)


def test_job_that_does_not_end_lets_the_host_go_and_a_young_one_holds_it_again(
    system_bus: PrivateBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logind, "HOLD_AT_MOST", 2.0)

    async def body(jobs: Jobs, fake: FakeLogind) -> None:
        end = asyncio.Event()
        stuck = await job(jobs, end)
        await becomes(lambda: fake.held() == [HELD])
        await becomes(lambda: not fake.held())
        assert not stuck.ended.is_set()
        await job(jobs, end, wanted(domain=OTHER))
        await becomes(lambda: fake.held() == [HELD])
        end.set()

    holding(tmp_path, system_bus.address, body)


def test_host_is_delayed_where_it_may_not_be_blocked(
    system_bus: PrivateBus, tmp_path: Path
) -> None:
    async def body(jobs: Jobs, fake: FakeLogind) -> None:
        fake.denied = ("block-weak", "block")
        end = asyncio.Event()
        await job(jobs, end, wanted(Verb.REVERT))
        why = "shutdown:sleep delay virtsnapd: VM web-1 is being reverted to a snapshot"
        await becomes(lambda: fake.held() == [why])
        end.set()

    holding(tmp_path, system_bus.address, body)


def test_root_may_stop_the_host_all_the_same_where_a_block_would_refuse_it(
    system_bus: PrivateBus, tmp_path: Path
) -> None:
    async def body(jobs: Jobs, fake: FakeLogind) -> None:
        fake.denied = ()
        end = asyncio.Event()
        await job(jobs, end, wanted())
        await becomes(lambda: fake.held() == [HELD.replace("block", "block-weak")])
        end.set()

    holding(tmp_path, system_bus.address, body)


@pytest.mark.parametrize("missing", ["right", "tool", "logind"])
def test_host_that_cannot_be_held_up_keeps_no_job_from_its_work(
    system_bus: PrivateBus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    missing: str,
) -> None:
    caplog.set_level("INFO")
    host = There()
    host.reachable = missing != "logind"
    if missing == "tool":
        monkeypatch.setattr(Inhibitor.__init__, "__defaults__", ("/nonexistent/inhibit",))

    async def body(jobs: Jobs, fake: FakeLogind) -> None:
        fake.denied = logind.MODES
        for domain in (VM, OTHER):
            end = asyncio.Event()
            made = await job(jobs, end, wanted(domain=domain))
            await asyncio.sleep(1.7)
            assert fake.given == []
            end.set()
            await made.ended.wait()

    holding(tmp_path, system_bus.address, body, host)
    said = [r for r in caplog.records if "cannot be held up" in r.message]
    assert len(said) == (0 if missing == "logind" else 1)


def test_host_is_let_go_when_the_daemon_is_killed(system_bus: PrivateBus, tmp_path: Path) -> None:
    """By SIGKILL, so that nobody can tell the child to end."""

    async def main() -> None:
        fake = await FakeLogind.at(system_bus.address)
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.driver.test_logind", str(tmp_path)), cwd=TOP
        )
        await becomes(lambda: fake.held() == [HELD], 20)
        os.kill(child.pid, signal.SIGKILL)
        await becomes(lambda: not fake.held())
        await child.wait()
        await fake.close()

    asyncio.run(main())


def _hold_for_ever(folder: Path) -> None:
    async def body(jobs: Jobs, _store: Store) -> None:
        Inhibitor(jobs, There()).start()
        await job(jobs, asyncio.Event())
        await asyncio.Event().wait()

    play(folder, body)


if __name__ == "__main__":
    _hold_for_ever(Path(sys.argv[1]))
