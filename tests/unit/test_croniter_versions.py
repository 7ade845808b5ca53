"""The same slots with every croniter: the tests of schedules once more, with each of them.

The one that Python has here is left out: this whole run is with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSIONS = [
    line.split()[0]
    for line in (ROOT / "tests" / "croniters.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
OTHERS = [one for one in VERSIONS if one != version("croniter")]
TESTS = sorted(str(path) for path in Path(__file__).parent.glob("test_schedule*.py"))
RUN = """
import sys
from importlib.metadata import version
import croniter, pytest
assert version("croniter") == sys.argv[1], version("croniter")
assert croniter.__file__.startswith(sys.argv[2]), croniter.__file__
sys.exit(pytest.main(sys.argv[3:]))
"""
OLD_CALL = "ignore:datetime.datetime.utcfromtimestamp"  # 1.3.5 on Python 3.12 and newer
Started = dict[str, tuple["subprocess.Popen[bytes]", Path]]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """One pytest a version, all at the same time, and where each of them writes."""
    found: Started = {}
    for one in OTHERS:
        folder = ROOT / ".venv" / "croniter" / one
        assert folder.is_dir(), f"no {folder}: packaging/check makes it"
        output = tmp_path_factory.mktemp("croniter") / one
        options = ["-p", "no:cacheprovider", "-m", "not long", "-W", OLD_CALL, *TESTS]
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", RUN, one, str(folder), *options],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(folder)},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        found[one] = (process, output)
    yield found
    for process, _ in found.values():
        process.kill()
        process.wait()


@pytest.mark.parametrize("one", OTHERS)
def test_schedule_tests_pass_with_croniter(started: Started, one: str) -> None:
    process, output = started[one]
    status = process.wait()
    assert status == 0, output.read_text()[-6000:]
    assert " passed" in output.read_text()
