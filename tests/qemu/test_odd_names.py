"""Names that break naive code, on real images: those that we make, those that others made, and
those of VMs. What is in an image, and which data a revert brought, qemu-img and qemu-io say."""

from __future__ import annotations

import json
import re
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import InvalidName
from tests.bed.guest import virsh
from tests.bed.private import PrivateLibvirt
from tests.bus import PrivateBus
from tests.client import Client
from tests.driver.virtsnap import virtsnap
from tests.qemu.steps import qemu_img

DATA = Path(__file__).parents[1] / "data"
NAMES: list[dict[str, Any]] = json.loads((DATA / "names" / "snapshot_names.json").read_text())
DOMAINS: list[dict[str, str]] = json.loads((DATA / "names" / "domain_names.json").read_text())


class Vm:
    """A VM that is off, of one small disk, by its UUID: no name of it is handed to virsh."""

    def __init__(self, folder: Path, name: str, uuid: str = "") -> None:
        self.name, self.image = name, folder / "disk.qcow2"
        folder.mkdir()
        qemu_img("create", "-f", "qcow2", self.image, "1M")
        text = (DATA / "domains" / "qcow2-single.xml").read_text()
        root = ET.fromstring(text)
        named, source = root.find("name"), root.find("./devices/disk/source")
        assert named is not None and source is not None
        named.text = name
        source.set("file", str(self.image))
        if uuid:
            ET.SubElement(root, "uuid").text = uuid
        before = set(virsh("list", "--all", "--uuid").split())
        self.define(ET.tostring(root, "unicode"))
        (self.uuid,) = set(virsh("list", "--all", "--uuid").split()) - before

    def define(self, text: str) -> None:
        virsh("define", "/dev/stdin", text=text)

    def tags(self) -> dict[str, str]:
        """Name -> number of the internal snapshots in its image."""
        command = ["qemu-img", "info", "-U", "-f", "qcow2", "--output=json", str(self.image)]
        done = subprocess.run(command, check=True, capture_output=True, timeout=30)
        return {s["name"]: s["id"] for s in json.loads(done.stdout).get("snapshots", [])}

    def write(self, number: int) -> None:
        self._io(f"write -P {number} 0 512")

    def holds(self, number: int) -> bool:
        return "Pattern verification failed" not in self._io(f"read -P {number} 0 512")

    def _io(self, command: str) -> str:
        words = ["qemu-io", "-f", "qcow2", "-c", command, str(self.image)]
        return subprocess.run(words, capture_output=True, text=True, timeout=30).stdout

    def by_libvirt(self, snapshot: str) -> None:
        """Have libvirt make a snapshot of that name."""
        root = ET.Element("domainsnapshot")
        ET.SubElement(root, "name").text = snapshot
        text = ET.tostring(root, "unicode")
        virsh("snapshot-create", self.uuid, "/dev/stdin", text=text)

    def remove(self) -> None:
        virsh("destroy", self.uuid, check=False)
        virsh("undefine", self.uuid, "--snapshots-metadata")


@contextmanager
def vm(bed: PrivateLibvirt, name: str, uuid: str = "") -> Iterator[Vm]:
    folders = sum(path.name.startswith("odd-") for path in bed.images.iterdir())
    made = Vm(bed.images / f"odd-{folders}", name, uuid)
    try:
        yield made
    finally:
        made.remove()


def await_known(client: Client, one: Vm, state: str = "shutoff") -> None:
    client.until(
        f"the daemon sees {one.name!r} {state}",
        lambda: (row := client.domain(one.name)) and row["State"] == state,
    )


def proposal(client: Client, uuid: str, name: str) -> str:
    """What is proposed instead of a name that is refused at once."""
    with pytest.raises(InvalidName) as refused:
        client.call("CreateSnapshot", uuid, name)
    assert refused.value.message.isprintable()
    (found,) = re.findall(r"; '([^' ]+)' works", refused.value.message)
    return str(found)


def test_create_takes_good_names_and_proposes_ones_that_work_for_bad_ones(
    client: Client, bed: PrivateLibvirt
) -> None:
    good = {case["name"] for case in NAMES if case["advice"] == "accept"}
    bad = {case["name"] for case in NAMES if case["advice"] == "reject"}
    with vm(bed, "lab-names") as one:
        await_known(client, one)
        proposed = {proposal(client, one.uuid, name) for name in bad}
        assert one.tags() == {}
        assert not proposed & bad
        for name in sorted(good | proposed):
            assert client.create(one.uuid, name)["Name"] == name
        assert one.tags().keys() == good | proposed
        first = sorted(good | proposed)[0]
        client.delete(one.uuid, first, children=True)
        assert (one.tags(), client.snapshots(one.uuid)) == ({}, {})


def test_names_that_others_gave_are_listed_reverted_and_deleted_as_they_are(
    client: Client, bed: PrivateLibvirt, bus: PrivateBus
) -> None:
    given = [c["name"] for c in NAMES if not c.get("qemu_internal_offline", "").startswith("error")]
    digits = given.index("2")
    given[1], given[digits] = given[digits], given[1]  # it has not the number that it is named
    pid = bed.libvirtd_pid()
    with vm(bed, "lab-foreign") as one:
        for number, name in enumerate(given):
            one.write(number + 1)
            one.by_libvirt(name)
        assert list(one.tags()) == given
        one.define(virsh("dumpxml", one.uuid))  # an event: the create of a VM that is off is none
        client.until("they are listed", lambda: len(client.snapshots(one.uuid)) == len(given))
        rows = client.snapshots(one.uuid)
        assert rows.keys() == set(given)
        assert {row["Origin"] for row in rows.values()} == {"foreign"}
        shown = virtsnap(bus.address, "list", one.uuid)
        assert len(shown.out.splitlines()) == len(given) + 1
        assert all(c.isprintable() or c == "\n" for c in shown.out)
        for number, name in enumerate(given):
            before = one.tags()
            if name in {number for tag, number in before.items() if tag != name}:
                for verb in ("RevertSnapshot", "DeleteSnapshot"):
                    refused = client.refused(verb, one.uuid, name, safety_snapshot=False)
                    assert refused == ("Inconsistent", "half-made")
                assert one.tags() == before
                continue
            client.revert(one.uuid, name, safety_snapshot=False)
            assert one.holds(number + 1), f"{name!r} brought other data"
            client.delete(one.uuid, name)
            assert one.tags() == {tag: n for tag, n in before.items() if tag != name}
            assert name not in client.snapshots(one.uuid)
    assert bed.libvirtd_pid() == pid


def test_names_that_others_gave_while_the_vm_runs_cost_neither_data_nor_libvirt(
    client: Client, bed: PrivateLibvirt
) -> None:
    """libvirt 9.0 reports success for quotes and backslashes, and no image holds the snapshot."""
    pid = bed.libvirtd_pid()
    with vm(bed, "lab-foreign-runs") as one:
        virsh("start", one.uuid)
        given = ["&<>\"'", "a\\b", "--metadata", "ünïcödé-试验-🙂"]
        for name in given:
            one.by_libvirt(name)
        made = set(one.tags())
        assert {"--metadata"} <= made <= set(given)
        client.until("they are listed", lambda: client.snapshots(one.uuid).keys() == set(given))
        for name in given:
            if name in made:
                client.revert(one.uuid, name, safety_snapshot=False)
            else:
                refused = client.refused("RevertSnapshot", one.uuid, name, safety_snapshot=False)
                assert refused == ("Inconsistent", "half-made")
            assert virsh("domstate", one.uuid) == "running"
        for name in given:
            client.delete(one.uuid, name)
            made.discard(name)
            assert one.tags().keys() == made
        assert client.snapshots(one.uuid) == {}
        assert virsh("domstate", one.uuid) == "running"
    assert bed.libvirtd_pid() == pid


@pytest.mark.parametrize("case", DOMAINS, ids=lambda case: case["why"].partition(":")[0])
def test_vm_of_any_name_is_found_and_every_verb_reaches_it_alone(
    case: dict[str, str], client: Client, bed: PrivateLibvirt, others: list[Vm]
) -> None:
    name = case["name"]
    with vm(bed, name) as one:
        await_known(client, one)
        path = client.call("GetDomain", one.uuid)
        if name not in {other.uuid for other in others}:  # a UUID comes before a name
            assert client.call("GetDomain", name) == path
            word = name
        else:
            word = one.uuid
        found = client.properties(path, "Domain")
        assert (found["Name"], found["UUID"]) == (name, one.uuid)
        client.create(word, "x")
        assert list(one.tags()) == ["x"]
        snapshot = client.call("GetSnapshot", word, "x")
        assert client.properties(snapshot, "Snapshot")["DomainName"] == name
        client.revert(word, "x", safety_snapshot=False)
        client.delete(word, "x")
        assert one.tags() == {}
        assert [other.tags() for other in others] == [{}] * len(others)


@pytest.fixture(scope="module")
def others(session_bed: PrivateLibvirt) -> Iterator[list[Vm]]:
    """VMs that a name of another could be taken for: one by its UUID, one by its libvirt number,
    and those that libvirt's own tool would find."""
    (uuid,) = [case["name"] for case in DOMAINS if "UUID" in case["why"]]
    with vm(session_bed, "lab-has-the-uuid", uuid) as first, vm(session_bed, "lab-runs") as second:
        virsh("start", second.uuid)
        yield [first, second]


def test_vm_named_by_the_number_of_another_that_runs_is_the_one_that_is_meant(
    client: Client, bed: PrivateLibvirt, others: list[Vm]
) -> None:
    runs = others[1]
    number = virsh("domid", runs.uuid)
    with vm(bed, number) as one:
        assert virsh("domname", number) == runs.name  # what libvirt's own tool makes of it
        await_known(client, one)
        client.create(number, "x")
        assert (list(one.tags()), runs.tags()) == (["x"], {})
        client.delete(number, "x")


def test_vm_that_is_renamed_keeps_its_snapshots_and_a_new_one_of_its_name_gets_none(
    client: Client, bed: PrivateLibvirt
) -> None:
    with vm(bed, "lab-before") as one:
        await_known(client, one)
        client.create(one.uuid, "x")
        virsh("domrename", one.uuid, "lab-after")
        one.name = "lab-after"
        await_known(client, one)
        assert client.domain("lab-before") is None
        assert client.snapshots("lab-after")["x"]["Origin"] == "manual"
        with vm(bed, "lab-before") as other:
            await_known(client, other)
            assert client.snapshots("lab-before") == {}
            assert client.refused("DeleteSnapshot", "lab-before", "x")[0] == "NoSuchSnapshot"
        client.delete("lab-after", "x")
        assert one.tags() == {}


def test_snapshot_whose_record_libvirt_lost_is_told_and_its_name_is_not_given_again(
    client: Client, bed: PrivateLibvirt
) -> None:
    """libvirt drops it without a word when its file is damaged; its data stays in the image."""
    with vm(bed, "lab-damaged") as one:
        await_known(client, one)
        for name in ("whole", "lost"):
            client.create(one.uuid, name)
        bed.stop_libvirtd()
        Path("/var/lib/libvirt/qemu/snapshot/lab-damaged/lost.xml").write_text("<domainsnap")
        bed.start_libvirtd()
        client.until(
            "the daemon has read it again", lambda: list(client.snapshots(one.uuid)) == ["whole"]
        )
        refused = client.refused("CreateSnapshot", one.uuid, "lost")
        assert refused == ("AlreadyExists", "half-made")
        job = client.call("Audit", one.uuid)
        found = {(f["Reason"], f["Item"]) for f in client.wait(job)["Findings"]}
        assert found and {item for _reason, item in found} == {"lost"}
        assert one.tags().keys() == {"whole", "lost"}
