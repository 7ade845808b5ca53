"""Who has a job on a domain, by what libvirt was seen to answer while one was at work (11.3)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import libvirt
import pytest

from snapd.hypervisor import BareFacts, reading
from snapd.model import Disk
from tests.unit.vms import ON

DISKS = (Disk("vda", "/images/vda.qcow2", "qcow2"),)


class Domain:
    """One that is active. job: jobInfo's type; block: what blockJobInfo answers."""

    def __init__(self, state: int, job: int, block: Any = None) -> None:
        self._state, self._job, self._block = state, job, block

    def isActive(self) -> bool:  # noqa: N802
        return True

    def backupGetXMLDesc(self, _flags: int) -> str:  # noqa: N802
        raise _NoBackup

    def controlInfo(self, _flags: int) -> list[int]:  # noqa: N802
        return [libvirt.VIR_DOMAIN_CONTROL_OK, 0, 0]

    def state(self) -> list[int]:
        return [self._state, 0]

    def jobInfo(self) -> list[int]:  # noqa: N802
        return [self._job]

    def blockJobInfo(self, _target: str, _flags: int) -> Any:  # noqa: N802
        return self._block


class _Error(libvirt.libvirtError):  # type: ignore[misc]
    def get_error_code(self) -> int:
        return int(libvirt.VIR_ERR_NO_DOMAIN_BACKUP)


_NoBackup = _Error("no backup")


def _holder(domain: Domain) -> str:
    return reading.holder(cast(libvirt.virDomain, domain), DISKS, sleep=lambda _s: None)


def test_libvirt_between_two_block_jobs_of_an_off_vms_merge_is_at_work() -> None:
    """It started the paused QEMU itself; who took it for a dead libvirtd's would end it."""
    found = _holder(Domain(libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_JOB_UNBOUNDED))
    assert found == "another job"


def test_paused_vm_without_a_job_is_nobodys() -> None:
    assert _holder(Domain(libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_JOB_NONE)) == ""


def test_block_job_of_a_libvirt_that_is_at_work_on_nothing_is_told_by_its_disk() -> None:
    domain = Domain(libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_JOB_NONE, {"type": 4})
    assert _holder(domain) == "block job on vda"


def test_names_are_listed_when_it_is_known_that_nobody_is_at_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a holder made that ended while it was looked for would be taken for not made else."""

    class Listing:
        names: tuple[str, ...] = ()

        def listAllSnapshots(self, _flags: int) -> list[Any]:  # noqa: N802
            return [SimpleNamespace(getName=lambda name=name: name) for name in self.names]

    dom = Listing()

    def ends(*_asked: Any) -> str:
        dom.names = ("made",)
        return ""

    monkeypatch.setattr(reading, "domain", lambda _dom: ON)
    monkeypatch.setattr(reading, "inactive", lambda _dom: ("<domain/>", ON.disks))
    monkeypatch.setattr(reading, "holder", ends)
    facts = reading.bare(cast(libvirt.virDomain, dom), images=True)
    assert facts == BareFacts(ON, frozenset({"made"}), ON.disks, "<domain/>")
