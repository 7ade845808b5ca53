"""virtsnap and a job that takes its time: shown, left by Ctrl-C, and its daemon gone.

The test driver is never slow, so the job is played here, by API.md's words, on a real bus.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from snapd.wire import paths
from snapd.wire.messages import Incoming
from snapd.wire.values import Variant, unwrap
from tests.bus import PrivateBus
from tests.client import INTERFACE, PROPERTIES, TOP, Client
from tests.driver.virtsnap import command, virtsnap
from tests.schema import documents

JOB = paths.job(7)
UUID = "22222222-2222-4222-8222-222222222201"
TIMED_OUT = "org.virtsnap.Error.TimedOut"


class Play:
    """A Manager whose only job goes on until finish()."""

    def __init__(self, address: str) -> None:
        self.client = Client(address)
        self.asked: list[tuple[str, Any]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._done: asyncio.Event = self.client.run(self._event())
        self._job: dict[str, Variant] = {
            "Verb": Variant("s", "create"),
            "DomainName": Variant("s", "web-1"),
            "DomainUUID": Variant("s", UUID),
            "SnapshotName": Variant("s", "one"),
            "Policy": Variant("s", ""),
            "State": Variant("s", "running"),
            "Phase": Variant("s", "taking"),
            "Progress": Variant("d", -1.0),
            "ErrorName": Variant("s", ""),
            "ErrorMessage": Variant("s", ""),
            "ErrorDetail": Variant("a{sv}", {}),
            "Warnings": Variant("aa{sv}", []),
            "Result": Variant("a{sv}", {"Snapshot": Variant("o", paths.snapshot(UUID, "one"))}),
        }
        self.client.bus.serve(self._on_call)
        self.client.run(self.client.bus.request_name(paths.NAME))

    @staticmethod
    async def _event() -> asyncio.Event:
        return asyncio.Event()

    def _on_call(self, call: Incoming) -> None:
        task = asyncio.create_task(self._answer(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, call: Incoming) -> None:
        bus = self.client.bus
        self.asked.append((call.member, unwrap(list(call.body))))
        if call.member == "CreateSnapshot":
            await bus.reply(call, "o", lambda: [JOB])
        elif call.member == "GetAll" and call.path == JOB:
            await bus.reply(call, "a{sv}", lambda: [self._job])
        elif call.member == "GetAll":
            made = {
                "Name": Variant("s", "one"),
                "Kind": Variant("s", "internal"),
                "Consistency": Variant("s", "memory"),
                "PauseMilliseconds": Variant("x", 1234),
            }
            await bus.reply(call, "a{sv}", lambda: [made])
        elif call.member == "Wait":
            seconds = unwrap(call.body[0])["timeout"]
            try:
                await asyncio.wait_for(self._done.wait(), seconds)
            except TimeoutError:
                bus.error(call, TIMED_OUT, "job 7 is still running")
            else:
                await bus.reply(call, "a{sv}", lambda: [self._job["Result"].value])
        else:
            bus.error(call, "org.freedesktop.DBus.Error.UnknownMethod", call.member)

    def change(self, **values: Variant) -> None:
        """Change properties of the job, and tell."""

        async def change() -> None:
            self._job.update(values)
            body = [f"{INTERFACE}.Job", values, []]
            self.client.bus.signal(JOB, PROPERTIES, "PropertiesChanged", "sa{sv}as", body)

        self.client.run(change())

    def finish(self, **values: Variant) -> None:
        self.change(State=Variant("s", "done"), Phase=Variant("s", ""), **values)

        async def finish() -> None:
            self._done.set()

        self.client.run(finish())

    def count(self, member: str) -> int:
        return sum(asked == member for asked, _ in self.asked)

    def close(self) -> None:
        self.client.__exit__(None, None, None)


@pytest.fixture
def play(bus: PrivateBus) -> Iterator[Play]:
    made = Play(bus.address)
    try:
        yield made
    finally:
        made.close()


def until(what: Callable[[], bool], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_follow_slow_job_in_a_pipe_is_one_line_a_phase(bus: PrivateBus, play: Play) -> None:
    process = subprocess.Popen(
        command(bus.address, "create", "web-1", "one"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=TOP,
    )
    with process:
        until(lambda: play.count("Wait") == 2)
        play.change(Phase=Variant("s", "verifying"))
        play.finish()
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert err.splitlines() == ["job 7: create web-1: taking", "job 7: create web-1: verifying"]
    assert len(out.splitlines()) == 1


def test_follow_job_with_warnings_tells_them(bus: PrivateBus, play: Play) -> None:
    warning = {"Message": Variant("s", "RAM is\nleft out"), "Reason": Variant("s", "x")}
    play.finish(Warnings=Variant("aa{sv}", [warning]))
    done = virtsnap(bus.address, "create", "web-1", "one")
    assert (done.code, done.err) == (0, "warning: RAM is\\nleft out\n")


def test_follow_interrupted_with_json_says_it_as_json(bus: PrivateBus, play: Play) -> None:
    process = subprocess.Popen(
        command(bus.address, "create", "web-1", "one", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=TOP,
    )
    with process:
        until(lambda: play.count("Wait") > 0)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, b"")
    assert documents(err)[0]["detail"] == {"Job": JOB}


def test_follow_daemon_gone_is_outcome_unknown(bus: PrivateBus, play: Play) -> None:
    process = subprocess.Popen(
        command(bus.address, "create", "web-1", "one", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=TOP,
    )
    with process:
        until(lambda: play.count("Wait") == 2)
        play.client.run(play.client.bus.close())
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, b"")
    assert documents(err)[0]["error"] == "org.virtsnap.Error.OutcomeUnknown"


def test_create_sends_only_the_options_that_were_typed(bus: PrivateBus, play: Play) -> None:
    play.finish()
    virtsnap(bus.address, "create", "web-1", "one")
    virtsnap(bus.address, "create", "web-1", "one", "--quiesce", "--max-pause", "2min", "--trial")
    bare, full = (body for member, body in play.asked if member == "CreateSnapshot")
    assert bare == ["web-1", "one", {}]
    assert full == ["web-1", "one", {"quiesce": "require", "max_pause": 120, "trial": True}]
