"""What is worked out without asking anybody: retention, next slots, what libvirt's XML says.

    packaging/check --bench planning [--quick]

All in this process; there is no daemon and no bus. Figures are CPU time of this thread, which a
busy machine stretches little, of several runs each. Needs no root; takes about two minutes.

"plan": retention's decisions over 100,000 snapshots, in two shapes: one VM with one a minute, and
1,000 VMs of 100 hourly ones under two policies each, as the pruner asks it, a VM at a time.
"five simulated years": an hourly snapshot and a plan after each, 43,824 of them, as in
tests/unit/test_retention.py, test_plan_five_years_of_hours_keeps_few_and_the_same_as_at_once[1];
once, for it is long. "next slots": the next of each of 1,000 policies, of different schedules in
five time zones, by croniter and the rules for clock changes.
"parse": one `<domainsnapshot>` as the hypervisor room reads it, in milliseconds for 1,000 of them,
beside the XML parser alone doing the same texts; `KB` is the size of one, and 50,000 are read a
run. "read": all 1,000 snapshots of a VM by the hypervisor room, beside the libvirt calls that it
makes for them, on the test driver: without a socket between, so what libvirtd adds is not in it.
"""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import libvirt
from cronsim import CronSim

from snapd.hypervisor import reading, xml
from snapd.model import Keep
from snapd.planning import schedule
from snapd.planning.retention import Candidate, Decision, Rules, plan, plan_labels
from tests.bench import figures
from tests.bench.beds import redefine
from tests.bench.figures import Budget, Figure, Row

NOW = 1_830_000_000
BERLIN = ZoneInfo("Europe/Berlin")
KEEP = Keep(last=3, hourly=24, daily=7, weekly=4, monthly=12, yearly=5)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Europe/Dublin")
DISK = """<disk type='file' device='disk'><driver name='qemu' type='qcow2' discard='unmap'/>
<source file='/var/lib/libvirt/images/web-{n}.qcow2'/><target dev='vd{letter}' bus='virtio'/></disk>
<interface type='bridge'><mac address='52:54:00:00:00:0{n}'/><source bridge='br{n}'/>
<model type='virtio'/></interface><controller type='pci' index='{n}' model='pcie-root-port'/>"""
DOMAIN = """<domain type='test'><name>web</name><memory unit='MiB'>4096</memory><vcpu>4</vcpu>
<os><type>hvm</type></os><features><acpi/><apic/></features><devices>{devices}
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<input type='tablet' bus='usb'/><graphics type='vnc' port='-1'/>
<video><model type='virtio'/></video></devices></domain>"""


@dataclass(frozen=True, slots=True)
class Size:
    """How much of each: snapshots planned over, VMs of a hundred each, hours of the simulated
    years, policies, texts parsed, snapshots of the VM that is read, and runs."""

    snapshots: int = 100_000
    vms: int = 1_000
    hours: int = 43_824
    policies: int = 1_000
    texts: int = 50_000
    read: int = 1_000
    runs: int = 5


QUICK = Size(10_000, 100, 2_000, 200, 2_000, 200, 1)


def seconds(work: Callable[[], Any], runs: int, per: float = 1.0) -> list[float]:
    """CPU time of each run, times `per`; one more before them is not counted."""
    work()
    found = []
    for _ in range(runs):
        begun = time.thread_time()
        work()
        found.append((time.thread_time() - begun) * per)
    return found


def measure(quick: bool) -> Iterator[Row]:
    size = QUICK if quick else Size()
    yield from retention(size)
    yield years(size)
    yield from slots(size)
    yield from texts(size)
    yield from read(size)


# --- retention


def retention(size: Size) -> Iterator[Row]:
    minutely = [Candidate(f"s-{n}", NOW - 60 * n) for n in range(size.snapshots)]
    kept = _kept(plan(minutely, KEEP, NOW, BERLIN))
    assert kept[0] is minutely[0] and 30 <= len(kept) <= 55, len(kept)
    budget = Budget("ours", 1)
    took = seconds(lambda: plan(minutely, KEEP, NOW, BERLIN), size.runs)
    yield Row(f"plan, a VM of {size.snapshots:,} minutely", Figure(took, "s"), budget=budget)

    hourly = [
        [Candidate(f"s-{n}", NOW - 3600 * n, labels=("a", "b")) for n in range(100)]
        for _vm in range(size.vms)
    ]
    rules = {"a": Rules(KEEP, BERLIN), "b": Rules(Keep(last=3, daily=7), BERLIN, max_age=86400)}

    def work() -> None:
        counts = {len(_kept(plan_labels(vm, rules, NOW))) for vm in hourly}
        assert len(counts) == 1 and 24 <= counts.pop() <= 40

    took = seconds(work, size.runs)
    what = f"plan, {size.vms:,} VMs of 100 hourly, two policies"
    yield Row(what, Figure(took, "s"), budget=budget)


def _kept(decisions: list[Decision]) -> list[Candidate]:
    return [d.candidate for d in decisions if d.keep]


def years(size: Size) -> Row:
    """Each hour a snapshot, and a plan over what the one before has kept."""
    begun = time.thread_time()
    made = [Candidate(f"s{n:05}", NOW + 3600 * n) for n in range(size.hours)]
    held: list[Candidate] = []
    for new in made:
        held = _kept(plan([*held, new], KEEP, new.created, BERLIN))
    took = time.thread_time() - begun
    assert held == _kept(plan(made, KEEP, made[-1].created, BERLIN)), "not the same as at once"
    years = size.hours / 24 / 365.2
    return Row(f"{years:.1f} simulated years, {size.hours:,} plans", Figure([took], "s"))


# --- slots


def schedules(count: int) -> list[tuple[str, ZoneInfo]]:
    """As people have them: hourly, nightly, on some days of a week, or of a month."""
    found = []
    for n in range(count):
        minute, hour, day = n % 60, n % 24, n % 28 + 1
        kinds = (
            f"{minute} * * * *",
            f"{minute} {hour} * * *",
            f"{minute} {hour} * * 1-5",
            f"{minute} {hour} {day} * *",
            f"{minute} */6 * * *",
        )
        # the pace of the two must differ, or each kind would be of one zone
        found.append((kinds[n % 5], ZoneInfo(ZONES[n // 5 % 5])))
    return found


def slots(size: Size) -> Iterator[Row]:
    wanted = schedules(size.policies)
    parsed = [(schedule.parse(text), zone) for text, zone in wanted]
    for (text, zone), (cron, _zone) in zip(wanted, parsed, strict=True):
        other = next(CronSim(text, datetime.fromtimestamp(NOW, zone)))
        assert schedule.next_fire(cron, NOW, zone) == int(other.timestamp()), (text, zone)
    per = 1000 * 1000 / size.policies
    took = seconds(lambda: [schedule.parse(text) for text, _ in wanted], size.runs, per)
    yield Row("schedules parsed, for 1,000 policies", Figure(took, "ms"))

    def work() -> None:
        for cron, zone in parsed:
            schedule.next_fire(cron, NOW, zone)

    took = seconds(work, size.runs, per)
    yield Row("next slots, for 1,000 policies", Figure(took, "ms"))


# --- XML


def vm(snapshots: int) -> tuple[libvirt.virConnect, libvirt.virDomain]:
    """A VM of the test driver's with two disks and what libvirt lists beside, and a line of
    snapshots."""
    conn = libvirt.open("test:///default")
    devices = "".join(DISK.format(n=n, letter="ab"[n - 1]) for n in (1, 2))
    dom = conn.defineXML(DOMAIN.format(devices=devices))
    text = dom.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    for n in range(snapshots):
        redefine(dom, n, text)
    return conn, dom


def texts(size: Size) -> Iterator[Row]:
    conn, dom = vm(min(size.read, 100))
    found = [snapshot.getXMLDesc(0) for snapshot in dom.listAllSnapshots(0)]
    conn.close()
    known = {info.name: info for info in (xml.snapshot(text, current=False) for text in found)}
    assert known["s-1"].parent == "s-0" and known["s-1"].disks == ("vda", "vdb"), known["s-1"]
    rounds = size.texts // len(found)

    def ours() -> None:
        for _ in range(rounds):
            for text in found:
                xml.snapshot(text, current=False)

    def bare() -> None:
        for _ in range(rounds):
            for text in found:
                ET.fromstring(text)

    per = 1000 * 1000 / (rounds * len(found))
    mine, theirs = seconds(ours, size.runs, per), seconds(bare, size.runs, per)
    kb = sum(map(len, found)) / len(found) / 1000
    what = f"parse, for 1,000 snapshots ({kb:.1f} KB each)"
    yield Row(what, Figure(mine, "ms"), "ElementTree alone", Figure(theirs, "ms"))


def read(size: Size) -> Iterator[Row]:
    conn, dom = vm(size.read)

    def bare() -> list[str]:
        dom.hasCurrentSnapshot(0)
        dom.snapshotCurrent(0).getName()
        return [s.getXMLDesc(0) for s in dom.listAllSnapshots(0) if s.getName()]

    names = [s.name for s in reading.snapshots(dom)]
    assert names == [f"s-{n}" for n in range(size.read)], "not what was made"
    per = 1000 * 1000 / size.read
    mine = seconds(lambda: reading.snapshots(dom), size.runs, per)
    theirs = seconds(bare, size.runs, per)
    conn.close()
    what = "read, for 1,000 snapshots of a VM (test driver)"
    yield Row(what, Figure(mine, "ms"), "its libvirt calls alone", Figure(theirs, "ms"))


if __name__ == "__main__":
    figures.main(measure, __doc__)
