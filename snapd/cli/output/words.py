"""What the bus's reason words and Notes mean, in the words of the contract."""

from __future__ import annotations

REASONS = {
    "active-non-leaf": "the VM runs on a snapshot that others descend from",
    "agent-unavailable": "quiescing was required and no guest agent can do it",
    "all-disks": "an internal snapshot holds every writable disk, not some",
    "apparmor-commit": "the host's AppArmor keeps QEMU from merging an overlay",
    "backup": "a backup of the VM is running",
    "block-device": "a disk is a block device, or of another type than a file",
    "block-job": "a block job (copy, commit, pull) is running on a disk",
    "branching": "another branch stands on it, too",
    "chain-limit": "the chain of overlays is too long",
    "checkpoints": "a backup checkpoint or bitmap is in the way of a revert",
    "data-file": "an image keeps its data in a second file",
    "encrypted-disk": "a disk is encrypted",
    "external-unsupported": "external snapshots cannot be made, reverted or merged here",
    "frozen": "its file systems may be frozen since an earlier snapshot, which RAM would keep",
    "half-made": "an image and libvirt's record disagree, or something was broken off",
    "image-unreadable": "an image could not be read",
    "in-use": "a job is about to revert to it",
    "io-error": "the guest is paused since a disk could not be written",
    "managed-save": "the VM's RAM is in a managed save",
    "min-free": "less than the policy's min_free would stay free on a file system of the VM's "
    "images (Need, Have)",
    "missing-device": "a host device that the VM had then is not there",
    "missing-disk": "a disk has no file",
    "missing-file": "a file, folder or emulator that the VM needed then is not there",
    "missing-network": "a network or bridge that the VM had then is not there or not active",
    "mixed-tree": "the VM has snapshots of the other kind",
    "monitor-off": "monitor = false allows no snapshot of a running VM without its RAM",
    "name-taken": "the VM has a snapshot of that name",
    "name-unloadable": "a snapshot with RAM has a name under which this libvirt cannot load it",
    "network-disk": "a disk is on the network",
    "no-disk": "there is no writable disk",
    "no-memory": "RAM was asked for, and the VM is off; or it would be lost unasked",
    "no-space": "a file system has not the room (Need, Have)",
    "not-in-chain": "the disks are not on the overlays of the current snapshot",
    "other-file": "a disk is, or was then, on another file",
    "pause-too-long": "the guest would stand still for longer than max_pause",
    "pending-config": "the running and the stored configuration, or then and now, differ in a disk",
    "pinned": "it is pinned",
    "raw-disk": "a disk is raw",
    "shared-base": "another image is backed by a disk of the VM",
    "shared-disk": "a disk is shared, or in use by another VM",
    "tpm-newer": "the TPM would be newer than the disks",
    "transient": "the VM is transient",
    "transient-disk": "a disk is transient",
    "uefi-raw-nvram": "its UEFI variables are in a raw file, which libvirt does not snapshot",
    "unchecked": "it has to be measured, which a preview does, or somebody who may share a disk "
    "did not answer",
    "unfinished-job": "another job has the VM, or it is in no state to begin",
    "unmigratable-device": "a device keeps the RAM from being saved",
    "would-be-plaintext": "what an encrypted disk holds would be written to a plain file",
    "wrong-format": "an image is not plain qcow2 as it is declared",
    "children": "it has children, which stand on its images",
}
NOTES = {
    "apparmor-commit": "it was to be merged before the VM was stopped and started again",
    "external": "it is an external one, as no internal one could be made",
    "memory-left-out": "it was made without RAM, where that was not asked for",
    "not-revertible": "it could not be reverted to when it was made: it serves a backup alone",
    "nvram-left-out": "the UEFI variables are not in it",
    "saved-state-left-out": "the RAM of a managed save is not in it",
    "then-not-done": "the VM was off, so that there was nothing to restart",
    "tpm-left-out": "the TPM's state is not in it",
}


def reason(word: str) -> str:
    """`raw-disk: a disk is raw`; a word that is not known stays alone."""
    return _told(word, REASONS)


def note(word: str) -> str:
    """The same for a snapshot's Notes, among which are reason words as well."""
    return _told(word, {**REASONS, **NOTES})


def _told(word: str, meanings: dict[str, str]) -> str:
    return f"{word}: {meanings[word]}" if word in meanings else word
