"""What nobody should send: a clear named error each, and nothing is changed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from snapd.errors import SnapdError
from snapd.wire.marshal import MarshalError
from snapd.wire.values import Variant
from tests.client import Client
from tests.driver.house import DATA, House

NAMES: list[dict[str, Any]] = json.loads((DATA / "names" / "snapshot_names.json").read_text())
LISTS = (
    ("ListDomains",),
    ("ListSnapshots", ""),
    ("ListPolicies",),
    ("ListProblems",),
    ("ListJobs",),
    ("ListRuns", ""),
    ("ListHistory", ""),
)


def answer(client: Client, member: str, *strings: str, **opts: Any) -> str:
    """The last word of the error's name; its message must be one line."""
    with pytest.raises(SnapdError) as error:
        client.call(member, *strings, **opts)
    assert error.value.message
    assert all(c.isprintable() for c in error.value.message), error.value.message
    return error.value.name.rpartition(".")[2]


def sendable(name: str) -> bool:
    """A D-Bus string holds neither NUL nor lone surrogates."""
    try:
        return b"\0" not in name.encode()
    except UnicodeEncodeError:
        return False


def test_create_names_as_advised(running: House) -> None:
    client = running.client
    sent = [case for case in NAMES if case["name"] and sendable(case["name"])]
    good = {case["name"] for case in sent if case["advice"] == "accept"}
    bad = [case["name"] for case in sent if case["advice"] == "reject"]
    assert good and bad
    wrong = [n for n in bad if client.refused("CreateSnapshot", "web-2", n) != ("InvalidName", "")]
    assert wrong == []
    assert client.snapshots("web-2") == {}
    for name in sorted(good):
        assert client.create("web-2", name)["Name"] == name
    assert set(client.snapshots("web-2")) == good


def test_create_name_no_string_never_sent(shared: House) -> None:
    for name in ("a\0b", "a\ud800"):
        with pytest.raises(MarshalError):
            shared.client.call("CreateSnapshot", "web-2", name)
    assert shared.client.snapshots("web-2") == {}


@pytest.mark.parametrize(
    ("member", "strings", "word"),
    [
        ("GetDomain", ("nobody",), "NoSuchDomain"),
        ("GetDomain", ("22222222-2222-4222-8222-222222222299",), "NoSuchDomain"),
        ("GetDomain", ("",), "NoSuchDomain"),
        ("ListSnapshots", ("nobody",), "NoSuchDomain"),
        ("CreateSnapshot", ("nobody", "x"), "NoSuchDomain"),
        ("RevertSnapshot", ("nobody", "x"), "NoSuchDomain"),
        ("DeleteSnapshot", ("nobody", "x"), "NoSuchDomain"),
        ("GetSnapshot", ("web-1", "nothing"), "NoSuchSnapshot"),
        ("RevertSnapshot", ("web-1", "nothing"), "NoSuchSnapshot"),
        ("DeleteSnapshot", ("web-1", "nothing"), "NoSuchSnapshot"),
        ("GetPolicy", ("nothing",), "NoSuchPolicy"),
        ("RunPolicy", ("nothing",), "NoSuchPolicy"),
        ("RemovePolicy", ("nothing",), "NoSuchPolicy"),
    ],
)
def test_manager_unknown_thing_named_error(
    shared: House, member: str, strings: tuple[str, ...], word: str
) -> None:
    assert answer(shared.client, member, *strings) == word


@pytest.mark.parametrize(
    "opts",
    [
        {"nonsense": True},
        {"memory": True},
        {"memory": "maybe"},
        {"disks": "vda"},
        {"trial": "yes"},
        {"max_pause": "60"},
        {"max_pause": -1},
        {"max_wait": Variant("t", 2**40)},
        {"description": "x" * 4097},
        {"request": "r" * 65},
    ],
)
def test_create_bad_option_invalid_argument(shared: House, opts: dict[str, Any]) -> None:
    assert answer(shared.client, "CreateSnapshot", "web-2", "x", **opts) == "InvalidArgument"
    assert shared.client.snapshots("web-2") == {}


def test_create_unknown_disk_refused(shared: House) -> None:
    assert shared.client.refused("CreateSnapshot", "web-2", "x", disks=["vdz"])[0] in (
        "InvalidArgument",
        "Unsupported",
        "PreflightFailed",
    )
    assert shared.client.snapshots("web-2") == {}


@pytest.mark.parametrize("call", LISTS, ids=lambda call: call[0])
@pytest.mark.parametrize(
    "opts",
    [
        {"from": "nonsense \u2603"},
        {"limit": 10_001},
        {"limit": -1},
        {"fields": ["Nothing"]},
        {"fields": "Name"},
        {"fields": ["Name"] * 65},
        {"nonsense": 1},
    ],
    ids=str,
)
def test_list_bad_option_invalid_argument(
    shared: House, call: tuple[str, ...], opts: dict[str, Any]
) -> None:
    assert answer(shared.client, *call, **opts) == "InvalidArgument"


def test_list_domains_paged_same_as_whole(house: House) -> None:
    house.host_of(23, 2)
    client = house.start()
    for call in (("ListDomains",), ("ListSnapshots", "")):
        whole = [row["Path"] for row in client.rows(*call)]
        paged: list[str] = []
        start = ""
        while True:
            rows, info = client.call(*call, **{"from": start}, limit=5)
            assert info["Total"] == len(whole)
            paged += [row["Path"] for row in rows]
            start = info["Next"]
            if not start:
                break
            assert len(rows) == 5
        assert paged == whole
        assert len(set(whole)) == {"ListDomains": 23, "ListSnapshots": 46}[call[0]]


def test_list_domains_by_name(running: House) -> None:
    assert [r["Name"] for r in running.client.rows("ListDomains")] == ["db-1", "web-1", "web-2"]
