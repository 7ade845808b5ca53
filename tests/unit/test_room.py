"""Making room where a run was refused for space: what may go, how far, and when nothing may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import Busy, NoSpace, SnapdError, Unsupported
from snapd.hypervisor import DomainFacts, Space
from snapd.model import (
    Disk,
    Floor,
    JobState,
    Keep,
    Origin,
    Policy,
    Record,
    Snapshot,
    SnapshotInfo,
    SnapshotKey,
    State,
    Status,
    Verb,
)
from snapd.operations import Blocker, Catalog, Job, Jobs, Operations, Request, Wish
from snapd.operations.shortage import Shortage, shortage
from snapd.policy import ClockGuard, Pruner
from snapd.policy.prune import plan_room, room_time
from snapd.settings import Settings
from snapd.store import Store
from tests.unit.standin import StandIn, play
from tests.unit.test_prune import DAY, KEEP_1, NOW, snapshot
from tests.unit.test_prune import VM as DOMAIN
from tests.unit.vms import ON, facts_of

MIB = 1 << 20
KEEP_3 = replace(KEEP_1, keep=Keep(last=3))


def released(
    snapshots: list[Snapshot], policy: Policy = KEEP_3, at: int = NOW, **state: Any
) -> dict[str, tuple[str, ...]]:
    decisions = plan_room(snapshots, {"p": policy}, Settings(), ["p"], at, **state)
    return {d.candidate.id: d.reasons for d in decisions if not d.keep}


# ---- the plan


def test_plan_room_is_the_plan_with_one_more() -> None:
    found = [snapshot(f"s{n}", n * 60) for n in range(3)]
    assert released(found) == {"s2": ("p: no-rule-matches",)}
    decisions = plan_room(found, {"p": KEEP_3}, Settings(), ["q"], NOW)
    assert all(d.keep for d in decisions)


def test_plan_room_the_newest_good_one_stays_where_one_more_would_release_it() -> None:
    found = [snapshot("half", 0, status=Status.CREATING), snapshot("good", DAY)]
    decisions = plan_room(found, {"p": KEEP_1}, Settings(), ["p"], NOW)
    told = {d.candidate.id: (d.keep, d.reasons) for d in decisions}
    assert told == {"half": (True, ("state:creating",)), "good": (True, ("p: newest",))}


def test_plan_room_what_is_held_stays_and_what_was_let_go_is_finished() -> None:
    found = [snapshot(f"s{n}", n * 60) for n in range(4)]
    assert set(released(found)) == {"s2", "s3"}
    assert released(found, held=["p"]) == {}
    found[1] = snapshot("s1", 60, status=Status.BROKEN)
    assert set(released(found, let_go=["s1"])) == {"s1", "s3"}


def test_plan_room_of_a_set_time_no_age_marches_on() -> None:
    aged = replace(KEEP_1, keep=Keep(last=9), max_age=2 * DAY)
    found = [snapshot(f"s{n}", n * DAY) for n in range(4)]
    assert set(released(found, aged)) == {"s2", "s3"}
    assert set(released(found, aged, NOW + DAY)) == {"s1", "s2", "s3"}


def test_room_time_is_the_first_refused_slot_unless_there_was_a_success_since() -> None:
    """A run by hand may come between a slot and the run that makes up for it."""
    found = [
        snapshot("s", 60),
        snapshot("manual", 50, Origin.MANUAL),
        snapshot("half", 40, status=Status.BROKEN),
        snapshot("other", 30, policies=("q",)),
        snapshot("ahead", -1),
    ]
    times = {at: room_time(found, ["p"], NOW - at, NOW) for at in (90, 60, 20, -90)}
    assert times == {90: NOW - 60, 60: NOW - 60, 20: NOW - 20, -90: NOW}
    assert room_time(found, ["p", "q"], NOW - 90, NOW) == NOW - 30
    assert room_time([], ["p"], NOW - 90, NOW) == NOW - 90


# ---- what lacks


def space(*free: int) -> dict[str, Space]:
    """Of 400 MiB each, vda's on device 1, vdb's on device 2."""
    rooms = [Space(each, 400 * MIB, 9, n) for n, each in enumerate(free, 1)]
    return dict(zip(("vda", "vdb"), rooms, strict=False))


def lacks(item: str, have: int = 0, error: type[SnapdError] = NoSpace) -> Blocker:
    return Blocker(error, "min-free", item, "no", need=10 * MIB, have=have)


def test_shortage_is_of_the_images_file_systems() -> None:
    facts = facts_of(ON, space=space(MIB, 2 * MIB))
    assert shortage(facts, []) == Shortage()
    assert shortage(facts, [lacks("vda", 7), lacks("vdb", 8)]).free == {"vda": 7, "vdb": 8}
    assert shortage(facts, [lacks("vda")]).other is None


@pytest.mark.parametrize(("device", "vain"), [(1, False), (2, True), (0, True)])
def test_shortage_in_libvirts_folder_is_eased_on_the_same_file_system_only(
    device: int, vain: bool
) -> None:
    metadata = Space(0, 400 * MIB, 9, device)
    facts = facts_of(ON, space=space(MIB), metadata=metadata)
    found = shortage(facts, [lacks("vda"), lacks("libvirt")])
    assert (found.other is not None) is vain
    assert shortage(facts, [lacks("libvirt")]).other is not None


def test_shortage_beside_another_blocker_is_not_all() -> None:
    facts = facts_of(ON, space=space(MIB))
    raw = lacks("vda", error=Unsupported)
    assert shortage(facts, [raw]) == Shortage({}, raw)
    assert shortage(facts, [lacks("vda"), raw]).other is raw


@pytest.mark.parametrize(
    ("before", "after", "eased"),
    [
        ({"vda": 0}, {"vda": 0}, False),
        ({"vda": 5 * MIB}, {"vda": 6 * MIB - 1}, False),
        ({"vda": 5 * MIB}, {"vda": 6 * MIB}, True),
        ({"vda": 5 * MIB}, {"vda": 4 * MIB}, False),
        ({"vda": 0, "vdb": 0}, {"vda": 0, "vdb": MIB}, True),
        ({"vda": 0, "vdb": 0}, {"vdb": 0}, True),
    ],
)
def test_shortage_eased_by_a_mib_at_least(
    before: dict[str, int], after: dict[str, int], eased: bool
) -> None:
    assert Shortage(after).eased(Shortage(before)) is eased


# ---- carrying it out

INFO = replace(ON, uuid=DOMAIN)
WISH = Wish(memory="no", quiesce="no", min_free=Floor(percent=5), policies=("p",))
"""28 MiB: 20 of the file system's 400, and 4 for each of the two disks."""


class FullDisk(StandIn):
    """A VM on a file system of 400 MiB, with snapshots s0 (the newest) on, a minute apart.

    free: bytes; gives: what each deletion gives back; stuck: those that can't be deleted.
    """

    def __init__(self, free: int, gives: int = 10 * MIB, count: int = 5) -> None:
        listed = [
            SnapshotInfo(f"s{n}", NOW - 60 * n, State.RUNNING, disks=("vda", "vdb"))
            for n in range(count)
        ]
        super().__init__(INFO, listed, *(s.name for s in listed))
        self.free, self.gives = free, gives
        self.stuck: set[str] = set()

    async def facts(self, uuid: str, snapshot: str = "") -> DomainFacts:
        room = Space(self.free, 400 * MIB, 9, 1)
        return replace(await super().facts(uuid, snapshot), space={"vda": room, "vdb": room})

    async def remove_tags(
        self, uuid: str, disks: Sequence[Disk], name: str, *, created: int | None = None
    ) -> None:
        if name in self.stuck:
            raise Busy("no", reason="backup")
        await super().remove_tags(uuid, disks, name, created=created)

    async def delete(self, _uuid: str, name: str, **_how: Any) -> None:
        await super().delete(_uuid, name, **_how)
        self.free += self.gives


@dataclass
class Case:
    """That VM under a policy which keeps the last three, as one more is refused for space."""

    vm: FullDisk
    pruner: Pruner
    operations: Operations
    store: Store
    policies: dict[str, Policy]
    held: list[str] = field(default_factory=list)

    async def room(self, at: int = NOW, wish: Wish = WISH) -> Job:
        request = Request(Verb.PRUNE, DOMAIN, "web-1", policy="p", options={"room": at})
        job = await self.operations.jobs.submit(
            request, lambda job: self.pruner.make_room(job, ("p",), at, wish)
        )
        await job.ended.wait()
        return job

    async def refused(self, wish: Wish = WISH) -> tuple[str, str]:
        """The error's name and its reason word; nothing was deleted."""
        before = list(self.vm.snapshots)
        job = await self.room(wish=wish)
        assert (job.row.state, self.vm.snapshots) == (JobState.FAILED, before)
        return job.row.error_name.rpartition(".")[2], job.error().reason

    def left(self) -> list[str]:
        return sorted(s.name for s in self.vm.snapshots)


def making(folder: Path, vm: FullDisk, body: Callable[[Case], Awaitable[None]]) -> None:
    """Run the body on the VM; all its snapshots are the policy's."""

    async def main(operations: Operations, jobs: Jobs, store: Store) -> None:
        keys = [SnapshotKey(DOMAIN, s.name, s.created) for s in vm.snapshots]
        await store.change_records([Record(key, Origin.POLICY, ("p",)) for key in keys])
        inventory = operations.context.inventory
        held: list[str] = []
        policies = {"p": KEEP_3}
        made = Pruner(
            operations,
            inventory,
            Catalog(inventory, store, jobs),
            lambda: policies,
            Settings(),
            ClockGuard(wall=lambda: NOW, boot=lambda: 0),
            lambda: NOW + 60,
            lambda _uuid: held,
        )
        await body(Case(vm, made, operations, store, policies, held))

    play(folder, vm, main)


def test_make_room_deletes_oldest_first_until_there_is_enough(tmp_path: Path) -> None:
    async def body(case: Case) -> None:
        job = await case.room()
        assert job.row.result == {"Deleted": ["s4", "s3"], "Stays": []}
        rows, _total = await case.store.history({"domain": DOMAIN}, 0, 1 << 40, 0, 10)
        told = {row.snapshot: row.reason for _number, row in rows}
        assert told == dict.fromkeys(["s3", "s4"], "room: p: no-rule-matches")
        assert (await case.room()).row.result == {"Deleted": [], "Stays": []}
        assert case.left() == ["s0", "s1", "s2"]

    making(tmp_path, FullDisk(8 * MIB), body)


def test_make_room_ten_times_takes_no_more_than_one_success_would(tmp_path: Path) -> None:
    async def body(case: Case) -> None:
        for _slot in range(10):
            case.vm.free = MIB
            assert (await case.room()).row.state is JobState.DONE
            assert case.left() == ["s0", "s1"]

    making(tmp_path, FullDisk(MIB, gives=MIB), body)


def test_make_room_stops_where_a_deletion_gave_nothing_back(tmp_path: Path) -> None:
    async def body(case: Case) -> None:
        assert (await case.room()).row.result["Deleted"] == ["s4"]
        assert (await case.room()).row.result["Deleted"] == ["s3"]

    making(tmp_path, FullDisk(MIB, gives=MIB - 1), body)


def test_make_room_deletion_that_fails_is_skipped_and_no_other_takes_its_place(
    tmp_path: Path,
) -> None:
    async def body(case: Case) -> None:
        case.vm.stuck = {"s4"}
        stays = [{"Name": "s4", "Reason": "backup"}]
        assert (await case.room()).row.result == {"Deleted": ["s3", "s2"], "Stays": stays}
        assert case.left() == ["s0", "s1", "s4"]

    making(tmp_path, FullDisk(MIB, gives=4 * MIB), body)


def test_make_room_for_a_slot_before_the_last_success_counts_from_that(tmp_path: Path) -> None:
    async def body(case: Case) -> None:
        assert (await case.room(at=NOW - 400)).row.result["Deleted"] == ["s4", "s3", "s2"]

    making(tmp_path, FullDisk(MIB, gives=MIB), body)


def test_make_room_of_a_time_to_come_is_made_now(tmp_path: Path) -> None:
    async def body(case: Case) -> None:
        case.policies["p"] = replace(KEEP_1, keep=Keep(last=9), max_age=DAY)
        assert (await case.room(at=NOW + 40 * DAY)).row.result["Deleted"] == []
        assert len(case.left()) == 5

    making(tmp_path, FullDisk(MIB), body)


def test_make_room_where_room_would_not_do_deletes_nothing_and_says_why(tmp_path: Path) -> None:
    async def body(case: Case) -> None:
        wish = replace(WISH, quiesce="require")
        assert await case.refused(wish) == ("AgentUnavailable", "agent-unavailable")

    making(tmp_path, FullDisk(MIB), body)


def test_make_room_of_over_5_and_over_half_is_a_persons_to_do(tmp_path: Path) -> None:
    """Of eight, one more snapshot would release six."""

    async def body(case: Case) -> None:
        job = await case.room()
        assert (job.row.error_name.rpartition(".")[2], len(case.left())) == ("Protected", 8)
        assert "6 of 8" in job.row.error_message
        case.policies["p"] = replace(KEEP_1, keep=Keep(last=9), max_age=90)
        job = await case.room(at=NOW - 240)  # two went then, seven would go now
        assert (job.row.error_name.rpartition(".")[2], len(case.left())) == ("Protected", 8)
        assert "7 of 8" in job.row.error_message

    making(tmp_path, FullDisk(MIB, count=8), body)


def test_make_room_is_kept_back_by_all_that_keeps_a_prune_back(tmp_path: Path) -> None:
    async def body(case: Case) -> None:
        case.pruner.blocked = "virtsnapd.toml is broken"
        assert await case.refused() == ("Protected", "")
        case.pruner.blocked = ""
        case.vm.info = replace(INFO, io_error=True)
        assert await case.refused() == ("Protected", "io-error")
        case.vm.info = INFO
        case.held.append("p")
        assert (await case.room()).row.result["Deleted"] == []
        case.held.clear()
        assert (await case.room()).row.result["Deleted"] == ["s4", "s3", "s2"]

    making(tmp_path, FullDisk(MIB, gives=MIB), body)
