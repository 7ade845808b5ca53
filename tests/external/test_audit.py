"""What Audit and previews say of chains: nothing where all is well, whatever we did to a tree,
and the very thing where another tool has damaged one. Nothing is changed by looking."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bed.guest import Guest, virsh
from tests.client import Client
from tests.external.test_overlays import sources
from tests.qemu.conftest import NewGuest, know
from tests.qemu.steps import listed

PLAIN = {"kind": "external", "memory": "no", "quiesce": "no"}
Found = set[tuple[str, str, str]]


def audit(client: Client, guest: Guest) -> Found:
    rows = client.wait(client.call("Audit", guest.name))["Findings"]
    return {(r["Reason"], r["Item"], r["Proof"]) for r in rows if r["DomainUUID"] == guest.uuid}


def words(found: Found) -> set[tuple[str, str]]:
    return {(reason, item) for reason, item, _proof in found}


def statuses(client: Client, guest: Guest) -> dict[str, str]:
    return {name: row["Status"] for name, row in client.snapshots(guest.name).items()}


def sums(guest: Guest) -> dict[str, str]:
    files = [f for f in guest.folder.iterdir() if f.is_file()]
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def overlay(guest: Guest, name: str, disk: str = "vda") -> Path:
    return guest.folder / f"{guest.name}-{disk}.{name}.qcow2"


def revert(client: Client, guest: Guest, name: str) -> str:
    """Go back; the name of the safety snapshot."""
    job = client.call("RevertSnapshot", guest.name, name, after="running")
    safety = client.wait(job)["SafetySnapshot"]
    guest.wait()
    know(client, guest)
    return str(client.properties(safety, "Snapshot")["Name"])


def delete(client: Client, guest: Guest, name: str) -> None:
    client.wait(client.call("DeleteSnapshot", guest.name, name))


@contextmanager
def aside(path: Path) -> Iterator[None]:
    """While the file isn't where it was, nor beside any disk."""
    moved = path.rename(path.parent.parent / f"{path.name}.aside")
    try:
        yield
    finally:
        moved.rename(path)


def test_audit_has_nothing_to_say_of_trees_that_are_well(
    client: Client, new_guest: NewGuest
) -> None:
    """Chains, branches, reverts, merges at the top, in the middle and below, running and off, of a
    qcow2 and a raw disk: each leaves another trace in libvirt's record."""
    guest = new_guest("well", disks=["qcow2", "raw"]).up()
    know(client, guest)
    for name in ("s1", "s2", "s3"):
        client.create("well", name, **PLAIN)
    client.create("well", "ram", kind="external", memory="yes")
    assert audit(client, guest) == set()
    safety = revert(client, guest, "s2")
    assert audit(client, guest) == set()
    client.create("well", "branch", **PLAIN)
    assert audit(client, guest) == set()
    back = revert(client, guest, "ram")
    assert audit(client, guest) == set()
    for name in (back, "branch", safety, "s2", "s1"):
        delete(client, guest, name)
        assert audit(client, guest) == set(), name
    guest.virsh("destroy")
    know(client, guest)
    assert audit(client, guest) == set()
    client.create("well", "off", **PLAIN)
    assert audit(client, guest) == set()
    for name in listed(guest):
        delete(client, guest, name)
        assert audit(client, guest) == set(), name
    assert set(statuses(client, guest).values()) <= {"ok"}


def test_audit_and_previews_name_what_is_missing_broken_or_moved(
    client: Client, new_guest: NewGuest
) -> None:
    guest = new_guest("hurt").up()
    know(client, guest)
    client.create("hurt", "ram", kind="external", memory="yes")
    for name in ("s1", "s2"):
        client.create("hurt", name, **PLAIN)
    guest.virsh("destroy")
    know(client, guest)
    assert audit(client, guest) == set()
    before = sums(guest)

    middle = overlay(guest, "s1")
    with aside(middle):
        needs = f"{middle}, which disk vda and snapshot s2 stand on, is not there"
        found = audit(client, guest)
        assert ("missing-layer", middle.name, needs) in found
        assert words(found) == {("missing-layer", middle.name), ("unchecked", "vda")}
        assert statuses(client, guest) == {"ram": "ok", "s1": "ok", "s2": "broken"}
        for preview, name in (("PreviewDelete", "s2"), ("PreviewRevert", "s2")):
            said = client.call(preview, "hurt", name)
            assert ("missing-file", middle.name) in {
                (b["Reason"], b["Item"]) for b in said["Blockers"]
            }
        assert client.call("PreviewCreate", "hurt", "", **PLAIN)["Verdict"] == "missing-file"
    with aside(guest.folder / "hurt.ram.ram"):
        assert words(audit(client, guest)) == {("missing-memory-file", "ram")}
        assert statuses(client, guest)["ram"] == "broken"
    sound = middle.read_bytes()
    middle.write_bytes(bytes(512) + sound[512:])
    assert ("broken-layer", middle.name) in words(audit(client, guest))
    middle.write_bytes(sound)
    assert audit(client, guest) == set()
    assert statuses(client, guest) == {"ram": "ok", "s1": "ok", "s2": "ok"}
    assert sums(guest) == before

    # moved by hand: the header and libvirt's stored XML name two files, and both are there
    moved = guest.folder / "moved.qcow2"
    moved.write_bytes(middle.read_bytes())
    command = ["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2"]
    top = sources(guest)[0]
    subprocess.run([*command, "-b", str(moved), top], check=True)
    xml = guest.virsh("dumpxml", "--inactive")
    if "backingStore" not in xml:
        xml = xml.replace(
            f"<source file='{top}'/>",
            f"<source file='{top}'/><backingStore type='file'><format type='qcow2'/>"
            f"<source file='{middle}'/></backingStore>",
        )
        virsh("define", "/dev/stdin", text=xml)
    found = audit(client, guest)
    assert ("moved-layer", "vda") in words(found)
    proofs = [p for reason, _, p in found if reason == "moved-layer"]
    assert len(proofs) == 2  # by libvirt's stored XML, and by its record of the snapshot
    assert all(str(moved) in proof and str(middle) in proof for proof in proofs)
    verdict = client.call("PreviewDelete", "hurt", "s2")["Verdict"]
    assert verdict == "not-in-chain"
    subprocess.run([*command, "-b", str(middle), top], check=True)
    moved.unlink()


def test_audit_names_layers_and_files_of_other_tools(client: Client, new_guest: NewGuest) -> None:
    guest = new_guest("odd").up()
    know(client, guest)
    client.create("odd", "s1", **PLAIN)
    guest.virsh("snapshot-create-as", "--disk-only", "--no-metadata", "--atomic", "odd")
    above = Path(sources(guest)[0])
    assert words(audit(client, guest)) == {
        ("unexplained-layer", above.name),
        ("not-in-chain", "vda"),
    }
    assert client.call("PreviewDelete", "odd", "s1")["Verdict"] == "not-in-chain"
    guest.virsh("blockcommit", "vda", "--active", "--pivot", "--wait", "--top", str(above),
                "--base", str(overlay(guest, "s1")))  # fmt: skip
    know(client, guest)
    proof = f"backed by {overlay(guest, 's1').name}, and nobody names it"
    assert audit(client, guest) == {("unlisted-overlay", above.name, proof)}
    above.unlink()
    assert audit(client, guest) == set()
    delete(client, guest, "s1")
    assert sources(guest) == [str(path) for path in guest.images]
