"""Pin, adopt, describe, look inside, over D-Bus: acts that make no job."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from xml.etree import ElementTree

import pytest

from snapd.errors import AlreadyExists, SnapdError
from snapd.wire import paths
from tests.client import Client, Row
from tests.driver.house import HOST, WEB1, House, heard
from tests.driver.test_retention import own, text

BY_HAND = paths.snapshot(WEB1, "by-hand")
PIN = {"Pinned": True, "PinReason": "audit"}
WEB = text("web-*", "last = 2")


def refusal(client: Client, member: str, *values: str | int | list[str]) -> SnapdError:
    with pytest.raises(SnapdError) as error:
        client.call(member, *values)
    return error.value


def word(error: SnapdError) -> str:
    return error.name.rpartition(".")[2]


def told(client: Client, path: str) -> dict[str, Any]:
    """The properties of an object that were said to have changed, with their last values."""
    changed: dict[str, Any] = {}
    for where, member, body in heard(client):
        if (where, member) == (path, "PropertiesChanged"):
            changed |= body[1]
    return changed


def acts(client: Client, vm: str = "web-1") -> list[Row]:
    """History, oldest first."""
    return client.rows("ListHistory", vm)[::-1]


def by_hand(client: Client) -> Row:
    return client.snapshots("web-1")["by-hand"]


# ---- pins


def test_pin_of_a_foreign_one_keeps_it_from_deletion_and_foreign(running: House) -> None:
    client = running.client
    before = by_hand(client)
    client.listen()
    client.act("web-1", "by-hand", "Pin", "audit")
    assert by_hand(client) == before | PIN | {"DeleteBlocker": by_hand(client)["DeleteBlocker"]}
    assert (before["Origin"], before["Pinned"]) == ("foreign", False)
    assert told(client, BY_HAND).items() >= PIN.items()
    assert client.refused("DeleteSnapshot", "web-1", "by-hand")[0] == "Protected"
    client.act("web-1", "by-hand", "Unpin")
    assert by_hand(client) == before
    assert told(client, BY_HAND)["Pinned"] is False
    client.delete("web-1", "by-hand")
    assert client.snapshots("web-1") == {}


def test_pin_is_there_after_a_restart_and_in_history(running: House) -> None:
    running.client.act("web-1", "by-hand", "Pin", "because")
    running.client.act("web-1", "by-hand", "Pin", "audit")
    client = running.again()
    assert by_hand(client).items() >= PIN.items()
    client.act("web-1", "by-hand", "Unpin")
    client.act("web-1", "by-hand", "Unpin")
    keys = ("Verb", "Reason", "OwnerUID", "Result", "SnapshotName", "Created", "DomainUUID", "Job")
    rest = (os.getuid(), "done", "by-hand", 1700000000, WEB1, "/")
    assert [tuple(row[key] for key in keys) for row in acts(client)] == [
        ("pin", "because", *rest),
        ("pin", "audit", *rest),
        ("unpin", "was pinned: audit", *rest),
    ]


def test_pin_does_not_pass_to_a_later_one_of_that_name(running: House) -> None:
    running.client.act("web-1", "by-hand", "Pin", "audit")
    running.stop()
    running.serve_text(HOST.read_text().replace("1700000000", "1700000001"))
    client = running.start()
    assert (by_hand(client)["Created"], by_hand(client)["Pinned"]) == (1700000001, False)
    removed = client.until("it is noted", lambda: acts(client)[1:])[0]
    assert (removed["Verb"], removed["Created"]) == ("delete", 1700000000)
    client.delete("web-1", "by-hand")


def test_pinned_one_that_libvirt_did_not_list_for_a_while_is_pinned_when_it_is_back(
    running: House,
) -> None:
    """libvirt skips a damaged file of its own, and records are undefined and defined again."""
    running.client.act("web-1", "by-hand", "Pin", "audit")
    running.stop()
    running.serve_text(HOST.read_text().replace("1700000000", "1700000001"))
    client = running.start()
    client.until("it is noted", lambda: [a for a in acts(client) if a["Verb"] == "delete"])
    assert by_hand(client)["Origin"] == "foreign"
    client = running.again()
    client.rows("ListDomains")
    running.stop()
    running.serve(f"test://{HOST}")
    client = running.start()
    assert by_hand(client).items() >= PIN.items()
    assert client.refused("DeleteSnapshot", "web-1", "by-hand")[0] == "Protected"
    removed = [a for a in acts(client) if (a["Verb"], a["Result"]) == ("delete", "done")]
    assert len(removed) == 1
    found = client.wait(client.call("Audit", "web-1"))["Findings"]
    assert "removed-outside" not in [f["Reason"] for f in found]
    running.stop()
    with running.db() as db:
        assert db.execute("SELECT gone FROM snapshots").fetchall()[0]["gone"] == 0


def test_pinned_one_of_a_policy_is_not_pruned_nor_counted(house: House) -> None:
    house.host_of(1, 4)
    own(house, ["s-0", "s-1", "s-2", "s-3"], "keep2")
    house.policy("keep2", text("vm-0", "last = 2"))
    client = house.start()
    client.act("vm-0", "s-3", "Pin", "")
    (row,) = client.wait(client.call("RunPolicy", "keep2"))["Domains"]
    assert row["Outcome"] == "made"
    client.until("the prune", lambda: len(client.snapshots("vm-0")) == 3)
    assert set(client.snapshots("vm-0")) == {
        "s-2",
        "s-3",
        row["Snapshot"].rpartition("/")[2].replace("_2d", "-"),
    }


def test_pin_with_a_reason_over_1_kib_is_refused(running: House) -> None:
    running.client.act("web-1", "by-hand", "Pin", "\u00fc" * 512)
    with pytest.raises(SnapdError) as error:
        running.client.act("web-1", "by-hand", "Pin", "\u00fc" * 512 + "x")
    assert word(error.value) == "InvalidArgument"
    assert by_hand(running.client)["PinReason"] == "\u00fc" * 512


# ---- adoption


def adopt(client: Client, *names: str, policy: str = "web", vm: str = "web-1") -> None:
    client.call("Adopt", vm, list(names), policy)


def test_adopt_gives_it_to_the_policy_which_may_prune_it_then(house: House) -> None:
    house.policy("web", WEB)
    client = house.start()
    before = by_hand(client)
    client.listen()
    adopt(client, "by-hand")
    new = {"Origin": "policy", "Policies": ["web"], "Consistency": "memory", "State": "running"}
    assert by_hand(client) == before | new
    assert told(client, BY_HAND).items() >= {"Origin": "policy", "Policies": ["web"]}.items()
    (act,) = acts(client)
    assert (act["Verb"], act["Policy"], act["OwnerUID"]) == ("adopt", "web", os.getuid())
    assert (act["SnapshotName"], act["Result"]) == ("by-hand", "done")
    for count in (2, 2):  # last = 2
        client.wait(client.call("RunPolicy", "web", domain="web-1"))
        client.until("the prune", lambda: len(client.snapshots("web-1")) <= count)  # noqa: B023
        time.sleep(1.1)
    assert "by-hand" not in client.snapshots("web-1")


def test_adopt_leaves_the_pin_and_unpin_leaves_the_policy(house: House) -> None:
    house.policy("web", WEB)
    client = house.start()
    client.act("web-1", "by-hand", "Pin", "audit")
    adopt(client, "by-hand")
    assert by_hand(client).items() >= (PIN | {"Origin": "policy"}).items()
    client.act("web-1", "by-hand", "Unpin")
    assert by_hand(client).items() >= {"Pinned": False, "Policies": ["web"]}.items()


SNAPSHOT = """<test:domainsnapshot><name>{name}</name><state>{state}</state>
<creationTime>1700000{time}</creationTime><active>0</active>{more}
<domain type='test'><name>web-1</name><uuid>{uuid}</uuid><memory unit='KiB'>65536</memory>
<os><type>hvm</type></os></domain></test:domainsnapshot>"""


def with_snapshots(*others: Mapping[str, str]) -> str:
    """The host, with more snapshots of web-1."""
    made = "".join(
        SNAPSHOT.format(
            time=n + 100,
            uuid=WEB1,
            more=one.get("more", ""),
            **{key: one[key] for key in ("name", "state")},
        )
        for n, one in enumerate(others)
    )
    return HOST.read_text().replace("</test:domainsnapshot>", f"</test:domainsnapshot>{made}", 1)


EXTERNAL = {
    "name": "overlay",
    "state": "shutoff",
    "more": "<disks><disk name='vda' snapshot='external'><source file='/nonexistent/o'/></disk>"
    "</disks>",
}


def test_adopt_takes_state_and_consistency_from_libvirt(house: House) -> None:
    memory = "<memory snapshot='internal'/>"
    house.serve_text(
        with_snapshots(
            {"name": "ram", "state": "paused", "more": memory},
            {"name": "off", "state": "shutoff"},
            {"name": "disks", "state": "running", "more": "<memory snapshot='no'/>"},
        )
    )
    house.policy("web", WEB)
    client = house.start()
    adopt(client, "ram", "off", "disks")
    rows = client.rows("ListSnapshots", "web-1", origin="policy")
    found = {row["Name"]: (row["State"], row["Consistency"]) for row in rows}
    assert found == {
        "ram": ("paused", "memory"),
        "off": ("shutoff", "offline"),
        "disks": ("running", "crash"),
    }


@pytest.mark.parametrize(
    ("vm", "names", "policy", "error", "named"),
    [
        ("web-1", ["by-hand", "absent"], "web", "NoSuchSnapshot", "absent"),
        ("web-1", ["by-hand", "ours"], "web", "AlreadyExists", "ours"),
        ("web-1", ["by-hand", "overlay"], "web", "Unsupported", "overlay"),
        ("web-1", ["by-hand"], "absent", "NoSuchPolicy", "absent"),
        ("web-1", ["by-hand"], "db", "InvalidArgument", "web-1"),
        ("absent", ["by-hand"], "web", "NoSuchDomain", "absent"),
        ("web-1", [], "web", "InvalidArgument", "1000"),
        ("web-1", ["by-hand"] * 1001, "web", "InvalidArgument", "1000"),
    ],
)
def test_adopt_refused_adopts_nothing_and_names_what_is_in_the_way(
    mixed: House, vm: str, names: list[str], policy: str, error: str, named: str
) -> None:
    client = mixed.client
    found = refusal(client, "Adopt", vm, names, policy)
    assert (word(found), named in found.message) == (error, True), found.message
    assert by_hand(client)["Origin"] == "foreign"
    assert acts(client) == []


@pytest.fixture(scope="module")
def mixed(shared: House) -> House:
    """A daemon before foreign, external and own snapshots, with a policy web and a policy db."""
    shared.stop()
    shared.serve_text(with_snapshots(EXTERNAL, {"name": "ours", "state": "running"}))
    shared.policy("web", WEB)
    shared.policy("db", text("db-*", "last = 2"))
    with shared.db() as db:
        db.execute(
            "INSERT INTO snapshots (domain, name, created, origin, state, consistency)"
            " VALUES (?, 'ours', 1700000101, 'manual', 'running', 'crash')",
            (WEB1,),
        )
    shared.start()
    return shared


def test_adopt_by_two_at_once_is_done_once(house: House) -> None:
    house.policy("web", WEB)
    house.start().rows("ListDomains")
    clients = [house.another() for _ in range(4)]
    results: list[type | None] = []

    def one(client: Client) -> None:
        try:
            adopt(client, "by-hand")
        except AlreadyExists:
            results.append(AlreadyExists)
        else:
            results.append(None)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, clients))
    assert sorted(results, key=str) == [AlreadyExists, AlreadyExists, AlreadyExists, None]
    assert [row["Verb"] for row in acts(house.client)] == ["adopt"]


# ---- descriptions


def test_set_description_changes_nothing_else(running: House) -> None:
    client = running.client
    client.create("web-1", "later", description="first")
    before = client.snapshots("web-1")
    client.listen()
    client.act("web-1", "by-hand", "SetDescription", "two\nlines <&>")
    wanted = before["by-hand"] | {"Description": "two\nlines <&>"}
    assert client.snapshots("web-1") == before | {"by-hand": wanted}
    assert told(client, BY_HAND)["Description"] == "two\nlines <&>"
    client.act("web-1", "later", "SetDescription", "")
    rows = client.snapshots("web-1")
    assert (rows["later"]["Description"], rows["later"]["Current"]) == ("", True)
    found = [(r["Verb"], r["SnapshotName"], r["Reason"], r["Result"]) for r in acts(client)[1:]]
    assert found == [
        ("describe", "by-hand", "was: made in virt-manager", "done"),
        ("describe", "later", "was: first", "done"),
    ]
    assert {row["OwnerUID"] for row in acts(client)} == {os.getuid()}


@pytest.mark.parametrize("text", ["\u00fc" * 2048 + "x", "bell \x07", "\ufffe"])
def test_set_description_that_create_would_refuse_is_refused(running: House, text: str) -> None:
    with pytest.raises(SnapdError) as error:
        running.client.act("web-1", "by-hand", "SetDescription", text)
    assert word(error.value) == "InvalidArgument"
    assert by_hand(running.client)["Description"] == "made in virt-manager"


def test_set_description_by_many_at_once_is_done_in_turn(running: House) -> None:
    running.client.rows("ListDomains")
    clients = [running.another() for _ in range(4)]

    def one(number: int) -> None:
        clients[number].act("web-1", "by-hand", "SetDescription", f"text {number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(4)))
    rows = acts(running.client)
    assert [row["Result"] for row in rows] == ["done"] * 4
    # each found what the one before it had left
    assert len({row["Reason"] for row in rows}) == 4
    assert by_hand(running.client)["Description"] in {f"text {n}" for n in range(4)}


# ---- looking inside


def test_get_xml_is_libvirts(running: House) -> None:
    root = ElementTree.fromstring(running.client.act("web-1", "by-hand", "GetXML"))
    assert (root.tag, root.findtext("name")) == ("domainsnapshot", "by-hand")
    assert root.findtext("creationTime") == "1700000000"
    assert root.findtext("domain/uuid") == WEB1


@pytest.mark.parametrize(
    ("member", "values"), [("Pin", ["r"]), ("SetDescription", ["t"]), ("GetXML", [])]
)
def test_method_of_a_snapshot_that_is_gone_is_refused(
    running: House, member: str, values: list[str]
) -> None:
    client = running.client
    client.delete("web-1", "by-hand")
    with pytest.raises(Exception, match="no object"):
        client.ask(BY_HAND, "Snapshot", member, *values)
