"""Names against what libvirt and QEMU were seen to do with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from snapd import names
from snapd.errors import InvalidName
from snapd.model import Origin

DATA = Path(__file__).parents[1] / "data" / "names" / "snapshot_names.json"
CASES: list[dict[str, Any]] = json.loads(DATA.read_text("utf-8"))
ACCEPTED = [case["name"] for case in CASES if case["advice"] == "accept"]
REJECTED = [case["name"] for case in CASES if case["advice"] == "reject"]


def test_cases_hold_both_verdicts() -> None:
    assert len(ACCEPTED) >= 5
    assert len(REJECTED) >= 30
    assert len(ACCEPTED) + len(REJECTED) == len(CASES)


@pytest.mark.parametrize("name", ACCEPTED, ids=ascii)
def test_check_accepted_name_is_returned(name: str) -> None:
    assert names.check(name) == name


@pytest.mark.parametrize("name", [*REJECTED, "", "\ud800", "a\n", "-"], ids=ascii)
def test_check_rejected_name_raises_with_a_proposal_that_works(name: str) -> None:
    with pytest.raises(InvalidName) as caught:
        names.check(name)
    proposal = names.propose(name)
    assert names.check(proposal) == proposal
    assert repr(proposal) in caught.value.message
    assert caught.value.message.isprintable()


def test_check_length_counts_to_128() -> None:
    assert names.check("x" * 128)
    with pytest.raises(InvalidName):
        names.check("x" * 129)


def test_generated_name_is_stem_and_utc_time() -> None:
    # date -u -d 2026-11-24T01:30:00Z +%s
    assert names.generated("nightly", 1795483800) == "nightly-20261124T013000Z"


def test_generated_taken_name_gets_the_tail() -> None:
    taken = frozenset({"nightly-20261124T013000Z"})
    name = names.generated("nightly", 1795483800, taken, "k3x9")
    assert name == "nightly-20261124T013000Z-k3x9"
    assert names.check(name) == name


@pytest.mark.parametrize(
    ("origin", "stem"),
    [(Origin.MANUAL, "manual"), (Origin.SAFETY, "safety"), (Origin.TRIAL, "trial")],
)
def test_stem_of_origin_is_its_word(origin: Origin, stem: str) -> None:
    assert names.stem_of(origin) == stem
