"""virtsnap-check's units, as systemd's own tools read them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd" / "system"
SERVICE, TIMER = "virtsnap-check.service", "virtsnap-check.timer"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The units, with programs that there are on every machine."""
    for path in UNITS.iterdir():
        text = re.sub(
            "^ExecStart=/usr/bin/virtsnapd?", "ExecStart=/bin/true", path.read_text(), flags=re.M
        )
        (tmp_path / path.name).write_text(text)
    return tmp_path


def analyze(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("systemd-analyze")
    assert tool is not None
    return subprocess.run([tool, *words], cwd=folder, capture_output=True, text=True, timeout=60)


def values(unit: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)


@pytest.mark.parametrize("unit", [SERVICE, TIMER])
def test_systemd_finds_nothing_wrong_with_the_unit(unit: str, folder: Path) -> None:
    done = analyze(folder, "verify", "--man=no", f"./{unit}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with (folder / unit).open("a") as file:
        file.write("[Unit]\nNonsense=yes\n")
    assert "Nonsense" in analyze(folder, "verify", "--man=no", f"./{unit}").stderr


def test_service_is_exposed_to_next_to_nothing(folder: Path) -> None:
    done = analyze(folder, "security", "--offline=yes", "--threshold=10", f"./{SERVICE}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_service_orders_the_daemon_and_pulls_it_in_nowhere() -> None:
    assert values(SERVICE, "After") == ["virtsnapd.service"]
    for key in ("Wants", "Requires", "Requisite", "BindsTo", "Upholds", "SuccessExitStatus"):
        assert values(SERVICE, key) == []


def test_timer_comes_hourly_not_on_the_hour_and_makes_up() -> None:
    assert values(TIMER, "OnCalendar") == ["hourly"]
    assert values(TIMER, "RandomizedDelaySec") and values(TIMER, "Persistent") == ["yes"]
    assert values(TIMER, "Unit") == []  # the service of its own name
