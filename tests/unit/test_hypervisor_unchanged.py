"""What proves that a VM is as it was: the files that libvirt has about it, and nothing else."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snapd.hypervisor import unchanged
from snapd.hypervisor.unchanged import SETTLED_SECONDS, Unchanged
from snapd.model import DomainInfo, SnapshotInfo, State
from tests.unit.vms import BEFORE, OFF, ON

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
    look(found, info)
    return found


def look(found: Unchanged, info: DomainInfo = OFF, *snapshots: SnapshotInfo) -> None:
    """Read it again."""
    files, _ = found.around(info.name, lambda: None)
    found.note(info, snapshots, files)


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
    look(found)
    assert proven(found)


def test_unchanged_is_not_said_of_what_was_written_while_it_was_read(host: Path) -> None:
    """It may be in what was read, or not."""
    found = read(host)
    files, _ = found.around(NAME, lambda: write(host / "snapshot" / NAME / "two.xml"))
    assert files == b""
    found.note(OFF, [], files)
    assert not proven(found)


def test_unchanged_is_said_no_more_once_a_vm_has_changed_without_its_files(
    host: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The files here are left from another libvirt; this one has its own in a container."""
    caplog.set_level("INFO")
    found = read(host)
    other = replace(OFF, uuid="22222222-2222-4222-8222-222222222299", name="other")
    write(host / "other.xml")
    look(found, other)
    assert found.proven({UUID: NAME, other.uuid: "other"}) == {UUID, other.uuid}
    look(found, replace(OFF, state=State.CRASHED))  # how it ended is in no file
    assert proven(found) and not caplog.text
    look(found, OFF, BEFORE)
    assert caplog.text.count(f"VM {NAME} has changed, but {host}/snapshot has not") == 1
    look(found, OFF, BEFORE)
    look(found, other)
    assert found.proven({UUID: NAME, other.uuid: "other"}) == set()


def test_unchanged_is_not_said_where_no_libvirt_has_started_since_the_host_was_booted(
    host: Path,
) -> None:
    folder = host / "snapshot"
    started = folder.stat().st_ctime
    for since, is_said in ((started - 1, True), (started + 1, False)):
        found = Unchanged(str(folder), str(host), since)
        look(found)
        assert proven(found) is is_said


def test_unchanged_is_not_said_where_a_file_cannot_be_looked_at(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read(host)
    assert proven(found)
    stat = os.stat

    def denied(path: bytes) -> os.stat_result:
        if path.endswith(b"snapshot/" + NAME.encode()):
            raise PermissionError
        return stat(path)

    monkeypatch.setattr(os, "stat", denied)
    assert found.fingerprint(NAME) == b"" and not proven(found)


def test_unchanged_does_not_wait_for_a_disk_that_hangs(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unchanged, "LOOK_SECONDS", 0.05)
    found, go_on, asked = read(host), threading.Event(), []

    def hang(off: dict[str, str]) -> set[str]:
        asked.append(off)
        go_on.wait(10)
        return set(off)

    monkeypatch.setattr(found, "proven", hang)

    async def main() -> None:
        for _ in range(3):
            assert await found._proven_in_time({UUID: NAME}) == set()
        assert len(asked) == 1
        go_on.set()
        async with asyncio.timeout(5):
            while not await found._proven_in_time({UUID: NAME}):
                await asyncio.sleep(0.01)

    asyncio.run(main())


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
    other = "qemu:///system?socket=/srv/other/libvirt-sock"
    for uri in ("test:///default", "qemu+ssh://host/system", "qemu://host/system", other):
        found = Unchanged.at(uri)
        assert found.fingerprint(NAME) == b"" and not found._metadata
        look(found)
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


def test_unchanged_is_said_once_for_each_listing_and_never_again_of_what_ran(host: Path) -> None:
    found = read(host)

    async def main() -> None:
        assert await found.of([UUID]) == set()  # nobody has said that it is off
        found.listed({UUID: NAME, "another": "other"})
        assert await found.of([UUID, "another"]) == {UUID}
        assert await found.of([UUID]) == set()
        found.listed({UUID: NAME})
        assert await found.of(["another"]) == set()
        found.listed({})
        found.listed({UUID: NAME})
        assert await found.of([UUID]) == set()
        look(found)
        found.listed({UUID: NAME})
        assert await found.of([UUID]) == {UUID}

    asyncio.run(main())
