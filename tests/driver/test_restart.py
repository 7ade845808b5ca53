"""What a daemon leaves to the next one: jobs, records, pins, open intents, a queue at SIGTERM."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import OutcomeUnknown, Protected, SnapdError
from snapd.wire import paths
from tests.client import Client, Row
from tests.driver.house import HOST, WEB1, House, problems

MADE = 1700000000
CREATE: dict[str, Any] = {
    "way": "libvirt",
    "name": "half",
    "description": "in the middle",
    "memory": True,
    "quiesce": "no",
    "state": "running",
    "instance": 1,
    "parent": "by-hand",
    "disks": {"vda": "/nonexistent/web-1.qcow2"},
    "left_out": [],
    "inactive_xml": "",
    "origin": "policy",
    "policies": ["nightly"],
    "reason": "policy nightly, slot 1",
    "notes": [],
    "created": MADE,
    "consistency": "",
    "pause_ms": -1,
}
REVERT = {
    "name": "by-hand",
    "created": MADE,
    "instance": 1,
    "state": "running",
    "current": "",
    "wanted": "running",
    "disks": {},
    "memory": False,
    "agent": False,
    "safety": "safety-20261124T013000Z",
    "delete_after": False,
    "claimed": True,
    "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
}


def leave(house: House, verb: str, snapshot: str, intent: dict[str, Any] | None) -> str:
    """Have an earlier daemon been killed in the middle of a job; the job's path."""
    if not house.store.exists():
        house.tables()
    with house.db() as db:
        cursor = db.execute(
            "INSERT INTO jobs (verb, domain, domain_name, snapshot, created, policy, owner, state,"
            " queued, started, intent) VALUES (?, ?, 'web-1', ?, ?, '', 77, 'running', ?, ?, ?)",
            (
                verb,
                WEB1,
                snapshot,
                0 if verb == "create" else MADE,
                int(time.time()) - 60,
                int(time.time()) - 60,
                json.dumps(intent) if intent else None,
            ),
        )
        return paths.job(cursor.lastrowid or 0)


def settled(client: Client, job: str) -> Row:
    """The job once it has ended."""
    return client.until(
        "settled", lambda: row if (row := client.job(job))["State"] in ("done", "failed") else None
    )


def told(client: Client, verb: str) -> list[tuple[str, str, int]]:
    """What history says of that verb: snapshot, the result's first word, who."""
    rows = client.rows("ListHistory", "web-1")
    return [
        (r["SnapshotName"], r["Result"].split(":")[0].rpartition(".")[2], r["OwnerUID"])
        for r in rows
        if r["Verb"] == verb
    ]


def test_open_create_that_libvirt_never_began_is_undone(house: House) -> None:
    job = leave(house, "create", "half", CREATE)
    client = house.start()
    row = settled(client, job)
    assert (row["State"], row["ErrorName"]) == ("failed", OutcomeUnknown("").name)
    assert "nothing had been done" in row["ErrorMessage"]
    assert list(client.snapshots("web-1")) == ["by-hand"]
    assert told(client, "create") == [("half", "OutcomeUnknown", 77)]
    assert "needs-attention" not in problems(client)
    assert client.create("web-1", "half")["Name"] == "half"


def test_open_create_that_libvirt_finished_is_done_and_ours(house: House) -> None:
    job = leave(house, "create", "by-hand", CREATE | {"name": "by-hand"})
    client = house.start()
    assert settled(client, job)["State"] == "done"
    row = client.snapshots("web-1")["by-hand"]
    assert (row["Origin"], row["Policies"], row["Status"]) == ("policy", ["nightly"], "ok")
    assert client.wait(job)["Snapshot"] == row["Path"]
    (history,) = client.rows("ListHistory", "web-1")
    assert (history["Result"], history["Reason"]) == ("done", "policy nightly, slot 1")
    assert history["Created"] == MADE


def test_open_create_that_the_monitor_took_is_registered(house: House) -> None:
    """Taken, and the daemon was killed before libvirt knew of it."""
    xml = (
        f"<domain type='test'><name>web-1</name><uuid>{WEB1}</uuid>"
        "<memory unit='KiB'>65536</memory><os><type>hvm</type></os><devices>"
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
        "<source file='/nonexistent/web-1.qcow2'/><target dev='vda' bus='virtio'/></disk>"
        "</devices></domain>"
    )
    taken = {"way": "monitor", "memory": False, "consistency": "crash", "pause_ms": 40}
    job = leave(house, "create", "half", CREATE | taken | {"inactive_xml": xml})
    client = house.start()
    assert settled(client, job)["State"] == "done"
    row = client.snapshots("web-1")["half"]
    assert (row["Created"], row["State"], row["Consistency"]) == (MADE, "running", "crash")
    assert (row["PauseMilliseconds"], row["Current"]) == (40, True)


def test_open_create_that_the_monitor_never_took_is_undone(house: House) -> None:
    job = leave(house, "create", "half", CREATE | {"way": "monitor", "memory": False})
    client = house.start()
    assert settled(client, job)["State"] == "failed"
    assert list(client.snapshots("web-1")) == ["by-hand"]


def test_open_delete_that_was_carried_out_is_done(house: House) -> None:
    intent = {"name": "gone", "created": MADE, "targets": ["vda"], "reason": "retention: last"}
    job = leave(house, "delete", "gone", intent)
    own(house, "gone")
    client = house.start()
    assert settled(client, job)["Result"]["Deleted"] == ["gone"]
    assert ("gone", "done", 77) in told(client, "delete")
    house.stop()
    with house.db() as db:
        assert db.execute("SELECT count(*) FROM snapshots").fetchone()[0] == 0


def test_open_delete_that_never_began_is_undone(house: House) -> None:
    intent = {"name": "by-hand", "created": MADE, "targets": ["vda"], "reason": ""}
    job = leave(house, "delete", "by-hand", intent)
    client = house.start()
    assert settled(client, job)["State"] == "failed"
    assert list(client.snapshots("web-1")) == ["by-hand"]
    assert client.delete("web-1", "by-hand")["Deleted"] == ["by-hand"]


def test_open_revert_that_was_claimed_and_holds_is_done(house: House) -> None:
    job = leave(house, "revert", "by-hand", REVERT)
    client = house.start()
    assert settled(client, job)["State"] == "done"
    assert client.wait(job)["FinalState"] == "running"


def test_open_revert_that_never_ended_the_vm_is_undone(house: House) -> None:
    instance = 1  # the first running VM of a test driver
    job = leave(house, "revert", "by-hand", REVERT | {"claimed": False, "instance": instance})
    client = house.start()
    assert settled(client, job)["ErrorName"].endswith(".OutcomeUnknown")


def test_open_revert_that_broke_off_needs_attention_and_starts_nothing(house: House) -> None:
    house.serve_text(HOST.read_text().replace("<test:runstate>1<", "<test:runstate>5<"))
    job = leave(house, "revert", "by-hand", REVERT | {"claimed": False})
    client = house.start()
    row = settled(client, job)
    assert row["ErrorName"].endswith(".Partial")
    assert "safety-20261124T013000Z" in row["ErrorMessage"]
    assert client.domain("web-1")["State"] == "shutoff"  # type: ignore[index]
    client.until("a problem", lambda: "needs-attention" in problems(client))


def test_open_job_without_intent_is_cancelled(house: House) -> None:
    job = leave(house, "create", "half", None)
    client = house.start()
    assert client.job(job)["State"] == "cancelled"
    assert client.create("web-1", "half")["Name"] == "half"


def test_open_intent_does_not_hide_its_vm(house: House) -> None:
    """Its turn is taken until it is settled, and it is listed like any other."""
    leave(house, "create", "half", CREATE)
    client = house.start()
    names = [row["Name"] for row in client.rows("ListDomains")]
    assert names == ["db-1", "web-1", "web-2"]
    assert client.create("web-1", "after")["Name"] == "after"


def test_problem_of_a_half_made_thing_is_still_there_after_another_start(house: House) -> None:
    house.serve_text(HOST.read_text().replace("<test:runstate>1<", "<test:runstate>5<"))
    job = leave(house, "revert", "by-hand", REVERT | {"claimed": False})
    settled(house.start(), job)
    client = house.again()
    client.rows("ListDomains")
    assert "needs-attention" in problems(client)


# ---- what stays


def own(house: House, name: str, pin: str | None = None, origin: str = "manual") -> None:
    """Have the store know a snapshot of web-1 as ours."""
    if not house.store.exists():
        house.tables()
    with house.db() as db:
        db.execute(
            "INSERT INTO snapshots (domain, name, created, origin, policies, state, consistency,"
            " pause_ms, pin_reason) VALUES (?, ?, ?, ?, '[]', 'running', 'quiesced', 12, ?)",
            (WEB1, name, MADE, origin, pin),
        )


def test_records_and_pins_are_there_after_a_start(house: House) -> None:
    own(house, "by-hand", pin="before the migration")
    client = house.start()
    row = client.snapshots("web-1")["by-hand"]
    assert (row["Origin"], row["Consistency"]) == ("manual", "quiesced")
    assert (row["Pinned"], row["PinReason"]) == (True, "before the migration")
    with pytest.raises(Protected) as refused:
        client.delete("web-1", "by-hand")
    assert "before the migration" in refused.value.message
    assert "by-hand" in client.snapshots("web-1")


def test_record_of_another_snapshot_of_that_name_makes_it_not_ours(house: House) -> None:
    own(house, "by-hand")
    with house.db() as db:
        db.execute("UPDATE snapshots SET created = created + 1")
    assert house.start().snapshots("web-1")["by-hand"]["Origin"] == "foreign"


def test_snapshot_that_went_while_the_daemon_was_off_is_noted(house: House) -> None:
    own(house, "went")
    client = house.start()
    client.until("noted", lambda: client.rows("ListHistory", "web-1", snapshot="went"))
    (row,) = client.rows("ListHistory", "web-1", snapshot="went")
    assert (row["Verb"], row["Reason"]) == ("delete", "removed outside of virtsnapd")
    assert row["OwnerUID"] == -1
    house.again()
    assert len(client.rows("ListHistory", "web-1", snapshot="went")) == 1


def test_ended_jobs_are_there_after_a_start(running: House) -> None:
    client = running.client
    done = client.call("CreateSnapshot", "web-1", "one")
    failed = client.call("CreateSnapshot", "web-1", "by-hand")
    client.wait(done)
    with pytest.raises(SnapdError) as before:
        client.wait(failed)
    rows = client.rows("ListJobs")
    running.again()
    assert client.rows("ListJobs") == rows
    assert client.wait(done)["Name"] == "one"
    with pytest.raises(type(before.value)) as after:
        client.wait(failed)
    assert after.value.message == before.value.message


def test_sigterm_during_a_queue_ends_what_runs_and_begins_nothing(running: House) -> None:
    client = running.client
    client.rows("ListDomains")
    jobs = [client.call("CreateSnapshot", "web-1", f"s{n}") for n in range(3)]
    client.run(flood(client))
    running.stop()
    left = [row for row in job_rows(running) if row["state"] not in ("done", "cancelled")]
    if left:  # its intent was on disk, but its act not begun yet: the next start settles it
        assert [row["intent"] is not None for row in left] == [True]
        client = running.start()
        client.until("settled", lambda: all(r["Finished"] for r in client.rows("ListJobs")))
        running.stop()
    rows = job_rows(running)
    assert all(row["finished"] and row["intent"] is None for row in rows)
    assert len(jobs) + 10 == len(rows)
    check_history(running, rows)


def job_rows(house: House) -> list[sqlite3.Row]:
    with house.db() as db:
        return db.execute("SELECT * FROM jobs").fetchall()


async def flood(client: Client) -> None:
    """Ten more requests, one after the other; their jobs are not waited for."""
    for n in range(10):
        call: Any = (paths.NAME, paths.ROOT, "org.virtsnap.Snapd1.Manager", "CreateSnapshot")
        await client.bus.call(*call, "ssa{sv}", "web-1", f"t{n}", {})


def check_history(house: House, rows: list[sqlite3.Row]) -> None:
    with house.db() as db:
        known = {row["job"]: row["result"] for row in db.execute("SELECT * FROM history")}
    for row in rows:
        assert known[row["id"]].startswith("done" if row["state"] == "done" else row["error_name"])
