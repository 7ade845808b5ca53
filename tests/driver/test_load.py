"""Many calls at once: every one is answered with its result, and the daemon is still there."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from snapd.wire import paths
from snapd.wire.unmarshal import values
from snapd.wire.values import Variant, unwrap
from tests.bus import private_bus
from tests.client import INTERFACE, Client
from tests.driver.house import House
from tests.driver.raw import RETURN, Raw
from tests.turns import BLOCKED_MS

MANAGER = f"{INTERFACE}.Manager"


async def ask_at_once(client: Client, count: int) -> list[Any]:
    """That many ListDomains in flight together; their answers in the order of the calls."""
    call: tuple[Any, ...] = (paths.NAME, paths.ROOT, MANAGER, "ListDomains", "a{sv}", {})
    asked = (client.bus.call(*call, timeout=50) for _ in range(count))
    answers: list[Any] = await asyncio.gather(*asked)
    return answers


def check(answers: list[Any], count: int) -> None:
    assert len(answers) == count
    for answer in answers:
        rows, info = unwrap(answer)
        assert [row["Name"] for row in rows] == ["db-1", "web-1", "web-2"]
        assert info["Next"] == ""


def test_calls_thousand_at_once_all_answered(running: House) -> None:
    client = running.client
    pid = running.daemon.pid
    client.rows("ListDomains")
    check(client.run(ask_at_once(client, 1000)), 1000)
    assert running.daemon.running and running.daemon.pid == pid
    assert len(client.rows("ListDomains")) == 3


def test_calls_three_clients_on_system_limits_all_answered(tmp_path: Path) -> None:
    with private_bus(system_limits=True) as bus:
        house = House(bus.address, tmp_path)
        try:
            house.start().rows("ListDomains")
            clients = [house.client, house.another(), house.another()]
            flights = [
                asyncio.run_coroutine_threadsafe(ask_at_once(c, 120), c._loop) for c in clients
            ]
            for flight in flights:
                check(flight.result(60), 120)
            assert house.daemon.running
            assert len(clients[1].rows("ListDomains")) == 3
        finally:
            print(house.daemon.log)
            house.close()


def test_lists_of_twenty_clients_at_once_are_whole_and_block_nobody(house: House) -> None:
    """Some leave before they are told; what they asked for holds up nobody."""
    house.host_of(1, 2000)
    house.start().rows("ListSnapshots", "", limit=1)
    house.longest_turn()
    every, deep = {f"s-{n}" for n in range(2000)}, {"limit": Variant("u", 10_000)}
    with ExitStack() as stack:
        clients = [stack.enter_context(Raw(house.address)) for _ in range(24)]
        for each in clients:
            each.send(each.made("ListSnapshots", "sa{sv}", ["", deep]))
        for gone in clients[::6]:
            gone.socket.close()
        for each in [c for n, c in enumerate(clients) if n % 6]:
            reply = each.answers(each.serial)[each.serial]
            assert reply.kind == RETURN
            rows, info = unwrap(values(reply.body, "<", "aa{sv}a{sv}"))
            assert ({row["Name"] for row in rows}, len(rows)) == (every, 2000)
            assert (info["Total"], info["Next"]) == (2000, "")
    cpu, clock = house.longest_turn()
    print(f"longest turn {cpu:.0f} ms of CPU time, {clock:.0f} ms by the clock")
    assert cpu < BLOCKED_MS
    assert house.client.rows("ListDomains", limit=1)
