"""Lists: pages that stay in order while things come and go, and what is no page or no call."""

from __future__ import annotations

from typing import Any

import pytest

from snapd.errors import InvalidArgument
from snapd.wire import paths
from snapd.wire.fault import WireError
from snapd.wire.values import Variant, unwrap
from tests.client import Client, Row
from tests.driver.house import NODE, WEB1, House, uuid_of

MANAGER = "org.virtsnap.Snapd1.Manager"
STANDARD = "org.freedesktop.DBus"


def call(client: Client, path: str, interface: str, member: str, sig: str, *body: Any) -> Any:
    return unwrap(client.run(client.bus.call(paths.NAME, path, interface, member, sig, *body)))


def walk(client: Client, *list_: str, limit: int, between: Any = lambda: None) -> list[Row]:
    """All pages of a list; between is called after each."""
    rows: list[Row] = []
    cursor = ""
    while True:
        page, info = client.call(*list_, **{"from": cursor}, limit=limit)
        rows += page
        assert len(page) <= limit
        if not (cursor := info["Next"]):
            return rows
        between()


def test_pages_of_snapshots_while_others_come_and_go_have_each_that_stayed_once(
    house: House,
) -> None:
    house.host_of(3, 20)
    client = house.start()
    whole = [row["Path"] for row in client.rows("ListSnapshots", "")]
    assert len(whole) == 60
    turn = iter(range(100))

    def change() -> None:
        n = next(turn)
        client.create("vm-1", f"new-{n}")
        client.delete("vm-1", f"s-{n}")

    rows = walk(client, "ListSnapshots", "", limit=7, between=change)
    seen = [row["Path"] for row in rows]
    assert len(seen) == len(set(seen))
    gone = {paths.snapshot(uuid_of(1), f"s-{n}") for n in range(next(turn))}
    assert [p for p in seen if p in whole and p not in gone] == [p for p in whole if p not in gone]


@pytest.mark.parametrize("sifted", [{}, {"origin": "foreign"}, {"kind": "internal"}], ids=str)
def test_pages_of_any_length_are_the_whole_list_and_each_says_how_long_that_is(
    house: House, sifted: dict[str, str]
) -> None:
    house.host_of(12, 3)
    client = house.start()
    client.create("vm-5", "mine")
    whole, info = client.call("ListSnapshots", "", **sifted)
    assert len(whole) == info["Total"] == (36 if "origin" in sifted else 37)
    for limit in (1, 2, 3, 4, 7, 36, 37, 38):
        rows: list[Row] = []
        cursor = ""
        while not rows or cursor:
            page, info = client.call("ListSnapshots", "", limit=limit, **{"from": cursor}, **sifted)
            assert info["Total"] == len(whole)
            rows += page
            cursor = info["Next"]
            assert len(page) == limit or not cursor
        assert rows == whole


@pytest.mark.parametrize("list_", [("ListHistory", "web-1"), ("ListJobs",)])
def test_pages_of_what_is_numbered_while_more_is_made(
    running: House, list_: tuple[str, ...]
) -> None:
    client = running.client
    for n in range(6):
        client.create("web-1", f"s{n}")
    more = iter(range(100))
    rows = walk(client, *list_, limit=2, between=lambda: client.create("web-1", f"t{next(more)}"))
    jobs = [row["Job"] if "Job" in row else row["Path"] for row in rows]
    assert len(jobs) == len(set(jobs))
    assert {f"{paths.JOBS}/{n}" for n in range(1, 7)} <= set(jobs)
    order = [int(job.rpartition("/")[2]) for job in jobs]
    assert order == sorted(order, reverse=list_[0] == "ListHistory")


def test_pages_of_problems_while_one_is_cleared_have_each_that_stayed_once(running: House) -> None:
    client = running.client
    for vm in ("db-1", "web-1", "web-2"):
        client.call("Hold", vm, "", 0, "")
    before = client.rows("ListProblems")
    first = next(n for n, row in enumerate(before) if row["Problem"] == "held")
    pages = iter(range(100))

    def clear() -> None:
        if next(pages) == first:  # it is on the page that was just read
            client.call("Unhold", before[first]["DomainName"], "")

    rows = walk(client, "ListProblems", limit=1, between=clear)
    assert before[first]["ID"] not in [row["ID"] for row in client.rows("ListProblems")]
    assert len(before) - first >= 3
    assert [row["ID"] for row in rows] == [row["ID"] for row in before]


def test_snapshots_are_in_order_of_domain_name_time_and_name(house: House) -> None:
    house.serve(f"test://{NODE}")
    client = house.start()
    for name in ("z", "a", "m"):
        client.create("tdrun", name)
    rows = client.rows("ListSnapshots", "")
    order = [(r["DomainName"], r["DomainUUID"], r["Created"], r["Name"]) for r in rows]
    assert order == sorted(order)
    assert [r["Name"] for r in rows if r["DomainName"] == "tdsnaps"] == ["root", "child"]
    child = next(r for r in rows if r["Name"] == "child")
    assert child["Parent"].endswith("/root")


def test_snapshots_by_origin_policy_and_kind(running: House) -> None:
    client = running.client
    client.create("web-1", "mine")
    client.create("web-1", "test", trial=True)

    def names(**opts: Any) -> list[str]:
        return [row["Name"] for row in client.rows("ListSnapshots", "web-1", **opts)]

    assert names(origin="foreign") == ["by-hand"]
    assert names(origin="manual") == ["mine"]
    assert names(origin="trial") == ["test"]
    assert names(policy="nightly") == []
    assert len(names(kind="internal")) == 3
    assert names(kind="external") == []
    for opts in ({"origin": "mine"}, {"kind": "both"}):
        with pytest.raises(InvalidArgument):
            client.call("ListSnapshots", "", **opts)


@pytest.mark.parametrize(
    "cursor",
    ["[" * 100_000, "{}", "[]", "[1]", '["web-1"', '[["web-1"]]', "null", "9" * 5000, "\u2603"],
    ids=lambda text: text[:12],
)
@pytest.mark.parametrize("list_", [("ListDomains",), ("ListSnapshots", ""), ("ListHistory", "")])
def test_list_with_what_is_no_cursor_is_invalid_argument(
    shared: House, list_: tuple[str, ...], cursor: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        shared.client.call(*list_, **{"from": cursor})
    assert len(refused.value.message) < 300


@pytest.mark.parametrize("text", ["\ufffe", "a\uffffb", "\x1b[31m", "a\rb", "\x7f\x85ok"])
def test_description_that_xml_cannot_hold_is_invalid_argument_or_kept_whole(
    running: House, text: str
) -> None:
    client = running.client
    try:
        job = client.call("CreateSnapshot", "web-1", "one", description=text)
    except InvalidArgument:
        assert "one" not in client.snapshots("web-1")
    else:
        client.wait(job)
        assert client.snapshots("web-1")["one"]["Description"] == text


def test_names_that_need_escaping_are_shown_and_usable(house: House) -> None:
    house.serve(f"test://{NODE}")
    client = house.start()
    odd = 'td & <odd> "name" \u00fcn\u00ef'
    assert client.domain(odd) is not None
    client.create(odd, "one", description="</description><x/> & \"'")
    assert client.snapshots(odd)["one"]["Description"] == "</description><x/> & \"'"
    client.revert(odd, "one")
    client.delete(odd, "one")


@pytest.mark.parametrize(
    ("vm", "reason"), [("tdtransient", "transient"), ("tdsaved", "managed-save")]
)
def test_vm_that_cannot_be_snapshotted_says_which_rule(house: House, vm: str, reason: str) -> None:
    house.serve(f"test://{NODE}")
    client = house.start()
    assert client.domain(vm)["Support"]["internal"] == reason  # type: ignore[index]
    before = client.snapshots(vm)
    assert client.refused("CreateSnapshot", vm, "one") == ("Unsupported", reason)
    assert client.snapshots(vm) == before


# ---- not calls of ours


@pytest.mark.parametrize(
    ("path", "interface", "member", "sig", "body", "error"),
    [
        (paths.ROOT, MANAGER, "CreateSnapshot", "ss", ("web-1", "x"), "InvalidArgs"),
        (paths.ROOT, MANAGER, "CreateSnapshot", "sua{sv}", ("web-1", 7, {}), "InvalidArgs"),
        (paths.ROOT, MANAGER, "CreateSnapshot", "", (), "InvalidArgs"),
        (paths.ROOT, MANAGER, "Nothing", "", (), "UnknownMethod"),
        (paths.ROOT, "org.virtsnap.Nothing", "ListDomains", "a{sv}", ({},), "UnknownInterface"),
        ("/org/virtsnap/Snapd1/jobs/99", f"{MANAGER[:-7]}Job", "Wait", "a{sv}", ({},), "Object"),
        ("/nowhere", MANAGER, "ListDomains", "a{sv}", ({},), "UnknownObject"),
        (paths.ROOT, f"{STANDARD}.Properties", "Get", "ss", (MANAGER, "Nope"), "UnknownProperty"),
        (
            paths.ROOT,
            f"{STANDARD}.Properties",
            "Set",
            "ssv",
            (MANAGER, "Version", Variant("s", "9")),
            "PropertyReadOnly",
        ),
        (
            paths.snapshot(WEB1, "nothing"),
            f"{MANAGER[:-7]}Snapshot",
            "Delete",
            "a{sv}",
            ({},),
            "UnknownObject",
        ),
    ],
)
def test_call_that_nobody_serves_is_the_bus_own_error(
    shared: House, path: str, interface: str, member: str, sig: str, body: Any, error: str
) -> None:
    client = shared.client
    client.rows("ListDomains")
    with pytest.raises(WireError) as refused:
        call(client, path, interface, member, sig, *body)
    assert refused.value.name.startswith(f"{STANDARD}.Error.")
    assert error in refused.value.name
    assert list(client.snapshots("web-1")) == ["by-hand"]


def test_managed_objects_are_those_of_the_lists(running: House) -> None:
    client = running.client
    client.create("web-1", "one")
    for path, rows in (
        (paths.DOMAINS, client.rows("ListDomains")),
        (paths.snapshots_of(WEB1), client.rows("ListSnapshots", "web-1")),
        (paths.JOBS, client.rows("ListJobs")),
        (paths.POLICIES, client.rows("ListPolicies")),
    ):
        (objects,) = call(client, path, f"{STANDARD}.ObjectManager", "GetManagedObjects", "")
        plain = {
            where: next(iter(interfaces.values())) | {"Path": where}
            for where, interfaces in objects.items()
        }
        assert plain == {row["Path"]: row for row in rows}
