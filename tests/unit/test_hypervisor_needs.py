"""What a saved domain wants of its host, from XML as libvirt prints it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import libvirt
import pytest

from snapd.hypervisor import Need, host
from snapd.hypervisor.needs import Want, wanted

DOMAINS = Path(__file__).parents[1] / "data" / "domains"


def wants(os: str = "", devices: str = "") -> list[Want]:
    text = f"<domain><os>{os}</os><devices>{devices}</devices></domain>"
    return list(wanted(ET.fromstring(text)))


@pytest.mark.parametrize(
    ("os", "want"),
    [
        (
            "<loader readonly='yes' type='pflash'>/f/CODE.fd</loader>",
            Want("file", "CODE.fd", "/f/CODE.fd"),
        ),
        ("<kernel>/boot/vmlinuz</kernel>", Want("file", "vmlinuz", "/boot/vmlinuz")),
        ("<initrd>/boot/initrd</initrd>", Want("file", "initrd", "/boot/initrd")),
        ("<dtb>/boot/a.dtb</dtb>", Want("file", "a.dtb", "/boot/a.dtb")),
        (
            "<acpi><table type='slic'>/f/slic.dat</table></acpi>",
            Want("file", "slic.dat", "/f/slic.dat"),
        ),
    ],
)
def test_wanted_file_of_the_os_is_named_by_its_base_name(os: str, want: Want) -> None:
    assert wants(os=os) == [want]


def test_resolved_volumes_by_the_pools_that_are_active() -> None:
    """libvirt's own test driver is asked."""
    disk = "<disk type='volume' device='cdrom'><source pool='{}' volume='{}'/></disk>"
    places = (("default-pool", "a.iso"), ("default-pool", "none"), ("none", "a.iso"))
    asked = wants(devices="".join(disk.format(*place) for place in places))
    conn = libvirt.open("test:///default")
    pool = conn.storagePoolLookupByName("default-pool")
    volume = "<volume><name>a.iso</name><capacity>1</capacity></volume>"
    path = pool.createXML(volume, 0).path()
    found = host.resolved(conn, asked)
    assert [want.path for want in found] == [path, "", ""]
    lacking = [Need("volume", "default-pool/none"), Need("volume", "none/a.iso")]
    assert host.lacking(conn, found) == lacking
    pool.destroy()
    assert [want.path for want in host.resolved(conn, asked)] == ["", "", ""]
    assert host.lacking(conn, host.resolved(conn, asked))[1:] == lacking
    conn.close()


def test_wanted_nvram_template_only_unless_the_nvram_is_there() -> None:
    old = "<nvram template='/f/VARS.fd'>/n/vm.fd</nvram>"
    new = "<nvram template='/f/VARS.fd' type='file'><source file='/n/vm.fd'/></nvram>"
    for text in (old, new):
        assert wants(os=text) == [Want("file", "VARS.fd", "/f/VARS.fd", unless="/n/vm.fd")]
    assert wants(os="<nvram>/n/vm.fd</nvram>") == []


def test_wanted_firmware_that_libvirt_picks_itself_is_none() -> None:
    assert wants(os="<loader>hvmloader</loader><type>hvm</type><boot dev='hd'/>") == []


@pytest.mark.parametrize(
    ("devices", "want"),
    [
        (
            "<emulator>/usr/bin/qemu-system-x86_64</emulator>",
            Want("emulator", "qemu-system-x86_64", "/usr/bin/qemu-system-x86_64"),
        ),
        (
            "<filesystem type='mount'><source dir='/srv/share'/><target dir='s'/></filesystem>",
            Want("folder", "share", "/srv/share"),
        ),
        (
            "<interface type='network'><source network='default' portid='x' bridge='virbr0'/>"
            "</interface>",
            Want("network", "default"),
        ),
        (
            "<interface type='bridge'><source bridge='br0'/></interface>",
            Want("bridge", "br0", "/sys/class/net/br0"),
        ),
        (
            "<interface type='direct'><source dev='eth0' mode='bridge'/></interface>",
            Want("bridge", "eth0", "/sys/class/net/eth0"),
        ),
        (
            "<hostdev mode='subsystem' type='pci'><source><address domain='0x0000' bus='0x3b'"
            " slot='0x02' function='0x7'/></source><address type='pci' domain='0x0000'"
            " bus='0x00' slot='0x05' function='0x0'/></hostdev>",
            Want("device", "0000:3b:02.7"),
        ),
        (
            "<interface type='hostdev'><source><address type='pci' domain='0x0000' bus='0x01'"
            " slot='0x00' function='0x0'/></source></interface>",
            Want("device", "0000:01:00.0"),
        ),
        ("<hostdev type='usb'><source><address bus='1' device='2'/></source></hostdev>", None),
        ("<interface type='user'/>", None),
        ("<filesystem type='mount'><source socket='/run/fs.sock'/></filesystem>", None),
    ],
)
def test_wanted_of_devices(devices: str, want: Want | None) -> None:
    assert wants(devices=devices) == ([want] if want else [])


def test_wanted_device_has_libvirts_own_name() -> None:
    assert Want("device", "0000:3b:02.7").node_device == "pci_0000_3b_02_7"


def test_wanted_twice_is_told_once() -> None:
    nic = "<interface type='network'><source network='default'/></interface>"
    assert wants(devices=nic + nic) == [Want("network", "default")]


def test_wanted_of_a_plain_domain_is_its_emulator_alone() -> None:
    found = wanted(ET.parse(DOMAINS / "two-qcow2.xml").getroot())
    assert {want.kind for want in found} <= {"emulator"}
