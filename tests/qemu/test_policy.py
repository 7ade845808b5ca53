"""A policy by its schedule on a real guest: over real minutes, with the daemon killed between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bed.guest import Guest
from tests.bus import PrivateBus
from tests.client import Client, Daemon, Row
from tests.qemu.steps import listed, tags

POLICY = 'domains = ["vm"]\nschedule = "* * * * *"\n[keep]\nlast = 2\n'


def test_policy_makes_and_prunes_and_leaves_what_virsh_made(
    daemon: Daemon, bus: PrivateBus, guest: Guest
) -> None:
    guest.virsh("snapshot-create-as", "by-hand")
    with _policy(daemon, bus):
        with Client(bus.address) as client:
            _await_minute(0)
            made = [_run(client) for _ in range(2)]
            assert all(run["Domains"][0]["Outcome"] == "made" for run in made)
            # a minute may have begun since it is in force
            client.until("two are left", lambda: len(_of_policy(client)) == 2 and _ended(client))
            before, begun = _of_policy(client), int(time.time())
        assert sorted(listed(guest)) == sorted(["by-hand", *before])
        daemon.kill()
        daemon.start()
        with Client(bus.address) as client:
            client.until("the slot has come", lambda: _runs(client, "made", begun), timeout=90)
            client.until("all is quiet", lambda: len(_of_policy(client)) == 2 and _ended(client))
            after = _of_policy(client)
            slot = _runs(client, "made", begun)[0]["SnapshotName"]
            gone = client.rows("ListHistory", "vm", snapshot=before[0])
        assert (before[1], slot) == tuple(after)
        assert set(listed(guest)) == {"by-hand", *after}
        assert [set(held) for held in tags(guest)] == [{"by-hand", *after}] * 2
        assert (gone[0]["Verb"], gone[0]["Policy"], gone[0]["OwnerUID"]) == (
            "delete",
            "minutely",
            -1,
        )


def test_guest_off_at_one_slot_and_running_at_the_next_which_the_daemon_was_dead_for(
    daemon: Daemon, bus: PrivateBus, guest: Guest
) -> None:
    guest.virsh("destroy")
    with _policy(daemon, bus):
        with Client(bus.address) as client:
            client.until("it is on", lambda: client.rows("ListPolicies"))
            begun = _await_minute(0)
            off = client.until("off", lambda: _runs(client, "made", begun), timeout=90)[-1]
            client.until("all is quiet", lambda: _ended(client))
        daemon.kill()
        guest.start()
        missed = off["Slot"] + 60
        _await_minute(missed)
        guest.wait()
        daemon.start()
        with Client(bus.address) as client:
            client.until("it is made up", lambda: len(_runs(client, "made", begun)) == 2)
            client.until("all is quiet", lambda: _ended(client))
            running = _runs(client, "made", begun)[0]
            rows = client.snapshots("vm")
        assert running["Slot"] in (missed, missed + 60)  # the guest takes its time
        assert len(_runs_of(rows)) == 2
        how = [rows[run["SnapshotName"]] for run in (off, running)]
        assert [(row["State"], row["Consistency"]) for row in how] == [
            ("shutoff", "offline"),
            ("running", "quiesced"),
        ]
        names = [row["Name"] for row in how]
        assert listed(guest) == names
        assert tags(guest) == [names] * 2


def _runs_of(rows: dict[str, Row]) -> list[str]:
    return [name for name, row in rows.items() if row["Origin"] == "policy"]


@contextmanager
def _policy(daemon: Daemon, bus: PrivateBus) -> Iterator[None]:
    """The policy in force meanwhile."""
    path = daemon.config / "policies.d" / "minutely.toml"
    path.write_text(POLICY)
    try:
        with Client(bus.address) as client:
            client.call("Reload")
        yield
    finally:
        path.unlink()
        if daemon.running:
            with Client(bus.address) as client:
                client.call("Reload")


def _run(client: Client) -> Row:
    """Run it by hand. The next is newer: of two of one second no one is the newest."""
    run = client.wait(client.call("RunPolicy", "minutely"))
    done = int(time.time())
    client.until("another second", lambda: time.time() >= done + 1)
    return run


def _runs(client: Client, outcome: str, since: int = 0) -> list[Row]:
    """Runs by the schedule, newest first."""
    rows = client.rows("ListRuns", "vm", policy="minutely", since=since)
    return [r for r in rows if r["Outcome"] == outcome and ", slot" in r["Reason"]]


def _await_minute(after: int) -> int:
    """Wait for the beginning of a minute past a time, or its middle; return the time."""
    while time.time() < after or not 3 <= time.time() % 60 <= 50:
        time.sleep(0.1)
    return int(time.time())


def _of_policy(client: Client) -> list[str]:
    return _runs_of(client.snapshots("vm"))


def _ended(client: Client) -> bool:
    return all(job["Finished"] for job in client.rows("ListJobs"))
