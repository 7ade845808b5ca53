"""Who may call what: every method and property of the contract, as each kind of user, with polkit
that says yes, says no, wants a password, stands still, and is not there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from snapd.bus.contract import Interface, load
from snapd.errors import NotAuthorized, SnapdError
from snapd.wire.fault import WireError
from snapd.wire.paths import NAME, ROOT
from snapd.wire.values import Variant, unwrap
from tests.client import INTERFACE, PROPERTIES, Client, options
from tests.driver.house import DB1, WEB1
from tests.polkit.host import Host
from tests.polkit.rows import ACTS, READS, Row

REFUSED = "NotAuthorized"
PASSWORD = "InteractiveAuthorizationRequired"
UUIDS = {"web-1": WEB1, "db-1": DB1, "": ""}
CONTRACT: dict[str, Interface] = {
    name.removeprefix(f"{INTERFACE}."): interface
    for name, interface in load().interfaces.items()
    if name.startswith(INTERFACE)
}
Table = Mapping[str, Mapping[str, Row]]
Outcomes = dict[str, str]


@pytest.fixture(scope="module")
def places(host: Host) -> dict[str, str]:
    """An object of each interface. The job is root's and has failed, as there is such a name."""
    root = host.root
    job = root.call("CreateSnapshot", "web-1", "by-hand")
    with pytest.raises(SnapdError):
        root.wait(job)
    return {
        "Manager": ROOT,
        "Domain": root.call("GetDomain", "web-1"),
        "Snapshot": root.call("GetSnapshot", "web-1", "by-hand"),
        "Policy": root.call("GetPolicy", "yearly"),
        "Job": job,
    }


def _names(table: Table) -> set[str]:
    return {f"{interface}.{name}" for interface, rows in table.items() for name in rows}


def _wanted(table: Table, outcome: str | None = None) -> Outcomes:
    """Each method's outcome: its own where it is let through, or the same for all."""
    return {
        f"{interface}.{name}": row.outcome if outcome is None else outcome
        for interface, rows in table.items()
        for name, row in rows.items()
    }


async def _outcome(
    client: Client, path: str, interface: str, name: str, row: Row, ask: bool
) -> str:
    member = CONTRACT[interface].methods[name]
    body = [options(arg) if isinstance(arg, dict) else arg for arg in row.args]
    to = (NAME, path, f"{INTERFACE}.{interface}", name, member.signature_in)
    try:
        await client.bus.call(*to, *body, options(row.opts), timeout=60, interactive=ask)
    except SnapdError as error:
        return error.name.rpartition(".")[2]
    except WireError as error:
        return error.name.rpartition(".")[2]
    return ""


def _all(client: Client, places: dict[str, str], table: Table, ask: bool = False) -> Outcomes:
    """Call every method of the table at once."""

    async def all_of_them() -> Outcomes:
        calls = {
            f"{interface}.{name}": _outcome(client, places[interface], interface, name, row, ask)
            for interface, rows in table.items()
            for name, row in rows.items()
        }
        return dict(zip(calls, await asyncio.gather(*calls.values()), strict=True))

    return client.run(all_of_them())


# ---- the table is whole


def test_every_method_has_a_row_in_the_right_table() -> None:
    """A new one without an action is refused by the contract itself; one that is open has to be
    named as open."""
    asked = {
        f"{interface}.{member.name}"
        for interface, found in CONTRACT.items()
        for member in found.methods.values()
        if member.action
    }
    every = {
        f"{interface}.{name}" for interface, found in CONTRACT.items() for name in found.methods
    }
    assert _names(ACTS) == asked
    assert _names(READS) == every - asked


# ---- polkit answers


@pytest.mark.parametrize("ask", [False, True], ids=["", "interactive"])
@pytest.mark.parametrize("user", ["root", "member", "allowed"])
def test_who_may_may_everything(host: Host, places: dict[str, str], user: str, ask: bool) -> None:
    """root, a member of libvirt by the rule that we ship, and one by a rule of the admin's."""
    assert _all(host.client(user), places, ACTS, ask) == _wanted(ACTS)


@pytest.mark.parametrize(
    ("user", "ask", "answer"),
    [
        ("denied", False, REFUSED),
        ("denied", True, REFUSED),
        ("plain", False, PASSWORD),
        ("plain", True, REFUSED),  # he has no agent that could ask for the password
        ("virtsnapd", False, PASSWORD),  # that he owns the actions gives him none
    ],
)
def test_who_may_not_may_nothing(
    host: Host, places: dict[str, str], user: str, ask: bool, answer: str
) -> None:
    assert _all(host.client(user), places, ACTS, ask) == _wanted(ACTS, answer)


@pytest.mark.parametrize("user", ["root", "member", "plain", "denied"])
def test_reads_are_open_and_polkit_is_not_asked(
    host: Host, places: dict[str, str], user: str
) -> None:
    host.asked()
    assert _all(host.client(user), places, READS) == _wanted(READS)
    assert host.asked() == []


def test_polkit_is_asked_for_the_action_of_the_contract_and_told_what_it_is_about(
    host: Host, places: dict[str, str]
) -> None:
    host.asked()
    _all(host.client("denied"), places, ACTS)
    wanted = []
    for interface, rows in ACTS.items():
        for name, row in rows.items():
            domain, snapshot, policy = row.about
            told = {"domain": domain, "uuid": UUIDS[domain], "snapshot": snapshot}
            action = CONTRACT[interface].methods[name].action
            about = {"user": "denied", "policy": policy, "verb": name} | told
            wanted += [{**about, "action": each} for each in _with_implying(action)]
    order = lambda about: (about["verb"], about["action"])  # noqa: E731
    assert sorted(host.asked(), key=order) == sorted(wanted, key=order)


def _with_implying(action: str) -> list[str]:
    """What polkit asks its rules about: the action and, after a no, the one that implies it."""
    implied = action.rpartition(".")[2] in ("create", "delete")
    return [action, "org.virtsnap.snapd1.policy"] if implied else [action]


def test_revert_that_deletes_needs_both_actions(host: Host, places: dict[str, str]) -> None:
    rows = {"Manager": {"RevertSnapshot": Row(("web-1", "by-hand"), {"delete_after": True})}}
    rows["Snapshot"] = {"Revert": Row((), {"delete_after": True})}
    host.asked()
    assert _all(host.client("reverter"), places, rows) == _wanted(rows, PASSWORD)
    actions = [asked["action"].rpartition(".")[2] for asked in host.asked()]
    assert sorted(actions) == ["delete", "delete", "policy", "policy", "revert", "revert"]
    may = {"Manager": {"RevertSnapshot": ACTS["Manager"]["RevertSnapshot"]}}
    assert _all(host.client("reverter"), places, may) == _wanted(may)


def test_who_may_set_policies_may_create_and_delete_and_no_more(
    host: Host, places: dict[str, str]
) -> None:
    implied = {"create", "delete", "policy"}
    wanted = {
        f"{interface}.{name}": row.outcome
        if CONTRACT[interface].methods[name].action.rpartition(".")[2] in implied
        else PASSWORD
        for interface, rows in ACTS.items()
        for name, row in rows.items()
    }
    assert _all(host.client("planner"), places, ACTS) == wanted


def test_audit_of_another_can_be_waited_for_only_by_who_may_inspect(
    host: Host, places: dict[str, str]
) -> None:
    job = host.root.call("Audit", "web-1")
    there, wait = {**places, "Job": job}, {"Job": {"Wait": Row()}}
    for user, outcome in [("root", ""), ("member", ""), ("denied", REFUSED), ("plain", PASSWORD)]:
        assert _all(host.client(user), there, wait) == {"Job.Wait": outcome}, user


def test_job_can_be_cancelled_by_its_owner_whatever_polkit_says(
    host: Host, places: dict[str, str]
) -> None:
    """A reverter's own: reverts are all that he may."""
    reverter = host.client("reverter")
    job = reverter.call("RevertSnapshot", "web-1", "by-hand", max_wait=0, safety_snapshot=False)
    cancel = {"Job": {"Cancel": ACTS["Job"]["Cancel"]}}
    reverter.run(_ended(reverter, job))
    there = {**places, "Job": job}
    assert _all(reverter, there, cancel) == _wanted(cancel)
    assert _all(host.client("plain"), there, cancel) == _wanted(cancel, PASSWORD)


async def _ended(client: Client, job: str) -> None:
    to = (NAME, job, f"{INTERFACE}.Job", "Wait", "a{sv}")
    try:
        await client.bus.call(*to, {})
    except SnapdError as error:
        print(f"the job: {error}")


# ---- properties


@pytest.mark.parametrize("user", ["root", "denied"])
def test_properties_can_be_read_and_none_set(host: Host, places: dict[str, str], user: str) -> None:
    client = host.client(user)

    async def attempt(member: str, path: str, sig: str, *body: Any) -> str:
        try:
            await client.bus.call(NAME, path, PROPERTIES, member, sig, *body)
        except WireError as error:
            return error.name.rpartition(".")[2]
        return ""

    host.asked()
    for interface, found in CONTRACT.items():
        path, name = places[interface], f"{INTERFACE}.{interface}"
        for prop in found.properties:
            (value,) = client.run(client.bus.call(NAME, path, PROPERTIES, "Get", "ss", name, prop))
            assert isinstance(value, Variant)
            setting = attempt("Set", path, "ssv", name, prop, value)
            assert client.run(setting) == "PropertyReadOnly", prop
        assert set(client.properties(path, interface)) == set(found.properties)
    assert host.asked() == []


# ---- polkit does not answer


@contextmanager
def _still(host: Host) -> Iterator[None]:
    host.hang(True)
    try:
        yield
    finally:
        host.hang(False)


@contextmanager
def _gone(host: Host) -> Iterator[None]:
    host.polkit(on=False)
    try:
        yield
    finally:
        host.polkit(on=True)


@pytest.mark.parametrize("fault", [_still, _gone], ids=["stands-still", "is-gone"])
def test_without_an_answer_nobody_may_and_reads_go_on(
    host: Host, places: dict[str, str], fault: Any
) -> None:
    users = ("root", "member", "denied", "plain")
    clients = {user: host.client(user) for user in users}
    wanted = dict.fromkeys(users, _wanted(ACTS, REFUSED))
    wanted["root"] = wanted["root"] | {"Job.Cancel": ACTS["Job"]["Cancel"].outcome}  # his own job
    with fault(host):
        got = _side_by_side(clients, places)
        assert got == wanted
        for client in clients.values():
            assert _all(client, places, READS) == _wanted(READS)
    for user in ("root", "member"):
        assert _all(host.client(user), places, ACTS) == _wanted(ACTS)


def test_root_is_told_why_he_may_not(host: Host) -> None:
    with _gone(host), pytest.raises(NotAuthorized) as caught:
        host.root.call("Reload")
    assert "PolicyKit1 was not provided" in caught.value.message
    assert "not even root" in caught.value.message


def _side_by_side(clients: dict[str, Client], places: dict[str, str]) -> dict[str, Outcomes]:
    """All users at once, so that a polkit that stands still is waited for once."""
    with ThreadPoolExecutor(len(clients)) as pool:
        waiting = {
            user: pool.submit(_all, client, places, ACTS) for user, client in clients.items()
        }
        return {user: each.result() for user, each in waiting.items()}


def test_names_are_owned_by_the_service_alone(host: Host) -> None:
    """Also root is refused what would pose as virtsnapd, or as polkit."""
    for user in ("root", "member", "plain"):
        client = host.client(user)
        for name in (NAME, "org.freedesktop.PolicyKit1"):
            with pytest.raises(WireError) as caught:
                client.run(client.bus.request_name(name))
            assert caught.value.name.endswith(".AccessDenied")
    owner = unwrap(host.root.run(host.root.bus.bus_call("GetConnectionUnixUser", "s", NAME)))
    assert owner == [host.daemon.uid]
