"""Verbs on external snapshots broken off at every step: nothing is lost, nothing is left that
nobody names, what the job says is so, and the next snapshots work."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.bed.private import PrivateLibvirt
from tests.bus import private_bus
from tests.client import Client, Daemon
from tests.external.struck import (
    DISKS_ONLY,
    KEPT,
    PLAIN,
    VICTIM,
    WITH_RAM,
    Case,
    Fault,
    Struck,
)
from tests.external.struck_verdict import Verdict, boot_of

STOPPED_SECONDS = 25
"""Longer than facts are waited for, and than a connection is kept that doesn't answer."""
NO_SAFETY = {"safety_snapshot": False}
CASES = {
    "create": Case("create", "", options=DISKS_ONLY),
    "create-ram": Case("create", "", options=WITH_RAM),
    "create-off": Case("create", "", off=True, options=DISKS_ONLY),
    "revert": Case("revert", PLAIN, options=NO_SAFETY),
    "revert-ram": Case("revert", KEPT, options=NO_SAFETY),
    "revert-off": Case("revert", PLAIN, off=True, options={**NO_SAFETY, "after": "stopped"}),
    "merge": Case("delete", VICTIM),
    "merge-between": Case("delete", VICTIM, between=True),
    "merge-off": Case("delete", VICTIM, off=True),
}
FAULTS = {
    "daemon-killed": Fault("daemon"),
    "qemu-killed": Fault("qemu"),
    "libvirtd-killed": Fault("libvirtd"),
    "libvirtd-stopped": Fault("libvirtd", STOPPED_SECONDS),
}
ROWS = [
    pytest.param(
        case,
        fault,
        id=f"{verb}-{how}",
        marks=() if (verb, how) == ("merge", "daemon-killed") else pytest.mark.long,
    )
    for verb, case in CASES.items()
    for how, fault in FAULTS.items()
    if not (case.off and fault.who == "qemu" and case.verb != "delete")
]


@pytest.fixture(scope="module")
def daemon_with_faults(
    session_bed: PrivateLibvirt, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Client, Daemon]]:
    folder = tmp_path_factory.mktemp("faulty")
    with private_bus() as bus:
        daemon = Daemon(bus.address, "qemu:///system", folder, ("tests.qemu.faulty", str(folder)))
        daemon.start()
        with Client(bus.address) as client:
            yield client, daemon
        daemon.close()


@pytest.fixture
def stage(bed: PrivateLibvirt, daemon_with_faults: tuple[Client, Daemon]) -> Iterator[Struck]:
    client, daemon = daemon_with_faults
    if not daemon.running:
        daemon.start()
    made = Struck(bed, client, daemon, daemon.state.parent)
    begun = len(daemon.log)
    yield made
    told = daemon.log[begun:].splitlines()
    print("\n".join(line for line in told if "_Unix" not in line))  # asyncio's own, of programs
    bed.mend_libvirtd()
    made.guest.remove()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("case", "fault"), ROWS)
def test_struck_at_every_step_nothing_is_lost(stage: Struck, case: Case, fault: Fault) -> None:
    struck: list[str] = []
    while True:
        begun = time.monotonic()
        held = stage.set_scene(case)
        boot = boot_of(stage)
        step, row = stage.strike(case, fault, struck)
        said = row and (row["State"], row["ErrorName"].rpartition(".")[2], row["ErrorMessage"])
        print(f"{stage.round}: {case.verb}, {fault.who} at {step or 'no step'}: {said}", end="")
        print(f" after {time.monotonic() - begun:.1f} s")
        verdict = Verdict(stage, case, fault, held, boot, step, row)
        verdict.check()
        if verdict.by_hand:
            stage.guest.remove()
            stage.renew()
        if not step:
            break
        assert step not in struck
        struck.append(step)
    assert struck
