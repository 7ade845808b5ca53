"""virtsnap delete of several, where nobody may or can be asked any more."""

from __future__ import annotations

import asyncio
import json
from argparse import Namespace
from typing import Any

import pytest

from snapd.cli.actions.delete import delete
from snapd.cli.client import Client, Row
from snapd.cli.output.screen import Screen
from snapd.errors import Busy, NotAuthorized, OutcomeUnknown, SnapdError
from snapd.wire import fault
from snapd.wire.fault import WireError

NAMES = ("a", "b", "c")
_OFF = ("all_ours", "manual", "dry_run", "children", "preview", "no_wait")
ARGS = Namespace(vm="web-1", snapshots=list(NAMES), yes=True, **dict.fromkeys(_OFF, False))


class Refusing(Client):
    """Three snapshots of one VM; deleting the second one fails so."""

    def __init__(self, error: BaseException, last: BaseException | None = None) -> None:
        self.error, self.last = error, last
        self.asked: list[str] = []

    async def rows(self, member: str, *arguments: str, **options: Any) -> tuple[list[Row], Row]:
        assert member == "ListSnapshots"
        snapshot = {
            "DomainUUID": "u",
            "DomainName": "web-1",
            "Status": "ok",
            "Parent": "/",
            "Pinned": False,
        }
        rows = [
            {**snapshot, "Path": f"/{name}", "Name": name, "Created": 100 - n}
            for n, name in enumerate(NAMES)
        ]
        return rows, {"Incomplete": []}

    async def act(self, member: str, *arguments: Any, **options: Any) -> str:
        assert (member, arguments[0]) == ("DeleteSnapshot", "u")
        self.asked.append(arguments[1])
        if arguments[1] == "b":
            raise self.error
        if arguments[1] == "c" and self.last:
            raise self.last
        return f"/job/{arguments[1]}"

    async def wait(self, job: str, seconds: int) -> Row:
        return {"Deleted": [job.rpartition("/")[2]]}

    async def properties(self, path: str = "", interface: str = "Manager") -> Row:
        return {"State": "done", "Result": {}, "Warnings": [], "DomainName": "web-1"}


@pytest.mark.parametrize(
    ("error", "code", "asked", "outcomes"),
    [
        (Busy("held"), 4, ["a", "b", "c"], ["done", "failed", "done"]),
        (OutcomeUnknown("gone"), 1, ["a", "b", "c"], ["done", "failed", "done"]),
        (NotAuthorized("no"), 5, ["a", "b"], ["done", "failed", "not-tried"]),
        (WireError(fault.NO_REPLY, "none"), 6, ["a", "b"], ["done", "failed", "not-tried"]),
        (WireError(fault.SERVICE_UNKNOWN, "none"), 6, ["a", "b"], ["done", "failed", "not-tried"]),
    ],
)
def test_delete_stops_where_the_next_one_would_be_refused_for_the_same(
    error: SnapdError | WireError,
    code: int,
    asked: list[str],
    outcomes: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = Refusing(error)
    assert asyncio.run(delete(client, ARGS, Screen(json=True))) == code
    assert client.asked == asked
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["Name"] for row in rows] == list(NAMES)
    assert [row["Outcome"] for row in rows] == outcomes
    assert rows[1]["ErrorName"] == error.name


def test_delete_ends_with_the_code_of_the_first_failure(capsys: pytest.CaptureFixture[str]) -> None:
    client = Refusing(Busy("held"), OutcomeUnknown("gone"))
    assert asyncio.run(delete(client, ARGS, Screen(json=False))) == Busy.exit_code == 4
    said = capsys.readouterr()
    assert said.out == "VM web-1: snapshot a is deleted\n"
    assert said.err.splitlines() == [
        "virtsnap: held",
        "virtsnap: gone",
        "VM web-1: 1 of 3 snapshots are deleted",
    ]


def test_delete_interrupted_says_that_the_rest_stays(capsys: pytest.CaptureFixture[str]) -> None:
    client = Refusing(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(delete(client, ARGS, Screen(json=False)))
    assert client.asked == ["a", "b"]
    assert "the other 1 stay as they are" in capsys.readouterr().err


class Chained(Refusing):
    """b stands on a and is in its way; x, which nobody means, is in b's."""

    def __init__(self) -> None:
        super().__init__(AssertionError())

    async def rows(self, member: str, *arguments: str, **options: Any) -> tuple[list[Row], Row]:
        rows, info = await super().rows(member, *arguments, **options)
        known = {"TimeKnown": False, "State": "running", "Origin": "manual"}
        stands_on = {"b": "/a"}
        return [{**row, **known, "Parent": stands_on.get(row["Name"], "/")} for row in rows], info

    async def ask(self, member: str, *arguments: Any, **options: Any) -> list[Any]:
        assert member == "PreviewDelete"
        _uuid, name = arguments
        below = {"a": "b", "b": "x"}.get(name)
        blocker = {"Reason": "not-in-chain", "Item": below, "Message": "no", "Ways": list[str]()}
        nothing = dict.fromkeys(("Kind", "Consistency", "FinalState"), "")
        numbers = dict.fromkeys(("PauseMilliseconds", "SpaceNeed", "SpaceHave"), 0)
        lists: dict[str, Any] = {"Disks": [], "DisksLeftOut": [], "Loses": [], "Foreign": False}
        verdict = {"Verdict": "not-in-chain" if below else "yes"}
        return [{**nothing, **numbers, **lists, **verdict, "Blockers": [blocker] if below else []}]


def test_preview_of_several_says_where_what_is_in_the_way_goes_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    args = Namespace(**{**vars(ARGS), "snapshots": ["b", "a"], "preview": True})
    assert asyncio.run(delete(Chained(), args, Screen(json=False))) == 4
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if "goes before it" in line] == [
        "    b goes before it, and may then not be in its way"
    ]
    assert said[-1].startswith("    b goes")
