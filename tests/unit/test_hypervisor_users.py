"""Who else needs a disk's file: libvirt's answers are given, the images are real."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

import pytest

from snapd.errors import TimedOut
from snapd.hypervisor import FileUse, users
from snapd.hypervisor.chains import Chain, Chains, Volume, chains, plain_path, volume
from snapd.hypervisor.files import Files
from snapd.hypervisor.images import Images
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

    async def find(self) -> list[FileUse]:
        async def others() -> Mapping[str, str]:
            return {name: name for name in self.domains}

        async def ask(uuid: str) -> Chains:
            if uuid == "stuck":
                raise TimedOut("it does not answer")
            return self.domains[uuid]

        async def volumes(_seconds: float) -> tuple[list[Volume], list[str]]:
            return self.pools, []

        files = Files()
        found = users.Users(users.Sources(others, ask, volumes), Images(), files)
        return await found.find("me", {"vda": str(self.base)}, self.own)

    def clone(self, name: str, of: Path, form: str = "qcow2") -> Path:
        return made(self.folder / name, "-b", str(of), "-F", form)


def stored(path: Path, form: str = "qcow2") -> Chains:
    return Chains(stored=(Chain(((str(path), form),), form != "qcow2"),))


def running(*paths: Path) -> Chains:
    return Chains(live=(Chain(tuple((str(path), "qcow2") for path in paths), True),))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


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


def test_find_ends_in_time(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "SECONDS", 0.2)
    never = Images(program=str(host.folder / "sleeps"))
    Path(never.program).write_text("#!/bin/sh\nexec sleep 60\n")
    Path(never.program).chmod(0o755)
    monkeypatch.setattr(f"{__name__}.Images", lambda: never)
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
