"""Policies by SetPolicy: written, read again, removed; whose file is whose."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from snapd.errors import Changed, InvalidArgument, NoSuchPolicy, PermissionDenied, Protected
from snapd.wire.values import Variant
from tests.client import Client
from tests.driver.house import HOURLY, House, problems
from tests.driver.policies import DEFINITION, about, in_force, with_definition


def test_set_policy_is_written_read_again_and_removed(house: House) -> None:
    client = house.start()
    revision = with_definition(client, "SetPolicy", "mine", DEFINITION)
    (row,) = client.rows("ListPolicies")
    assert (row["Name"], row["Source"], row["Revision"]) == ("mine", "api", revision)
    assert row["Definition"] == DEFINITION
    assert row["NextRun"] % 3600 == 0
    assert 0 < row["NextRun"] - time.time() <= 3600
    assert client.domain("web-1")["Policies"] == ["mine"]  # type: ignore[index]
    file = house.daemon.state / "policies.d" / "mine.toml"
    assert [p.name for p in file.parent.iterdir()] == ["mine.toml"]
    house.again()
    assert client.rows("ListPolicies", fields=["Revision"]) == [{"Revision": revision}]
    with pytest.raises(Changed):
        client.call("RemovePolicy", "mine", if_revision="another")
    client.call("RemovePolicy", "mine", if_revision=revision)
    assert in_force(client) == []
    assert not file.exists()
    with pytest.raises(NoSuchPolicy):
        client.call("RemovePolicy", "mine")


def test_set_policy_with_if_revision_of_another_is_changed(house: House) -> None:
    client = house.start()
    first = with_definition(client, "SetPolicy", "mine", DEFINITION)
    other = DEFINITION | {"keep": {"last": 9}}
    with pytest.raises(Changed):
        with_definition(client, "SetPolicy", "mine", other, if_revision="0")
    second = with_definition(client, "SetPolicy", "mine", other, if_revision=first)
    assert second != first
    assert client.rows("ListPolicies")[0]["Definition"]["keep"] == {"last": 9}


def test_set_policy_on_an_admins_file_is_protected(house: House) -> None:
    path = house.policy("nightly")
    house.policy("broken", "domains = [")
    client = house.start()
    for name in ("nightly", "broken"):
        with pytest.raises(Protected) as refused:
            with_definition(client, "SetPolicy", name, DEFINITION)
        assert f"{name}.toml" in refused.value.message
        with pytest.raises(Protected):
            client.call("RemovePolicy", name)
    assert path.read_text() == HOURLY
    assert not list((house.daemon.state / "policies.d").glob("*"))


def test_set_policy_on_an_admins_file_that_is_not_read_yet_is_protected(house: House) -> None:
    client = house.start()
    revision = with_definition(client, "SetPolicy", "nightly", DEFINITION)
    house.policy("nightly")
    with pytest.raises(Protected):
        with_definition(client, "SetPolicy", "nightly", DEFINITION | {"keep": {"last": 9}})
    with pytest.raises(Protected):
        client.call("RemovePolicy", "nightly")
    assert client.rows("ListPolicies", fields=["Revision"]) == [{"Revision": revision}]


def test_set_policy_by_two_at_once_one_is_told_that_it_changed(house: House) -> None:
    client = house.start()
    first = with_definition(client, "SetPolicy", "mine", DEFINITION)
    one, other = house.another(), house.another()

    def change(who: Client, last: int) -> str:
        definition = DEFINITION | {"keep": {"last": last}}
        return str(with_definition(who, "SetPolicy", "mine", definition, if_revision=first))

    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(change, who, last) for who, last in ((one, 8), (other, 9))]
        errors = [each.exception() for each in asked]
    (won,) = [n for n, error in enumerate(errors) if error is None]
    assert isinstance(errors[1 - won], Changed)
    (row,) = client.rows("ListPolicies")
    assert row["Definition"]["keep"] == {"last": (8, 9)[won]}


def test_set_policy_that_cannot_be_written_leaves_the_old_one(house: House) -> None:
    client = house.start()
    revision = with_definition(client, "SetPolicy", "mine", DEFINITION)
    file = house.daemon.state / "policies.d" / "mine.toml"
    file.unlink()
    file.mkdir()
    for _ in range(2):
        with pytest.raises(PermissionDenied) as refused:
            with_definition(client, "SetPolicy", "mine", DEFINITION | {"keep": {"last": 9}})
        assert "mine.toml" in refused.value.message
        with pytest.raises(PermissionDenied):
            client.call("RemovePolicy", "mine")
        assert client.rows("ListPolicies", fields=["Revision"]) == [{"Revision": revision}]
        assert [p.name for p in file.parent.iterdir()] == ["mine.toml"]
        client.call("Reload")


@pytest.mark.parametrize("torn", [b"", b"domains = [", b"\0" * 512])
def test_policy_of_the_api_whose_file_was_torn_can_be_set_and_removed(
    house: House, torn: bytes
) -> None:
    client = house.start()
    with_definition(client, "SetPolicy", "mine", DEFINITION)
    file = house.daemon.state / "policies.d" / "mine.toml"
    file.write_bytes(torn)
    (row,) = client.call("Reload")
    assert "its last good version stays in force" in row["Message"]
    house.again()
    (row,) = about(client, "policy-file")
    assert "it is not in force" in row["Message"]
    with_definition(client, "SetPolicy", "mine", DEFINITION)
    assert (in_force(client), about(client, "policy-file")) == (["mine"], [])
    file.write_bytes(torn)
    client.call("Reload")
    client.call("RemovePolicy", "mine")
    assert (in_force(client), about(client, "policy-file")) == ([], [])


def test_admins_file_puts_an_api_policy_out_of_force(house: House) -> None:
    client = house.start()
    with_definition(client, "SetPolicy", "nightly", DEFINITION | {"keep": {"last": 9}})
    path = house.policy("nightly")
    client.call("Reload")
    (row,) = client.rows("ListPolicies")
    assert (row["Source"], row["Definition"]["keep"]) == ("admin", {"last": 2})
    assert "policy-shadowed" in problems(client)
    path.unlink()
    client.call("Reload")
    (row,) = client.rows("ListPolicies")
    assert (row["Source"], row["Definition"]["keep"]) == ("api", {"last": 9})


@pytest.mark.parametrize(
    "definition",
    [
        {},
        {"domains": "web-*"},
        DEFINITION | {"keep": {}},
        DEFINITION | {"keep": {"last": 0}},
        DEFINITION | {"keep": {"last": -1}},
        DEFINITION | {"keep": {"last": True}},
        DEFINITION | {"keep": "all"},
        DEFINITION | {"schedule": "61 * * * *"},
        DEFINITION | {"timezone": "Mars/Olympus"},
        DEFINITION | {"surprise": 1},
        DEFINITION | {"kind": "external", "memory": "yes"},
        DEFINITION | {"min_gap": 3600},
        DEFINITION | {"on": "start"},
        DEFINITION | {"on": ["start", "start"]},
        DEFINITION | {"limits": {"min_free": "100%"}},
        DEFINITION | {"memory": "yes", "quiesce": "require"},
        DEFINITION | {"name": "{policy.__class__}"},
        DEFINITION | {"domains": Variant("as", ["x" * 70000])},
    ],
    ids=str,
)
def test_set_policy_that_is_wrong_is_invalid_argument_and_nothing_is_written(
    shared: House, definition: dict[str, Any]
) -> None:
    client = shared.client
    with pytest.raises(InvalidArgument) as refused:
        with_definition(client, "SetPolicy", "mine", definition)
    assert refused.value.message.isprintable()
    assert in_force(client) == []
    assert not (shared.daemon.state / "policies.d" / "mine.toml").exists()


@pytest.mark.parametrize("name", ["", "Upper", "../up", "a b", "9lives", "a" * 65, ".hidden"])
def test_set_policy_with_a_bad_name_is_invalid_argument(shared: House, name: str) -> None:
    with pytest.raises(InvalidArgument):
        with_definition(shared.client, "SetPolicy", name, DEFINITION)
    with pytest.raises((InvalidArgument, NoSuchPolicy)):
        shared.client.call("RemovePolicy", name)


def test_validate_policy_says_what_is_wrong_at_which_key_and_saves_nothing(shared: House) -> None:
    client = shared.client
    good = with_definition(client, "ValidatePolicy", "x", DEFINITION)
    assert (good["Valid"], good["Errors"], len(good["NextFires"])) == (True, [], 5)
    bad = DEFINITION | {"keep": {"last": 0}, "catch_up": "perhaps"}
    answer = with_definition(client, "ValidatePolicy", "x", bad)
    assert answer["Valid"] is False
    assert {row["Key"] for row in answer["Errors"]} == {"keep.last", "catch_up"}
    assert in_force(client) == []
