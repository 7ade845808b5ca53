"""How far a revert to an external snapshot came, told by the files; and what is refused before.

The trees are as libvirt 11.3 leaves them after reverts that ended, failed, or were broken off.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from snapd.errors import Inconsistent, Partial, PreflightFailed
from snapd.hypervisor import DomainFacts
from snapd.model import Disk, DomainInfo, Kind, SnapshotInfo, State
from snapd.operations import overlay_revert
from snapd.operations.overlay_revert import Came, came, files
from snapd.operations.preflight.overlaid import overlaid_blockers
from tests.unit.vms import UUID, facts_of, image_of, seen

ROOT, DATA = "/images/web-root", "/images/web-data"


def _snapshot(name: str, parent: str, above: str, *, current: bool = False) -> SnapshotInfo:
    """One of both disks, on the overlays of the one above it."""
    bases = tuple((t, f"{stem}{above}.qcow2") for t, stem in (("vda", ROOT), ("vdb", DATA)))
    overlays = tuple((t, f"{stem}.{name}.qcow2") for t, stem in (("vda", ROOT), ("vdb", DATA)))
    return SnapshotInfo(
        name,
        1700000000,
        State.RUNNING,
        Kind.EXTERNAL,
        parent=parent,
        current=current,
        disks=("vda", "vdb"),
        overlays=overlays,
        bases=bases,
        sources=bases,
    )


S1, S2 = _snapshot("s1", "", ""), _snapshot("s2", "s1", ".s1")
SAFETY = _snapshot("safety", "s2", ".s2", current=True)
TREE = (S1, S2, SAFETY)


def on(end: str, state: State = State.RUNNING, **backed_by: str) -> DomainFacts:
    """The VM on files of that end, each backed by what is named (target -> file)."""
    disks = (Disk("vda", f"{ROOT}{end}", "qcow2"), Disk("vdb", f"{DATA}{end}", "qcow2"))
    instance = 3 if state.active else -1
    info = DomainInfo(UUID, "web-1", state, current="safety", disks=disks, instance=instance)
    images = {target: image_of(backing=file) for target, file in backed_by.items()}
    return facts_of(info, snapshots=TREE, images=images)


BEFORE = on(".safety.qcow2", vda=f"{ROOT}.s2.qcow2", vdb=f"{DATA}.s2.qcow2")
AFTER = on(".1795994501", vda=f"{ROOT}.qcow2", vdb=f"{DATA}.qcow2")


def _intent(**changes: Any) -> dict[str, Any]:
    """Of a revert to s1."""
    intent = {
        "name": "s1",
        "state": "running",
        "current": "safety",
        "disks": {d.target: d.source for d in BEFORE.info.disks},
        "safety": "safety",
        "claimed": True,
        "external": files(BEFORE, S1),
    }
    return intent | changes


def reverted(facts: DomainFacts = AFTER) -> DomainFacts:
    """As libvirt lists it then: the mark moved, its record naming the new files."""
    new = tuple((d.target, d.source) for d in facts.info.disks)
    tree = (replace(S1, current=True, reverted=new), S2, replace(SAFETY, current=False))
    return replace(facts, info=replace(facts.info, current="s1"), snapshots=tree)


def test_intent_names_what_others_need_and_not_what_libvirt_unlinks() -> None:
    assert files(BEFORE, S1)["named"] == [
        f"{DATA}.qcow2",
        f"{DATA}.s1.qcow2",
        f"{DATA}.s2.qcow2",
        f"{ROOT}.qcow2",
        f"{ROOT}.s1.qcow2",
        f"{ROOT}.s2.qcow2",
    ]
    assert files(BEFORE, S1)["bases"] == {"vda": f"{ROOT}.qcow2", "vdb": f"{DATA}.qcow2"}


@pytest.mark.parametrize(
    ("facts", "far"),
    [
        (BEFORE, Came.NOWHERE),
        (AFTER, Came.DONE),
        (on(".qcow2"), Came.ON_BASES),
        (on(".1795994501", vda=f"{ROOT}.s1.qcow2", vdb=f"{DATA}.s1.qcow2"), Came.ASTRAY),
        (on(".1795994501", vda=f"{ROOT}.qcow2", vdb=f"{DATA}.s1.qcow2"), Came.ASTRAY),
        (replace(BEFORE, missing={f"{DATA}.safety.qcow2"}), Came.ASTRAY),
        (replace(AFTER, info=replace(AFTER.info, disks=AFTER.info.disks[:1])), Came.ASTRAY),
    ],
    ids=["nowhere", "done", "on-bases", "other", "one-other", "unlinked", "disk-gone"],
)
def test_came_is_told_by_what_the_disks_stand_on(facts: DomainFacts, far: Came) -> None:
    assert came(facts, _intent()) is far


def test_came_new_file_that_cannot_be_read_is_not_guessed_at() -> None:
    with pytest.raises(PreflightFailed, match="vda"):
        came(on(".1795994501"), _intent())


class _Job:
    """Keeps what it is warned of."""

    def __init__(self) -> None:
        self.warned: list[str] = []

    def warn(self, *warnings: Any) -> None:
        self.warned += [w.reason for w in warnings]


def _verify(facts: DomainFacts) -> list[str]:
    job = _Job()
    overlay_revert.verify(job, facts, _intent())  # type: ignore[arg-type]
    return job.warned


def test_verify_done_says_nothing() -> None:
    assert _verify(reverted()) == []


def test_verify_file_of_another_snapshot_gone_is_loud_and_names_the_safety_snapshot() -> None:
    with pytest.raises(Inconsistent, match=r"web-root\.s1\.qcow2") as caught:
        _verify(replace(reverted(), missing={f"{ROOT}.s1.qcow2", f"{ROOT}.safety.qcow2"}))
    assert "'safety'" in caught.value.message
    assert caught.value.item == "safety"


def test_verify_snapshot_that_is_not_listed_any_more_is_loud() -> None:
    facts = reverted()
    with pytest.raises(Inconsistent, match=r"\(s2\)"):
        _verify(replace(facts, snapshots=tuple(s for s in facts.snapshots if s.name != "s2")))


def test_verify_disks_on_another_moment_is_no_success() -> None:
    with pytest.raises(Partial, match=r"said to be done.*vda on web-root\.1795994501"):
        _verify(reverted(on(".1795994501", vda=f"{ROOT}.s1.qcow2", vdb=f"{DATA}.s1.qcow2")))


def test_verify_record_that_names_other_files_is_no_success() -> None:
    """libvirt's next revert would unlink s1's own overlays, which s2 needs (LIBVIRT.md 9.8)."""
    facts = reverted()
    tree = tuple(replace(s, reverted=()) for s in facts.snapshots)
    with pytest.raises(Inconsistent, match="would unlink others"):
        _verify(replace(facts, snapshots=tree))


def test_verify_file_that_could_not_be_looked_for_is_said() -> None:
    assert _verify(replace(reverted(), unknown={f"{ROOT}.s1.qcow2"})) == ["unchecked"]


def test_overlaid_disc_readonly_and_left_out_disks_are_refused() -> None:
    disks = (
        Disk("vda", f"{ROOT}.qcow2", "qcow2"),
        Disk("vdb", f"{DATA}.qcow2", "qcow2"),
        Disk("vdc", "/images/shared.img", "raw", readonly=True),
        Disk("sda", "/iso/install.iso", "raw", device="cdrom", readonly=True),
        Disk("sdb", "", "raw", device="cdrom", readonly=True),
    )
    found = list(overlaid_blockers(disks, ("vda",)))
    assert [(b.reason, b.item) for b in found] == [
        ("external-unsupported", "vdb"),
        ("external-unsupported", "vdc"),
        ("external-unsupported", "sda"),
    ]
    assert "left out" in found[0].message
    assert "read-only" in found[1].message
    assert "install.iso" in found[2].message


def test_overlaid_files_that_differ_by_their_ends_only_are_refused() -> None:
    """11.3: "cannot generate external snapshot name for disk 'vdb': collision with disk 'vda'"."""
    disks = (Disk("vda", "/images/a.qcow2", "qcow2"), Disk("vdb", "/images/a.raw", "raw"))
    assert [b.item for b in overlaid_blockers(disks, ("vda", "vdb"))] == ["vdb"]
    other = (Disk("vda", "/images/v1.2", "qcow2"), Disk("vdb", "/other/v1.3", "raw"))
    assert seen(list(overlaid_blockers(other, ("vda", "vdb")))) == []
