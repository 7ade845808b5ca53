"""The vocabulary as frozen data: domains, snapshots, records, policies. No I/O here.

Times are whole seconds UTC (int) unless a name says otherwise; 0 means never or unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum


class State(StrEnum):
    """What a domain does, or did when a snapshot was taken."""

    RUNNING = "running"
    PAUSED = "paused"
    SHUTOFF = "shutoff"
    CRASHED = "crashed"
    SUSPENDED = "suspended"
    UNKNOWN = "unknown"

    @property
    def active(self) -> bool:
        """Whether there is a QEMU behind it."""
        return self in (State.RUNNING, State.PAUSED, State.SUSPENDED)


class Kind(StrEnum):
    """Where a snapshot lives: inside the image, or as an overlay."""

    INTERNAL = "internal"
    EXTERNAL = "external"


class Consistency(StrEnum):
    """What was really got."""

    OFFLINE = "offline"
    MEMORY = "memory"
    QUIESCED = "quiesced"
    CRASH = "crash"


class Origin(StrEnum):
    """Who made a snapshot; foreign = nobody that our store knows."""

    MANUAL = "manual"
    POLICY = "policy"
    EVENT = "event"
    SAFETY = "safety"
    TRIAL = "trial"
    FOREIGN = "foreign"


class Status(StrEnum):
    """Whether a snapshot can be counted on."""

    OK = "ok"
    CREATING = "creating"
    DELETING = "deleting"
    BROKEN = "broken"
    NEEDS_ATTENTION = "needs-attention"


class Verb(StrEnum):
    """What a job does."""

    CREATE = "create"
    REVERT = "revert"
    DELETE = "delete"
    RUN = "run"
    PRUNE = "prune"
    AUDIT = "audit"
    DELETE_OWN = "delete-own"


class JobState(StrEnum):
    """Where a job stands; unknown = its call broke off and is not settled yet."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @property
    def finished(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Disk:
    """One disk of a domain's XML, in libvirt's words.

    target: `vda`; source: file path, or the device, volume or network name; format: the driver
    type (`qcow2`, `raw`, "" where none is given); kind: the disk's type (`file`, `block`,
    `network`, `volume`, ...); device: `disk`, `cdrom`, `floppy`, `lun`.
    """

    target: str
    source: str
    format: str
    kind: str = "file"
    device: str = "disk"
    alias: str = ""
    readonly: bool = False
    shareable: bool = False
    transient: bool = False
    encrypted: bool = False
    data_file: bool = False

    @property
    def writable(self) -> bool:
        """Whether a snapshot has to include it: the guest can change what is on it."""
        return bool(self.source) and not self.readonly and self.device != "cdrom"


NVRAM = "nvram"  # stands where a disk's target would; no disk of libvirt's can be called so


@dataclass(frozen=True, slots=True)
class DomainInfo:
    """A domain as libvirt has it now.

    memory: RAM in bytes. tpm: it has an emulated TPM, whose state only a snapshot with RAM holds.
    io_error: paused by QEMU since a disk could not be written (a full file system). busy_since:
    since when somebody has a job on it, 0 = nobody, as far as that can be told at once. instance:
    libvirt's number of the running VM, another one after every start and every internal revert; -1
    = off. nvram: the image of its UEFI variables (target NVRAM), if qcow2; raw_nvram: they are in a
    raw one; raw_nvram_off: so, and libvirt snapshots the VM at least while it is off, without it.
    """

    uuid: str
    name: str
    state: State
    persistent: bool = True
    current: str = ""
    managed_save: bool = False
    memory: int = 0
    disks: tuple[Disk, ...] = ()
    raw_nvram: bool = False
    raw_nvram_off: bool = False
    nvram: Disk | None = None
    unmigratable: str = ""
    agent: bool = False
    tpm: bool = False
    io_error: bool = False
    busy_since: int = 0
    instance: int = -1

    @property
    def busy(self) -> bool:
        """Whether somebody has a job on it now, as far as that can be told at once."""
        return self.busy_since > 0

    def loses_nvram(self, kind: Kind, *, memory: bool) -> bool:
        """Whether such a snapshot goes without its UEFI variables. An internal one holds them where
        they are in qcow2; for an external one libvirt begins no new file, but the flash is a part
        of RAM, and QEMU writes it back as that was (measured)."""
        if kind is Kind.INTERNAL:
            return self.raw_nvram
        return (self.raw_nvram or self.nvram is not None) and not memory


@dataclass(frozen=True, slots=True)
class SnapshotKey:
    """What a snapshot is: a name can be used again, the three together cannot be mistaken."""

    domain: str
    name: str
    created: int


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot as libvirt lists it.

    state: what its XML says of the domain then; disks: targets that it holds; left_out: targets
    that it does not; sources: (target, file) that those it holds were on. Of an external one also:
    overlays: (target, file) that were begun when it was made; bases: (target, file) that its disks
    were on before, and which those overlays need; bare: targets of which libvirt's record does not
    say what that file stands on; reverted: (target, file) that libvirt's last revert to it began,
    for the disks to be on instead; memory_file: where its RAM is, "" = none.
    """

    name: str
    created: int
    state: State
    kind: Kind = Kind.INTERNAL
    description: str = ""
    parent: str = ""
    current: bool = False
    memory: bool = False
    time_known: bool = True
    disks: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    overlays: tuple[tuple[str, str], ...] = ()
    bases: tuple[tuple[str, str], ...] = ()
    bare: tuple[str, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    memory_file: str = ""
    reverted: tuple[tuple[str, str], ...] = ()

    @property
    def active(self) -> dict[str, str]:
        """target -> the file that the disk is on while this one is the current, of an external."""
        return {**dict(self.overlays), **dict(self.reverted)}

    @property
    def files(self) -> set[str]:
        """All files that libvirt's record of an external one names."""
        named = (*self.overlays, *self.bases, *self.reverted)
        return {file for _target, file in named} | ({self.memory_file} - {""})


@dataclass(frozen=True, slots=True)
class Record:
    """What only our store knows of a snapshot: that we made it and what was got, or, of origin
    foreign, that somebody has pinned it, which makes it no more ours than it was."""

    key: SnapshotKey
    origin: Origin
    policies: tuple[str, ...] = ()
    state: State = State.UNKNOWN
    consistency: Consistency = Consistency.CRASH
    pause_ms: int = -1
    pin_reason: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def owned(self) -> bool:
        """Whether it says that we made the snapshot, or that an admin has given it to us."""
        return self.origin is not Origin.FOREIGN


@dataclass(frozen=True, slots=True)
class Keep:
    """The keep rules of a policy: 0 = rule not set, -1 = all (the planner only; files refuse it).

    within: seconds back from the newest snapshot, 0 = not set.
    """

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: int = 0

    @property
    def empty(self) -> bool:
        return self == Keep()


@dataclass(frozen=True, slots=True)
class Floor:
    """Room that has to stay free on a file system: a part of its size, or bytes; 0 = none."""

    percent: int = 0
    size: int = 0

    def of(self, total: int) -> int:
        """Bytes, on a file system of that many."""
        return max(total * self.percent // 100, self.size)


NO_FLOOR = Floor()


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy in force. Durations are seconds; None = not set. DESIGN.md's table gives each key.

    timezone: an IANA name, fixed when the file was loaded. definition: the keys as they stand in
    the file, for the bus. revision: changes whenever the definition does.
    """

    name: str
    source: str
    revision: str
    domains: tuple[str, ...]
    keep: Keep
    timezone: str
    schedule: str = ""
    exclude: tuple[str, ...] = ()
    catch_up: bool = True
    max_lateness: int | None = None
    randomized_delay: int = 0
    on: tuple[str, ...] = ()
    min_gap: int = 3600
    kind: str = "auto"
    memory: bool = False
    max_pause: int = 60
    quiesce: str = "try"
    only_if: str = "always"
    max_age: int | None = None
    max_count: int | None = None
    min_free: Floor = Floor(percent=5)
    definition: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Warned:
    """Something a job or a policy should tell although it worked: word, thing, sentence."""

    reason: str
    item: str
    message: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something an admin must act on. `id` is the same as long as it is the same problem."""

    id: str
    problem: str
    message: str
    severity: str = "warning"
    domain: str = ""
    domain_name: str = ""
    policy: str = ""
    since: int = 0
    ways: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot as we show it: libvirt's entry beside our record. Without a record it is foreign,
    and so it is with one of origin foreign, which only holds a pin."""

    domain: str
    domain_name: str
    info: SnapshotInfo
    record: Record | None = None
    status: Status = Status.OK

    @property
    def key(self) -> SnapshotKey:
        return SnapshotKey(self.domain, self.info.name, self.info.created)

    @property
    def origin(self) -> Origin:
        return self.record.origin if self.record else Origin.FOREIGN

    @property
    def owned(self) -> bool:
        """Whether it is ours, by our record."""
        return self.record is not None and self.record.owned

    @property
    def policies(self) -> tuple[str, ...]:
        return self.record.policies if self.record else ()

    @property
    def pinned(self) -> bool:
        return self.record is not None and self.record.pin_reason is not None

    @property
    def state(self) -> State:
        """What the domain did when it was taken: our record knows better than libvirt's entry,
        which says shutoff for a running VM's snapshot without RAM (LIBVIRT.md 9.1)."""
        if self.record and self.record.owned and self.record.state is not State.UNKNOWN:
            return self.record.state
        return self.info.state

    @property
    def consistency(self) -> Consistency:
        if self.record and self.record.owned:
            return self.record.consistency
        return told_consistency(self.info)


def told_consistency(info: SnapshotInfo) -> Consistency:
    """What was got, as far as libvirt tells of a snapshot that somebody else made."""
    if info.memory:
        return Consistency.MEMORY
    return Consistency.CRASH if info.state.active else Consistency.OFFLINE


def told_time(seconds: int) -> str:
    """`2026-11-26 02:30 UTC`, with its seconds where there are any: how all our sentences name a
    time, so that clients can find it in them; what no calendar has stays a number."""
    try:
        time = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"
    return f"{time:%Y-%m-%d %H:%M:%S}".removesuffix(":00") + " UTC"
