"""Pins, adoption and descriptions where a real libvirt cannot be brought into the state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from snapd.errors import (
    Busy,
    Changed,
    Inconsistent,
    LibvirtError,
    NoSuchSnapshot,
    OutcomeUnknown,
    SnapdError,
)
from snapd.hypervisor import DomainFacts
from snapd.inventory import DomainPicture
from snapd.model import (
    Consistency,
    DomainInfo,
    Origin,
    Record,
    Snapshot,
    SnapshotInfo,
    SnapshotKey,
    State,
    Status,
)
from snapd.operations import Jobs, Ownership
from snapd.operations.context import Context
from snapd.operations.describe import describe
from snapd.planning.retention import candidate
from snapd.store import Store

VM = "22222222-2222-4222-8222-222222222201"
INFO = DomainInfo(VM, "web-1", State.RUNNING, current="one")
ONE = SnapshotInfo("one", 1700000000, State.RUNNING, description="old", current=True)
TWO = SnapshotInfo("two", 1700000001, State.SHUTOFF, parent="one")
KEY = SnapshotKey(VM, "one", 1700000000)
PICTURE = DomainPicture(INFO, {"one": ONE, "two": TWO})


@dataclass
class Shelf:
    """A catalog of a status for each name."""

    store: Store
    statuses: dict[str, Status] = field(default_factory=dict)

    def one(self, picture: DomainPicture, info: SnapshotInfo) -> Snapshot:
        record = self.store.record(SnapshotKey(VM, info.name, info.created))
        status = self.statuses.get(info.name, Status.OK)
        return Snapshot(VM, picture.info.name, info, record, status)


Body = Callable[[Store, Shelf, Ownership], Coroutine[Any, Any, None]]


def play(folder: Path, body: Body) -> None:
    async def main() -> None:
        store = await Store.open(folder)
        shelf = Shelf(store)
        try:
            await body(store, shelf, Ownership(store, cast(Any, shelf), lambda: 1795600000.5))
        finally:
            await store.close()

    asyncio.run(main())


@pytest.mark.parametrize("status", [Status.CREATING, Status.DELETING])
@pytest.mark.parametrize("verb", ["pin", "adopt"])
def test_act_on_one_that_is_being_made_or_deleted_is_busy(
    tmp_path: Path, status: Status, verb: str
) -> None:
    async def body(store: Store, shelf: Shelf, ownership: Ownership) -> None:
        shelf.statuses["two"] = status
        with pytest.raises(Busy, match="two"):
            if verb == "pin":
                await ownership.pin(PICTURE, TWO, "audit", 0)
            else:
                await ownership.adopt(PICTURE, [ONE, TWO], "web", 0)
        assert store.records_of(VM) == []

    play(tmp_path, body)


def test_pin_is_seen_before_it_is_on_disk(tmp_path: Path) -> None:
    async def body(store: Store, _shelf: Shelf, ownership: Ownership) -> None:
        pin = asyncio.ensure_future(ownership.pin(PICTURE, ONE, "", 0))
        await asyncio.sleep(0)
        assert not pin.done()
        found = store.record(KEY)
        assert found and found.pin_reason == ""
        await pin

    play(tmp_path, body)


@pytest.mark.parametrize(
    ("info", "consistency"),
    [
        (ONE, Consistency.CRASH),
        (replace(ONE, memory=True), Consistency.MEMORY),
        (TWO, Consistency.OFFLINE),
    ],
)
def test_snapshot_with_a_foreign_record_is_as_without_but_pinned(
    info: SnapshotInfo, consistency: Consistency
) -> None:
    key = SnapshotKey(VM, info.name, info.created)
    plain = Snapshot(VM, "web-1", info)
    pinned = replace(plain, record=Record(key, Origin.FOREIGN, pin_reason=""))
    for one in (plain, pinned):
        assert (one.origin, one.owned, one.policies) == (Origin.FOREIGN, False, ())
        assert (one.state, one.consistency) == (info.state, consistency)
    assert (plain.pinned, pinned.pinned) == (False, True)
    assert not candidate(pinned).owned


# ---- descriptions


@dataclass
class Libvirt:
    """Snapshots of one domain; `becomes` is what a redefinition makes of them."""

    snapshots: dict[str, SnapshotInfo]
    becomes: dict[str, SnapshotInfo] | None = None
    fails: SnapdError | None = None
    holder: str = ""
    current: str = "one"
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def facts(self, _uuid: str) -> DomainFacts:
        info = replace(INFO, current=self.current)
        return DomainFacts(info, tuple(self.snapshots.values()), (), "", self.holder)

    async def describe(self, _uuid: str, name: str, text: str) -> None:
        self.asked.append((name, text))
        if self.becomes is not None:
            self.snapshots = self.becomes
        if self.fails:
            raise self.fails

    async def refresh(self, _uuid: str) -> DomainPicture:
        return DomainPicture(replace(INFO, current=self.current), self.snapshots)


def described(folder: Path, libvirt: Libvirt) -> list[tuple[str, str, str]]:
    """Describe `one` as `new`; the history's (verb, reason, result). Raises what it raises."""
    found: list[tuple[str, str, str]] = []

    async def body(store: Store, _shelf: Shelf, _ownership: Ownership) -> None:
        room = cast(Any, libvirt)
        jobs = Jobs(store)
        ctx = Context.__new__(Context)
        parts = {"hypervisor": room, "inventory": room, "store": store, "jobs": jobs}
        for name, part in (parts | {"clock": lambda: 1795600000.5}).items():
            object.__setattr__(ctx, name, part)
        try:
            await describe(ctx, INFO, KEY, "new", 1000)
        finally:
            rows, _total = await store.history({}, 0, 0, 0, 10)
            found.extend((row.verb, row.reason, row.result) for _n, row in rows)
            assert not jobs.holds(VM)

    play(folder, body)
    return found


NEW = replace(ONE, description="new")


def test_describe_done_is_history_with_what_it_was(tmp_path: Path) -> None:
    libvirt = Libvirt({"one": ONE}, {"one": NEW})
    assert described(tmp_path, libvirt) == [("describe", "was: old", "done")]
    assert libvirt.asked == [("one", "new")]


def test_describe_as_it_is_already_asks_nothing(tmp_path: Path) -> None:
    libvirt = Libvirt({"one": NEW})
    assert described(tmp_path, libvirt) == []
    assert libvirt.asked == []


@pytest.mark.parametrize(
    ("there", "error"),
    [({}, NoSuchSnapshot), ({"one": replace(ONE, created=1700000009)}, Changed)],
)
def test_describe_of_another_one_than_was_meant_touches_nothing(
    tmp_path: Path, there: dict[str, SnapshotInfo], error: type[SnapdError]
) -> None:
    libvirt = Libvirt(there)
    with pytest.raises(error):
        described(tmp_path, libvirt)
    assert libvirt.asked == []


def test_describe_while_another_tool_holds_the_vm_is_busy(tmp_path: Path) -> None:
    libvirt = Libvirt({"one": ONE}, holder="backup")
    with pytest.raises(Busy, match="backup"):
        described(tmp_path, libvirt)
    assert libvirt.asked == []


@pytest.mark.parametrize(
    ("becomes", "word"),
    [
        ({}, "list"),
        ({"one": ONE}, "description"),
        ({"one": replace(NEW, current=False)}, "current"),
        ({"one": replace(NEW, parent="two")}, "parent"),
        ({"one": replace(NEW, created=1700000009)}, "created"),
        ({"one": replace(NEW, memory=True)}, "memory"),
    ],
)
def test_describe_after_which_something_else_differs_is_inconsistent(
    tmp_path: Path, becomes: dict[str, SnapshotInfo], word: str
) -> None:
    with pytest.raises(Inconsistent, match=word):
        described(tmp_path, Libvirt({"one": ONE}, becomes))


def test_describe_whose_error_was_none_is_done(tmp_path: Path) -> None:
    libvirt = Libvirt({"one": ONE}, {"one": NEW}, OutcomeUnknown("broken off"))
    assert described(tmp_path, libvirt) == [("describe", "was: old", "done")]


def test_describe_refused_is_libvirts_error(tmp_path: Path) -> None:
    with pytest.raises(LibvirtError, match="no"):
        described(tmp_path, Libvirt({"one": ONE}, fails=LibvirtError("no")))
