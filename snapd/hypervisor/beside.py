"""What lies beside the disks of VMs: files that look like an overlay or like saved RAM.

A bounded number of names and first bytes is read, within a bounded time, and nothing is opened that
those bytes point at. qemu-img isn't asked: a file that nobody lists may have been a raw disk, whose
guest wrote a header for it to follow.
"""

from __future__ import annotations

import os
import stat
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

QCOW2 = b"QFI\xfb"
SAVED = (b"LibvirtQemudSave", b"LibvirtQemudPart")
HEAD_BYTES = 92
"""libvirt's header of a save file; its XML follows. Of a qcow2's header it holds what is needed."""
XML_BYTES = 4 << 20
BACKING_BYTES = 1023
"""QEMU allows no longer name."""
NAMES = 5000
"""So many names of a folder are looked at."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file: path, without symbolic links; backing: of a qcow2, what it is backed by (likewise),
    "" = nothing; saved: UUID of the VM whose RAM it holds, "" = it is no memory file."""

    path: str
    backing: str = ""
    saved: str = ""


@dataclass(frozen=True, slots=True)
class Beside:
    """All of them. real: the files asked about -> their paths without symbolic links; unread:
    folder or file -> why it could not be looked at."""

    files: tuple[FoundFile, ...] = ()
    real: dict[str, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)


def look(
    folders: Iterable[str], named: Iterable[str], real: Callable[[str], str] = os.path.realpath
) -> Beside:
    """The files in these folders. named: files whose real paths are wanted as well; real: how to
    get them, an OSError where a file system doesn't answer. For a thread."""
    found: dict[str, FoundFile] = {}
    unread: dict[str, str] = {}
    paths = {file: real(file) for file in named}
    for folder in sorted(folders):
        try:
            with os.scandir(real(folder)) as entries:
                for number, entry in enumerate(entries):
                    if number >= NAMES:
                        unread[folder] = f"over {NAMES} files lie there"
                        break
                    _add(f"{folder}/{entry.name}", real, found, unread)
        except OSError as e:
            unread[folder] = e.strerror or str(e)
    return Beside(tuple(found.values()), paths, unread)


def _add(
    name: str, real: Callable[[str], str], found: dict[str, FoundFile], unread: dict[str, str]
) -> None:
    path = name
    try:
        path = real(name)
        # what is no plain file isn't opened: a pipe would wait for ever
        if path in found or not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
            return
        with Path(path).open("rb") as file:
            head = file.read(HEAD_BYTES)
            if head.startswith(QCOW2):
                found[path] = FoundFile(path, backing=_backing(path, head, file, real))
            elif head.startswith(SAVED):
                size = int.from_bytes(head[20:24], sys.byteorder)
                found[path] = FoundFile(path, saved=_uuid(file.read(min(size, XML_BYTES))))
    except FileNotFoundError:
        return  # gone meanwhile
    except OSError as e:
        unread[path] = e.strerror or str(e)


def _backing(path: str, head: bytes, file: BinaryIO, real: Callable[[str], str]) -> str:
    """The backing file in a qcow2's header: QEMU's docs/interop/qcow2.txt. Names that are no path
    (`json:`, `nbd:`) are nobody's file here."""
    offset, size = int.from_bytes(head[8:16], "big"), int.from_bytes(head[16:20], "big")
    if not offset or not 0 < size <= BACKING_BYTES or offset >= 1 << 62:
        return ""
    file.seek(offset)
    name = os.fsdecode(file.read(size)).removeprefix("file:")
    if "\0" in name or name.startswith("json:"):
        return ""
    return real(str(Path(path).parent / name))


def _uuid(text: bytes) -> str:
    """The UUID in a domain's XML, as a save file has it after its header; "" = none."""
    try:
        return ET.fromstring(text.split(b"\0")[0]).findtext("uuid") or ""
    except ET.ParseError:
        return ""
