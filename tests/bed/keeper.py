"""Ends a private libvirt when its owner is done or dead: python3 -m tests.bed.keeper OWNER SCRATCH.

It waits for the end of its standard input, which the owner alone holds open, and then kills every
process in its mount namespace but the owner and itself: libvirtd, its guests, what tests started.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path


def processes_here(but: set[int]) -> list[int]:
    """The processes in our mount namespace, without those in `but`."""
    ours = os.readlink("/proc/self/ns/mnt")  # noqa: PTH115
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            theirs = os.readlink(folder / "ns/mnt")  # noqa: PTH115
        except OSError:
            continue  # it ended, or is only waiting to be reaped
        if theirs == ours and int(folder.name) not in but:
            found.append(int(folder.name))
    return found


def end_all(owner: int) -> None:
    deadline = time.monotonic() + 20
    while (left := processes_here({owner, os.getpid()})) and time.monotonic() < deadline:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def remove(scratch: Path) -> None:
    """Remove the scratch folder, and folders of the machine that were only made to be covered."""
    record = scratch / "made-folders"
    made = record.read_text().split() if record.exists() else []
    for folder in made:
        subprocess.run(["umount", "--lazy", folder], check=False)
        try:
            Path(folder).rmdir()
        except OSError:
            continue  # somebody uses it by now
    shutil.rmtree(scratch)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.buffer.read()
    end_all(int(sys.argv[1]))
    remove(Path(sys.argv[2]))


if __name__ == "__main__":
    main()
