"""A policy by its schedule on a real guest: over a real minute, with the daemon killed between."""

from __future__ import annotations

import pytest

from tests.bed.guest import Guest
from tests.bus import PrivateBus
from tests.client import Client, Daemon
from tests.qemu.steps import listed, tags

pytestmark = pytest.mark.long  # real minutes: packaging/check --all
POLICY = 'domains = ["vm"]\nschedule = "* * * * *"\n[keep]\nlast = 2\n'


def test_policy_makes_and_prunes_and_leaves_what_virsh_made(
    daemon: Daemon, bus: PrivateBus, guest: Guest
) -> None:
    guest.virsh("snapshot-create-as", "by-hand")
    path = daemon.config / "policies.d" / "minutely.toml"
    path.write_text(POLICY)
    try:
        with Client(bus.address) as client:
            client.call("Reload")
            made = [client.wait(client.call("RunPolicy", "minutely")) for _ in range(2)]
        first = made[0]["Domains"][0]["Snapshot"].rpartition("/")[2]
        assert all(run["Domains"][0]["Outcome"] == "made" for run in made)
        daemon.kill()
        daemon.start()
        with Client(bus.address) as client:
            client.until("it is read", lambda: client.domain("vm"))
            before = _of_policy(client)
            slot = client.until(
                "the slot has come",
                lambda: [
                    r
                    for r in client.rows("ListRuns", "vm", policy="minutely")
                    if r["Slot"] % 60 == 0 and r["Outcome"] == "made" and "slot" in r["Reason"]
                ],
                timeout=90,
            )[-1]["SnapshotName"]
            client.until(
                "the oldest is gone", lambda: len(_of_policy(client)) == 2 and _ended(client)
            )
            after = _of_policy(client)
        assert slot in after
        assert before[0] not in after and before[0].replace("-", "_2d") in first
        assert set(listed(guest)) == {"by-hand", *after}
        assert [set(held) for held in tags(guest)] == [{"by-hand", *after}] * 2
    finally:
        path.unlink()
        with Client(bus.address) as client:
            client.call("Reload")


def _of_policy(client: Client) -> list[str]:
    return [n for n, row in client.snapshots("vm").items() if row["Origin"] == "policy"]


def _ended(client: Client) -> bool:
    return all(job["Finished"] for job in client.rows("ListJobs"))
