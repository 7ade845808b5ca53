"""The reference pages that packaging/reference makes of the contract files: whole, and sound."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from snapd.bus.contract import load

TOP = Path(__file__).parents[2]
SCRIPT = TOP / "packaging" / "reference"
OURS = [name for name in load().interfaces if name.startswith("org.virtsnap.")]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pages."""
    folder = tmp_path_factory.mktemp("docs") / "reference"
    done = subprocess.run([SCRIPT, folder], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


def test_reference_has_a_page_for_each_interface(pages: Path) -> None:
    assert len(OURS) == 5
    assert sorted(page.name for page in pages.iterdir()) == sorted(f"{name}.rst" for name in OURS)


@pytest.mark.parametrize("name", OURS)
def test_reference_has_every_member_argument_and_option(pages: Path, name: str) -> None:
    lines = (pages / f"{name}.rst").read_text().splitlines()
    plain = {line.strip().rstrip(",") for line in lines}
    interface = load()[name]
    assert name in lines
    for method in interface.methods.values():
        assert f"{name}.{method.name}" in lines
        assert {f"IN {arg.name} {arg.type}" for arg in method.ins} <= plain
        assert {f"OUT {arg.name} {arg.type}" for arg in method.outs} <= plain
    for signal in interface.signals.values():
        assert f"{name}::{signal.name}" in lines
        assert {f"{arg.name} {arg.type}" for arg in signal.outs} <= plain
    for each in interface.properties.values():
        assert f"{name}:{each.name}" in lines
        assert f"{each.name} readable {each.signature_out}" in plain


@pytest.mark.parametrize("name", OURS)
def test_reference_has_every_sentence(pages: Path, name: str) -> None:
    """gdbus-codegen leaves out without a word what it takes for no comment of a member."""
    text = (pages / f"{name}.rst").read_text()
    assert "FIXME" not in text
    for title in [line for line in text.splitlines() if line.startswith(f"{name}.")]:
        section = text.split(f"\n{title}\n", 1)[1].split("\n\n\n")
        assert len(section[1].split()) > 2, title
    options = {
        f"- {key} ({option.type}, {json.dumps(option.default)}): "
        for method in load()[name].methods.values()
        for key, option in method.options.items()
    }
    if not name.endswith(".Snapshot"):  # has those of the Manager
        assert {option for option in options if option not in text} == set()


@pytest.mark.parametrize("name", OURS)
def test_reference_reads_without_a_warning(pages: Path, name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "docutils", "--report=2", "--halt=2", "--writer=html5"]
    files = [str(pages / f"{name}.rst"), str(tmp_path / "page.html")]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_reference_without_the_generator_says_what_to_install(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "dirname"):
        (tools / tool).symlink_to(f"/bin/{tool}")
    done = subprocess.run(
        [SCRIPT, tmp_path / "out"],
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "libglib2.0-dev-bin" in done.stderr
    assert not (tmp_path / "out").exists()
