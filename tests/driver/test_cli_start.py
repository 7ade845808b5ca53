"""What virtsnap loads before it answers: half of its time. Modules that are heavy and not needed
stay out of the commands that are typed most."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client import TOP
from tests.driver.house import House

UNUSED = {
    *("argcomplete", "croniter", "datetime", "email", "http", "json", "libvirt", "rich"),
    *("sqlite3", "systemd", "tomllib", "zoneinfo"),
}
"""Modules that nobody loads for a list."""
WITHOUT_A_DAEMON = UNUSED | {"asyncio", "dataclasses", "dbus_next", "subprocess", "tabulate"}
OURS_NEVER = UNUSED | {"dataclasses", "logging", "shutil", "subprocess", "tempfile", "xml"}
"""Modules that none of ours imports at its top, whatever a library does."""
SCREEN = {"shutil"}
"""argparse has loaded it by then."""


def loaded(*arguments: str) -> set[str]:
    """All modules that are loaded for that command line of Python."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        cwd=TOP,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout or arguments == ("-c", "pass")
    return set(re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE))


def virtsnap(*arguments: str) -> set[str]:
    """What virtsnap loads, without what any Python does on this machine."""
    return loaded("-m", "snapd.cli", *arguments) - loaded("-c", "pass")


def tops(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


def imported_by(module: str) -> set[str]:
    """What one of our modules imports at its top, but not for the type checker alone."""
    path = TOP / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module)
    return tops(found)


def test_version_loads_next_to_nothing() -> None:
    modules = virtsnap("--version")
    assert "snapd.cli.parser.policies" in modules
    assert tops(modules) & WITHOUT_A_DAEMON == set()


@pytest.mark.parametrize("command", ["", "status", "list", "list web-1"])
def test_list_and_status_load_nothing_heavy(shared: House, command: str) -> None:
    modules = virtsnap("--bus-address", shared.address, *command.split())
    assert {"asyncio", "dbus_next", "snapd.cli.client"} <= modules
    # of wcwidth a name that stands for it is loaded, so that tabulate does not load it
    assert tops(modules) & UNUSED == set()
    assert "wcwidth.wcwidth" not in modules
    ours = {module for module in modules if module.startswith("snapd.")}
    heavy = {module: imported_by(module) & OURS_NEVER for module in ours}
    allowed = {"snapd.cli.output.screen": SCREEN}
    assert {m: found for m, found in heavy.items() if found - allowed.get(m, set())} == {}
