"""Five VMs that stand still in the middle of a snapshot: nobody else waits for them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.bed.guest import Guest
from tests.bed.private import PrivateLibvirt
from tests.client import Client
from tests.qemu.conftest import know
from tests.qemu.idle import IdleGuest
from tests.qemu.steps import listed, tags

PLAIN = {"memory": "no", "quiesce": "no"}


def test_five_vms_stuck_in_snapshots_delay_no_list_and_no_verb_of_another(
    bed: PrivateLibvirt, client: Client, guest: Guest
) -> None:
    """FIELD_REPORTS 47: libvirtd answers five calls of a client at a time."""
    stuck = [IdleGuest.empty(f"stuck{n}", bed.images) for n in range(5)]
    pids: list[int] = []
    try:
        for each in stuck:
            each.define()
            each.start()
            know(client, each)
            pids.append(int(Path(f"/run/libvirt/qemu/{each.name}.pid").read_text()))
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        jobs = [client.call("CreateSnapshot", each.name, "late", **PLAIN) for each in stuck]
        client.until(
            "four are at it", lambda: sum(bool(client.job(j)["Started"]) for j in jobs) > 3
        )
        begun = time.monotonic()
        rows = {row["Name"] for row in client.rows("ListDomains")}
        assert rows >= {"vm", *(each.name for each in stuck)}
        assert client.snapshots("") == client.snapshots("vm") == {}
        looked = time.monotonic()
        client.create("vm", "meanwhile", **PLAIN)
        made = time.monotonic()
        client.delete("vm", "meanwhile")
        gone = time.monotonic()
        print(
            f"beside five stuck VMs: lists {looked - begun:.2f} s, create {made - looked:.2f} s, "
            f"delete {gone - made:.2f} s"
        )
        assert looked - begun < 1
        assert gone - looked < 10
        assert not any(client.job(job)["Finished"] for job in jobs)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    for job, each in zip(jobs, stuck, strict=True):
        assert client.wait(job)["Name"] == "late"
        assert (tags(each), listed(each)) == ([["late"]], ["late"])
        each.remove()
