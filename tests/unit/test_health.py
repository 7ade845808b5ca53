"""Problems that a domain's own state tells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from snapd.model import Disk, DomainInfo, Kind, Problem, SnapshotInfo, State
from snapd.policy import Engine
from snapd.policy.problems import disk_problems, storage_that_hangs
from snapd.store import Store
from tests.unit.engines import Stubs, play
from tests.unit.test_many_at_once import health_of

VM = "22222222-2222-4222-8222-222222222201"
FIRST = SnapshotInfo(
    "first",
    1700000000,
    State.SHUTOFF,
    Kind.EXTERNAL,
    disks=("vda",),
    overlays=(("vda", "/i/a.first"),),
    bases=(("vda", "/i/a.qcow2"),),
)
SECOND = replace(
    FIRST,
    name="second",
    created=1700000100,
    parent="first",
    overlays=(("vda", "/i/a.second"),),
    bases=(("vda", "/i/a.first"),),
)


def on(source: str, *snapshots: SnapshotInfo, io_error: bool = False) -> list[Problem]:
    disks = (Disk("vda", source, "qcow2"), Disk("vdb", "/i/a.qcow2", "qcow2"))
    info = DomainInfo(VM, "web-1", State.PAUSED, disks=disks, io_error=io_error)
    return list(disk_problems(info, snapshots))


def test_disk_problems_domain_on_its_newest_overlay_has_none() -> None:
    assert on("/i/a.second", FIRST, SECOND) == []
    assert on("/i/a.new", FIRST, SECOND) == []
    assert on("/i/a.qcow2", replace(FIRST, kind=Kind.INTERNAL, overlays=(), bases=())) == []


def test_disk_problems_domain_on_a_base_names_disk_file_and_snapshot() -> None:
    for file, snapshot in (("a.qcow2", "first"), ("a.first", "second")):
        (found,) = on(f"/i/{file}", FIRST, SECOND)
        assert (found.problem, found.severity) == ("redefined", "critical")
        assert (found.domain, found.domain_name) == (VM, "web-1")
        for word in ("web-1", "vda", file, snapshot):
            assert word in found.message
        assert "/i/" not in found.message
        assert "define-overlay" in found.ways


def test_disk_problems_guest_paused_by_a_full_disk_is_told_the_way_out() -> None:
    (found,) = on("/i/a.qcow2", io_error=True)
    assert (found.problem, found.severity) == ("io-error", "critical")
    assert set(found.ways) == {"make-room", "resume"}
    assert "web-1" in found.message


def test_storage_that_hangs_is_counted_and_named_without_its_path() -> None:
    assert list(storage_that_hangs({})) == []
    root, nas = storage_that_hangs({"/mnt/deep/nas": 3, "/": 1})
    assert (nas.problem, nas.severity, root.problem) == (
        "storage-hangs",
        "critical",
        "storage-hangs",
    )
    assert "storage nas does not answer: 3 looks" in nas.message
    assert "storage / does not answer: 1 look " in root.message
    assert "/mnt" not in nas.message
    assert nas.id != root.id


def test_no_connection_is_a_problem_once_one_was_tried(tmp_path: Path) -> None:
    """At the start of the daemon none is there yet, and nothing is wrong."""

    async def body(stubs: Stubs, engine: Engine, _store: Store) -> None:
        libvirt, health = stubs.libvirt, health_of(stubs, engine)
        libvirt.connected, libvirt.hypervisor.tried = False, False
        assert (health.look().problems, health.overall()) == ([], "ok")
        libvirt.hypervisor.tried = True  # it failed
        (found,) = health.look().problems
        assert (found.problem, found.severity) == ("not-connected", "critical")
        libvirt.connected, libvirt.loading = True, True
        assert health.look().problems == []
        libvirt.connected = False  # it was lost
        assert [p.problem for p in health.look().problems] == ["not-connected"]
        assert health.overall() == "critical"

    play(tmp_path, body)
