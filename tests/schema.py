"""virtsnap.schema.json as tests use it: each document that virtsnap prints is held to it."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from tests.client import TOP

FILE = TOP / "packaging" / "virtsnap.schema.json"


@cache
def schema() -> dict[str, Any]:
    return dict(json.loads(FILE.read_text()))


def formats() -> set[str]:
    """The names of all documents; the other definitions are the bus's."""
    return {name for name in schema()["$defs"] if not name[0].isupper()}


def documents(text: str | bytes) -> list[dict[str, Any]]:
    """One that is all of the text, or one a line. AssertionError for what is in no schema."""
    try:
        found = [json.loads(text)]
    except json.JSONDecodeError:
        found = [json.loads(line) for line in text.splitlines()]
    return [checked(one) for one in found]


def checked(document: dict[str, Any]) -> dict[str, Any]:
    """The document. AssertionError where it is not as the schema has it."""
    name, _, version = document["format"].partition("/")
    assert name in formats() and version == "1", document["format"]
    error = best_match(_validator(name).iter_errors(document))
    assert error is None, f"{document['format']}: {error}"
    return document


@cache
def _validator(name: str) -> Draft202012Validator:
    """Of one definition: its errors say more than those of all."""
    return Draft202012Validator({"$defs": schema()["$defs"], "$ref": f"#/$defs/{name}"})
