"""The contract files as documents: each member, argument, option, key, word and error has its
sentence, and what it says of types, defaults, actions and errors is so.

A comment stands before its element, as gdbus-codegen reads it: `Name:`, a line `@argument: ...`
each, the text. In the text `- option (TYPE, DEFAULT): ...` and `KEY (TYPE): ...`; what is the same
elsewhere is `as of MEMBER`, `as of every list` or `as of every job`.
"""

from __future__ import annotations

import ast
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from snapd import errors
from snapd.bus.contract import Contract, Member, folder, load
from snapd.bus.manager import Manager
from snapd.errors import SnapdError
from tests.contract.api import API, REASONS

NAME = "org.virtsnap.Snapd1"
TOP = Path(__file__).parents[2]
MEMBERS = ("method", "property", "signal")
ERROR = {cls.__name__: cls for cls in vars(errors).values() if isinstance(cls, type)}
"""Classes of snapd.errors by name."""


@cache
def contract() -> Contract:
    return load()


@cache
def documents() -> dict[str, str]:
    """`Manager`, `Manager.ListDomains` -> the comment before it: a line each for a paragraph, an
    argument and an item."""
    found = {}
    for word in API:
        parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
        last = ""
        for each in ET.parse(folder() / f"{NAME}.{word}.xml", parser).iter():
            tag: object = each.tag
            if tag is ET.Comment:
                last = each.text or ""
            elif tag == "interface" or tag in MEMBERS:
                place = word if tag == "interface" else f"{word}.{each.attrib['name']}"
                found[place] = re.sub(r"(?<=\S)\n *(?=[^\s@-])", " ", last.strip())
                found[place] = re.sub(r"^ +", "", found[place], flags=re.M)
                last = ""
    return found


def members() -> Iterator[tuple[str, Member]]:
    for word in API:
        for member in contract()[f"{NAME}.{word}"].members():
            yield f"{word}.{member.name}", member


METHODS = [place for place, member in members() if member.kind == "method"]
PLACES = [place for place, _member in members()]


def member_at(place: str) -> Member:
    return dict(members())[place]


def text_of(place: str, seen: tuple[str, ...] = ()) -> str:
    """A member's document, and those that it refers to; without what a method answers, which
    gdbus-codegen leaves out of its pages."""
    text = documents()[place]
    for argument in member_at(place).outs if place in METHODS else ():
        text = re.sub(rf"^@{argument.name}: .*$", "", text, flags=re.M)
    if "info" in arguments(place) or "as of every " in text:
        text += "\n" + documents()["Manager"]
    word = place.partition(".")[0]
    text = text.replace("as of the property", "as of").replace(f"{NAME}.", "")
    for name in re.findall(r"as of ([A-Z][\w.]+\b)", text):
        other = name if "." in name else f"{word}.{name}"
        if other not in seen:
            text += "\n" + text_of(other, (*seen, place))
    return text


def arguments(place: str) -> dict[str, str]:
    return dict(re.findall(r"^@(\w+): (.*)$", documents()[place], re.M))


# ---- members and arguments


@pytest.mark.parametrize("place", [*API, *PLACES])
def test_document_says_what_it_is(place: str) -> None:
    name = place.rpartition(".")[2]
    begin = f"{NAME}.{name}:" if place in API else f"{name}:"
    text = documents()[place]
    assert text.startswith(begin)
    said = re.sub(r"^@.*$", "", text.removeprefix(begin), flags=re.M).strip()
    assert len(said.split("\n\n")[0].split()) >= 2, place
    assert said.endswith((".", ";")), said[-40:]


@pytest.mark.parametrize("place", PLACES)
def test_document_has_a_line_for_each_argument(place: str) -> None:
    member = member_at(place)
    names = [a.name for a in (*member.ins, *member.outs)] if member.kind != "property" else []
    assert list(arguments(place)) == names
    for name, said in arguments(place).items():
        assert said == "none" if name == "options" and not member.options else said != "none"
        assert name == "options" or len(said) > 8, (name, said)


@pytest.mark.parametrize("place", METHODS)
def test_document_has_each_option_with_its_type_and_default(place: str) -> None:
    text = text_of(place)
    for name, option in member_at(place).options.items():
        default = json.dumps(option.default)
        kind = re.escape(f"({option.type}, {default})")
        said = re.search(rf"^- {name} {kind}: (.+)", text, re.M)
        assert said and len(said[1].split()) > 2, name
        for word in option.choices:
            assert word in " ".join(text.split()), (name, word)


@pytest.mark.parametrize("place", METHODS)
def test_document_has_no_option_that_is_not_there(place: str) -> None:
    said = set(re.findall(r"^- ([a-z_]+) \(\w+[^)]*, .*?\): ", documents()[place], re.M))
    said = set() if place == "Manager.SetPolicy" else said  # and a definition's keys
    assert said <= set(member_at(place).options)
    for names in re.findall(r"^- ([a-z_, ]+): as of", documents()[place], re.M):
        assert set(names.split(", ")) <= set(member_at(place).options)


@pytest.mark.parametrize("place", PLACES)
def test_document_has_each_key_with_its_type(place: str) -> None:
    text = " ".join(text_of(place).split())
    for where, keys in member_at(place).keys.items():
        rows = place.partition(".List")[2].rstrip("s").replace("Policie", "Policy")
        if where == "rows" and rows in API:
            assert f"properties of {rows}, and Path" in text
            continue
        if where.startswith("rows.") and rows in API:
            text += " ".join(text_of(f"{rows}.{where.split('.')[1]}").split())
        for key, kind in keys.items():
            assert re.search(rf"\b{key} \({re.escape(kind)}\)[:,] \S+ \S+", text), (where, key)


@pytest.mark.parametrize("place", [place for place, m in members() if m.kind == "property"])
def test_document_says_which_changes_are_not_signalled(place: str) -> None:
    text = documents()[place]
    assert ("never changes" in text) == (member_at(place).emits == "const")
    assert ("changes are not signalled" in text) == (member_at(place).emits == "false")


# ---- actions and errors


@pytest.mark.parametrize("place", METHODS)
def test_document_names_its_polkit_action(place: str) -> None:
    said = re.findall(r"^Action: (\S+)\.$", documents()[place], re.M)
    assert said == ([member_at(place).action] if member_at(place).action else [])


def test_errors_of_the_tree_are_each_in_the_document_once_with_their_meaning() -> None:
    (block,) = re.findall(
        r"^Errors, each under org\.virtsnap\.Error[^\n]*:\n\n(.*?)\n\n",
        documents()["Manager"],
        re.S | re.M,
    )
    said = re.findall(r"^- (\w+): (.+)$", block, re.M)
    meant = {
        name: " ".join((cls.__doc__ or "").split())
        for name, cls in ERROR.items()
        if issubclass(cls, SnapdError) and cls is not SnapdError
    }
    assert len(said) == len(meant)
    assert dict(said) == meant


@pytest.mark.parametrize("place", METHODS)
def test_errors_that_a_method_names_exist(place: str) -> None:
    for line in re.findall(r"^Errors(?: of the job)?: (.*?)\.$", documents()[place], re.M | re.S):
        names = line.split()
        assert names == sorted(names) or len(names) < 3, names
        for name in names:
            assert issubclass(ERROR[name.rstrip(",")], SnapdError)


def test_errors_that_the_files_name_in_full_exist() -> None:
    for text in documents().values():
        for name in re.findall(r"org\.virtsnap\.Error\.(\w+)", text):
            assert issubclass(ERROR[name], SnapdError), name


# ---- words


def words(title: str) -> set[str]:
    for text in documents().values():
        if found := re.search(rf"^{title}.*?:\n\n(.*?)(\n\n|\Z)", text, re.S | re.M):
            return set(re.findall(r"^- ([a-z-]+): \S+ \S+", found[1], re.M))
    raise AssertionError(title)


def test_reason_words_of_the_api_are_all_explained() -> None:
    ours, later = words("Reason words"), words("Words kept for external snapshots")
    assert set(REASONS.split()) - ours - later == set()
    assert ours & later == set()


def test_feature_words_are_explained() -> None:
    assert words("Feature words") == set(Manager.features)


def test_note_words_are_those_that_a_plan_warns_of() -> None:
    """What create writes down of its plan's warnings: operations/plan.py."""
    tree = ast.parse((TOP / "snapd" / "operations" / "plan.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    warned = [c.args[0] for c in calls if getattr(c.func, "id", "") == "Warned"]
    used = {arg.value for arg in warned if isinstance(arg, ast.Constant)}
    assert len(used) > 3
    assert words("Notes words") == used
