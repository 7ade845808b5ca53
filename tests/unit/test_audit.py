"""What an audit finds: facts in, findings with their proof out."""

from __future__ import annotations

import json
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

from snapd.hypervisor import Beside, DomainFacts, FoundFile, ImageCheck, ImageInfo
from snapd.hypervisor.beside import look
from snapd.model import NVRAM, Disk, DomainInfo, JobState, Kind, SnapshotInfo, State, Verb
from snapd.operations.audit import Books, Finding, Seen, findings
from snapd.operations.thaw import FrozenGuest
from snapd.store import HistoryRow, JobRow

VM = "22222222-2222-4222-8222-222222222201"
OTHER = "22222222-2222-4222-8222-222222222202"
DISKS = (Disk("vda", "/i/a.qcow2", "qcow2"), Disk("vdb", "/i/b.qcow2", "qcow2"))
Tags = tuple[tuple[str, str], ...]


def listed(name: str, *disks: str, kind: Kind = Kind.INTERNAL) -> SnapshotInfo:
    return SnapshotInfo(name, 1700000000, State.SHUTOFF, kind, disks=disks)


def facts(
    *snapshots: SnapshotInfo, vda: Tags = (), vdb: Tags = (), holder: str = ""
) -> DomainFacts:
    images = {"vda": ImageInfo("/i/a.qcow2", vda), "vdb": ImageInfo("/i/b.qcow2", vdb)}
    info = DomainInfo(VM, "web-1", State.SHUTOFF, disks=DISKS)
    return DomainFacts(info, snapshots, DISKS, "", holder, images=images)


def numbered(*names: str) -> Tags:
    return tuple((str(n), name) for n, name in enumerate(names, 1))


def job(number: int, snapshot: str, state: JobState = JobState.RUNNING) -> JobRow:
    begun = 1700000000
    return JobRow(
        number, Verb.CREATE, VM, "web-1", snapshot, "", 0, state, queued=begun, started=begun
    )


def found(seen: Seen, books: Books = Books()) -> list[tuple[str, str, str]]:  # noqa: B008
    rows = findings([seen], books)
    assert {row.domain for row in rows} <= {VM}
    return [(row.reason, row.item, row.proof) for row in rows]


def of(looked: DomainFacts, *jobs: JobRow) -> list[tuple[str, str, str]]:
    return found(Seen(VM, "web-1", looked, jobs))


# --- tags


def test_findings_of_tags_that_agree_with_the_list_are_none() -> None:
    both: Tags = (("1", "one"), ("2", "two"))
    assert of(facts(listed("one", "vda", "vdb"), listed("two"), vda=both, vdb=both)) == []


def test_findings_tag_that_libvirt_does_not_list_names_its_disks_and_ids() -> None:
    assert of(facts(vda=(("3", "ghost"),), vdb=(("1", "ghost"),))) == [
        ("unlisted-tag", "ghost", "in vda (a.qcow2) as ID 3; in vdb (b.qcow2) as ID 1")
    ]


def test_findings_tag_in_only_some_disks_says_where_it_is_not() -> None:
    assert of(facts(vdb=(("1", "half"),))) == [
        ("unlisted-tag", "half", "in vdb (b.qcow2) as ID 1; not in vda")
    ]


def test_findings_listed_snapshot_without_its_tag_names_the_disk() -> None:
    looked = facts(listed("half", "vda", "vdb"), vda=(("1", "half"),))
    assert of(looked) == [("tag-gone", "half", "no snapshot of that name in vdb (b.qcow2)")]


def test_findings_snapshot_of_one_disk_needs_no_tag_in_the_other() -> None:
    assert of(facts(listed("one", "vda"), vda=(("1", "one"),))) == []


def test_findings_external_snapshot_has_no_tag() -> None:
    overlaid = replace(listed("e", "vda", kind=Kind.EXTERNAL), current=True)
    assert of(facts(overlaid)) == []


def under_an_overlay(*snapshots: SnapshotInfo) -> DomainFacts:
    """vda and vdb are on overlays a.left and b.left, which hold no tags."""
    bare = facts(*snapshots)
    disks = tuple(replace(d, source=d.source.replace("qcow2", "left")) for d in DISKS)
    images = {
        d.target: ImageInfo(new.source, backing=d.source, backing_format="qcow2")
        for d, new in zip(DISKS, disks, strict=True)
    }
    info = replace(bare.info, disks=disks)
    return replace(bare, info=info, inactive=disks, images=images)


def test_findings_tag_below_an_overlay_is_not_gone_but_out_of_libvirts_sight() -> None:
    """FIELD_REPORTS 3 and 4: another tool made an external snapshot above internal ones."""
    looked = under_an_overlay(listed("kept", "vda", "vdb"), listed("half", "vda", "vdb"))
    inside = {"/i/a.qcow2": ("kept", "half"), "/i/b.qcow2": ("kept",)}
    assert found(Seen(VM, "web-1", looked, inside=inside)) == [
        (
            "mixed-tree",
            "kept",
            "libvirt does not find it below an overlay: vda (a.left) stands on a.qcow2, which has "
            "it; vdb (b.left) stands on b.qcow2, which has it",
        ),
        ("tag-gone", "half", "no snapshot of that name in vdb (b.left)"),
    ]


def test_findings_tag_twice_in_an_image_gives_both_ids() -> None:
    looked = facts(listed("x", "vda"), vda=(("1", "x"), ("4", "x")))
    assert of(looked) == [("doubled-tag", "x", "in vda (a.qcow2) as ID 1, 4")]


def test_findings_of_tags_in_the_nvram_as_of_those_in_a_disk() -> None:
    """With RAM libvirt reverts without it; so such a snapshot lacks nothing there."""
    with_ram = replace(listed("ram"), memory=True)
    bare = facts(listed("one", "vda"), with_ram, vda=numbered("one", "ram"))
    info = replace(bare.info, disks=DISKS[:1], nvram=Disk(NVRAM, "/n/vars.qcow2", "qcow2"))
    for tags, expected in (
        (numbered("one", "ram"), []),
        (numbered("one"), []),
        (numbered(), [("tag-gone", "one", "no snapshot of that name in nvram (vars.qcow2)")]),
        (
            numbered("one", "ghost"),
            [("unlisted-tag", "ghost", "in nvram (vars.qcow2) as ID 2; not in vda")],
        ),
    ):
        images = {"vda": bare.images["vda"], NVRAM: ImageInfo("/n/vars.qcow2", tags)}
        assert of(replace(bare, info=info, images=images)) == expected


def test_findings_tag_of_a_job_at_work_is_the_jobs() -> None:
    looked = facts(listed("left"), vda=(("1", "new"),))
    assert of(looked, job(7, "new")) == [
        ("open-intent", "job 7", "create new: running (2023-11-14 22:13:20 UTC)"),
        ("tag-gone", "left", "no snapshot of that name in vda (a.qcow2), vdb (b.qcow2)"),
    ]
    assert of(facts(vda=(("1", "new"),)), job(7, "new", JobState.DONE)) == []
    assert of(facts(listed("going")), job(7, "going", JobState.DONE)) == []


def test_findings_of_a_vm_that_somebody_holds_say_unchecked_and_no_more() -> None:
    ((reason, item, proof),) = of(facts(vda=(("1", "ghost"),), holder="backup"))
    assert (reason, item) == ("unchecked", "web-1")
    assert proof.startswith("backup is at work")


def test_findings_of_a_vm_that_does_not_answer_say_unchecked() -> None:
    silent = Seen(VM, "web-1", unchecked={"web-1": "it does not answer"})
    assert found(silent) == [("unchecked", "web-1", "it does not answer")]


# --- images and books


def test_findings_leaks_and_damage_give_the_repair() -> None:
    checks = {"vda": ImageCheck(leaks=3), "vdb": ImageCheck(corruptions=1, errors=0, leaks=2)}
    (leaky, damaged) = found(Seen(VM, "web-1", facts(), checks=checks))
    assert leaky[:2] == ("image-check", "vda")
    assert leaky[2].startswith("a.qcow2: 3 leaked clusters")
    assert leaky[2].endswith("qemu-img check -r leaks a.qcow2")
    assert damaged[:2] == ("image-check", "vdb")
    assert "1 corruptions" in damaged[2]
    for step in ("qemu-img check -r", "copy the file", "-r all"):
        assert step in damaged[2]
    assert found(Seen(VM, "web-1", facts(), checks={"vda": ImageCheck()})) == []


def test_findings_from_our_own_books_are_of_their_vm() -> None:
    left = job(3, "torn", JobState.FAILED)
    gone = HistoryRow(1700000600, "delete", VM, "web-1", "old", 1700000000, not_before=1700000300)
    for uuid, reasons in ((VM, ["frozen", "half-made", "removed-outside"]), (OTHER, [])):
        books = Books([left], [gone], [FrozenGuest(VM, "web-1", 1, 1700000000)])
        assert [f.reason for f in findings([Seen(uuid, "x", facts())], books)] == reasons
    proof = found(Seen(VM, "web-1", facts()), Books(removed=[gone]))[0][2]
    assert proof == (
        "made 2023-11-14 22:13:20 UTC by us, "
        "removed after 2023-11-14 22:18:20 UTC and before 2023-11-14 22:23:20 UTC"
    )


# --- files beside the disks


def beside(*files: FoundFile, named: dict[str, set[str]] | None = None) -> list[Finding]:
    sets = {uuid: frozenset(paths) for uuid, paths in (named or {}).items()}
    seen = [Seen(VM, "web-1", facts())]
    return findings(seen, Books(), Beside(files, {"/link/a": "/i/a"}), sets)


def test_findings_overlay_that_nobody_names_tells_its_base() -> None:
    rows = beside(FoundFile("/i/a"), FoundFile("/i/a.left", "/i/a"), named={VM: {"/i/a"}})
    assert rows == [Finding("unlisted-overlay", VM, "a.left", "backed by a, and nobody names it")]


def test_findings_overlay_on_an_unlisted_overlay_is_found_too() -> None:
    rows = beside(
        FoundFile("/i/b.1", "/i/a"), FoundFile("/i/b.2", "/i/b.1"), named={VM: {"/link/a"}}
    )
    assert [(r.item, r.proof.split(",")[0]) for r in rows] == [
        ("b.1", "backed by a"),
        ("b.2", "backed by b.1"),
    ]


def test_findings_file_that_any_vm_names_or_is_based_on_is_somebodys() -> None:
    chain = (FoundFile("/i/a.2", "/i/a.1"), FoundFile("/i/a.1", "/i/a"), FoundFile("/i/a"))
    assert beside(*chain, named={VM: {"/i/a.2"}}) == []
    assert beside(*chain, named={VM: {"/i/a"}, OTHER: {"/i/a.2"}}) == []


def test_findings_images_of_others_and_circles_are_nobodys_business() -> None:
    circle = (FoundFile("/i/x", "/i/y"), FoundFile("/i/y", "/i/x"))
    assert beside(*circle, FoundFile("/i/z", "/else/base"), named={VM: {"/i/a"}}) == []


def test_findings_memory_file_is_of_the_vm_whose_ram_it_holds() -> None:
    files = (FoundFile("/i/mem", saved=VM), FoundFile("/i/else", saved=OTHER))
    assert [(r.reason, r.item) for r in beside(*files)] == [("unlisted-memory-file", "mem")]
    assert beside(*files, named={VM: {"/i/mem"}}) == []


def test_look_reads_backing_as_qemu_img_wrote_it(tmp_path: Path) -> None:
    def make(*words: str) -> None:
        command = ["qemu-img", "create", "-q", "-f", "qcow2", *words]
        subprocess.run(command, check=True, cwd=tmp_path)

    make("base", "1M")
    make("-b", "base", "-F", "qcow2", "relative")
    make("-b", f"{tmp_path}/base", "-F", "qcow2", "absolute")
    backing = {"driver": "qcow2", "file": {"driver": "file", "filename": f"{tmp_path}/base"}}
    make("-b", f"json:{json.dumps(backing)}", "-F", "qcow2", "odd")
    (tmp_path / "raw").write_bytes(bytes(512))
    (tmp_path / "short").write_bytes(b"QFI\xfb")
    long = struct.pack(">4sIQI", b"QFI\xfb", 3, 64, 1024)  # QEMU takes at most 1023 bytes
    (tmp_path / "long").write_bytes(long.ljust(64, b"\0") + b"x" * 1024)
    (tmp_path / "link").symlink_to("base")
    seen = look([str(tmp_path)], [f"{tmp_path}/link"])
    base = str(tmp_path / "base")
    assert {Path(f.path).name: f.backing for f in seen.files} == {
        "base": "",
        "relative": base,
        "absolute": base,
        "odd": "",
        "short": "",
        "long": "",
    }
    assert (seen.real, seen.unread) == ({f"{tmp_path}/link": base}, {})


def test_look_at_what_is_no_folder_says_so(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    assert look([gone], []).unread == {gone: "No such file or directory"}
