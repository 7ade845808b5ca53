"""Who else needs a disk's file: libvirt's answers are given, the images are real."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import TimedOut
from snapd.hypervisor import FileUse, users
from snapd.hypervisor.chains import Chain, Chains, Volume, chains, plain_path, volume
from snapd.hypervisor.files import Files
from snapd.hypervisor.images import Images
from snapd.hypervisor.libvirt_driver import LibvirtHypervisor
from tests.unit.test_hypervisor_images import made, qemu_img


def stands_on(disk: str) -> Chain:
    text = f"<domain><devices><disk type='file'>{disk}</disk></devices></domain>"
    (found,) = chains(ET.fromstring(text))
    return found


# ---- what XML tells


def test_chains_of_a_running_domain_are_whole() -> None:
    """As libvirt 9.0 prints a running linked clone."""
    found = stands_on(
        "<driver name='qemu' type='qcow2'/><source file='/i/top' index='1'/>"
        "<backingStore type='file' index='2'><format type='qcow2'/><source file='/i/mid'/>"
        "<backingStore type='file' index='3'><format type='raw'/><source file='/i/base'/>"
        "<backingStore/></backingStore></backingStore><target dev='vda'/>"
    )
    assert found.layers == (("/i/top", "qcow2"), ("/i/mid", "qcow2"), ("/i/base", "raw"))
    assert found.whole


@pytest.mark.parametrize(
    ("form", "below", "whole"),
    [
        ("qcow2", "", False),
        ("qcow2", "<backingStore/>", True),
        ("raw", "", True),
        ("qcow2", "<backingStore type='network'><source name='pool/x'/></backingStore>", True),
    ],
)
def test_chains_have_to_be_read_on_only_where_xml_is_silent(
    form: str, below: str, whole: bool
) -> None:
    found = stands_on(f"<driver type='{form}'/><source file='/i/top'/>{below}")
    assert found == Chain((("/i/top", form),), whole)


def test_chains_without_a_file_are_none() -> None:
    text = (
        "<domain><devices><disk type='file' device='cdrom'><target dev='sda'/></disk>"
        "<disk type='network'><source protocol='rbd' name='p/x'/></disk></devices></domain>"
    )
    assert chains(ET.fromstring(text)) == ()


def test_volume_only_where_it_is_backed() -> None:
    head = "<volume><name>c.qcow2</name><target><path>/i/c</path><format type='qcow2'/></target>"
    assert volume("p", f"{head}</volume>") is None
    backed = f"{head}<backingStore><path>/i/b</path><format type='raw'/></backingStore></volume>"
    assert volume("p", backed) == Volume("p/c.qcow2", "/i/c", "qcow2", "/i/b")


@pytest.mark.parametrize(
    ("backing", "path"),
    [
        ("/i/base", "/i/base"),
        ('json:{"driver":"qcow2","file":{"driver":"file","filename":"/i/base"}}', "/i/base"),
        ('json:{"file.filename":"/i/base"}', "/i/base"),
        ("nbd://host/x", ""),
        ('json:{"driver":"nbd","host":"h"}', ""),
        ("json:[1]", ""),
        ("json:{", ""),
        ("", ""),
    ],
)
def test_plain_path_of_what_a_header_says(backing: str, path: str) -> None:
    assert plain_path(backing) == path


# ---- the search


class Host:
    """What libvirt would say; base: the disk that is asked about."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = made(folder / "base.qcow2")
        self.domains: dict[str, Chains] = {"me": stored(self.base)}
        self.pools: list[Volume] = []
        self.own: list[str] = []
        self.stuck = {"stuck"}
        self.users = users.Users(
            users.Sources(self.others, self.ask, self.volumes), Images(), Files()
        )

    async def find(self) -> list[FileUse]:
        return await self.users.find("me", {"vda": str(self.base)}, self.own)

    async def others(self) -> Mapping[str, str]:
        return {name: name for name in self.domains}

    async def ask(self, uuid: str) -> Chains:
        if uuid in self.stuck:
            raise TimedOut("it does not answer")
        return self.domains[uuid]

    async def volumes(self, _seconds: float) -> tuple[dict[str, list[Volume]], list[str]]:
        if "all pools" in self.stuck:
            raise TimedOut("they do not answer")
        return ({}, ["p"]) if "p" in self.stuck else ({"p": self.pools}, [])

    def clone(self, name: str, of: Path, form: str = "qcow2") -> Path:
        return made(self.folder / name, "-b", str(of), "-F", form)


def stored(path: Path, form: str = "qcow2") -> Chains:
    return Chains(stored=(Chain(((str(path), form),), form != "qcow2"),))


def running(*paths: Path) -> Chains:
    return Chains(live=(Chain(tuple((str(path), "qcow2") for path in paths), True),))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_find_tells_the_file_that_is_needed_of_a_chain(host: Host) -> None:
    """A merge writes to what an overlay stands on: a clone of that would read other data, though
    nobody needs the file that the disk is on now."""
    overlay = host.clone("overlay", host.base)
    host.domains["clone"] = stored(host.clone("a", host.base))
    host.domains["me"] = stored(overlay)
    files = [("vda", str(host.base))]

    async def find(more: list[tuple[str, str]]) -> list[FileUse]:
        return await host.users.find("me", {"vda": str(overlay)}, [], more)

    assert asyncio.run(find([])) == []
    (use,) = asyncio.run(find(files))
    assert (use.target, use.who, use.how, use.file) == ("vda", "clone", "backing", str(host.base))


def test_find_clone_of_a_clone_that_is_off_by_its_headers(host: Host) -> None:
    host.domains["clone"] = stored(host.clone("b", host.clone("a", host.base)))
    assert asyncio.run(host.find()) == [FileUse("vda", "clone", "backing")]


def test_find_running_vm_on_the_same_file_by_another_name(host: Host) -> None:
    link = host.folder / "link"
    link.symlink_to(host.base)
    hard = host.folder / "hard"
    hard.hardlink_to(host.base)
    host.domains |= {"linked": running(link), "hard": running(hard), "off": stored(host.base)}
    assert asyncio.run(host.find()) == [
        FileUse("vda", "linked", "active"),
        FileUse("vda", "hard", "active"),
    ]


def test_find_believes_xml_of_a_running_vm_without_reading_its_images(host: Host) -> None:
    host.domains["running"] = running(host.folder / "not-readable", host.base)
    assert asyncio.run(host.find()) == [FileUse("vda", "running", "backing")]


def test_find_volume_that_no_vm_has_but_not_the_domains_own(host: Host) -> None:
    clone, overlay = host.clone("clone", host.base), host.clone("overlay", host.base)
    deep = host.clone("deep", clone)
    host.own = [str(overlay)]
    host.pools = [
        Volume("p/clone", str(clone), "qcow2", str(host.base)),
        Volume("p/overlay", str(overlay), "qcow2", str(host.base)),
        Volume("p/deep", str(deep), "qcow2", str(clone)),
    ]
    assert asyncio.run(host.find()) == [
        FileUse("vda", "p/clone", "backing"),
        FileUse("vda", "p/deep", "backing"),
    ]


def test_find_never_reads_the_header_that_a_guest_wrote_to_its_raw_disk(host: Host) -> None:
    """libvirt's pool guesses qcow2 from the bytes; the VM's XML says raw."""
    raw = host.clone("raw", host.base)
    host.domains["guest"] = stored(raw, "raw")
    host.pools = [Volume("p/raw", str(raw), "qcow2", str(host.base))]
    assert asyncio.run(host.find()) == []


def test_find_stops_at_a_raw_layer_whatever_its_bytes_say(host: Host) -> None:
    fake = host.clone("fake", host.base)
    host.domains["clone"] = stored(host.clone("top", fake, "raw"))
    assert asyncio.run(host.find()) == []


def test_find_tells_what_it_could_not_look_at(host: Host) -> None:
    no_image = host.folder / "folder"
    no_image.mkdir()
    host.domains |= {"stuck": Chains(), "odd": stored(no_image)}
    host.domains["gone"] = stored(host.folder / "gone")
    assert asyncio.run(host.find()) == [
        FileUse("", "stuck", "unchecked"),
        FileUse("", "odd", "unchecked"),
    ]


def test_find_vm_that_no_longer_answers_by_what_it_said_last(host: Host) -> None:
    """As a stopped QEMU under libvirt 11.3, whose XML waits for it."""
    host.domains |= {"clone": running(host.folder / "top", host.base), "else": running(host.folder)}
    host.domains["off"] = stored(host.base)

    async def look() -> list[FileUse]:
        assert await host.find() == [FileUse("vda", "clone", "backing")]
        host.stuck |= {"clone", "else", "off"}
        return await host.find()

    assert asyncio.run(look()) == [
        FileUse("vda", "clone", "backing"),
        FileUse("vda", "off", "active"),  # it answered at once while it was off
    ]


def test_find_vm_that_only_a_list_has_asked_by_what_it_said_then(host: Host) -> None:
    host.domains["stuck"] = Chains()
    host.users.remember("stuck", running(host.folder / "top", host.base))
    assert asyncio.run(host.find()) == [FileUse("vda", "stuck", "backing")]


def test_find_vm_that_no_time_is_left_for_by_what_it_said_last(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "SECONDS", 0.5)
    host.domains["clone"] = running(host.folder / "top", host.base)

    async def never(_uuid: str) -> Chains:
        await asyncio.sleep(60)
        raise AssertionError

    sources = users.Sources(host.others, never, host.volumes)
    host.users = users.Users(sources, Images(), Files())
    host.users.remember("clone", host.domains["clone"])
    assert asyncio.run(host.find()) == [FileUse("vda", "clone", "backing")]


@pytest.mark.parametrize("stuck", ["p", "all pools"])
def test_find_pools_that_no_longer_answer_by_what_they_said_last(host: Host, stuck: str) -> None:
    clone = host.clone("clone", host.base)
    host.pools = [Volume("p/clone", str(clone), "qcow2", str(host.base))]

    async def look() -> list[list[FileUse]]:
        host.stuck.add(stuck)
        first = await host.find()
        host.stuck.discard(stuck)
        second = await host.find()
        host.stuck.add(stuck)
        return [first, second, await host.find()]

    who = {"p": "pool p", "all pools": "the storage pools"}[stuck]
    backing = [FileUse("vda", "p/clone", "backing")]
    assert asyncio.run(look()) == [[FileUse("", who, "unchecked")], backing, backing]


def test_find_header_on_a_mount_that_died_by_what_it_said_last(host: Host) -> None:
    dead = host.folder / "dead"
    dead.mkdir()
    clone = host.clone("dead/clone", host.base)
    host.domains["clone"] = stored(clone)

    class Silent(Files):
        async def _ask(self, call: Any, path: str) -> Any:
            return None if path == str(clone) else await super()._ask(call, path)

    async def look() -> list[FileUse]:
        found = await host.find()
        host.users.files, host.users.images = Silent(), Images("/nonexistent/qemu-img")
        assert await host.find() == found
        host.users.files = Files()
        clone.unlink()
        assert await host.find() == []
        return found

    assert asyncio.run(look()) == [FileUse("vda", "clone", "backing")]


def test_find_ends_in_time(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "SECONDS", 0.2)
    never = Images(program=str(host.folder / "sleeps"))
    Path(never.program).write_text("#!/bin/sh\nexec sleep 60\n")
    Path(never.program).chmod(0o755)
    host.users.images = never
    host.domains["slow"] = stored(host.clone("a", host.base))
    assert asyncio.run(host.find()) == [FileUse("", "slow", "unchecked")]


def test_find_reads_an_unchanged_header_once(host: Host) -> None:
    clone = host.clone("a", host.base)
    files = Files()
    search = users.Users(None, Images(), files)  # type: ignore[arg-type]

    async def twice() -> None:
        assert await search._header(str(clone)) == (str(host.base), "qcow2")
        search.images.program = "/nonexistent/qemu-img"
        assert await search._header(str(clone)) == (str(host.base), "qcow2")
        search.images.program = "qemu-img"
        other = made(host.folder / "other-base.qcow2")
        qemu_img("rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", other, clone)
        assert await search._header(str(clone)) == (str(other), "qcow2")

    asyncio.run(twice())


def test_volumes_of_pools_that_hang_are_asked_for_by_one_thread() -> None:
    async def look() -> int:
        hypervisor = LibvirtHypervisor("test:///default")
        asked: list[str] = []

        async def never(what: str, _call: Any, timeout: float, _answered: Any) -> None:
            asked.append(what)
            await asyncio.sleep(timeout)
            raise TimedOut("it takes too long")

        hypervisor._connections.look = never  # type: ignore[assignment, method-assign]
        for words in ("takes too long", "an earlier question"):
            with pytest.raises(TimedOut, match=words):
                await hypervisor._volumes(0.1)
        await hypervisor.close()
        return len(asked)

    assert asyncio.run(look()) == 1
