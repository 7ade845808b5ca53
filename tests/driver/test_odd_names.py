"""Names that break naive code, where any can be had: libvirt's test driver takes what QEMU refuses,
so a name that others gave may be anything that XML can say."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any

from tests.driver.house import DATA, HOST, TEST, WEB1, House, uuid_of
from tests.driver.virtsnap import virtsnap

SNAPSHOTS: list[dict[str, Any]] = json.loads((DATA / "names/snapshot_names.json").read_text())
DOMAINS: list[dict[str, str]] = json.loads((DATA / "names/domain_names.json").read_text())
TAKEN = [case["name"] for case in SNAPSHOTS if case["test_driver"] == "ok"]


def host_of_snapshots(names: list[str]) -> str:
    """The usual host, whose web-1 has snapshots of those names by others, one below the other."""
    root = ET.parse(HOST).getroot()
    domain = next(d for d in root.iter("domain") if d.findtext("uuid") == WEB1)
    (one,) = domain.findall(f"{{{TEST}}}domainsnapshot")
    domain.remove(one)
    state = one.find("state")
    assert state is not None
    state.text = "shutoff"  # RAM is not loaded by every name from libvirt 10.10 on
    text = ET.tostring(one, "unicode")
    for n, name in enumerate(names):
        made = ET.fromstring(text)
        named, created, active = (made.find(t) for t in ("name", "creationTime", "active"))
        assert named is not None and created is not None and active is not None
        named.text, created.text, active.text = name, str(1700000000 + n), "0"
        domain.append(made)
    return ET.tostring(root, "unicode")


def host_of_domains(names: list[str]) -> str:
    root = ET.Element("node")
    for name in names:
        domain = ET.SubElement(root, "domain", type="test")
        ET.SubElement(domain, "name").text = name
        ET.SubElement(domain, "memory", unit="KiB").text = "65536"
        ET.SubElement(ET.SubElement(domain, "os"), "type").text = "hvm"
    return ET.tostring(root, "unicode")


def test_snapshots_of_any_name_are_objects_of_their_own_reverted_and_deleted(house: House) -> None:
    assert {"../../etc/passwd", ".hidden", "\n", "a\x7fb", "2", "x" * 1000} <= set(TAKEN)
    house.serve_text(host_of_snapshots(TAKEN))
    client = house.start()
    rows = client.snapshots("web-1")
    assert list(rows) == TAKEN
    assert len({row["Path"] for row in rows.values()}) == len(TAKEN)
    files = set(house.folder.rglob("*"))
    for name, row in rows.items():
        assert client.call("GetSnapshot", "web-1", name) == row["Path"]
        assert client.properties(row["Path"], "Snapshot")["Name"] == name
        client.revert("web-1", name, safety_snapshot=False)
        assert client.snapshots("web-1")[name]["Current"] is True
    for n, name in enumerate(TAKEN):
        client.delete("web-1", name)
        assert list(client.snapshots("web-1")) == TAKEN[n + 1 :]
    assert set(house.folder.rglob("*")) == files


def test_vm_names_of_any_kind_are_found_shown_and_typed(house: House) -> None:
    names = [case["name"] for case in DOMAINS]
    house.serve_text(host_of_domains(names))
    client = house.start()
    rows = {row["Name"]: row for row in client.rows("ListDomains")}
    assert rows.keys() == set(names)
    for name, row in rows.items():
        assert client.call("GetDomain", name) == client.call("GetDomain", row["UUID"])
        assert client.properties(row["Path"], "Domain")["Name"] == name
        client.create(name, "x")
        assert [r["DomainName"] for r in client.snapshots(name).values()] == [name]
    listed = virtsnap(house.address, "list")
    assert len(listed.out.splitlines()) == len(names) + 1
    for name in ("-rf", "123", "lab&<x>'\"", "lab vm with space"):
        assert virtsnap(house.address, "create", "--", name, "typed").code == 0
        typed = virtsnap(house.address, "list", "--json", "--", name).json["rows"]
        assert {(r["DomainName"], r["Name"]) for r in typed} == {(name, "x"), (name, "typed")}
        assert virtsnap(house.address, "delete", "--yes", "--", name, "typed").code == 0
    assert {len(client.snapshots(name)) for name in names} == {1}


def test_vm_named_like_the_uuid_of_another_does_not_take_its_history(house: House) -> None:
    """A domain argument is tried as a UUID first, whichever VM libvirt lists first."""
    lit = "44444444-4444-4444-8444-444444444401"
    house.serve_text(_host_of({lit: uuid_of(1), "lit": lit}))
    client = house.start()
    for vm in (uuid_of(1), lit):
        client.create(vm, "one")
        client.revert(vm, "one")
    for asked in (lit, lit.upper(), "lit"):
        (made,) = client.rows("ListHistory", asked, snapshot="one", limit=1)
        assert (made["DomainUUID"], made["DomainName"]) == (lit, "lit"), asked
    assert {r["DomainName"] for r in client.rows("ListHistory", uuid_of(1))} == {lit}
    undone = virtsnap(house.address, "undo", "lit", "--yes")
    assert (undone.code, undone.out.splitlines()[0].partition(" is back")[0]) == (0, "VM lit")


def _host_of(vms: dict[str, str]) -> str:
    """name -> UUID."""
    root = ET.fromstring(host_of_domains(list(vms)))
    for domain in root.iter("domain"):
        ET.SubElement(domain, "uuid").text = vms[domain.findtext("name") or ""]
    return ET.tostring(root, "unicode")
