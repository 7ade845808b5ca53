"""What jobs left half made: what mends it, in memory and in the store, and what it stops."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from snapd.inventory import DomainPicture, Inventory
from snapd.model import (
    DomainInfo,
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
from snapd.operations import Catalog, HalfMade, Job, Jobs
from snapd.policy import plan
from snapd.settings import Settings
from snapd.store import JobRow, Store

VM = "22222222-2222-4222-8222-222222222201"
OTHER = "22222222-2222-4222-8222-222222222202"


def row(verb: Verb, snapshot: str, error: str = "", domain: str = VM, **how: Any) -> JobRow:
    """A job that has ended; error: by which it left something half made, "" = it is done."""
    state = JobState.FAILED if error else JobState.DONE
    if error:
        how = {"detail": {"reason": "half-made"}, **how}
        how["error_name"] = f"org.virtsnap.Error.{error}"
    how = {"policy": "", "owner": -1, "queued": 1, "finished": 2, **how}
    return JobRow(0, verb, domain, "web-1", snapshot, state=state, **how)


TORN = row(Verb.REVERT, "x", "Partial")
HALF_DELETED = row(Verb.DELETE, "x", "Partial")


@pytest.mark.parametrize(
    ("half", "later", "mended"),
    [
        (TORN, row(Verb.REVERT, "safety-1"), True),
        (TORN, row(Verb.REVERT, "x"), True),
        (TORN, row(Verb.DELETE, "x"), False),
        (TORN, row(Verb.CREATE, "x"), False),
        (TORN, row(Verb.REVERT, "x", domain=OTHER), False),
        (HALF_DELETED, row(Verb.DELETE, "x"), True),
        (HALF_DELETED, row(Verb.DELETE, "y"), False),
        (HALF_DELETED, row(Verb.REVERT, "y"), False),
    ],
    ids=lambda v: f"{v.verb}-{v.snapshot}" if isinstance(v, JobRow) else str(v),
)
def test_half_made_is_mended_by_what_makes_it_whole_alone(
    tmp_path: Path, half: JobRow, later: JobRow, mended: bool
) -> None:
    """The disks of a torn VM are of two moments until a revert has set all of them; where the
    snapshot that it was to go to is deleted they are still so."""
    kept = HalfMade()
    kept.note(half)
    kept.note(later)
    assert [r.snapshot for r in kept.rows()] == ([] if mended else ["x"])

    async def stored() -> list[JobRow]:
        store = await Store.open(tmp_path)
        try:
            await store.add_job(half)
            await store.add_job(later)
            return await store.half_made()
        finally:
            await store.close()

    assert [r.snapshot for r in asyncio.run(stored())] == ([] if mended else ["x"])


# ---- how the snapshot is shown


MADE = 1700000000


@pytest.mark.parametrize(
    ("half", "name", "status"),
    [
        (row(Verb.DELETE, "x", "Partial", created=MADE), "x", Status.BROKEN),
        (row(Verb.DELETE, "x", "Partial", created=MADE), "y", Status.OK),
        (row(Verb.DELETE, "x", "Partial", created=MADE - 9), "x", Status.OK),
        (row(Verb.DELETE, "x", "Inconsistent", created=MADE), "x", Status.NEEDS_ATTENTION),
        (replace(row(Verb.CREATE, "x", "Inconsistent"), finished=MADE + 5), "x", Status.BROKEN),
        (replace(row(Verb.CREATE, "x", "Inconsistent"), finished=MADE - 5), "x", Status.OK),
        (row(Verb.REVERT, "x", "Partial", created=MADE), "x", Status.OK),
        (row(Verb.REVERT, "x", "Inconsistent", created=MADE), "x", Status.NEEDS_ATTENTION),
    ],
    ids=lambda v: f"{v.verb}-{v.error_name[20:]}-{v.finished}" if isinstance(v, JobRow) else str(v),
)
def test_status_of_a_snapshot_that_is_not_whole_is_not_ok(
    half: JobRow, name: str, status: Status
) -> None:
    """A revert that tore a VM says nothing of its target, unless that lacks in a disk."""
    if half.verb is Verb.CREATE:
        half = replace(half, detail={**half.detail, "disk": "vda"})
    kept = HalfMade()
    kept.note(half)
    info = SnapshotInfo(name, MADE, State.SHUTOFF)
    assert shown(kept, info).status is status


def test_status_of_a_snapshot_that_an_audit_misses_in_an_image_is_broken_until_the_next() -> None:
    info, kept = SnapshotInfo("x", MADE, State.SHUTOFF), HalfMade()
    kept.audited(VM, [SnapshotKey(VM, "x", MADE)])
    assert shown(kept, info).status is Status.BROKEN
    assert shown(kept, replace(info, created=MADE + 1)).status is Status.OK
    kept.audited(VM, [])
    assert shown(kept, info).status is Status.OK


def shown(kept: HalfMade, info: SnapshotInfo) -> Snapshot:
    """As the catalog has it, of a domain without jobs; a policy made it."""

    class Stub:
        half_made = kept

        def open_on(self, _domain: str) -> list[Job]:
            return []

        def record(self, key: SnapshotKey) -> Record:
            return Record(key, Origin.POLICY, ("p",), State.RUNNING)

    stub = Stub()
    catalog = Catalog(cast(Inventory, stub), cast(Store, stub), cast(Jobs, stub))
    return catalog.one(DomainPicture(DomainInfo(VM, "web-1", State.RUNNING)), info)


# ---- what retention makes of it


DAY = 86400
KEEP_1 = Policy("p", "admin", "r", ("*",), Keep(last=1), "UTC", "0 * * * *")


def planned(half: JobRow, held: tuple[str, ...] = (), pin: str | None = None) -> list[str]:
    """Those of n0 ... n2 that go by policy p, which keeps one; with that half-made thing."""
    kept = HalfMade()
    kept.note(half)
    infos = [SnapshotInfo(f"n{n}", MADE + n * DAY, State.SHUTOFF) for n in range(3)]
    snapshots = [shown(kept, info) for info in infos]
    if pin is not None:
        records = [replace(cast(Record, s.record), pin_reason=pin) for s in snapshots]
        snapshots = [replace(s, record=r) for s, r in zip(snapshots, records, strict=True)]
    going = {s.info.name for s in snapshots if kept.let_go(s.key)}
    decisions = plan(snapshots, {"p": KEEP_1}, Settings(), MADE + 4 * DAY, held, going)
    return sorted(d.candidate.id for d in decisions if not d.keep)


def test_plan_newest_that_a_person_half_deleted_counts_for_nothing_and_stays() -> None:
    """Else the only good ones would go for one whose tag is gone from a disk (LIBVIRT 10, 7)."""
    half = row(Verb.DELETE, "n2", "Partial", created=MADE + 2 * DAY)
    assert planned(replace(half, owner=1000)) == ["n0"]


def test_plan_one_that_retention_half_deleted_is_deleted_to_the_end() -> None:
    half = row(Verb.DELETE, "n0", "Partial", created=MADE, policy="p")
    assert planned(half) == ["n0", "n1"]
    assert planned(replace(half, policy="")) == ["n0", "n1"]  # the daemon's, a safety snapshot
    assert planned(replace(half, policy="", owner=1000)) == ["n1"]
    assert planned(half, held=("p",)) == []
    assert planned(half, held=("",)) == []
    assert planned(half, pin="audit") == []
