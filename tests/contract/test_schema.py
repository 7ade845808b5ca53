"""virtsnap.schema.json: of each command a document, and the bus's rows as dbus/*.xml has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from snapd.bus import contract
from snapd.cli import parser as cli
from tests.contract.test_man import commands
from tests.schema import formats, schema

DEFINITIONS: dict[str, Any] = schema()["$defs"]
# Where the XML says what a definition is of; "" = the properties themselves.
PLACES = {
    "Manager": ("Manager", ""),
    "Domain": ("Manager.ListDomains", "rows"),
    "Snapshot": ("Manager.ListSnapshots", "rows"),
    "Policy": ("Manager.ListPolicies", "rows"),
    "Hold": ("Manager.ListPolicies", "rows.Holds"),
    "Job": ("Manager.ListJobs", "rows"),
    "ErrorDetail": ("Manager.ListJobs", "rows.ErrorDetail"),
    "Warning": ("Manager.ListJobs", "rows.Warnings"),
    "Result": ("Job.Wait", "result"),
    "Staying": ("Job.Wait", "result.Stays"),
    "DomainResult": ("Job.Wait", "result.Domains"),
    "Finding": ("Job.Wait", "result.Findings"),
    "Problem": ("Manager.ListProblems", "rows"),
    "Coverage": ("Manager.ListCoverage", "rows"),
    "Act": ("Manager.ListHistory", "rows"),
    "Run": ("Manager.PolicyRunFinished", "detail"),
    "Fate": ("Manager.PreviewRetention", "rows"),
    "Preview": ("Manager.PreviewRevert", "preview"),
    "Blocker": ("Manager.PreviewRevert", "preview.Blockers"),
    "Loss": ("Manager.PreviewRevert", "preview.Loses"),
    "Fault": ("Manager.ValidatePolicy", "result.Errors"),
    "Info": ("Manager.ListDomains", "info"),
    "Incomplete": ("Manager.ListDomains", "info.Incomplete"),
    "SnapshotDetail": ("Manager.SnapshotDeleted", "detail"),
}
# Whose keys are there where they say something.
SPARSE = {"ErrorDetail", "Result"}
# What an older daemon does not have.
NEWER = {"Coverage": {"Why"}}
TYPES = {
    "s": {"type": "string"},
    "o": {"$ref": "#/$defs/Path"},
    "b": {"type": "boolean"},
    "d": {"type": "number"},
    "x": {"type": "integer"},
    "t": {"type": "integer", "minimum": 0},
    "as": {"type": "array", "items": {"type": "string"}},
    "a{ss}": {"type": "object", "additionalProperties": {"type": "string"}},
    "a{sv}": {"type": "object"},
}
# What several shapes of one command are called, beside those that all commands have.
SHAPES = {
    "show": {"show-vm"},
    "jobs": {"job"},
    "delete": {"delete-all-ours", "delete-previews"},
}
VERBS = ("create", "revert", "undo", "delete", "try", "accept", "discard")


def member(place: str) -> contract.Member:
    interface, _, name = place.partition(".")
    return next(
        each
        for each in contract.load()[f"org.virtsnap.Snapd1.{interface}"].members()
        if each.name == name
    )


def keys_of(name: str) -> Mapping[str, str]:
    """The keys that the XML has for a definition, with their types."""
    place, where = PLACES[name]
    if where:
        return member(place).keys[where]
    properties = contract.load()[f"org.virtsnap.Snapd1.{place}"].properties
    return {key: each.signature_out for key, each in properties.items()}


def is_of(found: dict[str, Any], kind: str, of: tuple[str, str]) -> bool:
    """Whether a key's schema is that of its type; of rows, the definition that is of their keys."""
    if name := next((name for name, where in PLACES.items() if where == of), ""):
        rows = {"type": "array", "items": {"$ref": f"#/$defs/{name}"}}
        return found == (rows if kind == "aa{sv}" else rows["items"])
    return found == TYPES.get(kind)


def test_schema_is_one() -> None:
    Draft202012Validator.check_schema(schema())


def test_schema_has_each_document_under_its_format() -> None:
    wanted = {name: f"{name}/1" for name in formats()}
    assert {
        name: DEFINITIONS[name]["properties"]["format"]["const"] for name in formats()
    } == wanted
    one_of = [one["$ref"].rpartition("/")[2] for one in schema()["oneOf"]]
    assert one_of == [name for name in DEFINITIONS if name in formats()]
    assert all("format" in DEFINITIONS[name]["required"] for name in formats())


def test_each_command_has_a_document_and_each_document_a_command() -> None:
    named = {
        one.get_default("format") for one in commands(cli.build()) if one.get_default("action")
    }
    assert len(named) > 30
    more = set[str]().union(*SHAPES.values()) | {f"{verb}-preview" for verb in VERBS}
    assert SHAPES.keys() | set(VERBS) <= named
    assert formats() == named | more | {"started", "error"}


@pytest.mark.parametrize("name", sorted(DEFINITIONS.keys() - formats() - {"Path"}))
def test_rows_are_those_of_the_bus(name: str) -> None:
    definition, keys = DEFINITIONS[name], keys_of(name)
    assert definition["properties"].keys() == keys.keys()
    optional = keys.keys() if name in SPARSE else NEWER.get(name, set())
    assert set(definition.get("required", [])) == keys.keys() - optional
    place, where = PLACES[name]
    for key, kind in keys.items():
        found = {k: v for k, v in definition["properties"][key].items() if k != "description"}
        of = (place, f"{where}.{key}")
        if (name, key) == ("Job", "Result"):  # of one that is over, with what Wait alone answers
            of = PLACES["Result"]
        assert is_of(found, kind, of), (key, kind, found)


def test_result_of_a_job_is_what_wait_answers_but_for_findings() -> None:
    listed = member("Manager.ListJobs").keys["rows.Result"]
    assert {**listed, "Findings": "aa{sv}"} == keys_of("Result")


@pytest.mark.parametrize("signal", ["SnapshotCreated", "SnapshotDeleted", "SnapshotReverted"])
def test_events_of_snapshots_are_alike(signal: str) -> None:
    assert member(f"Manager.{signal}").keys["detail"] == keys_of("SnapshotDetail")


@pytest.mark.parametrize("place", ["Manager.PreviewCreate", "Manager.PreviewDelete"])
def test_previews_are_alike(place: str) -> None:
    assert member(place).keys == member("Manager.PreviewRevert").keys


def test_info_is_the_same_of_all_lists_that_have_a_document() -> None:
    for name in ("ListSnapshots", "ListPolicies", "ListJobs", "ListCoverage", "ListHistory"):
        assert member(f"Manager.{name}").keys["info"] == keys_of("Info")
    plan = DEFINITIONS["preview"]["properties"]["info"]["properties"].keys()
    assert member("Manager.PreviewRetention").keys["info"].keys() == keys_of("Info").keys() | plan


def test_definitions_say_what_they_are_and_name_only_what_is_there() -> None:
    assert all(len(one["description"]) > 8 for one in DEFINITIONS.values())
    assert named(schema()) == {f"#/$defs/{name}" for name in DEFINITIONS}


def named(value: object) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if "$ref" in value else set()
        return own.union(*map(named, value.values()))
    return set().union(*map(named, value)) if isinstance(value, list) else set()
