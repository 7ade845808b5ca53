"""Every key of the two kinds of files with its default and what it means, for those who write them.

The manual pages are made of these tables; a test holds them against what the readers take.
Imports nothing, so that a build without our dependencies can read it.
"""

from __future__ import annotations

from typing import NamedTuple


class Key(NamedTuple):
    """name: as in the file, `table.key`; default: as it would be written there, or in words;
    kind: text, number (a whole one) or list (of text)."""

    name: str
    default: str
    meaning: str
    kind: str = "text"


POLICY = (
    Key(
        "domains",
        "required",
        'Which VMs it covers: globs on their present names, or "uuid:...". Renaming a VM may have '
        "it join or leave a policy; its snapshots and records stay with its UUID.",
        kind="list",
    ),
    Key("exclude", "[]", "Those of them that it leaves out, written the same way.", kind="list"),
    Key(
        "schedule",
        "none",
        'When: five fields as in crontab(5), or "@hourly", "@daily", "@weekly", "@monthly", '
        '"@yearly". This or on is required.',
    ),
    Key(
        "timezone",
        "the host's, when the file is read",
        'The zone of the schedule, and of the days and weeks of [keep], as "Europe/Berlin". '
        "Clock changes neither double nor lose a run.",
    ),
    Key(
        "catch_up",
        '"once"',
        'What becomes of slots that were missed while the host was off or asleep: "once" makes '
        'one up for all of them, "skip" none.',
    ),
    Key("max_lateness", "none", "A slot that is later than this is not made up any more."),
    Key("randomized_delay", '"0s"', "Spread the VMs of a slot over this time."),
    Key(
        "on",
        "[]",
        'Take a snapshot when this happens to a VM: "start", "shutdown", "crash"; instead of a '
        "schedule or beside it. Ignored while the host itself is stopping.",
        kind="list",
    ),
    Key("min_gap", '"1h"', "With on: not within this time of the policy's last run on that VM."),
    Key(
        "kind",
        '"auto"',
        'The kind of snapshot. "internal": inside the images. "external": the disks go on in new '
        "files, and retention merges them; needs libvirt 9.9 or newer. "
        '"auto": internal where every disk allows it and the running VM does not stand still for '
        "over a second (images of many GiB), else external where that can be made, reverted and "
        "merged; a VM that has snapshots keeps their kind.",
    ),
    Key(
        "memory",
        '"no"',
        '"yes": save the RAM of a running VM, too; it stands still while that is written.',
    ),
    Key(
        "max_pause",
        '"60s"',
        "What a running VM may stand still. The last measured pause counts, else an estimate; "
        "beyond it the run fails and says pause-too-long.",
    ),
    Key(
        "quiesce",
        '"try"',
        'Have the guest agent freeze the file systems for that moment: "no"; "try", where there '
        'is one that can; "require", else the run fails.',
    ),
    Key(
        "only_if",
        '"always"',
        '"running" leaves out VMs that are off, "changed" those that have not run since their '
        "last snapshot.",
    ),
    Key("keep.last", "none", "Keep the newest N.", kind="number"),
    Key(
        "keep.hourly",
        "none",
        "Keep the newest of each of the last N hours that have one.",
        kind="number",
    ),
    Key("keep.daily", "none", "The same of days.", kind="number"),
    Key("keep.weekly", "none", "The same of weeks (Monday to Sunday).", kind="number"),
    Key("keep.monthly", "none", "The same of months.", kind="number"),
    Key("keep.yearly", "none", "The same of years.", kind="number"),
    Key("keep.within", "none", "Keep all that were made within this time before the newest one."),
    Key("limits.max_age", "none", "Let go what is older, whatever the rules keep."),
    Key(
        "limits.max_count",
        "none",
        "Let go the oldest beyond this number, whatever they keep.",
        kind="number",
    ),
    Key(
        "limits.min_free",
        '"5%"',
        'What has to stay free on the file systems of the VM\'s images: a part as "5%", or a '
        'size as "20GiB". Below it nothing is made; what the policy would let go after one more '
        "snapshot may be deleted for it first.",
    ),
)

DAEMON = (
    Key(
        "libvirt.uri",
        "the bus's: qemu:///system or qemu:///session",
        "The libvirt to work with.",
    ),
    Key(
        "libvirt.monitor",
        "true",
        "false: use no direct monitor commands, which libvirt calls unsupported. A running VM can "
        "then be snapshotted with its RAM only.",
    ),
    Key("safety.last", "3", "Safety snapshots kept of each VM; the newest one always is."),
    Key("safety.max_age", '"14d"', "Age from which safety snapshots are let go."),
    Key("limits.parallel", "4", "VMs that are worked on at once."),
)
