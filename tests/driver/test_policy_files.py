"""Policy files: a broken one disables only itself, a good version stays, whose file is whose."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from snapd.errors import Changed, InvalidArgument, NoSuchPolicy, Protected
from snapd.wire import paths
from snapd.wire.values import Variant, unwrap
from tests.client import Client, Row, options
from tests.driver.house import HOURLY, House, problems

DEFINITION = {"domains": ["web-*"], "schedule": "0 * * * *", "keep": {"last": 2}}


def with_definition(
    client: Client, member: str, name: str, definition: dict[str, Any], **opts: Any
) -> Any:
    call: Any = (paths.NAME, paths.ROOT, "org.virtsnap.Snapd1.Manager", member, "sa{sv}a{sv}")
    (answer,) = client.run(client.bus.call(*call, name, options(definition), options(opts)))
    return unwrap(answer)


def in_force(client: Client) -> list[str]:
    return [row["Name"] for row in client.rows("ListPolicies")]


def about(client: Client, word: str) -> list[Row]:
    return [row for row in client.rows("ListProblems") if row["Problem"] == word]


def reload(client: Client, house: House, how: str) -> None:
    if how == "Reload":
        client.call("Reload")
        return
    os.kill(house.daemon.pid, signal.SIGHUP)


# ---- broken files


def test_broken_file_disables_only_itself(house: House) -> None:
    house.policy("good")
    house.policy("broken", HOURLY.replace("last = 2", "last = 0"))
    house.policy("torn", "domains = [")
    client = house.start()
    assert in_force(client) == ["good"]
    found = about(client, "policy-file")
    assert {row["Policy"] for row in found} == {"broken", "torn"}
    assert all(row["Severity"] == "critical" for row in found)
    (broken,) = [row for row in found if row["Policy"] == "broken"]
    assert "broken.toml" in broken["Message"]
    assert "keep.last" in broken["Message"]
    assert "it is not in force" in broken["Message"]
    assert str(house.folder) not in broken["Message"]
    with pytest.raises(NoSuchPolicy) as refused:
        client.call("RunPolicy", "broken")
    assert "keep.last" in refused.value.message
    assert client.properties()["Health"] == "critical"


@pytest.mark.parametrize("how", ["Reload", "SIGHUP"])
@pytest.mark.parametrize(
    "edit", ["domains = [", HOURLY.replace("last = 2", "last = -1"), HOURLY + "surprise = 1\n"]
)
def test_last_good_version_stays_after_a_bad_edit(house: House, how: str, edit: str) -> None:
    path = house.policy("nightly")
    client = house.start()
    (before,) = client.rows("ListPolicies", fields=["Revision", "Definition"])
    path.write_text(edit)
    reload(client, house, how)
    client.until("a problem", lambda: about(client, "policy-file"))
    assert client.rows("ListPolicies", fields=["Revision", "Definition"]) == [before]
    (row,) = about(client, "policy-file")
    assert "its last good version stays in force" in row["Message"]
    assert client.wait(client.call("RunPolicy", "nightly", domain="web-1"))["Domains"]
    path.write_text(HOURLY.replace("last = 2", "last = 5"))
    reload(client, house, how)
    client.until("mended", lambda: not about(client, "policy-file"))
    (after,) = client.rows("ListPolicies")
    assert after["Definition"]["keep"] == {"last": 5}
    assert after["Revision"] != before["Revision"]


def test_removed_file_takes_its_policy_along_and_keeps_its_snapshots(house: House) -> None:
    path = house.policy("nightly")
    client = house.start()
    client.wait(client.call("RunPolicy", "nightly", domain="web-2"))
    client.listen()
    path.unlink()
    assert client.call("Reload") == []
    assert in_force(client) == []
    client.until("removed", lambda: client.signals("InterfacesRemoved"))
    assert client.signals("InterfacesRemoved") == [
        [paths.policy("nightly"), ["org.virtsnap.Snapd1.Policy"]]
    ]
    assert [row["Policies"] for row in client.snapshots("web-2").values()] == [["nightly"]]


def test_reload_answers_what_is_wrong(house: House) -> None:
    client = house.start()
    house.policy("broken", "domains = 7\n")
    (row,) = client.call("Reload")
    assert (row["Problem"], row["Policy"]) == ("policy-file", "broken")
    assert row in client.rows("ListProblems")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("min_gap = '2h'\n" + HOURLY, "min_gap"),
        ("on = ['start']\n" + HOURLY, "on"),
        ("kind = 'external'\n" + HOURLY, "kind"),
        ("only_if = 'changed'\n" + HOURLY, "only_if"),
        (HOURLY + "[limits]\nmin_free = '5%'\n", "limits.min_free"),
    ],
)
def test_key_that_is_not_built_is_refused_by_name(house: House, text: str, key: str) -> None:
    house.policy("early", text)
    client = house.start()
    (row,) = about(client, "policy-file")
    assert f"{key}: " in row["Message"]
    assert "not supported by this version" in row["Message"]
    assert in_force(client) == []


# ---- SetPolicy, RemovePolicy


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
        DEFINITION | {"min_gap": "1h"},
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


def test_problems_tell_of_coverage(house: House) -> None:
    house.policy("one", HOURLY.replace('["web-*"]', '["web-1"]\nexclude = ["db-*"]'))
    house.policy("none", HOURLY.replace("web-*", "mail-*"))
    client = house.start()
    client.rows("ListDomains")
    assert {row["DomainName"] for row in about(client, "uncovered")} == {"web-2"}
    assert {row["Policy"] for row in about(client, "policy-matches-nothing")} == {"none"}
