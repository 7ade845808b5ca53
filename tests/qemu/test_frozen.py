"""An agent that hangs, and carries the freeze out when nobody expects it any more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from snapd.errors import AgentUnavailable
from tests.bed.guest import Guest
from tests.bus import PrivateBus
from tests.client import Client, Daemon
from tests.qemu.steps import frozen, listed, tags

SYNC_SECONDS = 5  # libvirt's own, for a call to an agent that has missed one


@contextmanager
def hung(guest: Guest) -> Iterator[None]:
    """The guest's agent stopped, after an answer: else libvirt would not send it a freeze."""
    assert frozen(guest) == "thawed"
    guest.cmd("sh", "killall -STOP qemu-ga")
    try:
        yield
    finally:
        wake(guest)


def wake(guest: Guest) -> None:
    guest.cmd("sh", "killall -CONT qemu-ga")


def make_although_it_hangs(client: Client, guest: Guest, name: str) -> None:
    begun = time.monotonic()
    job = client.call("CreateSnapshot", "vm", name, memory="no", quiesce="try")
    assert client.wait(job)["Consistency"] == "crash"
    spent = time.monotonic() - begun
    print(f"quiesce=try with a hung agent: {spent:.1f} s")
    assert spent < 20
    (warning,) = client.job(job)["Warnings"]
    assert (warning["Reason"], warning["Item"]) == ("not-quiesced", "vm")
    assert "agent" in warning["Message"]
    assert (listed(guest), tags(guest)) == ([name], [[name], [name]])


def comes_late(guest: Guest) -> None:
    """Have the agent wake up; it freezes, and nobody thaws."""
    time.sleep(SYNC_SECONDS + 1)  # until no thaw is under way any more
    tick = int(guest.cmd("tick"))
    time.sleep(0.5)
    assert int(guest.cmd("tick")) > tick, "it was frozen while its agent hung"
    wake(guest)
    time.sleep(0.5)
    assert frozen(guest) == "frozen", "the freeze did not come late: nothing is shown"


def goes_on(client: Client, guest: Guest) -> None:
    """The guest writes on, soon; its own counter says so."""
    begun = time.monotonic()
    tick = int(guest.cmd("tick"))
    client.until("it writes again", lambda: int(guest.cmd("tick")) > tick + 2, timeout=10)
    print(f"thawed after {time.monotonic() - begun:.1f} s")
    assert frozen(guest) == "thawed"


def test_freeze_that_comes_late_is_thawed_by_us(
    daemon: Daemon, client: Client, guest: Guest
) -> None:
    with hung(guest):
        make_although_it_hangs(client, guest, "late")
        with pytest.raises(AgentUnavailable):
            client.create("vm", "must", memory="no", quiesce="require")
        assert (listed(guest), tags(guest)) == (["late"], [["late"], ["late"]])
        daemon.hang(True)
        try:
            comes_late(guest)
        finally:
            daemon.hang(False)
        goes_on(client, guest)
    made = client.create("vm", "then", memory="no", quiesce="require")
    assert made["Consistency"] == "quiesced"


def test_freeze_that_comes_late_while_the_daemon_is_dead_is_thawed_when_it_starts(
    daemon: Daemon, bus: PrivateBus, guest: Guest
) -> None:
    with hung(guest):
        with Client(bus.address) as client:
            make_although_it_hangs(client, guest, "late")
        daemon.kill()
        comes_late(guest)
        daemon.start()
        with Client(bus.address) as client:
            goes_on(client, guest)
