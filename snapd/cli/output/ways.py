"""The words for ways out (Ways of problems, errors and previews) as what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from . import text

_WAYS = {
    "adopt": "adopt them, where they are known to be ours",
    "all-disks": "leave --disks out: all disks are taken",
    "allow-devices": "let the service see devices: systemctl edit virtsnapd, with "
    "PrivateDevices=no and DeviceAllow=block-* r below [Service]",
    "allow-reading": "let the user virtsnapd read the image where it is",
    "attach-disk": "attach the disk again, or shut the VM off and on",
    "bring-it-back": "bring it back, and start it: a network by virsh net-start",
    "convert-to-qcow2": "convert the disk: qemu-img convert -O qcow2, with the VM off",
    "correct-format": "have the VM's XML name the format that the file has: virsh edit",
    "define-overlay": "define the VM on its overlay again: virsh edit; or, where the overlay was "
    "merged, virsh snapshot-delete --metadata",
    "define": "make the VM persistent: virsh define",
    "delete": "delete the snapshot again",
    "delete-branch": "delete, or unpin, what branches off, the end of a branch first: "
    "'virtsnap delete VM SNAPSHOT'; the next run then merges the rest",
    "delete-checkpoints": "delete its checkpoints: virsh checkpoint-list, virsh checkpoint-delete",
    "delete-children": "delete those that stand on it first",
    "delete-others": "delete other snapshots of the VM: each is merged away",
    "detach-disk": "detach the disk",
    "discard-saved-state": "throw the saved state away: virsh managedsave-remove",
    "eject": "take the disc out: virsh change-media VM DRIVE --eject",
    "fix-file": "correct the file; 'virtsnap policy validate FILE' says what is wrong",
    "force": "do it all the same: --force",
    "force+discard-saved-state": "give up the RAM in it: --force --discard-saved-state",
    "install-agent": "install and start qemu-guest-agent in the guest",
    "internal": "ask for kind internal",
    "make-room": "make room on the file system of its images",
    "max-pause": "allow a longer standstill: --max-pause",
    "mend-storage": "bring the storage back; what was missed is then made up for",
    "memory": "save RAM as well: --memory",
    "memory-auto": "leave --memory out: RAM is saved where there is any",
    "move-images": "keep the images where AppArmor lets libvirt read them: /var/lib/libvirt/images",
    "no-memory": "leave RAM out: --no-memory",
    "other-name": "take another name",
    "qcow2-nvram": "give the VM an NVRAM file in qcow2",
    "quiesce-try": "--quiesce try goes on without the agent",
    "reload": "have the files read again: systemctl reload virtsnapd",
    "remove-bitmap": "remove the bitmap: qemu-img bitmap --remove, with the VM off",
    "remove-file": "move the store's file away; virtsnapd begins a new one",
    "reset": "if it stays so: reset the VM, as with its reset button: virsh reset",
    "restart": "restart: systemctl restart virtsnapd",
    "restart-agent": "have the guest's qemu-guest-agent answer again: restart it in the guest",
    "restore-file": "bring the file back",
    "resume": "have the VM run on: virsh resume",
    "revert": "revert again",
    "shut-off": "shut the VM off first",
    "start": "start the VM: virsh start",
    "stop-other-vm": "shut the other VM off first",
    "try-again": "try again in a while",
    "unpin": "take the pin off: 'virtsnap unpin VM SNAPSHOT'",
    "upgrade-libvirt": "libvirt 12.1 or newer does it",
    "virsh": "use virsh",
    "wait": "wait until it is done, and try again",
}


def told(words: Iterable[str], bus: str, problem: Mapping[str, Any] | None = None) -> list[str]:
    """What to do for each word; a word that is not known stays as it is.

    problem: the row of ListProblems that they belong to, or of a job with its ErrorDetail.
    """
    return [_told(word, bus, problem or {}) for word in words]


def _told(word: str, bus: str, problem: Mapping[str, Any]) -> str:
    vm = text.typable(problem.get("DomainName", ""), problem.get("DomainUUID", ""))
    on, policy = [vm] if vm else [], problem.get("Policy", "")
    if word == "unpin" and problem.get("Item") and vm:
        return f"take the pin off: {text.command(bus, 'unpin', vm, problem['Item'])}"
    if word == "policy-enable":
        return text.command(bus, "policy", "enable", "nightly")
    if word == "policy-run":
        return f"make it up now: {text.command(bus, 'policy', 'run', policy or 'POLICY', *on)}"
    if word == "audit":
        return text.command(bus, "audit", *on)
    if word == "unhold":
        of = ["--policy", policy] if policy else []
        return f"when it is over: {text.command(bus, 'unhold', *on, options=of)}"
    if word == "confirm-prune":
        words = (policy or "POLICY", vm or "VM")
        return f"see what would go, and agree: {text.command(bus, 'policy', 'confirm', *words)}"
    return text.systemctl(text.on_bus(_WAYS.get(word, word), bus), bus)
