"""libvirt's XML in and out: domains as people have them, snapshots as libvirt prints them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from snapd.hypervisor import xml
from snapd.model import Disk, Kind, State

DATA = Path(__file__).parents[1] / "data"
DOMAINS = DATA / "domains"
HOST = DATA / "testdriver" / "host.xml"
DISK = "<disk type='file' device='disk'>{}<target dev='vda'/></disk>"


def domain(name: str) -> ET.Element:
    return ET.fromstring((DOMAINS / f"{name}.xml").read_text())


def disk(inside: str) -> Disk:
    return xml.disks(ET.fromstring(f"<domain><devices>{DISK.format(inside)}</devices></domain>"))[0]


@pytest.fixture
def conn() -> Iterator[libvirt.virConnect]:
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    made = libvirt.open(f"test://{HOST}")
    yield made
    made.close()


# ---- domains


def test_disks_are_read_in_order_with_format_and_file() -> None:
    assert xml.disks(domain("two-qcow2")) == (
        Disk("vda", "@DIR@/a.qcow2", "qcow2"),
        Disk("vdb", "@DIR@/b.qcow2", "qcow2"),
    )


def test_disks_readonly_and_shared_ones_are_marked() -> None:
    plain, readonly, shared = xml.disks(domain("readonly-shareable"))
    assert [d.writable for d in (plain, readonly, shared)] == [True, False, True]
    assert (readonly.readonly, shared.shareable, plain.shareable) == (True, True, False)


def test_disks_of_a_block_device_have_its_path_and_kind() -> None:
    (found,) = xml.disks(domain("block-device"))
    assert (found.kind, found.source, found.format) == ("block", "/dev/loop7", "raw")


def test_disks_empty_cd_drive_is_nothing_to_snapshot() -> None:
    text = (
        "<domain><devices><disk type='file' device='cdrom'><target dev='sda'/><readonly/></disk>"
        "<disk type='file' device='disk'><source file='/x'/><target dev='vda'/></disk>"
        "</devices></domain>"
    )
    drive, plain = xml.disks(ET.fromstring(text))
    assert (drive.device, drive.source, drive.writable) == ("cdrom", "", False)
    assert (plain.format, plain.writable) == ("", True)


@pytest.mark.parametrize(
    ("inside", "attribute"),
    [
        ("<source file='/a'/><encryption format='luks'/>", "encrypted"),
        ("<source file='/a'><encryption format='luks'/></source>", "encrypted"),
        ("<source file='/a'><dataStore type='file'/></source>", "data_file"),
        ("<source file='/a'/><transient/>", "transient"),
        ("<source file='/a'/><shareable/>", "shareable"),
    ],
)
def test_disk_with_what_no_snapshot_can_hold_is_marked(inside: str, attribute: str) -> None:
    assert getattr(disk(inside), attribute)
    assert not getattr(disk("<source file='/a'/>"), attribute)


@pytest.mark.parametrize(
    ("inside", "source"),
    [
        ("<source protocol='rbd' name='pool/image'/>", "pool/image"),
        ("<source pool='default' volume='vol'/>", "vol"),
        ("<source dev='/dev/sdb'/>", "/dev/sdb"),
        ("", ""),
    ],
)
def test_disk_source_of_each_kind_is_found(inside: str, source: str) -> None:
    assert disk(inside).source == source


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("two-qcow2", ""),
        ("virtiofs", "filesystem share (virtiofs)"),
        ("hostdev-pci", "hostdev (pci)"),
        ("hostdev-usb", ""),  # libvirt 9.0 saved such a VM's RAM and loaded it again
        ("unmigratable-shmem", "shmem labshm"),
    ],
)
def test_unmigratable_names_the_device(name: str, device: str) -> None:
    assert xml.unmigratable(domain(name)) == device


def test_unmigratable_network_card_of_the_host_is_a_host_device() -> None:
    inside = "<interface type='hostdev'><source/></interface>"
    found = xml.unmigratable(ET.fromstring(f"<domain><devices>{inside}</devices></domain>"))
    assert found == "interface (hostdev)"


@pytest.mark.parametrize(
    ("attributes", "model", "migratable"),
    [
        ("role='master'", "ivshmem-plain", True),
        ("role='peer'", "ivshmem-plain", False),
        ("", "ivshmem-plain", False),
        ("role='master'", "ivshmem", False),
    ],
)
def test_unmigratable_shared_memory_only_as_its_master(
    attributes: str, model: str, migratable: bool
) -> None:
    text = f"<shmem name='m' {attributes}><model type='{model}'/></shmem>"
    found = xml.unmigratable(ET.fromstring(f"<domain><devices>{text}</devices></domain>"))
    assert found == ("" if migratable else "shmem m")


@pytest.mark.parametrize(
    ("name", "raw"), [("uefi-raw-nvram", True), ("uefi-qcow2-nvram", False), ("two-qcow2", False)]
)
def test_raw_nvram_is_seen(name: str, raw: bool) -> None:
    assert xml.raw_nvram(domain(name)) is raw


@pytest.mark.parametrize(("state", "there"), [("connected", True), ("disconnected", False)])
def test_has_agent_only_where_it_is_connected(state: str, there: bool) -> None:
    root = domain("guest-agent")
    assert not xml.has_agent(root)
    target = root.find("./devices/channel/target")
    assert target is not None
    target.set("state", state)
    assert xml.has_agent(root) is there


def test_memory_is_in_bytes_of_the_running_vm(conn: libvirt.virConnect) -> None:
    dom = conn.lookupByName("web-1")
    assert xml.memory(ET.fromstring(dom.XMLDesc(0))) == dom.info()[2] * 1024 == 64 << 20


# ---- snapshots


def test_snapshot_of_libvirts_own_is_read_whole(conn: libvirt.virConnect) -> None:
    dom = conn.lookupByName("web-1")
    snap = dom.snapshotCreateXML(xml.new_snapshot("one", "a <b> & 'c'\nd"), 0)
    found = xml.snapshot(snap.getXMLDesc(0), current=True)
    assert (found.name, found.description) == ("one", "a <b> & 'c'\nd")
    assert (found.parent, found.current, found.kind) == ("by-hand", True, Kind.INTERNAL)
    assert (found.state, found.memory, found.disks) == (State.RUNNING, True, ("vda",))
    assert found.time_known
    assert found.created > 1_700_000_000


@pytest.mark.parametrize(("vm", "state"), [("web-2", State.SHUTOFF), ("db-1", State.PAUSED)])
def test_snapshot_has_the_state_of_its_vm(conn: libvirt.virConnect, vm: str, state: State) -> None:
    snap = conn.lookupByName(vm).snapshotCreateXML(xml.new_snapshot("one", ""), 0)
    found = xml.snapshot(snap.getXMLDesc(0), current=False)
    assert (found.state, found.memory) == (state, state is State.PAUSED)
    assert (found.parent, found.description) == ("", "")


def test_snapshot_taken_is_registered_as_it_was_made(conn: libvirt.virConnect) -> None:
    dom = conn.lookupByName("web-1")
    text = xml.taken_snapshot(
        "one", "two\nlines", 1234567890, "by-hand", ["vda"], [], dom.XMLDesc(0)
    )
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
    dom.snapshotCreateXML(text, flags | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT)
    assert dom.snapshotCurrent(0).getName() == "one"
    found = xml.snapshot(dom.snapshotLookupByName("one", 0).getXMLDesc(0), current=True)
    assert (found.created, found.parent, found.disks) == (1234567890, "by-hand", ("vda",))
    assert (found.state, found.memory) == (State.SHUTOFF, False)
    assert found.description == "two\nlines"


@pytest.mark.parametrize(
    "inside",
    [
        "<disks><disk name='vda' snapshot='external'/></disks>",
        "<memory snapshot='external' file='/x'/>",
        "<state>disk-snapshot</state>",
    ],
)
def test_snapshot_external_in_any_part_is_external(inside: str) -> None:
    text = f"<domainsnapshot><name>x</name>{inside}</domainsnapshot>"
    assert xml.snapshot(text, current=False).kind is Kind.EXTERNAL


def test_snapshot_without_time_is_of_unknown_time() -> None:
    found = xml.snapshot("<domainsnapshot><name>x</name></domainsnapshot>", current=False)
    assert (found.created, found.time_known, found.state) == (0, False, State.UNKNOWN)


def test_snapshot_disks_left_out_are_told() -> None:
    text = (
        "<domainsnapshot><name>x</name><disks><disk name='vda' snapshot='internal'/>"
        "<disk name='sda' snapshot='no'/></disks></domainsnapshot>"
    )
    found = xml.snapshot(text, current=False)
    assert (found.disks, found.left_out) == (("vda",), ("sda",))


def test_new_snapshot_is_no_string_building() -> None:
    text = xml.new_snapshot("a", "</description><disks/>")
    root = ET.fromstring(text)
    assert [el.tag for el in root] == ["name", "description"]
    assert root.findtext("description") == "</description><disks/>"


# ---- external snapshots, TPMs and descriptions


def test_snapshot_external_tells_its_overlays_bases_and_memory_file() -> None:
    """The shape is libvirt's own: formatsnapshot.html, and what 9.0 and, after a revert,
    11.3 printed."""
    text = """<domainsnapshot><name>x</name><state>running</state>
      <memory snapshot='external' file='/images/vm.mem'/>
      <disks>
        <disk name='vda' snapshot='external' type='file'>
          <driver type='qcow2'/><source file='/images/a.x'/></disk>
        <disk name='vdb' snapshot='internal'/>
        <disk name='vdc' snapshot='no'/>
        <disk name='vdd' snapshot='external' type='block'><source dev='/dev/vg/d.x'/></disk>
      </disks>
      <revertDisks>
        <disk name='vda' snapshot='external' type='file'>
          <driver type='qcow2'/><source file='/images/a.1795994506'/></disk>
      </revertDisks>
      <domain><devices>
        <disk type='file' device='disk'><source file='/images/a.qcow2'/><target dev='vda'/></disk>
        <disk type='file' device='disk'><source file='/images/b.qcow2'/><target dev='vdb'/></disk>
        <disk type='file' device='disk'><source file='/images/c.raw'/><target dev='vdc'/></disk>
        <disk type='block' device='disk'><source dev='/dev/vg/d'/><target dev='vdd'/></disk>
      </devices></domain></domainsnapshot>"""
    found = xml.snapshot(text, current=False)
    assert found.overlays == (("vda", "/images/a.x"), ("vdd", "/dev/vg/d.x"))
    assert found.bases == (("vda", "/images/a.qcow2"), ("vdd", "/dev/vg/d"))
    assert found.memory_file == "/images/vm.mem"
    assert found.reverted == (("vda", "/images/a.1795994506"),)
    assert found.active == {"vda": "/images/a.1795994506", "vdd": "/dev/vg/d.x"}
    assert found.files == {
        "/images/a.x",
        "/dev/vg/d.x",
        "/images/a.qcow2",
        "/dev/vg/d",
        "/images/a.1795994506",
        "/images/vm.mem",
    }


def test_snapshot_internal_has_no_files_of_its_own(conn: libvirt.virConnect) -> None:
    snap = conn.lookupByName("web-1").snapshotCreateXML(xml.new_snapshot("one", ""), 0)
    found = xml.snapshot(snap.getXMLDesc(0), current=True)
    assert (found.overlays, found.bases, found.memory_file) == ((), (), "")


@pytest.mark.parametrize(
    ("backend", "emulated"),
    [("<backend type='emulator' version='2.0'/>", True), ("<backend type='passthrough'/>", False)],
)
def test_emulated_tpm_only_where_libvirt_keeps_its_state(backend: str, emulated: bool) -> None:
    text = f"<domain><devices><tpm model='tpm-crb'>{backend}</tpm></devices></domain>"
    assert xml.emulated_tpm(ET.fromstring(text)) is emulated


@pytest.mark.parametrize("text", ["</description><disks/>", "two\nlines & <more>", ""])
def test_described_changes_the_description_alone(conn: libvirt.virConnect, text: str) -> None:
    dom = conn.lookupByName("web-1")
    dom.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, "<os a='1'/>", "app", "urn:app", 3)
    snap = dom.snapshotCreateXML(xml.new_snapshot("one", "before"), 0)
    before = snap.getXMLDesc(0)
    redefine = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
    dom.snapshotCreateXML(xml.described(before, text), redefine)
    root, expected = (ET.fromstring(s) for s in (snap.getXMLDesc(0), before))
    assert root.findtext("description", "") == text
    assert "<app:os " in snap.getXMLDesc(0)
    for each in (root, expected):
        each[:] = [el for el in each if el.tag != "description"]
    assert ET.canonicalize(ET.tostring(root), strip_text=True) == ET.canonicalize(
        ET.tostring(expected), strip_text=True
    )
    assert dom.snapshotCurrent(0).getName() == "one"


def test_nvram_image_only_where_it_is_qcow2() -> None:
    image = xml.nvram_image(domain("uefi-qcow2-nvram"))
    assert image is not None
    assert (image.source, image.format, image.writable) == ("@DIR@/VARS.qcow2", "qcow2", True)
    assert xml.nvram_image(domain("uefi-raw-nvram")) is None
    assert xml.nvram_image(domain("two-qcow2")) is None
