"""External snapshots, the parts without libvirt: its XML is copied from 9.0 and 11.3, images are
real."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from snapd.hypervisor import ChainFacts, ExternalSnapshot, NewOverlay, external_xml, layers, xml
from snapd.hypervisor.files import Files
from snapd.hypervisor.images import Images
from snapd.hypervisor.layers import Layers
from snapd.hypervisor.overlays import Merged
from snapd.hypervisor.protocol import DomainFacts
from snapd.model import Disk, Kind, SnapshotInfo
from tests.unit.test_hypervisor_images import made, qemu_img
from tests.unit.vms import BEFORE, EXTERNAL, OFF, facts_of

CAPABILITIES = """<capabilities><host>
  <secmodel><model>apparmor</model><doi>0</doi></secmodel>
  <secmodel><model>dac</model><doi>0</doi><baselabel type='kvm'>+64055:+994</baselabel></secmodel>
  </host><guest><os_type>hvm</os_type><features><acpi default='on' toggle='yes'/>
  <disksnapshot default='on' toggle='no'/>{0}</features></guest></capabilities>"""
SECRET = "<encryption format='luks'><secret type='passphrase' uuid='f52a81b2'/></encryption>"


@pytest.mark.parametrize(
    ("word", "version", "external"),
    [
        ("<externalSnapshot/>", (11, 3, 0), True),
        ("<externalSnapshot/>", (9, 9, 0), True),
        ("<externalSnapshot/>", (9, 0, 0), False),
        ("", (11, 3, 0), False),
    ],
)
def test_able_is_what_says_so_and_is_new_enough(
    word: str, version: tuple[int, int, int], external: bool
) -> None:
    found = external_xml.host(CAPABILITIES.format(word), version)
    assert found == ChainFacts(external, frozenset({"apparmor"}))


def test_snapshot_names_every_disk() -> None:
    wanted = ExternalSnapshot(
        "s1", "before the upgrade", (("vda", "/i/vm-vda.s1.qcow2"),), ("vdb", "sda")
    )
    assert external_xml.snapshot(wanted) == (
        "<domainsnapshot><name>s1</name><description>before the upgrade</description>"
        '<memory snapshot="no" /><disks>'
        '<disk name="vda" snapshot="external" type="file"><driver type="qcow2" />'
        '<source file="/i/vm-vda.s1.qcow2" /></disk>'
        '<disk name="vdb" snapshot="no" /><disk name="sda" snapshot="no" />'
        "</disks></domainsnapshot>"
    )


def test_snapshot_with_ram_and_a_secret() -> None:
    wanted = ExternalSnapshot(
        "s1", "", (("vda", "/i/a & b.qcow2"),), (), "/i/vm.s1.ram", encrypted={"vda": SECRET}
    )
    root = ET.fromstring(external_xml.snapshot(wanted))
    assert root.find("description") is None
    memory = root.find("memory")
    assert memory is not None
    assert memory.attrib == {"snapshot": "external", "file": "/i/vm.s1.ram"}
    source = root.find("disks/disk/source")
    assert source is not None
    assert source.get("file") == "/i/a & b.qcow2"
    secret = source.find("encryption/secret")
    assert secret is not None
    assert secret.get("uuid") == "f52a81b2"


def test_encryption_is_found_where_libvirt_has_it_or_had_it() -> None:
    domain = f"""<domain><devices>
      <disk><source file='/i/a'>{SECRET}</source><target dev='vda'/></disk>
      <disk><source file='/i/b'/>{SECRET}
        <target dev='vdb'/></disk>
      <disk><source file='/i/c'/><target dev='vdc'/></disk></devices></domain>"""
    found = external_xml.encryptions(ET.fromstring(domain))
    assert found.keys() == {"vda", "vdb"}
    assert ET.fromstring(found["vda"]).get("format") == "luks"
    assert found["vda"] == found["vdb"]


def test_volume_is_as_its_base_is_owned() -> None:
    """The base's `<volume>` as libvirt 11.3 prints it."""
    base = """<volume type='file'><name>vda.raw</name><target><path>/i/vda.raw</path>
      <format type='raw'/><permissions><mode>0644</mode><owner>64055</owner><group>994</group>
      <label>libvirt-1</label></permissions></target></volume>"""
    wanted = NewOverlay("vda", "/i/vm-vda.s1.qcow2", "/i/vda.raw", "raw", 1 << 30)
    assert external_xml.volume(wanted, external_xml.owner(base)) == (
        '<volume type="file"><name>vm-vda.s1.qcow2</name>'
        '<capacity unit="bytes">1073741824</capacity><target><format type="qcow2" />'
        "<permissions><mode>0600</mode><owner>64055</owner><group>994</group></permissions>"
        '</target><backingStore><path>/i/vda.raw</path><format type="raw" /></backingStore>'
        "</volume>"
    )


def test_volume_of_an_encrypted_disk_is_encrypted() -> None:
    wanted = NewOverlay("vda", "/i/o.qcow2", "/i/b.qcow2", "qcow2", 1 << 20)
    found = ET.fromstring(external_xml.volume(wanted, {}, SECRET))
    secret = found.find("target/encryption/secret")
    assert secret is not None
    assert secret.get("uuid") == "f52a81b2"
    assert found.find("target/permissions/owner") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<pool type='dir'><target><path>/i/</path></target></pool>", "/i"),
        ("<pool type='netfs'><target><path>/mnt/i</path></target></pool>", "/mnt/i"),
        ("<pool type='logical'><target><path>/dev/vg</path></target></pool>", ""),
        ("<pool type='rbd'><name>r</name></pool>", ""),
    ],
)
def test_pool_is_of_the_files_in_a_folder_or_not(text: str, found: str) -> None:
    assert external_xml.folder(text) == found


def test_chain_is_as_long_as_libvirt_says() -> None:
    domain = """<domain><devices>
      <disk><driver name='qemu' type='qcow2'/><source file='/i/s2' index='5'/>
        <backingStore type='file' index='4'><format type='qcow2'/><source file='/i/s1'/>
          <backingStore type='block' index='1'><format type='raw'/><source dev='/dev/vg/web'/>
            <backingStore/></backingStore></backingStore><target dev='vda'/></disk>
      <disk><driver name='qemu' type='qcow2'/><source file='/i/b'/><target dev='vdb'/></disk>
      <disk type='network'><source protocol='rbd' name='p/x'/><target dev='vdc'/></disk>
      <disk device='cdrom'><target dev='sda'/></disk></devices></domain>"""
    assert external_xml.chain(ET.fromstring(domain)) == {
        "vda": ("/i/s2", "/i/s1", "/dev/vg/web"),
        "vdb": ("/i/b",),
        "vdc": (),
        "sda": (),
    }
    assert external_xml.ended(ET.fromstring(domain)) == {"vda"}


@pytest.mark.parametrize(
    ("below", "ends"),
    [
        ("<backingStore/>", True),
        ("", False),
        (
            "<backingStore type='file'><format type='qcow2'/><source file='/i/b'/></backingStore>",
            False,
        ),
        ("<backingStore type='network'><source protocol='rbd' name='p/x'/></backingStore>", False),
    ],
)
def test_chain_ends_where_libvirt_says_so_and_not_where_it_says_nothing(
    below: str, ends: bool
) -> None:
    disk = f"<disk><source file='/i/a'/>{below}<target dev='vda'/></disk>"
    domain = ET.fromstring(f"<domain><devices>{disk}</devices></domain>")
    assert external_xml.ended(domain) == ({"vda"} if ends else set())


def test_snapshot_is_bare_where_its_record_does_not_say_what_its_file_stands_on() -> None:
    """As a merge leaves the record of the next younger one (11.3)."""
    below = "<backingStore type='file'><format type='qcow2'/><source file='/i/b'/></backingStore>"
    disks = [
        f"<disk type='file' device='disk'><driver type='qcow2'/><source file='/i/{t}'/>{what}"
        f"<target dev='{t}'/></disk>"
        for t, what in (("vda", below), ("vdb", ""), ("vdc", "<backingStore/>"), ("vdd", ""))
    ]
    held = "".join(
        f"<disk name='{t}' snapshot='external'><source file='/i/{t}.s'/></disk>"
        for t in ("vda", "vdb", "vdc")
    )
    read = xml.snapshot(
        f"<domainsnapshot><name>s</name><disks>{held}<disk name='vdd' snapshot='no'/></disks>"
        f"<domain><devices>{''.join(disks)}</devices></domain></domainsnapshot>",
        current=False,
    )
    assert read.bare == ("vdb", "vdc")


# ---- how far a merge is


def test_part_grows_with_the_disks_and_never_goes_back() -> None:
    merged = Merged()
    assert not merged.add({"vda": None, "vdb": None})  # not begun
    assert merged.add({"vda": (50, 100), "vdb": None})
    assert merged.part == 0.25
    assert not merged.add({"vda": (50, 200), "vdb": None})  # the guest writes on
    assert merged.part == 0.25
    assert merged.add({"vda": None, "vdb": (0, 0)})
    assert merged.part == 0.5
    assert merged.add({"vda": None, "vdb": (9, 9)})
    assert merged.part == 1.0
    assert not merged.add({"vda": None, "vdb": None})


def test_part_of_no_disk_is_unknown() -> None:
    assert not Merged().add({})


# ---- layers by the headers


def look(*disks: Disk, snapshots: tuple[SnapshotInfo, ...]) -> DomainFacts:
    facts = facts_of(replace(OFF, disks=disks), snapshots=snapshots, chains=ChainFacts())

    async def run() -> None:
        await Layers(Images(), Files()).add(facts)

    asyncio.run(run())
    return facts


def on(path: Path, form: str = "qcow2") -> Disk:
    return Disk("vda", str(path), form)


def snapshot_of(*overlays: Path) -> SnapshotInfo:
    return replace(EXTERNAL, overlays=tuple(("vda", str(path)) for path in overlays))


def test_layers_are_followed_to_a_raw_base_whose_content_is_not_believed(tmp_path: Path) -> None:
    """The guest of a raw disk has written a header into it that points at another file."""
    secret = made(tmp_path / "secret.qcow2")
    base, mid = tmp_path / "base.raw", tmp_path / "mid.qcow2"
    made(base, "-b", str(secret), "-F", "qcow2")
    made(mid, "-b", base.name, "-F", "raw")
    top = made(tmp_path / "top.qcow2", "-b", str(mid), "-F", "qcow2")
    facts = look(on(top), snapshots=(snapshot_of(top),))
    assert facts.chains.layers == {
        "vda": ((str(top), "qcow2"), (str(mid), "qcow2"), (str(base), "raw"))
    }
    assert facts.chains.images.keys() == {str(top), str(mid), str(base)}
    assert facts.chains.images[str(base)].backing == ""
    assert (facts.missing, facts.unknown) == (set(), set())


def test_files_of_other_branches_are_read_too(tmp_path: Path) -> None:
    base = made(tmp_path / "base.qcow2")
    branch = made(tmp_path / "branch.qcow2", "-b", str(base), "-F", "qcow2")
    active = made(tmp_path / "base.1795994435", "-b", str(base), "-F", "qcow2")
    snapshot = replace(snapshot_of(branch), reverted=(("vda", str(active)),))
    facts = look(on(active), snapshots=(snapshot,))
    assert [path for path, _form in facts.chains.layers["vda"]] == [str(active), str(base)]
    assert facts.chains.images.keys() == {str(base), str(branch), str(active)}


def test_chain_ends_at_what_is_missing_and_at_what_cannot_be_read(tmp_path: Path) -> None:
    base = made(tmp_path / "base.qcow2")
    top = made(tmp_path / "top.qcow2", "-b", str(base), "-F", "qcow2")
    base.write_bytes(b"no image at all, but of some length")
    facts = look(on(top), snapshots=(snapshot_of(top),))
    wanted = {"vda": ((str(top), "qcow2"), (str(base), "qcow2"))}
    assert facts.chains.layers == wanted
    assert (facts.missing, facts.unknown) == (set(), {str(base)})
    assert "base.qcow2" in facts.whys[str(base)].why
    base.unlink()
    facts = look(on(top), snapshots=(snapshot_of(top),))
    assert facts.chains.layers == wanted
    assert (facts.missing, facts.unknown) == ({str(base)}, set())


def test_backing_file_of_no_declared_format_is_not_opened(tmp_path: Path) -> None:
    base = made(tmp_path / "base.qcow2")
    top = made(tmp_path / "top.qcow2", "-b", str(base), "-F", "qcow2")
    extension = bytes.fromhex("e2792aca")  # qcow2's header extension that names the format
    assert extension in top.read_bytes()[:512]
    top.write_bytes(top.read_bytes().replace(extension, bytes.fromhex("11111111"), 1))
    facts = look(on(top), snapshots=(snapshot_of(top),))
    assert facts.chains.layers["vda"] == ((str(top), "qcow2"), (str(base), ""))
    assert facts.chains.images.keys() == {str(top)}
    assert facts.unknown == {str(base)}


def test_headers_that_go_round_are_followed_once(tmp_path: Path) -> None:
    one = made(tmp_path / "one.qcow2")
    two = made(tmp_path / "two.qcow2", "-b", str(one), "-F", "qcow2")
    qemu_img("rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", str(two), str(one))
    facts = look(on(two), snapshots=(snapshot_of(two),))
    assert [path for path, _form in facts.chains.layers["vda"]] == [str(two), str(one)]


def test_no_more_layers_than_libvirt_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "DEPTH", 3)
    path = made(tmp_path / "0.qcow2")
    for number in range(1, 5):
        path = made(tmp_path / f"{number}.qcow2", "-b", str(path), "-F", "qcow2")
    facts = look(on(path), snapshots=(snapshot_of(path),))
    assert len(facts.chains.layers["vda"]) == 3


def test_nothing_is_read_where_no_snapshot_is_external(tmp_path: Path) -> None:
    base = made(tmp_path / "base.qcow2")
    top = made(tmp_path / "top.qcow2", "-b", str(base), "-F", "qcow2")
    assert BEFORE.kind is Kind.INTERNAL
    assert look(on(top), snapshots=(BEFORE,)).chains == ChainFacts()
