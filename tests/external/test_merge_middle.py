"""Merges of real guests in the middle: progress is told, and whoever is killed there, what is said
afterwards is so."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any, TextIO

import pytest

from tests.bed.guest import Guest
from tests.bed.private import PrivateLibvirt
from tests.bed.recipe import Hardware
from tests.client import Client, Daemon
from tests.external.standing import chain_of, stands_alone
from tests.qemu.conftest import know
from tests.qemu.steps import await_state, listed, note, on_disks, qemu_img

BIG_MIB = 400
SLOW = 100 << 20
"""Bytes a second that a merge is held to, so that something can happen in the middle of it."""
QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
LONG = pytest.mark.long
EXTERNAL = {"kind": "external", "memory": "no", "quiesce": "no"}


class SlowGuest(Guest):
    """A guest whose QEMU can be told to merge slowly, by a monitor beside libvirt's."""

    @property
    def xml(self) -> str:
        beside = f"unix:{self.folder}/monitor,server=on,wait=off"
        words = "".join(f"<qemu:arg value='{word}'/>" for word in ("-qmp", beside))
        text = super().xml.replace("<domain ", f"<domain xmlns:qemu='{QEMU}' ")
        return text.replace("</domain>", f"<qemu:commandline>{words}</qemu:commandline></domain>")

    def slow_down(self) -> None:
        """Wait for a merge of much, and hold it to SLOW."""
        deadline = time.monotonic() + 60
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as line:
                    line.connect(f"{self.folder}/monitor")
                    if self._slow(line.makefile("rw")):
                        return
            except OSError:  # no QEMU yet
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def _slow(self, monitor: TextIO) -> bool:
        def ask(execute: str, **arguments: Any) -> Any:
            monitor.write(json.dumps({"execute": execute, "arguments": arguments}) + "\n")
            monitor.flush()
            while "return" not in (answer := json.loads(monitor.readline())):
                assert "error" not in answer, answer
            return answer["return"]

        monitor.readline()
        ask("qmp_capabilities")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for job in ask("query-block-jobs"):
                if job["len"] > 64 << 20:
                    ask("block-job-set-speed", device=job["device"], speed=SLOW)
                    return True
        return False


class Big:
    """A guest whose second disk has much to merge, beyond what the guest uses of it."""

    def __init__(self, client: Client, guest: SlowGuest) -> None:
        self.client, self.guest = client, guest

    def make(self, *names: str, running: bool, fill: str) -> None:
        """Snapshots of the guest that is off; `fill`: the one whose overlay gets it all."""
        for name in names:
            self.client.create(self.guest.name, name, **EXTERNAL)
            if name == fill:
                top = chain_of(self.guest, "vdb")[0]
                write = f"write -P 7 100M {BIG_MIB}M"
                subprocess.run(["qemu-io", "-f", "qcow2", "-c", write, top], check=True)
        if running:
            self.guest.start()
            self.guest.wait()
            know(self.client, self.guest)

    def begin(self, name: str) -> str:
        """Have it deleted; returns when some of it is merged."""
        job: str = self.client.call("DeleteSnapshot", self.guest.name, name)
        self.guest.slow_down()
        self.client.until(
            "it is merging", lambda: 0 < self.client.job(job)["Progress"] < 1, 30, 0.02
        )
        return job

    def whole(self) -> None:
        """All is where it was, and the guest has what it had."""
        stands_alone(self.guest, [])
        if self.guest.state() == "shut off":
            write = f"read -P 7 100M {BIG_MIB}M"
            command = ["qemu-io", "-r", "-f", "qcow2", "-c", write, str(self.guest.disks[1].path)]
            said = subprocess.run(command, check=True, capture_output=True, text=True)
            assert "verification failed" not in said.stdout
            self.guest.start()
            self.guest.wait()
        assert on_disks(self.guest) == ["now", "now"]


@pytest.fixture
def big(bed: PrivateLibvirt, client: Client) -> Iterator[Big]:
    hardware = Hardware(agent=False)
    guest = SlowGuest.make("big", bed.images, disks=2, disk_mib=32, hardware=hardware)
    qemu_img("resize", "-f", "qcow2", guest.disks[1].path, "1G")
    guest.up()
    note(guest, "now")
    guest.cmd("sh", "sync")
    guest.virsh("destroy")
    know(client, guest)
    yield Big(client, guest)
    bed.mend_libvirtd()
    guest.remove()


@pytest.mark.parametrize("running", [True, False], ids=["running", "off"])
def test_progress_is_told_and_no_start_is_seen(client: Client, big: Big, running: bool) -> None:
    big.make("s1", "s2", running=running, fill="s1")
    client.listen()
    job = big.begin("s1")
    assert client.job(job)["Phase"] == "merging"
    assert client.snapshots("big")["s1"]["Status"] == "deleting"
    client.wait(job)
    changed = [body for body in client.signals("PropertiesChanged") if "Progress" in body[1]]
    shares = [body[1]["Progress"] for body in changed]
    assert len(shares) > 1
    assert shares == sorted(shares)
    assert 0 <= shares[0] < shares[-1] <= 1
    told = [b[1] for b in client.signals("PropertiesChanged") if b[0].endswith(".Domain")]
    states = {each["State"] for each in told if "State" in each}
    assert states <= {"running" if running else "shutoff"}
    client.delete("big", "s2")
    big.whole()


def _finish(client: Client, big: Big, job: str, name: str) -> None:
    """However the job ended: what it says is so, and it can be deleted in the end."""
    client.until("it is settled", lambda: client.job(job)["State"] in ("done", "failed"), 90)
    row = client.job(job)
    print(row["State"], row["ErrorName"], row["ErrorMessage"])
    if row["State"] == "failed":
        assert row["ErrorDetail"]["Reason"] == "half-made"
        shown = client.snapshots("big")[name]
        assert shown["Status"] == "broken"
        assert client.delete("big", name)["Deleted"] == [name]
    assert name not in listed(big.guest)


CASES = [
    pytest.param(
        running,
        fill,
        id=f"{'running' if running else 'off'}-{what}",
        marks=LONG if running is (fill == "s2") else (),
    )
    for running in (True, False)
    for fill, what in (("s1", "middle"), ("s2", "current"))
]


@pytest.mark.parametrize(("running", "fill"), CASES)
def test_libvirtd_killed_in_the_middle_and_the_next_try_works(
    client: Client, bed: PrivateLibvirt, big: Big, running: bool, fill: str
) -> None:
    big.make("s1", "s2", running=running, fill=fill)
    job = big.begin(fill)
    bed.kill_libvirtd()
    time.sleep(1)
    bed.start_libvirtd()
    _finish(client, big, job, fill)
    if not running:
        await_state(big.guest, "shut off")
    other = "s2" if fill == "s1" else "s1"
    client.delete("big", other)
    big.whole()


@pytest.mark.parametrize("running", [True, False], ids=["running", "off"])
def test_daemon_killed_in_the_middle_says_what_came_of_it(
    client: Client, daemon: Daemon, big: Big, running: bool
) -> None:
    big.make("s1", "s2", running=running, fill="s2")
    job = big.begin("s2")
    daemon.kill()
    daemon.start()
    client.until("it is settled", lambda: client.job(job)["State"] == "done", 60)
    assert client.job(job)["Result"]["Deleted"] == ["s2"]
    assert listed(big.guest) == ["s1"]
    client.delete("big", "s1")
    big.whole()
