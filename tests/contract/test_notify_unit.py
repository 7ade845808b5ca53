"""virtsnap-notify's user unit, as systemd's own tools read it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from snapd.cli.parser import parse

UNIT = Path(__file__).parents[2] / "systemd" / "user" / "virtsnap-notify.service"


def values(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE)


def verify(unit: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--user", "verify", "--man=no", str(unit)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(unit.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a program that there is on every machine."""
    made = tmp_path / UNIT.name
    made.write_text(UNIT.read_text().replace("/usr/bin/virtsnap ", "/bin/true "))
    return made


def test_systemd_finds_nothing_wrong_with_the_unit(unit: Path) -> None:
    done = verify(unit)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with unit.open("a") as file:
        file.write("[Unit]\nNonsense=yes\n")
    assert "Nonsense" in verify(unit).stderr


def test_unit_lives_and_ends_with_the_graphical_session() -> None:
    assert values("PartOf") == values("After") == values("WantedBy") == ["graphical-session.target"]
    assert values("Restart") == ["on-failure"]
    for key in ("Wants", "Requires", "BindsTo"):  # the daemon is the admin's to start
        assert values(key) == []


def test_unit_runs_what_can_be_typed() -> None:
    (command,) = values("ExecStart")
    program, *words = command.split()
    assert program == "/usr/bin/virtsnap"
    args = parse(words)
    assert (args.action, args.notify, args.bus) == ("watch.watch", True, "system")
