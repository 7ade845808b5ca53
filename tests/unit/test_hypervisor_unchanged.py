"""What proves that a VM is as it was: the files that libvirt has about it, and nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snapd.hypervisor.unchanged import SETTLED_SECONDS, Unchanged
from snapd.model import DomainInfo, State
from tests.unit.vms import OFF, ON

NAME, UUID = OFF.name, OFF.uuid
LONG_AGO = time.time() - 1000


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of libvirt's: a VM with one snapshot, all written long ago."""
    for file in (tmp_path / f"{NAME}.xml", tmp_path / "snapshot" / NAME / "one.xml"):
        write(file)
    # change times can't be set: an hour has passed since
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600)
    return tmp_path


def write(path: Path, text: str = "<xml/>") -> None:
    """As libvirt does: a new file takes the old one's place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_suffix(".new")
    made.write_text(text)
    os.utime(made, (LONG_AGO, LONG_AGO))
    made.rename(path)


def read(host: Path, info: DomainInfo = OFF) -> Unchanged:
    """Who has read the VM."""
    found = Unchanged(str(host / "snapshot"), str(host))
    found.note(info, found.fingerprint(info.name))
    return found


def proven(found: Unchanged, name: str = NAME) -> bool:
    return found.proven({UUID: name}) == {UUID}


def test_unchanged_files_prove_that_a_vm_is_as_it_was(host: Path) -> None:
    found = read(host)
    assert proven(found) and proven(found)


CHANGES: dict[str, Callable[[Path], Any]] = {
    "definition": lambda host: write(host / f"{NAME}.xml"),
    "definition gone": lambda host: (host / f"{NAME}.xml").unlink(),
    "snapshot made": lambda host: write(host / "snapshot" / NAME / "two.xml"),
    "snapshot changed": lambda host: write(host / "snapshot" / NAME / "one.xml"),
    "snapshot gone": lambda host: (host / "snapshot" / NAME / "one.xml").unlink(),
    "saved": lambda host: write(host / "save" / f"{NAME}.save"),
    "all of its snapshots gone": lambda host: (host / "snapshot" / NAME).rename(host / "away"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_unchanged_is_not_said_after_a_file_was_written_or_removed(host: Path, what: str) -> None:
    """Of the same size and time, too: libvirt writes a new file."""
    found = read(host)
    CHANGES[what](host)
    assert not proven(found)
    assert not proven(found)


def test_unchanged_is_said_again_once_it_was_read_again(host: Path) -> None:
    found = read(host)
    write(host / "snapshot" / NAME / "two.xml")
    assert not proven(found)
    found.note(OFF, found.fingerprint(NAME))
    assert proven(found)


def test_unchanged_needs_the_fingerprint_of_before_the_reading(host: Path) -> None:
    """What is written while it is read is in none of the two: so it has to be read again."""
    found = Unchanged(str(host / "snapshot"), str(host))
    before = found.fingerprint(NAME)
    write(host / "snapshot" / NAME / "two.xml")
    found.note(OFF, before)
    assert not proven(found)


@pytest.mark.parametrize(
    "info",
    [
        pytest.param(ON, id="running"),
        pytest.param(replace(OFF, state=State.PAUSED), id="paused"),
        pytest.param(replace(OFF, busy_since=1), id="busy"),
        pytest.param(replace(OFF, persistent=False), id="transient"),
    ],
)
def test_unchanged_is_said_of_no_vm_that_is_more_than_its_files(
    host: Path, info: DomainInfo
) -> None:
    assert not proven(read(host, replace(info, uuid=UUID, name=NAME)))


def test_unchanged_is_not_said_of_a_vm_that_was_started_or_renamed(host: Path) -> None:
    found = read(host)
    assert found.proven({}) == set()
    assert not proven(found, "other")


def test_unchanged_is_not_said_where_the_files_were_written_just_now(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be written again within one tick of the kernel's clock."""
    monkeypatch.undo()
    assert not proven(read(host))
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + SETTLED_SECONDS + 1)
    assert proven(read(host))


def test_unchanged_is_said_for_a_day_at_most(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(host)
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + 86_390)
    assert proven(found)
    monkeypatch.setattr(time, "monotonic", lambda: now() + 86_410)
    assert not proven(found)


def test_unchanged_is_never_said_where_there_are_no_folders(host: Path) -> None:
    for uri in ("test:///default", "qemu+ssh://host/system", "qemu://host/system"):
        found = Unchanged.at(uri)
        assert found.fingerprint(NAME) == b""
        found.note(OFF, found.fingerprint(NAME))
        assert not proven(found)


def test_unchanged_folders_are_those_of_the_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/me/.config")
    found = [Unchanged.at(f"qemu:///{which}") for which in ("system", "session")]
    assert [(one._definitions, one._saves) for one in found] == [
        (b"/etc/libvirt/qemu", b"/var/lib/libvirt/qemu/save"),
        (b"/home/me/.config/libvirt/qemu", b"/home/me/.config/libvirt/qemu/save"),
    ]


def test_unchanged_of_odd_names_is_never_an_error(host: Path) -> None:
    found = Unchanged(str(host / "snapshot"), str(host))
    write(host / "ü x.xml")
    assert found.fingerprint("ü x")
    for name in ("", ".", "..", "a\0b", "\udcff", "x" * 300):
        assert found.fingerprint(name) == b""
