"""Whatever a local user does to the bus, the daemon answers the next caller: raw sockets, no
client's library between."""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path

import pytest

from snapd.errors import LimitExceeded
from snapd.wire import paths
from snapd.wire.values import Variant
from tests.bus import PrivateBus, private_bus
from tests.driver.house import House
from tests.driver.raw import ERROR, PEER, RETURN, Raw
from tests.fuzz.run import resident
from tests.turns import BLOCKED_MS

BUS, BUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"
BURST = 5000
LIMIT = 64 + 4096
MIB = 2**20


@pytest.fixture
def system_like() -> Iterator[PrivateBus]:
    with private_bus(system_limits=True) as made:
        yield made


@pytest.fixture
def guarded(system_like: PrivateBus, tmp_path: Path) -> Iterator[House]:
    """A daemon on a bus with the system bus' limits."""
    made = House(system_like.address, tmp_path)
    try:
        yield made
    finally:
        print(made.daemon.log)
        made.close()


def alive(house: House, pid: int) -> None:
    """The same process still answers, and soon."""
    assert house.daemon.running and house.daemon.pid == pid
    assert house.client.rows("ListDomains", limit=1)


# ---- bursts


def test_burst_over_what_may_wait_each_call_is_answered_once(running: House) -> None:
    pid = running.daemon.pid
    with Raw(running.address) as client:
        calls = [client.made("ListDomains", "a{sv}", [{}]) for _ in range(BURST)]
        first = client.serial - BURST + 1
        sender = threading.Thread(target=client.send, args=calls)
        sender.start()
        replies = client.answers(*range(first, first + BURST))
        sender.join()
    kinds = Counter((reply.kind, reply.error) for reply in replies.values())
    assert set(kinds) <= {(RETURN, ""), (ERROR, LimitExceeded("").name)}
    assert kinds[RETURN, ""] >= LIMIT
    alive(running, pid)


# ---- who reads slowly, half, or not at all


def big_lists(client: Raw, count: int) -> list[bytes]:
    """So many calls for lists of 2 MiB each, not sent."""
    options = {"limit": Variant("u", 10_000)}
    return [client.made("ListSnapshots", "sa{sv}", ["", options]) for _ in range(count)]


def test_client_that_never_reads_big_lists_costs_a_bounded_memory(guarded: House) -> None:
    guarded.host_of(1, 3000)
    guarded.start().rows("ListSnapshots", "", limit=1)
    pid, before = guarded.daemon.pid, resident(guarded.daemon.pid)
    with Raw(guarded.address) as deaf:
        deaf.send(*big_lists(deaf, 100))
        for _ in range(5):
            begun = time.monotonic()
            alive(guarded, pid)
            assert time.monotonic() - begun < 20
            time.sleep(1)
        assert (resident(pid) - before) / 1024 < 150
    alive(guarded, pid)


def kept_by_the_bus(house: House) -> int:
    """Bytes of the daemon's that nobody has read yet."""
    bus = house.client.bus
    (owner,) = house.client.run(bus.bus_call("GetNameOwner", "s", paths.NAME))
    stats = "org.freedesktop.DBus.Debug.Stats"
    asked = (BUS, BUS_PATH, stats, "GetConnectionStats", "s", owner)
    return int(house.client.run(bus.call(*asked))[0]["IncomingBytes"].value)


def test_many_that_never_read_leave_the_bus_room_for_others(guarded: House) -> None:
    """It reads nothing from us, for nobody, once it keeps 127 MiB that were not read."""
    guarded.host_of(1, 3000)
    guarded.start().rows("ListSnapshots", "", limit=1)
    pid = guarded.daemon.pid
    with contextlib.ExitStack() as stack:
        deaf = [stack.enter_context(Raw(guarded.address)) for _ in range(20)]
        for each in deaf:
            each.send(*big_lists(each, 8))
        guarded.client.until("much is kept", lambda: kept_by_the_bus(guarded) > 60 * MIB, 60)
        for _ in range(10):
            begun = time.monotonic()
            alive(guarded, pid)
            assert time.monotonic() - begun < 5
            time.sleep(0.3)
    assert len(guarded.client.rows("ListSnapshots", "", limit=10_000)) == 3000


def test_client_that_reads_late_is_answered_all_it_asked(guarded: House) -> None:
    guarded.host_of(1, 3000)
    guarded.start().rows("ListSnapshots", "", limit=1)
    with Raw(guarded.address) as late:
        late.send(*big_lists(late, 30))
        time.sleep(5)
        replies = late.answers(*range(late.serial - 29, late.serial + 1))
    assert {reply.kind for reply in replies.values()} == {RETURN}


@pytest.mark.parametrize("read", [0, 1, 17, 4000])
def test_client_that_goes_in_the_middle_of_a_list(house: House, read: int) -> None:
    house.host_of(1, 500)
    house.start().rows("ListSnapshots", "", limit=1)
    pid = house.daemon.pid
    for _ in range(20):
        with Raw(house.address) as client:
            client.send(client.made("ListSnapshots", "sa{sv}", ["", {}]))
            if read:
                client.socket.recv(read)
    alive(house, pid)


def test_half_a_call_that_never_ends_holds_up_nobody(running: House) -> None:
    pid = running.daemon.pid
    halves = [Raw(running.address) for _ in range(20)]
    for number, half in enumerate(halves):
        call = half.made("ListDomains", "a{sv}", [{}])
        half.send(call[: len(call) * (number + 1) // 21])
    alive(running, pid)
    for half in halves:
        half.socket.close()
    alive(running, pid)


# ---- what is too much


def many_values(client: Raw, mib: int) -> bytes:
    """A call with an option of so many times 4 MiB, each four bytes a value."""
    small = client.made("ListDomains", "a{sv}", [{"fields": Variant("av", [])}])
    at = len(small) - struct.unpack_from("<I", small, 4)[0]
    values = b"\1y\0\7" * (mib * MIB)
    body = small[at + 4 : -4] + struct.pack("<I", len(values)) + values
    body = struct.pack("<I", len(body) - 4) + body
    return small[:4] + struct.pack("<I", len(body)) + small[8:at] + body


def test_call_as_large_as_the_bus_takes_blocks_nobody(guarded: House) -> None:
    guarded.start().rows("ListDomains")
    pid = guarded.daemon.pid
    guarded.longest_turn()
    with Raw(guarded.address) as client:
        for mib in (1, 7):
            client.send(many_values(client, mib))
            reply = client.answers(client.serial)[client.serial]
            assert reply.kind == ERROR
            alive(guarded, pid)
    cpu, clock = guarded.longest_turn()
    print(f"longest turn {cpu:.0f} ms of CPU time, {clock:.0f} ms by the clock")
    assert cpu < BLOCKED_MS


def test_call_larger_than_the_bus_takes_costs_its_sender_the_bus(guarded: House) -> None:
    guarded.start()
    pid = guarded.daemon.pid
    with Raw(guarded.address) as client:
        call = client.made("GetDomain", "sa{sv}", ["x" * (31 * MIB), {}])
        head = bytearray(call)
        head[4:8] = struct.pack("<I", 33 * MIB)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.send(bytes(head))
        assert client.hung_up()
    alive(guarded, pid)


def test_flood_of_signatures_leaves_the_memory(running: House) -> None:
    """No two alike: a cache of them all would grow by 2 KiB for each."""
    pid = running.daemon.pid
    kinds = ["".join(each) for each in islice(product("ybnqiuxtds", repeat=4), 1500)]

    def flood(number: int) -> None:
        with Raw(running.address) as client:
            first = client.serial + 1
            values = [Variant(f"a({kind}{'s' * number})", []) for kind in kinds]
            calls = [client.made("ListDomains", "a{sv}", [{"x": value}]) for value in values]
            client.send(*calls)
            client.answers(*range(first, client.serial + 1))

    flood(0)
    before = resident(pid)
    for number in range(1, 5):
        flood(number)
    assert (resident(pid) - before) / 1024 < 8
    alive(running, pid)


@pytest.mark.parametrize("text", [b"a\0b", b"\xed\xa0\x80", b"\xff\xfe", b"\xc0\x80"])
def test_string_that_is_none_costs_its_sender_the_bus(running: House, text: bytes) -> None:
    pid = running.daemon.pid
    with Raw(running.address) as client:
        call = client.made("GetDomain", "sa{sv}", ["x" * len(text), {}])
        client.send(call.replace(b"x" * len(text), text))
        assert client.hung_up()
    alive(running, pid)


# ---- who goes, and when


def test_clients_that_vanish_before_the_reply_leave_nothing(running: House) -> None:
    pid = running.daemon.pid

    def come_and_go(count: int) -> None:
        for _ in range(count):
            with Raw(running.address) as client:
                calls = [client.made("ListSnapshots", "sa{sv}", ["", {}]) for _ in range(20)]
                client.send(*calls, client.made("Ping", path="/", interface=PEER))

    come_and_go(150)
    alive(running, pid)
    before = resident(pid)
    come_and_go(300)
    alive(running, pid)
    assert (resident(pid) - before) / 1024 < 4


def test_job_outlives_who_asked_and_who_waits(running: House) -> None:
    client = running.client
    with Raw(running.address) as raw:
        assert raw.call("CreateSnapshot", "ssa{sv}", ["web-1", "mine", {}]).kind == RETURN
    job = {"path": paths.job(1), "interface": "org.virtsnap.Snapd1.Job"}
    with Raw(running.address) as raw:
        forever = {"timeout": Variant("u", 2**32 - 1)}
        raw.send(*(raw.made("Wait", "a{sv}", [forever], **job) for _ in range(100)))
    assert client.wait(paths.job(1))["Name"] == "mine"
    assert "mine" in client.snapshots("web-1")


def test_bus_that_dies_ends_the_daemon_and_the_next_start_settles_its_jobs(
    tmp_path: Path,
) -> None:
    with private_bus() as bus:
        house = House(bus.address, tmp_path)
        client = house.start()
        for number in range(6):
            client.call("CreateSnapshot", "web-1", f"s{number}")
        bus.process.kill()
        assert house.daemon._process is not None
        assert house.daemon._process.wait(30) == 1
        house.close()
        assert "the bus is gone" in house.daemon.log
    with private_bus() as bus:
        again = House(bus.address, tmp_path)
        try:
            client = again.start()
            going = {"queued", "running", "unknown"}

            def settled() -> bool:
                return not {row["State"] for row in client.rows("ListJobs")} & going

            client.until("all settled", settled)
            assert len(client.rows("ListJobs")) == 6
        finally:
            again.close()
