#!/usr/bin/python3
"""A live backup of a VM's disks: what they hold at one instant, copied while the VM runs on.

    packaging/examples/backup.py VM FOLDER [-- GENERAL OPTIONS OF VIRTSNAP]

An external snapshot sets the VM's images to rest and has it write into overlays; the images are
copied; deleting the snapshot merges the overlays back. It is deleted whatever happens (but for a
SIGKILL: `virtsnap list VM` shows it then), and this script touches no file of the VM. It needs
virtsnap, qemu-img, libvirt 9.9 or newer, and a VM without internal snapshots, for one tree never
has both kinds.

In FOLDER there is a file VM-DISK.qcow2 for each disk then; of an earlier backup it takes the place
in one step, when it is whole. The VM's definition and its UEFI variables are not in it: keep
`virsh dumpxml VM` and the NVRAM file as well. Copy FOLDER to another machine: a backup on the disk
of the VM is none.

For every night, in a unit or a crontab of a user who may create, inspect and delete without being
asked (root, or the group libvirt): packaging/examples/backup.py web-1 /srv/backup
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NOT_FOUND = 3
TRIES = 5


def main() -> int:
    arguments, _, general = (list(part) for part in split(sys.argv[1:]))
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    vm, folder = arguments[0], Path(arguments[1])
    if not folder.is_dir():
        print(f"backup: {folder} is no folder", file=sys.stderr)
        return 2
    for each in STOP:  # so that `finally` is gone through
        signal.signal(each, lambda number, _frame: sys.exit(128 + number))
    virtsnap = ["virtsnap", *general]
    name = time.strftime(f"backup-%Y%m%dT%H%M%SZ-{os.getpid()}", time.gmtime())
    failed = True
    try:
        # --trial keeps it out of every policy's retention. A signal waits until it is made: the
        # daemon would go on making it after `delete` below had found none.
        how = ["--kind", "external", "--no-memory", "--trial", "--description", "a live backup"]
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
        try:
            run(*virtsnap, "create", *how, "--", vm, name)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)
        rows = json.loads(run(*virtsnap, "files", "--json", "--", vm, name))["rows"]
        for row in rows:
            copy(row, folder / f"{plain(vm)}-{plain(row['Disk'])}.qcow2")
        failed = False
    except subprocess.CalledProcessError as e:
        print(f"backup: {e.cmd[0]} failed with code {e.returncode}", file=sys.stderr)
    finally:
        for each in STOP:
            signal.signal(each, signal.SIG_IGN)
        merged = delete(virtsnap, vm, name)
    return 1 if failed or not merged else 0


def split(words: list[str]) -> tuple[list[str], str, list[str]]:
    """What stands before and after `--`."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], "--", words[at + 1 :]


def plain(text: str) -> str:
    """A VM may be called anything, a file may not."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text).lstrip(".") or "vm"


def run(*command: str) -> str:
    """Its output; what it says of errors goes to ours. No shell: nothing has to be quoted."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def copy(row: dict[str, str], to: Path) -> None:
    """A whole image, also of what it is backed by. Its format is said, never guessed: the guest
    could write a header into a raw disk. -U: QEMU has the image open, to read."""
    part = to.with_name(f"{to.name}.part")
    print(f"backup: {row['Disk']}: {row['File']} -> {to}", file=sys.stderr)
    try:
        part.unlink(missing_ok=True)
        part.touch(0o600)
        how = ["-U", "-f", row["Format"], "-O", "qcow2"]
        run("qemu-img", "convert", *how, "--", row["File"], str(part))
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.rename(to)
    finally:
        part.unlink(missing_ok=True)


def delete(virtsnap: list[str], vm: str, name: str) -> bool:
    """Merge it back; also where it isn't known whether it was made. What can't be merged now is
    left as it is: never remove an overlay by hand."""
    for number in range(TRIES):
        code = subprocess.run([*virtsnap, "delete", "--yes", "--", vm, name]).returncode
        if code in (0, NOT_FOUND):
            return True
        time.sleep(2**number)
    print(f"backup: snapshot {name} of VM {vm} may be there: delete it", file=sys.stderr)
    return False


if __name__ == "__main__":
    sys.exit(main())
