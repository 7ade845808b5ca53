"""Audit, DeleteOwnSnapshots and the redefined problem on real images; the VMs are off but for one.

What is amiss is made with qemu-img and virsh, behind the daemon's back.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

from tests.bed.guest import Guest, virsh
from tests.client import Client
from tests.qemu.conftest import NewGuest, know
from tests.qemu.steps import listed, qemu_img, tags

OFF = {"quiesce": "no"}
Found = set[tuple[str, str, str]]


def off(client: Client, guest: Guest) -> Guest:
    """Define it, and have the daemon know it."""
    guest.define()
    client.until(f"{guest.name} is known", lambda: client.domain(guest.name))
    return guest


def audit(client: Client, guest: Guest, vm: str = "") -> Found:
    """Reason, thing and proof of what is found about the guest."""
    rows = client.wait(client.call("Audit", vm))["Findings"]
    return {(r["Reason"], r["Item"], r["Proof"]) for r in rows if r["DomainUUID"] == guest.uuid}


def sums(guest: Guest) -> dict[str, str]:
    files = [f for f in guest.folder.iterdir() if f.is_file()]
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def leak(image: Path) -> None:
    """Have a qcow2 count a cluster at its end that nothing uses (QEMU's docs/interop/qcow2.txt)."""
    with image.open("r+b") as file:
        head = file.read(56)
        (bits,) = struct.unpack_from(">I", head, 20)
        (table,) = struct.unpack_from(">Q", head, 48)
        cluster = file.seek(0, 2) + (-file.tell() % (1 << bits)) >> bits
        file.truncate(cluster + 1 << bits)
        file.seek(table)
        (block,) = struct.unpack(">Q", file.read(8))
        file.seek(block + 2 * cluster)
        file.write(struct.pack(">H", 1))


def test_audit_finds_what_is_amiss_with_proof_and_changes_nothing(
    client: Client, new_guest: NewGuest
) -> None:
    guest = off(client, new_guest("audit", disks=2))
    assert audit(client, guest) == set()
    for name in ("kept", "half", "double"):
        client.create("audit", name, **OFF)
    assert audit(client, guest, "audit") == set()

    xml = guest.virsh("dumpxml", "--inactive")
    guest.virsh("snapshot-create-as", "--disk-only", "--no-metadata", "--atomic", "left")
    qemu_img("snapshot", "-c", "ghost", guest.images[1])
    qemu_img("snapshot", "-d", "half", guest.images[1])
    qemu_img("snapshot", "-c", "double", guest.images[0])
    found = audit(client, guest, "audit")  # the domain is on its overlays: these hold no tag
    assert {(r, i) for r, i, _ in found if i in ("kept", "half")} == {
        ("mixed-tree", "kept"),
        ("tag-gone", "half"),
    }
    where = "vda (vda.left) stands on vda.qcow2, which has it"
    assert where in next(proof for _, item, proof in found if item == "kept")
    guest.define(xml)
    leak(guest.images[1])
    before, tree = sums(guest), listed(guest)
    wanted = {
        ("unlisted-tag", "ghost", "in vdb (vdb.qcow2) as ID 4; not in vda"),
        ("tag-gone", "half", "no snapshot of that name in vdb (vdb.qcow2)"),
        ("doubled-tag", "double", "in vda (vda.qcow2) as ID 3, 4"),
        ("unlisted-overlay", "vda.left", "backed by vda.qcow2, and nobody names it"),
        ("unlisted-overlay", "vdb.left", "backed by vdb.qcow2, and nobody names it"),
        (
            "image-check",
            "vdb",
            "vdb.qcow2: 1 leaked clusters: room is lost, nothing is damaged; "
            "repair: with the VM off: qemu-img check -r leaks vdb.qcow2",
        ),
    }
    assert audit(client, guest) == audit(client, guest, "audit") == wanted
    assert (sums(guest), listed(guest)) == (before, tree)

    qemu_img("check", "-r", "leaks", guest.images[1])
    for each in guest.folder.glob("*.left"):
        each.unlink()
    assert {reason for reason, _, _ in audit(client, guest)} == {
        "unlisted-tag",
        "tag-gone",
        "doubled-tag",
    }


def test_audit_of_external_snapshots_names_what_is_missing_broken_or_shared(
    client: Client, new_guest: NewGuest
) -> None:
    """FIELD_REPORTS 3, 4 and 5: by virsh, above an internal one of ours."""
    guest = off(client, new_guest("layers"))
    client.create("layers", "inside", **OFF)
    for name in ("e1", "e2"):
        guest.virsh("snapshot-create-as", "--disk-only", "--atomic", name)
    client.until("both are known", lambda: {"e1", "e2"} <= client.snapshots("layers").keys())
    proof = (
        "libvirt does not find it below an overlay: vda (vda.e2) stands on vda.qcow2, which has it"
    )
    whole = {("mixed-tree", "inside", proof)}
    before = sums(guest)
    assert audit(client, guest) == audit(client, guest, "layers") == whole
    assert client.snapshots("layers")["inside"]["Status"] == "ok"

    base, first = guest.images[0], guest.folder / "vda.e1"
    aside = base.rename(base.with_suffix(".aside"))
    needs = f"{base}, which disk vda and snapshots e1, e2 stand on, is not there"
    assert ("missing-layer", "vda.qcow2", needs) in audit(client, guest, "layers")
    status = {n: row["Status"] for n, row in client.snapshots("layers").items()}
    assert (status["e1"], status["e2"]) == ("broken", "broken")
    aside.rename(base)

    sound = first.read_bytes()
    first.write_bytes(b"\0" * 512 + sound[512:])
    ((item, said),) = [(i, p) for r, i, p in audit(client, guest, "layers") if r == "broken-layer"]
    assert (item, said.split(", is no image")[0]) == (
        "vda.e1",
        f"{first}, which disk vda and snapshot e2 stand on",
    )
    assert client.snapshots("layers")["e1"]["Status"] == "ok"
    assert client.snapshots("layers")["e2"]["Status"] == "broken"
    first.write_bytes(sound)

    other = off(client, new_guest("other"))
    other.define(other.xml.replace(str(other.images[0]), str(first)))
    disk = {"Reason": "shared-layer", "Item": "vda.e1"}
    client.until(
        "the other VM is on the overlay below",
        lambda: any(
            disk.items() <= row.items()
            for row in client.wait(client.call("Audit", "layers"))["Findings"]
        ),
    )
    other.define(other.xml)
    know(client, other)
    client.until("it is over", lambda: audit(client, guest, "layers") == whole)
    assert sums(guest) == before
    assert client.snapshots("layers")["e2"]["Status"] == "ok"


def test_audit_of_a_saved_ram_that_nobody_lists_and_of_a_running_vm(
    client: Client, guest: Guest
) -> None:
    assert audit(client, guest) == set()
    saved = guest.folder / "ram.save"
    guest.virsh("save", str(saved))
    try:
        know(client, guest)
        proof = "holds RAM of VM vm, and no snapshot names it"
        assert audit(client, guest, "vm") == {("unlisted-memory-file", "ram.save", proof)}
    finally:
        virsh("restore", str(saved))
        saved.unlink()
    know(client, guest)


def test_delete_own_leaves_nothing_that_keeps_a_vm_from_being_undefined(
    client: Client, new_guest: NewGuest
) -> None:
    """FIELD_REPORTS 64: libvirt refuses to undefine a VM that has snapshots (code 55)."""
    guest = off(client, new_guest("own", disks=2))
    client.create("own", "mine", **OFF)
    for name in ("a", "b", "c"):
        client.create("own", name, trial=True, **OFF)
    qemu_img("snapshot", "-c", "b", guest.images[0])
    result = client.wait(client.call("DeleteOwnSnapshots", "own"))
    assert result["Deleted"] == ["c", "a"]
    stays = {row["Name"]: row["Reason"] for row in result["Stays"]}
    assert stays == {"mine": "manual", "b": "half-made"}
    assert "snapshots" in guest.virsh("undefine", check=False)
    assert tags(guest) == [["mine", "b", "b"], ["mine", "b"]]

    qemu_img("snapshot", "-d", "b", guest.images[0])
    result = client.wait(client.call("DeleteOwnSnapshots", "own", manual=True))
    assert (result["Deleted"], result["Stays"]) == (["b", "mine"], [])
    assert tags(guest) == [[], []]
    guest.virsh("undefine")


def test_vm_redefined_onto_a_base_of_its_own_overlay_is_a_problem_at_once(
    client: Client, new_guest: NewGuest
) -> None:
    guest = off(client, new_guest("redefined"))

    def problem() -> str:
        rows = [r for r in client.rows("ListProblems") if r["Problem"] == "redefined"]
        assert {(r["DomainName"], r["Severity"]) for r in rows} <= {("redefined", "critical")}
        return rows[0]["Message"] if rows else ""

    old = guest.virsh("dumpxml", "--inactive")
    guest.virsh("snapshot-create-as", "--disk-only", "ext")
    new = guest.virsh("dumpxml", "--inactive")
    # an external snapshot of a VM that is off sends no event; the define below does
    guest.define(old)
    text = client.until("the problem is told", problem, timeout=10)
    for word in ("redefined", "vda", "vda.qcow2", "ext"):
        assert word in text
    guest.define(new)
    client.until("it is over", lambda: not problem(), timeout=10)
