"""virtsnap files, and create --kind: external snapshots as libvirt has recorded them."""

from __future__ import annotations

from tests.driver.house import HOST, WEB1, House
from tests.driver.virtsnap import cli

OVERLAY = f"""<domainsnapshot><name>backup</name><state>shutoff</state>
  <creationTime>1700000100</creationTime><active>0</active>
  <disks>
    <disk name='vda' snapshot='external'><source file='/nonexistent/web-1.backup'/></disk>
    <disk name='vdb' snapshot='no'/>
  </disks>
  <domain type='test'><name>web-1</name><uuid>{WEB1}</uuid><memory>1</memory>
    <os><type>hvm</type></os><devices>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/>
      <source file='/nonexistent/web 1.img'/><target dev='vda'/></disk>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
      <source file='/nonexistent/data.qcow2'/><target dev='vdb'/></disk>
  </devices></domain></domainsnapshot>"""


def with_overlay() -> str:
    """A host whose web-1 has the snapshot as well."""
    text = HOST.read_text()
    made = OVERLAY.replace("domainsnapshot>", "test:domainsnapshot>")
    return text.replace("</test:domainsnapshot>", f"</test:domainsnapshot>{made}", 1)


def test_files_are_those_that_the_disks_of_an_external_snapshot_were_on(house: House) -> None:
    house.serve_text(with_overlay())
    house.start().rows("ListDomains")
    done = cli(house, "files", "web-1", "backup")
    assert (done.code, done.out.split("\n")[1].split(maxsplit=2)) == (
        0,
        ["vda", "raw", "/nonexistent/web 1.img"],
    )
    assert "vdb" in done.err and "vdb" not in done.out
    rows = cli(house, "files", "web-1", "backup", "--json").json["rows"]
    assert rows == [{"Disk": "vda", "Format": "raw", "File": "/nonexistent/web 1.img"}]


def test_files_of_an_internal_snapshot_are_refused_for_the_vm_writes_to_them(
    running: House,
) -> None:
    done = cli(running, "files", "web-1", "by-hand")
    assert (done.code, done.out) == (4, "")
    assert "goes on writing" in done.err and "--kind external" in done.err


def test_create_of_a_kind_that_cannot_be_made_here_says_so(running: House) -> None:
    done = cli(running, "create", "web-1", "outside", "--kind", "external", "--json")
    assert done.code == 4
    assert done.error["detail"]["Reason"] == "external-unsupported"
