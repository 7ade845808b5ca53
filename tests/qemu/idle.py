"""VMs that run and do nothing: no kernel, empty disks. They start in a second and sleep, which is
all that many questions about images, tags and refusals need."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tests.bed.guest import Guest
from tests.bed.recipe import Disk, Hardware
from tests.qemu.steps import listed, qemu_img, tags


class IdleGuest(Guest):
    """inside: what else is in a disk's XML, by its number."""

    def __init__(self, *words: Any) -> None:
        super().__init__(*words)
        self.inside: dict[int, str] = {}

    @classmethod
    def empty(cls, name: str, images: Path, *, disks: Sequence[str] = ("qcow2",)) -> Self:
        folder = images / name
        folder.mkdir()
        made = [Disk(folder / f"vd{chr(97 + i)}.{form}", form) for i, form in enumerate(disks)]
        for disk in made:
            qemu_img("create", "-q", "-f", disk.format, disk.path, "1M")
        return cls(name, folder, made, Hardware(memory=32, agent=False))

    @property
    def xml(self) -> str:
        text = re.sub("<kernel>.*</cmdline>", "", super().xml, flags=re.DOTALL)
        for index, element in self.inside.items():
            target = f"<target dev='vd{chr(97 + index)}'"
            text = text.replace(target, f"{element}{target}")
        return text

    def seen(self) -> tuple[Any, ...]:
        """Which QEMU it is, what libvirt and the images say; off: every byte of the images."""
        number = self.virsh("domid")
        sums = [hashlib.sha256(p.read_bytes()).hexdigest() for p in self.images if p.exists()]
        return (self.state(), number, tags(self), listed(self), sums if number == "-" else [])


@contextmanager
def left_alone(guest: IdleGuest) -> Iterator[None]:
    """What happens inside stops nothing and changes no image and no list."""
    before = guest.seen()
    yield
    assert guest.seen() == before
