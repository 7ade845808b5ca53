"""The contract files: against API.md's members, against code that differs, and as documents.

API: copied by hand from the project's API.md, the members that ship now.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from snapd.bus.contract import ContractError, folder, load, snake
from snapd.bus.router import Call
from snapd.errors import by_name
from tests.toy import BOX, DATA, TOY, Box, Toy

API = {
    "Manager": {
        "ListDomains": "a{sv} -> aa{sv}a{sv}, -",
        "ListSnapshots": "sa{sv} -> aa{sv}a{sv}, -",
        "ListPolicies": "a{sv} -> aa{sv}a{sv}, -",
        "ListProblems": "a{sv} -> aa{sv}a{sv}, -",
        "ListJobs": "a{sv} -> aa{sv}a{sv}, -",
        "ListCoverage": "sa{sv} -> aa{sv}a{sv}, -",
        "ListRuns": "sa{sv} -> aa{sv}a{sv}, -",
        "ListHistory": "sa{sv} -> aa{sv}a{sv}, -",
        "GetDomain": "sa{sv} -> o, -",
        "GetPolicy": "sa{sv} -> o, -",
        "GetSnapshot": "ssa{sv} -> o, -",
        "CreateSnapshot": "ssa{sv} -> o, create",
        "RevertSnapshot": "ssa{sv} -> o, revert",
        "DeleteSnapshot": "ssa{sv} -> o, delete",
        "PreviewCreate": "ssa{sv} -> a{sv}, -",
        "PreviewRevert": "ssa{sv} -> a{sv}, -",
        "PreviewDelete": "ssa{sv} -> a{sv}, -",
        "DeleteOwnSnapshots": "sa{sv} -> o, delete",
        "Adopt": "sassa{sv} -> , manage",
        "Hold": "ssxsa{sv} -> , policy",
        "Unhold": "ssa{sv} -> , policy",
        "Audit": "sa{sv} -> o, inspect",
        "ValidatePolicy": "sa{sv}a{sv} -> a{sv}, -",
        "SetPolicy": "sa{sv}a{sv} -> s, policy",
        "RemovePolicy": "sa{sv} -> , policy",
        "RunPolicy": "sa{sv} -> o, policy",
        "PreviewRetention": "ssa{sv} -> aa{sv}a{sv}, -",
        "ConfirmPrune": "sssa{sv} -> o, delete",
        "PreviewSchedule": "sa{sv} -> ax, -",
        "Reload": "a{sv} -> aa{sv}, manage",
        "SnapshotCreated": "soa{sv}",
        "SnapshotDeleted": "soa{sv}",
        "SnapshotReverted": "soa{sv}",
        "PolicyRunFinished": "ssa{sv}",
        "ProblemRaised": "ssa{sv}",
        "ProblemCleared": "ssa{sv}",
        "": "Version Features:as LibvirtURI Connected:b Loading:b LibvirtVersion "
        "HypervisorVersion Health NextRun:x",
    },
    "Domain": {
        "": "UUID Name State Support:a{ss} CurrentSnapshot:o Policies:as LastSuccess:x "
        "LastErrorName LastErrorMessage",
    },
    "Snapshot": {
        "Revert": "a{sv} -> o, revert",
        "Delete": "a{sv} -> o, delete",
        "Pin": "sa{sv} -> , pin",
        "Unpin": "a{sv} -> , pin",
        "SetDescription": "sa{sv} -> , create",
        "GetXML": "a{sv} -> s, inspect",
        "": "Name Description Domain:o DomainUUID DomainName Created:x TimeKnown:b State Status "
        "Kind Consistency Disks:as DisksLeftOut:as Notes:as Parent:o Current:b Origin "
        "Policies:as Pinned:b PinReason RevertBlocker DeleteBlocker PauseMilliseconds:x",
    },
    "Policy": {
        "": "Name Source Revision Definition:a{sv} NextRun:x LastRun:x LastSuccess:x "
        "LastErrorName LastErrorMessage Health Holds:aa{sv}",
    },
    "Job": {
        "Wait": "a{sv} -> a{sv}, -",
        "Cancel": "a{sv} -> , manage",
        "Completed": "sssa{sv}",
        "": "Verb Parent:o Domain:o Snapshot:o DomainUUID DomainName SnapshotName Policy State "
        "Phase Progress:d ErrorName ErrorMessage ErrorDetail:a{sv} Warnings:aa{sv} Result:a{sv} "
        "OwnerUID:x Started:x Finished:x Cancellable:b",
    },
}
OPTIONS = {
    "CreateSnapshot": "description:s kind:s memory:s quiesce:s disks:as then:s max_pause:u trial:b "
    "max_wait:u request:s",
    "RevertSnapshot": "created:x safety_snapshot:b after:s delete_after:b discard_saved_state:b "
    "force:b max_wait:u request:s",
    "DeleteSnapshot": "created:x children:b max_wait:u request:s",
    "PreviewCreate": "description:s kind:s memory:s quiesce:s disks:as then:s max_pause:u trial:b",
    "PreviewRevert": "created:x safety_snapshot:b after:s delete_after:b discard_saved_state:b "
    "force:b",
    "PreviewDelete": "created:x children:b",
    "DeleteOwnSnapshots": "dry_run:b manual:b max_wait:u request:s",
    "RunPolicy": "domain:s max_wait:u request:s",
    "ConfirmPrune": "max_wait:u request:s",
    "ListDomains": "fields:as limit:u from:s",
    "ListSnapshots": "origin:s policy:s kind:s fields:as limit:u from:s",
    "ListJobs": "domain:s state:s fields:as limit:u from:s",
    "ListHistory": "policy:s snapshot:s since:x until:x fields:as limit:u from:s",
    "ListRuns": "policy:s snapshot:s since:x until:x fields:as limit:u from:s",
    "PreviewRetention": "definition:a{sv} at:x fields:as limit:u from:s",
    "PreviewSchedule": "definition:a{sv} after:x count:u",
    "SetPolicy": "if_revision:s",
    "RemovePolicy": "if_revision:s",
}
NAME = "org.virtsnap.Snapd1"


@pytest.mark.parametrize("word", API)
def test_load_interface_has_the_members_of_the_api(word: str) -> None:
    interface = load()[f"{NAME}.{word}"]
    expected = dict(API[word])
    pairs = (each.partition(":") for each in expected.pop("").split())
    properties = {name: kind or "s" for name, _, kind in pairs}
    assert {p.name: p.signature_out for p in interface.properties.values()} == properties
    found = {
        m.name: f"{m.signature_in} -> {m.signature_out}, "
        + (m.action.removeprefix("org.virtsnap.snapd1.") or "-")
        for m in interface.methods.values()
    }
    found |= {each.name: each.signature_out for each in interface.signals.values()}
    assert found == expected
    assert all(each.ins[-1].name == "options" for each in interface.methods.values())


@pytest.mark.parametrize("method", OPTIONS)
def test_load_method_has_the_options_of_the_api(method: str) -> None:
    options = load()[f"{NAME}.Manager"].methods[method].options
    assert {name: each.type for name, each in options.items()} == dict(
        each.split(":", 1) for each in OPTIONS[method].split()
    )


def test_load_verbs_of_a_snapshot_have_the_managers_options() -> None:
    contract = load()
    manager = contract[f"{NAME}.Manager"].methods
    snapshot = contract[f"{NAME}.Snapshot"].methods
    for word in ("Revert", "Delete"):
        assert snapshot[word].options == manager[f"{word}Snapshot"].options


def test_load_defaults_are_those_of_the_api() -> None:
    methods = load()[f"{NAME}.Manager"].methods
    create = methods["CreateSnapshot"].options
    assert (create["kind"].default, create["memory"].default) == ("auto", "auto")
    assert (create["quiesce"].default, create["max_pause"].default) == ("try", 60)
    assert methods["RevertSnapshot"].options["safety_snapshot"].default is True
    assert methods["RevertSnapshot"].options["after"].default == "as-snapshot"
    assert methods["ListRuns"].options["limit"].default == 1000
    assert methods["RunPolicy"].options["max_wait"].default == 30
    assert methods["PreviewSchedule"].options["count"].default == 10
    assert load()[f"{NAME}.Job"].methods["Wait"].options["timeout"].default == 20


def test_load_change_signals_are_those_of_the_api() -> None:
    contract = load()
    emits = {
        f"{name.rpartition('.')[2]}.{member.name}": member.emits
        for name, interface in contract.interfaces.items()
        for member in interface.properties.values()
        if member.emits == "false"
    }
    assert emits == {"Snapshot.RevertBlocker": "false", "Snapshot.DeleteBlocker": "false"}
    manager = contract[f"{NAME}.Manager"].properties
    assert {name for name, each in manager.items() if each.emits == "const"} == {
        "Version",
        "LibvirtURI",
    }


def comments(file: Path) -> Iterator[tuple[str, ET.Element]]:
    """(the comment before an element, the element), for interfaces and members."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    last = ""
    for each in ET.parse(file, parser).iter():
        tag: object = each.tag
        if tag is ET.Comment:
            last = each.text or ""
        elif tag in ("interface", "method", "property", "signal"):
            yield last, each
            last = ""


@pytest.mark.parametrize("word", API)
def test_xml_every_member_and_argument_is_documented(word: str) -> None:
    for text, element in comments(folder() / f"{NAME}.{word}.xml"):
        name = element.attrib["name"]
        assert text.strip().startswith(f"{name}:"), name
        assert len(text.split()) > 2, name
        if element.tag == "interface":
            continue
        documented = re.findall(r"^\s*@(\w+):\s+\S", text, re.MULTILINE)
        assert documented == [arg.attrib["name"] for arg in element.findall("arg")], name


@pytest.mark.parametrize("word", API)
def test_xml_every_option_is_named_in_its_document(word: str) -> None:
    contract = load()
    for text, element in comments(folder() / f"{NAME}.{word}.xml"):
        if element.tag != "method" or "@options: as " in text:
            continue
        for name, option in (
            contract[f"{NAME}.{word}"].methods[element.attrib["name"]].options.items()
        ):
            if option.supported:
                assert re.search(rf"\b{name}\b", text), (element.attrib["name"], name)


@pytest.mark.parametrize("word", API)
def test_xml_every_open_dict_has_typed_keys_but_a_definition(word: str) -> None:
    for member in load()[f"{NAME}.{word}"].members():
        for arg in member.outs:
            if arg.type in ("a{sv}", "aa{sv}") and arg.name != "Definition":
                assert arg.name in member.keys, (member.name, arg.name)
                for key, kind in member.keys[arg.name].items():
                    if kind in ("a{sv}", "aa{sv}") and key != "Definition":
                        assert f"{arg.name}.{key}" in member.keys, (member.name, key)


# ---- code that differs


class Fine(Box):
    interfaces: ClassVar[tuple[str, ...]] = (BOX,)


class Lacks(Box):
    throw = None  # type: ignore[assignment]


class Sync(Box):
    def wait(self, call: Call, options: Mapping[str, Any]) -> None:  # type: ignore[override]
        """Not a coroutine."""


class Renamed(Box):
    async def throw(self, call: Call, label: str, options: Mapping[str, Any]) -> None:
        """An argument that the XML calls otherwise."""


class Extra(Box):
    async def burn(self, call: Call, options: Mapping[str, Any]) -> None:
        """In no XML."""


class Visible(Box):
    @property
    def colour(self) -> str:
        """In no XML."""
        return "red"


class Blank:
    interfaces: ClassVar[tuple[str, ...]] = (TOY,)
    path = "/"
    name = ""
    box = "/"


class Stranger(Toy):
    interfaces: ClassVar[tuple[str, ...]] = (TOY, "org.virtsnap.Toy.None")


def test_verify_matching_classes_passes() -> None:
    load(DATA).verify([Fine, Toy])


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ([Lacks, Toy], "Lacks.throw: is missing"),
        ([Sync, Toy], "Sync.wait: is no coroutine"),
        ([Renamed, Toy], "label"),
        ([Extra, Toy], "Extra.burn is in no XML"),
        ([Visible, Toy], "colour"),
        ([Box, Blank], "Blank lacks the property age"),
        ([Box, Stranger], "org.virtsnap.Toy.None"),
        ([Box], "no class serves org.virtsnap.Toy.Toy"),
    ],
)
def test_verify_code_that_differs_is_named(classes: list[type], words: str) -> None:
    with pytest.raises(ContractError) as caught:
        load(DATA).verify(classes)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('value="-"', 'value=""', "PolkitAction"),
        ('type="u" access="read"', 'type="u" access="readwrite"', "read"),
        ('type="u" access="read"', 'type="zz" access="read"', "zz"),
        ('value="u 1"', 'value="u one"', "Box.xml"),
        ('value="const"', 'value="maybe"', "maybe"),
        ("org.virtsnap.Toy.Box", "org.virtsnap.Toy.Bag", "named as the file"),
        ("</node>", "", "Box.xml"),
    ],
)
def test_load_nonsense_names_the_file(tmp_path: Path, before: str, after: str, words: str) -> None:
    for file in DATA.glob("*.xml"):
        text = file.read_text()
        if file.name.endswith("Box.xml"):
            assert before in text
            text = text.replace(before, after)
        (tmp_path / file.name).write_text(text)
    with pytest.raises(ContractError) as caught:
        load(tmp_path)
    assert words in str(caught.value)
    assert "org.virtsnap.Toy.Box.xml" in str(caught.value)


def test_load_empty_folder_is_contract_error(tmp_path: Path) -> None:
    with pytest.raises(ContractError):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "attr"),
    [
        ("ListDomains", "list_domains"),
        ("UUID", "uuid"),
        ("DomainUUID", "domain_uuid"),
        ("LibvirtURI", "libvirt_uri"),
        ("OwnerUID", "owner_uid"),
        ("GetXML", "get_xml"),
        ("DisksLeftOut", "disks_left_out"),
    ],
)
def test_snake_name_is_python(name: str, attr: str) -> None:
    assert snake(name) == attr


def test_xml_errors_that_it_names_exist() -> None:
    for file in folder().glob("org.virtsnap.*.xml"):
        for name in re.findall(r"org\.virtsnap\.Error\.\w+", file.read_text()):
            assert by_name(name), name
