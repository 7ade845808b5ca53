"""VMs as people have them: each gets its verdict, and the verb then does what was told.

No guest boots: a VM without a boot disk runs its BIOS, which is a QEMU with RAM and disks.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.bed.guest import virsh
from tests.bed.private import PrivateLibvirt
from tests.client import Client, Daemon, Row
from tests.qemu.steps import libvirt_version, qemu_img
from tests.qemu.test_facts import tmpfs

DATA = Path(__file__).parents[1] / "data" / "domains"
ZEROS = bytes(4 << 20)
VNC_PASSWORD = "notreal1"
EXTERNAL = "external-unsupported"


def table() -> dict[str, Row]:
    """The rows as they are for this libvirt."""
    rows: dict[str, Row] = tomllib.loads((DATA / "verdicts.toml").read_text())
    for row in rows.values():
        for version, other in row.get("from", {}).items():
            if libvirt_version() >= tuple(map(int, version.split("."))):
                row.update(other)
    return rows


ROWS = tomllib.loads((DATA / "verdicts.toml").read_text())
RUNNING = [name for name, row in ROWS.items() if "running" in row]


@dataclass(frozen=True)
class Vm:
    """A VM of the collection, defined. folder: its images; row: what is expected of it."""

    name: str
    folder: Path
    row: Row

    def virsh(self, verb: str, *words: str, check: bool = True) -> str:
        return virsh(verb, "--domain", self.name, *words, check=check)

    @property
    def disks(self) -> list[Path]:
        """The images of its qcow2 disks that are there."""
        words = self.virsh("domblklist", "--inactive").split()
        return [Path(w) for w in words if w.endswith(".qcow2") and Path(w).exists()]

    def tags(self) -> list[list[str]]:
        """The internal snapshots in each of its images, by qemu-img."""
        found = []
        for disk in self.disks:
            command = ["qemu-img", "snapshot", "-U", "-l", str(disk)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
            found.append([line.split()[1] for line in done.stdout.splitlines()[2:]])
        return found

    def seen(self) -> tuple[Any, ...]:
        """All that a refused verb must leave as it is."""
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        sums = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
        xml = self.virsh("dumpxml", "--inactive", "--security-info")
        return sums, self.virsh("snapshot-list", "--name"), xml, self.virsh("domstate")


def make_images(folder: Path, xml: str, inside: dict[str, str]) -> None:
    """Make what an XML names below @DIR@; nothing has a `gone` in its name."""
    for name in sorted(set(re.findall("@DIR@/([a-zA-Z0-9./]+)", xml))):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".fd":
            path.write_bytes(ZEROS)
        elif name == "VARS.qcow2":
            (folder / "zeros").write_bytes(ZEROS)
            qemu_img("convert", "-f", "raw", "-O", "qcow2", folder / "zeros", path)
        elif name == "overlay.qcow2":
            base = folder / "base.qcow2"
            qemu_img("create", "-f", "qcow2", base, "8M")
            qemu_img("create", "-f", "qcow2", "-b", base, "-F", "qcow2", path)
        elif path.suffix in (".qcow2", ".raw"):
            if path.stem != "gone":
                form = inside.get(name, path.suffix[1:])
                qemu_img("create", "-f", form, path, "8M")
        else:
            path.mkdir(exist_ok=True)


@pytest.fixture(scope="module")
def loop(session_bed: PrivateLibvirt) -> Iterator[str]:
    """A block device. Where the machine has no loop devices, a plain file stands in for one: a VM
    that is off is judged by what its XML calls it."""
    path = session_bed.images / "loop.img"
    path.write_bytes(bytes(2 << 20))
    command = ["losetup", "--find", "--show", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    yield done.stdout.strip() or str(path)
    if done.stdout:
        subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True, timeout=20)


@pytest.fixture(scope="module")
def vms(session_bed: PrivateLibvirt, loop: str) -> Iterator[dict[str, Vm]]:
    """All of them, defined."""
    made: dict[str, Vm] = {}
    with tmpfs(session_bed.images / "tmpfs", "24m") as small:
        try:
            for key, row in table().items():
                text = (DATA / f"{row.get('file', key)}.xml").read_text()
                folder = session_bed.images / key
                folder.mkdir()
                if "@DIR@/small" in text:
                    (folder / "small").symlink_to(small)
                make_images(folder, text, row.get("inside", {}))
                if "file" in row:
                    text = re.sub("<name>.*</name>", f"<name>{key}</name>", text)
                text = text.replace("@DIR@", str(folder)).replace("/dev/loop7", loop)
                virsh("define", "/dev/stdin", text=text)
                made[key] = Vm(re.findall("<name>(.*)</name>", text)[0], folder, row)
            yield made
        finally:
            session_bed.mend_libvirtd()
            for vm in made.values():
                vm.virsh("destroy", check=False)
                vm.virsh("undefine", "--snapshots-metadata", "--managed-save", "--nvram")


def known(client: Client, vm: Vm, state: str = "shutoff") -> Row:
    """The VM's row, once the daemon has seen that state."""
    return client.until(
        f"the daemon sees {vm.name} {state}",
        lambda: (row := client.domain(vm.name)) and (row if row["State"] == state else None),
    )


def preview(client: Client, vm: Vm, memory: str) -> Row:
    found: Row = client.call("PreviewCreate", vm.name, "x", memory=memory, quiesce="no")
    return found


@pytest.mark.parametrize("key", ROWS)
def test_vm_that_is_off_is_snapshot_or_refused_as_its_verdict_says(
    key: str, vms: dict[str, Vm], client: Client, daemon: Daemon
) -> None:
    vm = vms[key]
    row, verdict = vm.row, vm.row.get("off", "yes")
    assert known(client, vm)["Support"] == {
        "internal": row.get("internal", "yes"),
        "internal-memory": row.get("memory", "yes"),
        "external": EXTERNAL,
        "external-memory": EXTERNAL,
    }
    before = vm.seen()
    for memory in ("no", "auto"):
        assert preview(client, vm, memory)["Verdict"] == verdict
    reasons = {blocker["Reason"] for blocker in preview(client, vm, "yes")["Blockers"]}
    assert reasons == {"no-memory", verdict} - {"yes"}
    assert vm.seen() == before
    if verdict != "yes":
        blocker = preview(client, vm, "no")["Blockers"][0]
        assert (blocker["Item"], bool(blocker["Message"])) == (row["item"], True)
        assert client.refused("CreateSnapshot", vm.name, "x") == (row["error"], verdict)
        assert vm.seen() == before
    else:
        assert client.create(vm.name, "x")["Consistency"] == "offline"
        assert vm.tags() == [["x"]] * len(vm.disks) != []
        assert vm.virsh("snapshot-list", "--name") == "x"
        assert VNC_PASSWORD not in client.act(vm.name, "x", "GetXML") + daemon.log
        client.revert(vm.name, "x", safety_snapshot=False)
        assert VNC_PASSWORD * (key == "vnc-password") in vm.virsh("dumpxml", "--security-info")
        client.delete(vm.name, "x")
        assert vm.tags() == [[]] * len(vm.disks)
        assert vm.virsh("domstate") == "shut off"
    # libvirt's own create shows that the refusal cost nobody a snapshot that could be had
    said = vm.virsh("snapshot-create-as", "by-virsh", check=False)
    assert ("error:" in said) == (row["virsh"] == "refused"), said
    vm.virsh("snapshot-delete", "by-virsh", check=False)


@pytest.mark.parametrize("key", RUNNING)
def test_vm_that_runs_is_snapshot_or_refused_as_its_verdict_says(
    key: str, vms: dict[str, Vm], client: Client
) -> None:
    vm, running = vms[key], vms[key].row["running"]
    vm.virsh("start")
    try:
        known(client, vm, "running")
        for memory in ("no", "yes", "auto"):
            verdict = running[memory]
            made = verdict in ("yes", "memory", "disks")
            shown = preview(client, vm, memory)
            assert shown["Verdict"] == ("yes" if made else verdict)
            before = vm.tags(), vm.virsh("snapshot-list", "--name")
            wish = {"memory": memory, "quiesce": "no"}
            if not made:
                refused = client.refused("CreateSnapshot", vm.name, memory, **wish)
                assert refused == ("Unsupported", verdict)
                assert (vm.tags(), vm.virsh("snapshot-list", "--name")) == before
                continue
            job = client.call("CreateSnapshot", vm.name, memory, **wish)
            with_ram = verdict == "memory" or (memory, verdict) == ("yes", "yes")
            got = "memory" if with_ram else "crash"
            assert client.wait(job)["Consistency"] == got == shown["Consistency"]
            xml = vm.virsh("snapshot-dumpxml", memory).partition("<domain ")[0]
            assert ("<memory snapshot='internal'/>" in xml) == with_ram
            warned = {w["Reason"] for w in client.job(job)["Warnings"]}
            left_out = {"memory-left-out"} if verdict == "disks" else set()
            assert warned == {*left_out, *vm.row.get("notes", [])}
            notes = client.snapshots(vm.name)[memory]["Notes"]
            assert set(notes) == warned
            assert all(memory in held for held in vm.tags())
        assert vm.virsh("domstate") == "running"
    finally:
        vm.virsh("destroy")


def test_agent_that_never_answered_is_required_in_vain_and_tried_with_a_warning(
    vms: dict[str, Vm], client: Client
) -> None:
    vm = vms["guest-agent"]
    vm.virsh("start")
    try:
        known(client, vm, "running")
        wish = {"memory": "no", "quiesce": "require"}
        refused = client.refused("CreateSnapshot", vm.name, "must", **wish)
        assert refused == ("AgentUnavailable", "agent-unavailable")
        assert "must" not in vm.virsh("snapshot-list", "--name") + str(vm.tags())
        job = client.call("CreateSnapshot", vm.name, "can", memory="no", quiesce="try")
        assert client.wait(job)["Consistency"] == "crash"
        assert [w["Reason"] for w in client.job(job)["Warnings"]] == ["not-quiesced"]
    finally:
        vm.virsh("destroy")


def test_file_system_without_room_is_told_before_anything_is_written(
    vms: dict[str, Vm], client: Client
) -> None:
    """24 MiB for a VM of 64 MiB RAM: its disks can be snapshot, its RAM can't; then nothing can."""
    vm = vms["disk-full"]
    vm.virsh("start")
    try:
        known(client, vm, "running")
        before = vm.tags()
        full = preview(client, vm, "yes")
        assert (full["Verdict"], full["SpaceNeed"] > 64 << 20) == ("no-space", True)
        assert 0 < full["SpaceHave"] < 24 << 20
        refused = client.refused("CreateSnapshot", vm.name, "ram", memory="yes")
        assert (refused, vm.tags()) == (("NoSpace", "no-space"), before)
        job = client.call("CreateSnapshot", vm.name, "disks", quiesce="no")
        assert client.wait(job)["Consistency"] == "crash"
        assert [w["Reason"] for w in client.job(job)["Warnings"]] == ["memory-left-out"]
        client.delete(vm.name, "disks")
        filler = vm.folder / "small" / "filler"
        with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
            while file.write(bytes(1 << 20)) == 1 << 20:
                pass
            file.write(b"x")
        for memory in ("no", "auto", "yes"):
            refused = client.refused("CreateSnapshot", vm.name, "x", memory=memory)
            assert (refused, vm.tags()) == (("NoSpace", "no-space"), before)
        filler.unlink()
        assert vm.virsh("domstate") == "running"
    finally:
        vm.virsh("destroy")


def test_backing_file_that_is_gone_refuses_every_verb(vms: dict[str, Vm], client: Client) -> None:
    vm = vms["backing-chain"]
    base = vm.folder / "base.qcow2"
    before = hashlib.sha256(base.read_bytes()).digest()
    client.create(vm.name, "x")
    assert hashlib.sha256(base.read_bytes()).digest() == before
    aside = base.rename(vm.folder / "aside")
    try:
        seen = vm.seen()
        assert client.refused("CreateSnapshot", vm.name, "y")[0] == "PreflightFailed"
        assert client.refused("RevertSnapshot", vm.name, "x")[0] == "PreflightFailed"
        assert client.refused("DeleteSnapshot", vm.name, "x")[0] == "PreflightFailed"
        assert vm.seen() == seen
    finally:
        aside.rename(base)
    client.delete(vm.name, "x")
    assert vm.tags() == [[]]
