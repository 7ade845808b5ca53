"""Each command once, as a person types it on an estate: for the transcripts of all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.client import Client
from tests.driver.estate import UPGRADE, WEEKLY
from tests.driver.policies import with_definition

Before = Callable[[Client], Sequence[str] | None]
YES = (("[y/N] ", "y\n"),)
FILES = "tests/data/transcripts"


def _nothing(client: Client) -> None:
    pass


class Play(NamedTuple):
    """words: what is typed, with what `before` adds, which is done each time; answers: what is
    typed when that is read; reads: changes nothing, so that it may be read in a file."""

    words: Sequence[str]
    answers: Sequence[tuple[str, str]] = ()
    code: int = 0
    before: Before = _nothing
    reads: bool = False


def _no(vm: str, *names: str) -> Before:
    """Have that VM none of these."""

    def before(client: Client) -> None:
        for name in client.snapshots(vm).keys() & {*names}:
            client.delete(vm, name)

    return before


def _trial(client: Client) -> None:
    _no("web-2", "new-kernel")(client)
    client.create("web-2", "new-kernel", trial=True)


def _old(client: Client) -> None:
    _no("web-2", "old")(client)
    client.create("web-2", "old")


def _reverted(client: Client) -> None:
    client.revert("db-1", next(iter(client.snapshots("db-1"))))


def _pinned(client: Client) -> None:
    client.act("web-1", UPGRADE, "Pin", "audit until June")


def _foreign(client: Client) -> Sequence[str]:
    """The name of one that is still nobody's."""
    _weekly(client)
    return [client.rows("ListSnapshots", "web-2", origin="foreign")[0]["Name"]]


def _held(client: Client) -> None:
    client.call("Hold", "web-1", "", 0, "migration")


def _free(client: Client) -> None:
    client.call("Unhold", "web-1", "")


def _weekly(client: Client) -> None:
    with_definition(client, "SetPolicy", "weekly", WEEKLY)


def _no_weekly(client: Client) -> None:
    if any(row["Name"] == "weekly" for row in client.rows("ListPolicies")):
        client.call("RemovePolicy", "weekly")


def _waiting(client: Client) -> None:
    """Two of a policy that keeps one."""
    _weekly(client)
    ours = client.rows("ListSnapshots", "web-2", policy="weekly")
    for row in ours:
        client.delete("web-2", row["Name"])
    for _ in range(2):
        client.wait(client.call("RunPolicy", "weekly"))
    with_definition(client, "SetPolicy", "weekly", WEEKLY | {"keep": {"last": 1}})


def _job(client: Client) -> Sequence[str]:
    path = client.call("Audit", "web-2")
    client.wait(path)
    return [path.rpartition("/")[2]]


PLAYS = {
    "status": Play(["status"], reads=True),
    "check": Play(["check"], code=2, reads=True),
    "audit": Play(["audit"], reads=True),
    "history": Play(["history"], reads=True),
    "list": Play(["list"], reads=True),
    "list --tree": Play(["list", "web-1", "--tree"], reads=True),
    "show": Play(["show", "web-1", UPGRADE], reads=True),
    "show VM": Play(["show", "web-1"], reads=True),
    "show gone": Play(["show", "web-1", "nightly-20261121T013000Z"], reads=True),
    "domains": Play(["domains"], reads=True),
    "jobs": Play(["jobs"], reads=True),
    "jobs JOB": Play(["jobs"], before=_job),
    "files": Play(["files", "web-1", UPGRADE], code=4, reads=True),
    "watch": Play(["watch"], answers=[("jobs that fail\r\n", "\x03")], code=130),
    "create": Play(
        ["create", "web-2", "before-move", "--description", "before the disks are moved"],
        before=_no("web-2", "before-move"),
    ),
    "create --preview": Play(["create", "web-1", "--memory", "--preview"], reads=True),
    "revert": Play(["revert", "web-1", UPGRADE], answers=YES),
    "revert --latest": Play(["revert", "web-1", "--latest", "--preview"], reads=True),
    "undo": Play(["undo", "db-1"], answers=YES, before=_reverted),
    "delete": Play(["delete", "web-2", "old"], answers=YES, before=_old),
    "delete --all-ours": Play(["delete", "web-1", "--all-ours", "--dry-run"], reads=True),
    "try": Play(["try", "web-2", "new-kernel"], before=_no("web-2", "new-kernel")),
    "accept": Play(["accept", "web-2"], answers=YES, before=_trial),
    "discard": Play(["discard", "web-2"], answers=YES, before=_trial),
    "with": Play(["with", "web-2", "--name", "before-true", "--", "true"]),
    "describe": Play(["describe", "web-1", "by-hand", "made before it was ours"]),
    "pin": Play(["pin", "web-1", UPGRADE, "--reason", "audit until June"]),
    "unpin": Play(["unpin", "web-1", UPGRADE], before=_pinned),
    "adopt": Play(["adopt", "web-2", "--policy", "weekly"], answers=YES, before=_foreign),
    "hold": Play(["hold", "web-1", "--reason", "migration"], before=_free),
    "unhold": Play(["unhold", "web-1"], before=_held),
    "preview": Play(["preview", "web-1"], reads=True),
    "policy list": Play(["policy", "list"], reads=True),
    "policy coverage": Play(["policy", "coverage"], reads=True),
    "policy show": Play(["policy", "show", "nightly"], reads=True),
    "policy enable": Play(
        ["policy", "enable", f"{FILES}/weekly.toml"], answers=YES, before=_no_weekly
    ),
    "policy run": Play(["policy", "run", "weekly"], before=_weekly),
    "policy remove": Play(["policy", "remove", "weekly"], answers=YES, before=_weekly),
    "policy edit": Play(["policy", "edit", "weekly"], answers=YES, before=_weekly),
    "policy set": Play(["policy", "set", "weekly", "keep.last=4"], answers=YES, before=_weekly),
    "policy confirm": Play(["policy", "confirm", "weekly", "web-2"], answers=YES, before=_waiting),
    "policy validate": Play(
        ["policy", "validate", f"{FILES}/weekly.toml", "--after", "2026-11-24"], reads=True
    ),
}
"""By the command, and what is shown of it where there are several."""
