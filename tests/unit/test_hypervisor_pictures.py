"""A snapshot's XML is parsed once for as long as libvirt tells the same, and what is told is what a
first look tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from snapd.hypervisor import reading
from snapd.hypervisor.pictures import Pictures

REDEFINE = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
CURRENT = REDEFINE | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT


HOST = """<node><domain type='test'><name>web</name><memory unit='MiB'>64</memory>
<os><type>hvm</type></os></domain></node>"""


@pytest.fixture
def dom(tmp_path: Path) -> Iterator[libvirt.virDomain]:
    """A running VM with three snapshots."""
    (tmp_path / "host.xml").write_text(HOST)
    conn = libvirt.open(f"test://{tmp_path}/host.xml")
    dom = conn.lookupByName("web")
    for name in ("one", "two", "three"):
        make(dom, name)
    yield dom
    conn.close()


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each text that is parsed."""
    texts: list[str] = []
    parse = reading.snapshot

    def snapshot(text: str) -> Any:
        texts.append(text)
        return parse(text)

    monkeypatch.setattr(reading, "snapshot", snapshot)
    return texts


def make(dom: libvirt.virDomain, name: str, more: str = "", flags: int = 0) -> None:
    dom.snapshotCreateXML(f"<domainsnapshot><name>{name}</name>{more}</domainsnapshot>", flags)


def redefine(dom: libvirt.virDomain, name: str, flags: int, old: str = "", new: str = "") -> None:
    text = dom.snapshotLookupByName(name).getXMLDesc()
    dom.snapshotCreateXML(text.replace(old, new) if old else text, flags)


ACTS: dict[str, tuple[int, Callable[[libvirt.virDomain], Any]]] = {
    "nothing": (0, lambda _dom: None),
    "made": (1, lambda dom: make(dom, "four")),
    "described": (1, lambda dom: redefine(dom, "one", REDEFINE, "</name>", NEW)),
    "another is current": (0, lambda dom: redefine(dom, "one", CURRENT)),
    "leaf deleted": (0, lambda dom: dom.snapshotLookupByName("three").delete()),
    "parent deleted": (1, lambda dom: dom.snapshotLookupByName("two").delete()),
    "moved in time": (1, lambda dom: redefine(dom, "two", REDEFINE, "<creationTime>1", EARLIER)),
}
NEW = "</name><description>new</description>"
EARLIER = "<creationTime>0"


@pytest.mark.parametrize("what", ACTS)
def test_only_what_is_told_anew_is_parsed(
    dom: libvirt.virDomain, parsed: list[str], what: str
) -> None:
    many, act = ACTS[what]
    pictures = Pictures(images=False)
    pictures.read(dom)
    assert len(parsed) == 3
    del parsed[:]
    act(dom)
    for times in (many, 0):
        info, found, _chains = pictures.read(dom)
        assert len(parsed) == times
        assert found == reading.snapshots(dom)
        assert [s.name for s in found if s.current] == [info.current]
        del parsed[:]


def test_nothing_is_kept_of_what_is_off_or_gone(dom: libvirt.virDomain, parsed: list[str]) -> None:
    pictures = Pictures(images=False)
    uuid = dom.UUIDString()
    pictures.read(dom)
    pictures.forget({uuid})
    assert pictures._texts.keys() == {uuid}
    pictures.forget([])
    assert not pictures._texts
    pictures.read(dom)
    dom.destroy()
    pictures.read(dom)
    assert not pictures._texts
    assert len(parsed) == 6  # the last time, they were still there
