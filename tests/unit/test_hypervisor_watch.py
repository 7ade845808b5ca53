"""Which VMs are told when libvirt's records of snapshots change, by the kernel's own word: folders
and files are made here as libvirt makes them (LIBVIRT.md knows of no event)."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from snapd.errors import Unavailable
from snapd.hypervisor import DomainEvent, EventKind, watch
from snapd.hypervisor.inotify import Inotify
from snapd.hypervisor.watch import Watch, watching

NOBODY = 65534
ODD = b"caf\xe9 \n1"  # no UTF-8


AS_SHIPPED = watch.GATHER_SECONDS, watch.REST_SECONDS


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "GATHER_SECONDS", 0.05)
    monkeypatch.setattr(watch, "REST_SECONDS", 0.1)


class Host:
    """A folder of records, the VMs that libvirt lists, and what was told of them."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder = folder
        self.vms = {f"uuid-{name}": name for name in names}
        self.told: list[str] = []
        self.answers = True

    async def names(self) -> dict[str, str]:
        if not self.answers:
            raise Unavailable("cannot list the VMs: no connection")
        return dict(self.vms)

    def tell(self, event: DomainEvent) -> None:
        assert event.kind is EventKind.RECORDED
        self.told.append(event.uuid.removeprefix("uuid-"))

    def write(self, vm: str, snapshot: str) -> None:
        """As libvirt does: the folder where it is missing, a file beside, and over."""
        made = self.folder / vm
        made.mkdir(parents=True, exist_ok=True)
        (made / f"{snapshot}.xml.new").write_text("<domainsnapshot/>")
        (made / f"{snapshot}.xml.new").rename(made / f"{snapshot}.xml")

    def drop(self, vm: str) -> None:
        for file in (self.folder / vm).iterdir():
            file.unlink()
        (self.folder / vm).rmdir()

    async def hears(self, *names: str) -> None:
        """These VMs are told, and no others; what was told is forgotten."""
        deadline = time.monotonic() + 10
        while set(self.told) != set(names):
            assert time.monotonic() < deadline, f"told of {self.told}, not of {names}"
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.6)  # nothing else
        assert set(self.told) == set(names)
        self.told.clear()


def play(host: Host, body: Callable[[Host], Awaitable[None]]) -> None:
    async def main() -> None:
        watcher = Watch(os.fsencode(host.folder), host.names, host.tell)
        task = asyncio.create_task(watcher.run())
        try:
            async with asyncio.timeout(60):
                await watcher.begun.wait()
                await body(host)
            assert not task.done()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    asyncio.run(main())


def test_snapshots_made_changed_and_deleted_have_their_vm_told(tmp_path: Path) -> None:
    host = Host(tmp_path / "snapshot", "web", "db")
    host.write("web", "old")
    host.write("db", "old")

    async def body(host: Host) -> None:
        host.write("web", "new")
        await host.hears("web")
        host.write("db", "old")
        await host.hears("db")
        (host.folder / "web" / "old.xml").unlink()
        await host.hears("web")

    play(host, body)


def test_vm_whose_folder_comes_later_and_goes(tmp_path: Path) -> None:
    host = Host(tmp_path, "web", "db")

    async def body(host: Host) -> None:
        host.write("web", "first")
        await host.hears("web")
        host.write("web", "second")
        await host.hears("web")
        host.drop("web")
        await host.hears("web")
        host.write("web", "again")
        await host.hears("web")
        host.write("web", "once more")
        await host.hears("web")

    play(host, body)


def test_burst_is_told_twice_a_second_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "GATHER_SECONDS", AS_SHIPPED[0])
    monkeypatch.setattr(watch, "REST_SECONDS", AS_SHIPPED[1])
    host = Host(tmp_path, "web", "db")
    host.write("web", "old")

    async def body(host: Host) -> None:
        begun = time.monotonic()
        for n in range(300):
            host.write("web", f"n{n}")
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.6)
        most = (time.monotonic() - begun) * 2 + 1
        assert 2 < len(host.told) <= most
        await host.hears("web")

    play(host, body)


def test_events_that_the_kernel_lost_have_every_vm_told(tmp_path: Path) -> None:
    host = Host(tmp_path, "web", "db", "none")
    host.write("web", "old")
    host.write("db", "old")
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())

    async def body(host: Host) -> None:
        for n in range(limit // 2 + 100):  # nobody reads meanwhile
            (host.folder / "web" / f"{n % 2}").write_text("")
            (host.folder / "web" / f"{n % 2}").unlink()
        await host.hears("web", "db", "none")
        host.write("db", "new")
        await host.hears("db")

    play(host, body)


def test_folder_that_comes_goes_and_comes_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a session, where libvirt makes it at its first start, and all above it."""
    host = Host(tmp_path / "libvirt" / "qemu" / "snapshot", "web", "db")
    caplog.set_level(logging.INFO)

    async def body(host: Host) -> None:
        assert caplog.text.count("seen by polling") == 1
        (tmp_path / "another").mkdir()
        (tmp_path / "libvirt").mkdir()
        await host.hears()
        host.write("web", "first")
        await host.hears("web", "db")
        host.write("db", "first")
        await host.hears("db")
        host.drop("web")
        host.drop("db")
        host.folder.rmdir()
        await host.hears("web", "db")
        host.write("web", "again")
        await host.hears("web", "db")
        host.write("web", "more")
        await host.hears("web")
        host.folder.rename(host.folder.with_name("aside"))
        await host.hears("web", "db")
        host.folder.with_name("aside").rename(host.folder)
        await host.hears("web", "db")
        host.write("web", "more")
        await host.hears("web")

    play(host, body)
    # never anew for what is known
    assert caplog.text.count("seen by polling") == caplog.text.count("seen at once") == 3


def test_renamed_vm_is_told_and_watched_by_its_new_name(tmp_path: Path) -> None:
    host = Host(tmp_path, "web", "db")
    host.write("web", "old")

    async def body(host: Host) -> None:
        host.vms["uuid-web"] = "www"
        (tmp_path / "web").rename(tmp_path / "www")
        await host.hears("web")
        host.write("www", "new")
        await host.hears("web")
        host.vms["uuid-db"] = "web"  # the name is free
        host.write("web", "new")
        await host.hears("db")

    play(host, body)


def test_vm_with_an_odd_name_is_told(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.vms = {"uuid-odd": ODD.decode("utf-8", "surrogateescape"), "uuid-é": "é"}

    async def body(host: Host) -> None:
        os.mkdir(os.path.join(os.fsencode(tmp_path), ODD))  # noqa: PTH102, PTH118
        await host.hears("odd")
        host.write("é", "new")
        await host.hears("é")
        host.write("unknown", "new")
        (tmp_path / "a-file").write_text("")
        await host.hears()

    play(host, body)


def test_libvirt_that_does_not_answer_ends_nothing(tmp_path: Path) -> None:
    host = Host(tmp_path, "web")

    async def body(host: Host) -> None:
        host.answers = False
        host.write("web", "new")
        await host.hears()
        host.answers = True
        host.write("web", "newer")
        await host.hears("web")

    play(host, body)


def test_hundreds_of_vms(tmp_path: Path) -> None:
    host = Host(tmp_path, *(f"vm{n}" for n in range(400)))
    for name in list(host.vms.values())[:200]:
        host.write(name, "old")

    async def body(host: Host) -> None:
        host.write("vm7", "new")
        await host.hears("vm7")
        for name in host.vms.values():
            host.write(name, "new")
        await host.hears(*host.vms.values())

    play(host, body)


@pytest.fixture
def plain_user() -> Iterator[Path]:
    """A folder of a user who may not read everything; so are we, meanwhile."""
    folder = Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    if root:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        shutil.rmtree(folder)


def test_unreadable_folder_is_watched_once_it_may_be_read(plain_user: Path) -> None:
    host = Host(plain_user / "qemu" / "snapshot", "web")
    host.write("web", "old")
    (plain_user / "qemu").chmod(0)

    async def body(host: Host) -> None:
        await host.hears()
        (plain_user / "qemu").chmod(0o755)
        await host.hears("web")
        host.write("web", "new")
        await host.hears("web")
        host.folder.chmod(0o300)
        host.write("web", "newer")  # watched as before
        await host.hears("web")

    play(host, body)


class Limited(Inotify):
    """One whose user has no watch left for folders with these names."""

    full: Sequence[bytes] = ()

    def add(self, folder: bytes, mask: int) -> int:
        if folder.rpartition(b"/")[2] in self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().add(folder, mask)


def test_limit_of_watches_leaves_some_vms_to_the_poll_until_a_later_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watch, "Inotify", Limited)
    monkeypatch.setattr(watch, "RETRY_SECONDS", 5.0)
    monkeypatch.setattr(Limited, "full", [b"db"])
    caplog.set_level(logging.INFO)
    host = Host(tmp_path, "web", "db")
    host.write("web", "old")
    host.write("db", "old")

    async def body(host: Host) -> None:
        assert "seen by polling" in caplog.text and "max_user_watches" in caplog.text
        host.write("web", "new")
        host.write("db", "new")
        await host.hears("web")
        monkeypatch.setattr(Limited, "full", [])
        await host.hears("web", "db")
        host.write("db", "newer")
        await host.hears("db")

    play(host, body)


def test_limit_of_instances_leaves_all_to_the_poll_until_a_later_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watch, "RETRY_SECONDS", 1.0)
    caplog.set_level(logging.INFO)
    host = Host(tmp_path, "web")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main() -> None:
        watcher = Watch(os.fsencode(tmp_path), host.names, host.tell)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            task = asyncio.create_task(watcher.run())
            await watcher.begun.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert "max_user_instances" in caplog.text
        await host.hears("web")
        host.write("web", "new")
        await host.hears("web")
        task.cancel()

    asyncio.run(main())


def test_watching_only_local_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    host = Host(tmp_path / "libvirt" / "qemu" / "snapshot", "web")
    host.write("web", "old")

    async def main(uri: str, *told: str) -> None:
        async with watching(uri, host.names, host.tell):
            host.write("web", "new")
            await host.hears(*told)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main("qemu:///session", "web"))
    asyncio.run(main("qemu+ssh://host/session"))
    asyncio.run(main("qemu://host/session"))
    asyncio.run(main("test:///default"))


def test_nothing_wakes_up_without_a_change(tmp_path: Path) -> None:
    host = Host(tmp_path, "web")
    host.write("web", "old")

    async def body(host: Host) -> None:
        loop = asyncio.get_running_loop()
        before = time.process_time()
        turns = 0
        select = loop._selector.select  # type: ignore[attr-defined]

        def counted(timeout: float | None) -> object:
            nonlocal turns
            turns += 1
            return select(timeout)

        loop._selector.select = counted  # type: ignore[attr-defined]
        (host.folder / "web" / "old.xml").read_text()
        await asyncio.sleep(2)
        assert turns < 4
        assert time.process_time() - before < 0.2

    play(host, body)
