"""Job as the contract has it: waiting, errors as data, who may have what an audit found."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from snapd.bus.contract import load
from snapd.bus.job_object import JobObject
from snapd.bus.pack import arguments
from snapd.bus.rooms import Rooms
from snapd.bus.router import Call
from snapd.errors import NoSpace, NotAuthorized, TimedOut
from snapd.model import Verb, Warned
from snapd.operations import Job, Jobs, Outcome, Request
from snapd.store import Store
from tests.unit.jobs_on_store import VM, play

DETAIL = {"Reason": "no-space", "Disk": "vda", "Item": "disk.qcow2"} | {
    "Need": 2,
    "Have": 1,
    "Ways": ["x"],
}
DONE = ("failed", NoSpace("").name, "no room", DETAIL)
FOUND = [{"Reason": "unlisted-tag", "DomainUUID": VM, "Item": "ghost", "Proof": "in vda"}]


@dataclass
class Caller:
    """A call by a uid; allowed: whether polkit says yes."""

    number: int
    allowed: bool = False
    asked: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)

    async def uid(self) -> int:
        return self.number

    async def authorize(self, action: str, details: Mapping[str, str]) -> None:
        self.asked.append((action, details))
        if not self.allowed:
            raise NotAuthorized("no")


@dataclass
class Only:
    jobs: Jobs


def wait_as(folder: Path, caller: Caller, verb: Verb = Verb.AUDIT) -> dict[str, Any]:
    """What Wait answers that caller about an ended job of uid 1000."""
    found: dict[str, Any] = {}

    async def work(job: Job) -> Outcome:
        return Outcome(result={"Findings": FOUND})

    async def body(jobs: Jobs, store: Store) -> None:
        job = await jobs.submit(Request(verb, VM, "vm 1", owner=1000), work)
        shown = JobObject(cast(Rooms, Only(jobs)), job)
        found.update(await shown.wait(cast(Call, caller), {"timeout": 5}))
        assert JobObject(cast(Rooms, Only(jobs)), job).result == {}

    play(folder, body)
    return found


def test_wait_for_an_audit_by_its_owner_asks_nobody(tmp_path: Path) -> None:
    caller = Caller(1000)
    assert wait_as(tmp_path, caller) == {"Findings": FOUND}
    assert caller.asked == []


def test_wait_for_an_audit_by_others_needs_inspect(tmp_path: Path) -> None:
    about = {"verb": "Wait", "domain": "vm 1", "uuid": VM}
    with pytest.raises(NotAuthorized):
        wait_as(tmp_path / "no", Caller(1001))
    caller = Caller(1001, allowed=True)
    assert wait_as(tmp_path / "yes", caller) == {"Findings": FOUND}
    assert caller.asked == [("org.virtsnap.snapd1.inspect", about)]


def test_wait_waits_as_long_as_is_asked_and_then_raises_the_jobs_own_error(tmp_path: Path) -> None:
    async def body(jobs: Jobs, store: Store) -> None:
        go = asyncio.Event()

        async def work(job: Job) -> Outcome:
            await go.wait()
            job.warn(Warned("not-quiesced", "vm 1", "VM vm 1 is not quiesced"))
            raise NoSpace(
                "no room",
                reason="no-space",
                disk="vda",
                item="disk.qcow2",
                need=2,
                have=1,
                ways=["x"],
            )

        job = await jobs.submit(Request(Verb.CREATE, VM, "vm 1", "one", owner=1000), work)
        shown, call = JobObject(cast(Rooms, Only(jobs)), job), cast(Call, Caller(1001))
        begun = asyncio.get_running_loop().time()
        for seconds in (0, 1):
            with pytest.raises(TimedOut):
                await shown.wait(call, {"timeout": seconds})
        assert 0.9 < asyncio.get_running_loop().time() - begun < 10
        for_ever = asyncio.create_task(shown.wait(call, {"timeout": 4294967295}))
        await asyncio.sleep(0.05)
        assert not for_ever.done()
        go.set()
        with pytest.raises(NoSpace) as raised:
            await for_ever
        assert raised.value.message == "no room"
        ended = JobObject(cast(Rooms, Only(jobs)), job)
        assert (ended.error_name, ended.error_message) == (NoSpace("").name, "no room")
        assert ended.error_detail == DETAIL
        assert ended.warnings == [
            {"Reason": "not-quiesced", "Item": "vm 1", "Message": "VM vm 1 is not quiesced"}
        ]

    play(tmp_path, body)


def test_error_detail_has_the_types_of_the_contract_on_the_wire() -> None:
    (packed,) = arguments(load()["org.virtsnap.Snapd1.Job"].signals["Completed"], DONE)[3:]
    assert {key: value.signature for key, value in packed.items()} == {
        "Reason": "s",
        "Disk": "s",
        "Item": "s",
        "Need": "t",
        "Have": "t",
        "Ways": "as",
    }


def test_wait_for_another_verb_is_open(tmp_path: Path) -> None:
    caller = Caller(1001)
    wait_as(tmp_path, caller, Verb.DELETE)
    assert caller.asked == []


def test_audit_waits_for_no_turn_and_takes_none(tmp_path: Path) -> None:
    async def body(jobs: Jobs, store: Store) -> None:
        go = asyncio.Event()

        async def slow(job: Job) -> Outcome:
            await go.wait()
            return Outcome()

        async def quick(job: Job) -> Outcome:
            return Outcome()

        create = await jobs.submit(Request(Verb.CREATE, VM, "vm 1", "one"), slow)
        await asyncio.sleep(0)
        audit = await jobs.submit(Request(Verb.AUDIT, VM, "vm 1", max_wait=0), quick)
        await jobs.wait(audit, 5)
        assert (audit.row.state, create.row.state) == ("done", "running")
        assert jobs.holder(VM) is create
        held = await jobs.submit(Request(Verb.AUDIT, VM, "vm 1", owner=5), slow)
        go.set()
        await jobs.wait(create, 5)
        await jobs.wait(held, 5)
        assert not jobs.holds(VM)

    play(tmp_path, body)
