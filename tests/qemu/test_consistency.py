"""A snapshot is one instant on all disks, whatever the guest writes meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bed.guest import Guest
from tests.client import Client
from tests.qemu.conftest import know
from tests.qemu.steps import listed, qemu_img, tag_file

COUNT = 30
NUMBERS = ("vdc", "vdd")
# A number to one disk, and when it is there, to the next; beside it, what an image has to grow for
WRITER = (
    "n=100000000; while :; do n=$((n + 1)); for disk in vdc vdd; do "
    "echo $n | dd of=/dev/$disk conv=notrunc,fsync status=none; done; echo $n >/run/number; done"
)
LOAD = (
    "i=0; while :; do i=$(((i + 8) % 80)); for disk in vda vdb; do sleep 0.05; dd if=/bin/busybox "
    "of=/disk/$disk/load bs=64k count=8 seek=$i conv=notrunc,fsync status=none; done; done"
)


@contextmanager
def two_more_disks(guest: Guest) -> Iterator[list[Path]]:
    """Two disks without a file system."""
    paths = [guest.folder / f"{name}.qcow2" for name in NUMBERS]
    for name, path in zip(NUMBERS, paths, strict=True):
        qemu_img("create", "-f", "qcow2", path, "1M")
        guest.virsh("attach-disk", str(path), name, "--subdriver", "qcow2", "--live", "--config")
    try:
        yield paths
    finally:
        for name, path in zip(NUMBERS, paths, strict=True):
            guest.virsh("detach-disk", name, "--config")
            path.unlink()


def number(image: Path, snapshot: str, into: Path) -> int:
    """What a snapshot has at the beginning of the disk, exported by QEMU's own tool."""
    qemu_img(
        *("convert", "-f", "qcow2", "-O", "raw", "-l", f"snapshot.name={snapshot}", image, into)
    )
    with into.open("rb") as file:
        return int(file.read(9) or b"0")


def test_30_snapshots_under_load_have_the_second_disk_never_ahead_and_at_most_one_behind(
    client: Client, guest: Guest, tmp_path: Path
) -> None:
    with two_more_disks(guest) as (first, second):
        client.until("they are there", lambda: "vdd" in guest.cmd("sh", "cat /proc/partitions"))
        for each in (WRITER, LOAD):
            guest.cmd("sh", f"({each}) >/dev/null 2>&1 </dev/null &")
        client.until("it writes", lambda: guest.cmd("sh", "cat /run/number") > "100000003")
        names = [f"s{n}" for n in range(COUNT)]
        for name in names:
            client.create("vm", name, memory="no", quiesce="no")
        tag_file(guest, first, "control")  # one after the other, as nobody should: this is seen
        then = guest.cmd("sh", "cat /run/number")
        client.until("it wrote on", lambda: guest.cmd("sh", "cat /run/number") > then)
        tag_file(guest, second, "control")
        guest.virsh("destroy")
        know(client, guest)
        assert set(listed(guest)) == set(names)
        pairs = [[number(p, n, tmp_path / "raw") for p in (first, second)] for n in names]
        print(f"first disk ahead by {[one - two for one, two in pairs]}; {pairs[0]}, {pairs[-1]}")
        assert {one - two for one, two in pairs} <= {0, 1}
        ones = [one for one, _ in pairs]
        assert ones == sorted(ones) and len(set(ones)) > COUNT // 2
        late = [number(p, "control", tmp_path / "raw") for p in (first, second)]
        assert late[1] > late[0], "cuts of two moments would not be seen"
        for path in (*guest.images, first, second):
            qemu_img("check", "-f", "qcow2", path)
