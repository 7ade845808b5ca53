"""`virtsnap policy validate` without a daemon: against the instants of real cron."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from snapd.cli.__main__ import run

TOP = Path(__file__).parents[2]
DATA = Path(__file__).parents[1] / "data" / "planning"
CRON = json.loads((DATA / "cron_dst.json").read_text())["vectors"]
GOOD = 'domains = ["*"]\nschedule = "30 2 * * *"\ntimezone = "Europe/Berlin"\n[keep]\nlast = 3\n'


def validate(
    capsys: pytest.CaptureFixture[str], path: Path, *options: str
) -> tuple[int, dict[str, Any]]:
    code = run(["policy", "validate", str(path), "--json", *options])
    shown = capsys.readouterr()
    assert shown.err == ""
    return code, json.loads(shown.out)


@pytest.mark.parametrize("vector", CRON, ids=lambda v: f"{v['tz']}-{v['transition']}-{v['expr']}")
def test_validate_schedule_around_a_clock_change_prints_the_instants(
    vector: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "vector.toml"
    path.write_text(
        f'domains = ["*"]\nschedule = "{vector["expr"]}"\ntimezone = "{vector["tz"]}"\n'
        "[keep]\nlast = 1\n"
    )
    wanted = [int(datetime.fromisoformat(each).timestamp()) for each in vector["fires_utc"]]
    until = datetime.fromisoformat(vector["until"]).timestamp()
    code, answer = validate(
        capsys, path, "--after", vector["after"], "--count", str(len(wanted) + 1)
    )
    assert code == 0 and answer["Valid"] is True
    assert [slot for slot in answer["NextFires"] if slot <= until] == wanted
    shown = [int(datetime.fromisoformat(each).timestamp()) for each in answer["next_fires"]]
    assert shown == answer["NextFires"]


def test_validate_text_shows_the_next_runs_as_other_commands_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "nightly.toml"
    path.write_text(GOOD)
    options = ["--after", "2026-03-28T11:00Z", "--count=2", "--utc"]
    assert run(["policy", "validate", str(path), *options]) == 0
    heading, first, second = capsys.readouterr().out.splitlines()[1:]
    assert heading == "next runs:"
    assert re.fullmatch(r"  2026-03-29 01:00Z \((\d+ \w+ ago|in \d+ \w+|now)\)", first)
    assert second.startswith("  2026-03-30 00:30Z (")


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        ("domains = 1\nfoo = 2\n", {"domains", "foo", "schedule", "keep"}),
        (GOOD.replace("last = 3", "last = -1"), {"keep.last"}),
        (GOOD.replace("30 2", "61 2"), {"schedule"}),
        (GOOD.replace("Berlin", "Nowhere"), {"timezone"}),
        ("domains = [", {""}),
        ("\x00", {""}),
    ],
)
def test_validate_broken_file_names_every_wrong_key_and_exits_2(
    content: str, keys: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(content)
    code, answer = validate(capsys, path)
    assert (code, answer["Valid"], answer["NextFires"]) == (2, False, [])
    assert {each["Key"] for each in answer["Errors"]} == keys


@pytest.mark.parametrize("name", ["nothing.toml", "."])
def test_validate_file_that_cannot_be_read_exits_2(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = validate(capsys, tmp_path / name)
    assert code == 2 and answer["Errors"]


def test_validate_name_of_a_policy_says_that_a_file_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, answer = validate(capsys, Path("nightly"))
    said = answer["Errors"][0]["Message"]
    assert code == 2 and "a file is wanted" in said
    assert said.endswith(": virtsnap policy show nightly")
    (tmp_path / "nightly").write_text(GOOD)
    assert validate(capsys, Path("nightly"))[0] == 0


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (GOOD, 0, "standard input is valid: time zone Europe/Berlin"),
        ("domains = [", 2, "standard input: is not valid TOML"),
        ("#" * 70_000, 2, "standard input: has over 65536 bytes"),
    ],
)
def test_validate_dash_reads_standard_input(content: str, code: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "snapd.cli", "policy", "validate", "-"],
        input=content,
        capture_output=True,
        text=True,
        check=False,
        cwd=TOP,
    )
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.startswith(said)


def test_validate_name_that_no_policy_can_have_exits_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "Über.toml"
    path.write_text(GOOD)
    code, answer = validate(capsys, path)
    assert code == 2 and "policy name" in answer["Errors"][0]["Message"]


def test_validate_odd_policy_is_valid_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "often.toml"
    path.write_text(GOOD.replace("30 2 * * *", "* * * * *"))
    code, answer = validate(capsys, path)
    assert code == 0 and [each["Key"] for each in answer["Warnings"]] == ["schedule"]


def test_validate_policy_of_triggers_has_no_slots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "triggered.toml"
    path.write_text(GOOD.replace('schedule = "30 2 * * *"', 'on = ["start"]'))
    assert run(["policy", "validate", str(path)]) == 0
    warning, verdict = capsys.readouterr().out.splitlines()
    assert warning.startswith(f"{path}: warning: timezone: ")
    assert verdict.endswith("policy triggered, time zone Europe/Berlin")
