"""check's edge where a real daemon cannot be made to stand: its first look at the VMs, a fault."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from typing import Any, cast

import pytest

from snapd.cli.actions import check
from snapd.cli.client import Client
from snapd.cli.output.screen import Screen
from snapd.cli.verdict import Seen, findings, status
from snapd.wire.fault import WireError

ARGS = Namespace(
    bus="unix:path=/nowhere", vm="", policy="", timeout=1, json=False, prometheus=False
)


class Daemon:
    """Answers for the client's calls. loading: what it says each time, the last for ever; lists
    takes that long, in seconds."""

    def __init__(self, *loading: bool, lists: float = 0) -> None:
        self._loading, self._lists = list(loading), lists
        self.listed = 0

    async def properties(self) -> dict[str, Any]:
        now = self._loading.pop(0) if len(self._loading) > 1 else self._loading[0]
        return {"Connected": True, "Loading": now, "Health": "ok"}

    async def rows(self, *_: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        await asyncio.sleep(self._lists)
        self.listed += 1
        return [], {}


def seen_of(daemon: Daemon, seconds: float) -> Seen:
    async def ask() -> Seen:
        deadline = asyncio.get_running_loop().time() + seconds
        return await check._ask(cast(Client, daemon), ARGS, Seen("running"), deadline)

    return asyncio.run(ask())


def test_check_waits_for_the_end_of_the_first_look() -> None:
    daemon = Daemon(True, True, False)
    seen = seen_of(daemon, 60)
    assert (seen.loading, status(findings(seen)).name) == (False, "OK")
    assert daemon.listed == 4  # two lists, twice


def test_check_of_a_first_look_without_end_is_unknown_and_not_mute() -> None:
    seen = seen_of(Daemon(True, lists=60), 0.2)
    assert (seen.daemon, seen.loading, status(findings(seen)).name) == ("running", True, "UNKNOWN")


def test_check_of_lists_without_end_is_a_time_out() -> None:
    with pytest.raises(TimeoutError):
        seen_of(Daemon(False, lists=60), 0.2)


def test_check_fault_of_ours_is_unknown_and_no_warning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: Namespace) -> Seen:
        raise KeyError("Nope")

    monkeypatch.setattr(check, "_look", broken)
    assert check.check(ARGS, Screen(json=False)) == 3
    said = capsys.readouterr()
    assert said.out.startswith("VIRTSNAP UNKNOWN - ") and "Nope" in said.out
    assert "Traceback" in said.err


def test_check_older_daemon_without_a_list_is_unknown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def older(_: Namespace) -> Seen:
        raise WireError("org.freedesktop.DBus.Error.UnknownMethod", "no ListCoverage")

    monkeypatch.setattr(check, "_look", older)
    assert check.check(ARGS, Screen(json=False)) == 3
    assert "an older version?" in capsys.readouterr().out
