"""Every verb broken off at every step: nothing is lost, nothing is left that nobody lists, no guest
stays frozen, what the job says is so, and the next try works."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.bed.guest import Guest
from tests.bed.private import PrivateLibvirt
from tests.bed.recipe import Hardware
from tests.bus import private_bus
from tests.client import Client, Daemon
from tests.qemu.broken import Case, Fault, Stage

LONG = pytest.mark.long
STOPPED = {"safety_snapshot": False, "after": "stopped"}
CASES = {
    "create": Case("create", options={"memory": "no"}),
    "create-ram": Case("create", options={"memory": "yes"}),
    "revert": Case("revert", options={"safety_snapshot": False}),
    "revert-safety": Case("revert"),
    "delete": Case("delete"),
    "create-off": Case("create", off=True),
    "delete-off": Case("delete", off=True),
    "revert-off": Case("revert", off=True, options=STOPPED),
}
KILLED = [
    pytest.param(case, id=name, marks=() if name in ("create", "revert", "delete") else LONG)
    for name, case in CASES.items()
]
FAULTS = {
    "qemu-killed": Fault("qemu"),
    "qemu-stopped": Fault("qemu", 3),
    "libvirtd-killed": Fault("libvirtd"),
    "libvirtd-stopped": Fault("libvirtd", 3),
}
STRUCK = {
    f"{verb}-{how}": (case, fault)
    for verb, case in CASES.items()
    for how, fault in FAULTS.items()
    if not (case.off and fault.who == "qemu")
}


@pytest.fixture(scope="module")
def stage(session_bed: PrivateLibvirt, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("faulty")
    guest = Guest.make(
        "broken", session_bed.images, disks=2, disk_mib=16, hardware=Hardware(memory=96)
    ).up()
    with private_bus() as bus:
        entry = ("tests.qemu.faulty", str(folder))
        daemon = Daemon(bus.address, "qemu:///system", folder, entry)
        daemon.start()
        with Client(bus.address) as client:
            client.until("it is known", lambda: client.domain("broken"))
            yield Stage(session_bed, client, guest, daemon, folder)
        daemon.close()
    session_bed.mend_libvirtd()
    guest.remove()


def break_everywhere(stage: Stage, case: Case, fault: Fault) -> list[str]:
    struck: list[str] = []
    begun = time.monotonic()
    while step := stage.play(case, fault, struck):
        assert step not in struck
        struck.append(step)
    stage.finish()
    took = time.monotonic() - begun
    print(f"{case.verb}, {fault.who}: {len(struck)} steps in {took:.1f} s: {', '.join(struck)}")
    return struck


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", KILLED)
def test_daemon_killed_at_every_step_loses_and_leaves_nothing(stage: Stage, case: Case) -> None:
    assert break_everywhere(stage, case, Fault("daemon"))


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("case", "fault"), STRUCK.values(), ids=STRUCK)
def test_qemu_and_libvirtd_struck_at_every_step_lose_and_leave_nothing(
    stage: Stage, case: Case, fault: Fault
) -> None:
    break_everywhere(stage, case, fault)
