"""The contract files: against API.md's members, and against code that differs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from snapd import errors
from snapd.bus.contract import ContractError, Member, load, snake
from snapd.bus.manager import Manager
from snapd.bus.router import Call
from snapd.errors import SnapdError
from tests.contract.api import ADDED, API, EMITS, ERRORS, KEYS, OBJECTS, OPTIONS, WORDS
from tests.toy import BOX, DATA, TOY, Box, Toy

NAME = "org.virtsnap.Snapd1"


def members() -> Iterator[tuple[str, Member]]:
    """(`Manager.ListDomains`, the member), of all members of ours."""
    for name, interface in load().interfaces.items():
        if name.startswith(NAME):
            for member in interface.members():
                yield f"{name.rpartition('.')[2]}.{member.name}", member


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


def test_load_methods_have_the_options_of_the_api() -> None:
    found = {
        place: " ".join(f"{key}:{o.type}={json.dumps(o.default)}" for key, o in m.options.items())
        for place, m in members()
        if m.options
    }
    assert found == OPTIONS


@pytest.mark.parametrize("place", WORDS)
def test_load_options_take_the_words_of_the_api(place: str) -> None:
    options = dict(members())[place].options
    found = {key: set(each.choices) - {""} for key, each in options.items() if each.choices}
    assert found == {key: set(words.split()) for key, words in WORDS[place].items()}


def test_load_every_option_of_the_api_is_supported() -> None:
    assert [place for place, m in members() for o in m.options.values() if not o.supported] == []


def test_load_dicts_have_the_keys_of_the_api_and_what_features_announce() -> None:
    contract = load()
    found = {
        (place, f"{where}.{key}:{kind}")
        for place, m in members()
        for where, keys in m.keys.items()
        for key, kind in keys.items()
        if not (where == "rows" and place.rpartition(".")[2] in OBJECTS)
    }
    expected = {
        (place, f"{where}.{pair}")
        for place, dicts in KEYS.items()
        for where, pairs in dicts.items()
        for pair in pairs.split()
    }
    added = {(place, pair) for pairs in ADDED.values() for place, pair in pairs.items()}
    assert found - expected == added
    assert expected - found == set()
    for method, name in OBJECTS.items():
        rows = contract[f"{NAME}.Manager"].methods[method].keys["rows"]
        properties = contract[f"{NAME}.{name}"].properties
        assert rows == {p.name: p.signature_out for p in properties.values()} | {"Path": "o"}


def test_load_change_signals_are_those_of_the_api() -> None:
    assert {place: m.emits for place, m in members() if m.emits != "true"} == EMITS


def test_manager_features_announce_what_was_added() -> None:
    assert sorted(Manager.features) == sorted(ADDED)


def test_errors_are_those_of_the_api() -> None:
    names = ERRORS.split()
    assert len(set(names)) == len(names)
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type)]
    ours = {cls.__name__ for cls in classes if issubclass(cls, SnapdError) and cls != SnapdError}
    assert ours == set(names)


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
