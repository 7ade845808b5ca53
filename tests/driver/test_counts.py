"""How often libvirt, the store and the bus are asked for one thing: calls, which are the same on
any machine, not seconds. Where more is done than before it is by intention, and TABLE says what
for, or it is a fault."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count

import pytest

from snapd.wire import paths
from tests.counts import Counted, Counts
from tests.driver.house import House, uuid_of

TRIES = 3
"""What comes by chance, as an event of libvirt's after the end of the job that caused it, does not
come each time."""
HOUR = 3600
MINUTES, PACE = 3, 20
"""What is idled through, and how many times faster than it is."""
HOURLY = """domains = ["vm-1"]
exclude = ["vm-0", "vm-[2-9]*", "vm-1?*"]
schedule = "0 * * * *"
[keep]
last = 1
"""
DELETABLE = [f"d-{n}" for n in range(TRIES)]


@dataclass(frozen=True, slots=True)
class Most:
    """A limit, and by how much it grows with the VMs that there are and with their snapshots: all
    of them, or those of the one that the step is about, before it."""

    fixed: int = 0
    vm: int = 0
    snapshot: int = 0

    def of(self, vms: int, snapshots: int) -> int:
        return self.fixed + self.vm * vms + self.snapshot * snapshots


@dataclass(frozen=True, slots=True)
class Row:
    """A step's limits: of round trips to libvirt, of the store's statements, of messages sent."""

    libvirt: Most
    sql: Most
    bus: Most


def reads(times: int, more: int = 0) -> Most:
    """A VM is read so many times: lookup, state, XML, persistent, current snapshot (is there one,
    and which), managed save, control info, list of snapshots; and the XML of each snapshot."""
    return Most(9 * times + more, snapshot=times)


LIST = Row(Most(), Most(), Most(1))  # answered from memory: the reply is all
PAGE = Row(Most(), Most(2), Most(1))  # how many there are, and those of the page
# Facts are a read, the inactive XML and the checkpoints; bare ones are a read, without the XML of
# any snapshot, and the inactive XML. A job's row is added in one statement;
# that it runs, each of its intents and its end are a transaction each (BEGIN, REPLACE, COMMIT), the
# end with history and the snapshot's record in it. Of a job are told that it is there, its changes
# and its end, and to its caller two replies.
TABLE = {
    # connect (open, close callback, keepalive), four kinds of events, version of the library
    # (twice) and of the hypervisor, the list; no VM has a current snapshot here. The name is asked
    # for, and each object is told
    "start": Row(Most(11, vm=8, snapshot=1), Most(23), Most(1, vm=1, snapshot=1)),
    "list": LIST,
    "page of history": PAGE,
    # the list of VMs, since a record is of a name, then that VM
    "a record was written anew": Row(reads(1, more=1), Most(), Most()),
    # the same with one snapshot more; told are it, its being made, the one that was current, the VM
    "virsh made a snapshot": Row(reads(1, more=2), Most(), Most(4)),
    # facts, the call, then bare facts and the picture with the new one. Five changes of the job
    "create": Row(reads(2, more=15), Most(12), Most(13)),
    # the same, but the call is that which registers it, after the bare facts; that it is about to
    # is an intent of its own, as is how long the guest stood still
    "create of disks alone": Row(reads(2, more=15), Most(18), Most(14)),
    # a look before the job, facts, the create of the safety snapshot, facts again, the call, the
    # state, bare facts and the picture, which shows what libvirt's events were about; the time is
    # set
    "revert": Row(reads(6, more=49), Most(23), Most(25)),
    "revert without safety": Row(reads(3, more=28), Most(14), Most(11)),
    # a look before the job, facts, the call, bare facts and the picture
    "delete": Row(reads(3, more=15), Most(12), Most(12)),
    "preview of a create": Row(reads(1, more=2), Most(), Most(1)),  # facts
    "preview of a revert": Row(reads(2, more=4), Most(), Most(1)),  # a look and facts
    "preview of a delete": Row(reads(2, more=2), Most(), Most(1)),  # a look and facts
    # a create of disks alone, the retention's job with a look, and in it a delete. Run and slot are
    # written before and after; the Manager tells of its next run
    "slot": Row(reads(5, more=33), Most(43), Most(31)),
    # the list, and each VM; that nothing has changed is not told
    "poll": Row(Most(1, vm=8, snapshot=1), Most(), Most()),
}


class Stage:
    """A daemon whose calls are counted, in front of so many VMs of so many snapshots each."""

    def __init__(self, house: House, vms: int, snapshots: int, pace: int = 0) -> None:
        self.vms, self.all = vms, vms * snapshots
        house.host_of(vms, snapshots)
        house.policy("hourly", HOURLY)
        self.counted = Counted(house.folder / "counts", pace, "vm-0", "vm-1")
        house.serve(house.host, *self.counted.entry())
        self.client = house.start()
        self.client.until_read()
        self._numbers = count()
        self.sent: set[str] = set()

    def furnish(self) -> None:
        """Have what the first time has beside be over: a caller is asked for, nothing is current,
        and a policy that keeps one has none to let go."""
        for name in ("base", *DELETABLE):
            self.client.create("vm-0", name)
        for _ in range(2):
            self.counted.pass_(HOUR)
            self.counted.settled()

    def over(self, step: str, taken: Counts, snapshots: int, times: int = 1) -> list[str]:
        """What was more than TABLE has, with the names of the calls."""
        row, found = TABLE[step], []
        for kind, limit in (("libvirt", row.libvirt), ("sql", row.sql), ("bus", row.bus)):
            most, names = limit.of(self.vms, snapshots) * times, taken[kind]
            self.sent |= taken["bus"].keys()
            print(f"{step}: {names.total()} {kind}, at most {most}")
            if names.total() > most:
                calls = ", ".join(f"{n} {name}" for name, n in sorted(names.items()))
                found.append(f"{step}: {names.total()} {kind}, at most {most} in TABLE: {calls}")
        return found

    def step(self, step: str, work: Callable[[str], object], vm: str = "vm-0") -> None:
        """Do it, with a name that is new each time; AssertionError where TABLE has less."""
        for _ in range(TRIES):
            there = len(self.client.snapshots(vm))
            self.counted.take()
            work(f"n-{next(self._numbers)}")
            found = self.over(step, self.counted.settled(), there)
            if not found:
                return
        _hold(found)

    def asks(self, step: str, work: Callable[[], object]) -> None:
        """The same, of what is over with the reply."""
        self.counted.take()
        work()
        _hold(self.over(step, self.counted.take(), self.all))

    def managed(self, path: str) -> None:
        call = (paths.NAME, path, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
        assert self.client.run(self.client.bus.call(*call))


def _hold(found: list[str]) -> None:
    """Fail with all of it: pytest would shorten a list."""
    if found:
        raise AssertionError("\n".join(found))


def _lists(stage: Stage) -> None:
    client = stage.client
    for member in ("ListDomains", "ListPolicies", "ListProblems", "ListJobs"):
        stage.asks("list", partial(client.call, member))
    for member in ("ListSnapshots", "ListCoverage"):
        stage.asks("list", partial(client.call, member, ""))
    stage.asks("list", lambda: client.call("ListSnapshots", "vm-0"))
    stage.asks("list", client.properties)
    for path in (paths.DOMAINS, paths.snapshots_of(uuid_of(0)), paths.POLICIES, paths.JOBS):
        stage.asks("list", partial(stage.managed, path))
    for member in ("ListHistory", "ListRuns"):
        stage.asks("page of history", partial(client.call, member, ""))
    assert not any(stage.counted.settled().values())  # and nothing came of it later


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("vms", "snapshots"), [(2, 5), (20, 25)])
def test_calls_of_each_step_are_at_most_those_of_the_table(
    house: House, vms: int, snapshots: int
) -> None:
    stage = Stage(house, vms, snapshots)
    begun = stage.counted.settled()
    for name in ("reply", "signal PropertiesChanged Manager"):  # as often as it is looked
        begun["bus"].pop(name, 0)
    _hold(stage.over("start", begun, stage.all))
    stage.furnish()
    _lists(stage)
    client, step, deletable = stage.client, stage.step, iter(DELETABLE)
    step("a record was written anew", lambda _: stage.counted.foreign("vm-0"))
    step("virsh made a snapshot", lambda name: stage.counted.foreign("vm-0", name))
    step("create", lambda name: client.create("vm-0", name))
    step("create of disks alone", lambda name: client.create("vm-0", name, memory="no"))
    step("revert", lambda _: client.revert("vm-0", "base"))
    step("revert without safety", lambda _: client.revert("vm-0", "base", safety_snapshot=False))
    step("delete", lambda _: client.delete("vm-0", next(deletable)))
    step("preview of a create", lambda name: client.call("PreviewCreate", "vm-0", name))
    step("preview of a revert", lambda _: client.call("PreviewRevert", "vm-0", "base"))
    step("preview of a delete", lambda _: client.call("PreviewDelete", "vm-0", "base"))
    step("slot", lambda _: stage.counted.pass_(HOUR), "vm-1")
    assert "CheckAuthorization" not in " ".join(stage.sent)  # it is a bus of one user


@pytest.mark.timeout(300)
def test_idle_minutes_read_each_vm_once_and_say_nothing(house: House) -> None:
    stage = Stage(house, 2, 5, PACE)
    for _ in range(TRIES):
        time.sleep(1)
        stage.counted.take()
        time.sleep(MINUTES * 60 / PACE)
        taken = stage.counted.take()
        polls = taken["libvirt"]["virConnectListAllDomains"]
        probes = taken["libvirt"].pop("virConnectGetLibVersion")
        found = stage.over("poll", taken, stage.all, times=polls)
        enough = MINUTES + 1
        if not found and polls <= enough and probes <= 2 * enough:
            return
    raise AssertionError(f"{found}, {polls} polls, {probes} probes")
