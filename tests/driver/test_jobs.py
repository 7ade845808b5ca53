"""Jobs: the same request, request ids, queues, waiting, cancelling, many calls at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from snapd.errors import Busy, InvalidArgument, SnapdError
from snapd.wire import paths
from snapd.wire.values import unwrap
from tests.bus import private_bus
from tests.client import INTERFACE, Client, options
from tests.driver.house import House, uuid_of

MANAGER = f"{INTERFACE}.Manager"


def at_once(client: Client, *calls: tuple[str, tuple[str, ...], dict[str, Any]]) -> list[Any]:
    """All of these Manager methods in flight together; answers, or the errors, in their order."""

    async def main() -> list[Any]:
        asked = [
            client.bus.call(
                paths.NAME,
                paths.ROOT,
                MANAGER,
                member,
                "s" * len(strings) + "a{sv}",
                *strings,
                options(opts),
                timeout=60,
            )
            for member, strings, opts in calls
        ]
        return list(await asyncio.gather(*asked, return_exceptions=True))

    client.rows("ListDomains")
    answers = client.run(main())
    return [a if isinstance(a, BaseException) else unwrap(a)[0] for a in answers]


def creating(
    name: str, vm: str = "web-1", **opts: Any
) -> tuple[str, tuple[str, str], dict[str, Any]]:
    return ("CreateSnapshot", (vm, name), opts)


@pytest.fixture
def crowded(tmp_path: Any) -> Iterator[House]:
    """A daemon on a bus with the system bus's limits, and 150 VMs."""
    with private_bus(system_limits=True) as bus:
        made = House(bus.address, tmp_path)
        made.host_of(150)
        try:
            made.start()
            yield made
        finally:
            print(made.daemon.log)
            made.close()


# ---- the same request


def test_same_request_at_once_is_one_job(running: House) -> None:
    answers = at_once(running.client, *[creating("one", description="x")] * 5)
    assert answers == [f"{paths.JOBS}/1"] * 5
    running.client.wait(answers[0])
    assert list(running.client.snapshots("web-1")) == ["by-hand", "one"]


def test_same_name_with_other_options_is_another_job_and_already_exists(running: House) -> None:
    client = running.client
    first, second = at_once(client, creating("one"), creating("one", description="y"))
    client.wait(first)
    with pytest.raises(SnapdError) as refused:
        client.wait(second)
    assert refused.value.name.endswith(".AlreadyExists")
    assert client.snapshots("web-1")["one"]["Description"] == ""


def test_same_request_after_the_first_is_done_is_a_new_job(running: House) -> None:
    client = running.client
    client.create("web-1", "one")
    assert client.refused("CreateSnapshot", "web-1", "one") == ("AlreadyExists", "name-taken")


def test_request_id_finds_its_job_again(running: House) -> None:
    client = running.client
    first = client.call("CreateSnapshot", "web-1", "one", request="mine")
    client.wait(first)
    assert client.call("CreateSnapshot", "web-1", "one", request="mine") == first
    with pytest.raises(InvalidArgument):
        client.call("CreateSnapshot", "web-1", "two", request="mine")
    with pytest.raises(InvalidArgument):
        client.call("CreateSnapshot", "web-1", "one", request="x" * 65)
    running.again()
    assert client.call("CreateSnapshot", "web-1", "one", request="mine") == first
    assert client.wait(first)["Name"] == "one"


def test_request_id_at_once_is_one_job(running: House) -> None:
    answers = at_once(running.client, *[creating("one", request="mine")] * 5)
    assert answers == [f"{paths.JOBS}/1"] * 5


def test_request_id_of_a_job_that_ended_long_ago_gives_a_job_to_ask(house: House) -> None:
    client = house.start()
    first = client.call("CreateSnapshot", "web-1", "one", request="mine")
    client.wait(first)
    house.stop()
    with house.db() as db:
        db.execute("UPDATE jobs SET finished = finished - 7200, queued = queued - 7200")
    house.start()
    assert client.rows("ListJobs") == []
    assert client.call("CreateSnapshot", "web-1", "one", request="mine") == first
    assert client.wait(first)["Name"] == "one"


# ---- queues


def test_queue_of_one_vm_is_done_in_order(running: House) -> None:
    client = running.client
    jobs = at_once(client, *[creating(f"s{n:02}") for n in range(10)])
    for job in jobs:
        client.wait(job)
    made = [row["SnapshotName"] for row in reversed(client.rows("ListHistory", "web-1"))]
    assert made == [f"s{n:02}" for n in range(10)]


def test_many_verbs_on_one_vm_all_get_their_result(running: House) -> None:
    """Reverts send events, events have the VM read again, and none of it is in a job's way."""
    client = running.client
    for turn in range(6):
        calls = []
        for after in ("running", "paused", "stopped", "as-snapshot"):
            calls.append(
                ("RevertSnapshot", ("web-1", "by-hand"), {"after": after, "safety_snapshot": False})
            )
            calls.append(creating(f"t{turn}-{after}"))
        for job in at_once(client, *calls):
            client.wait(job)
    assert len(client.rows("ListSnapshots", "web-1")) == 1 + 6 * 4


def test_job_that_is_done_answers_wait_0_and_cannot_be_cancelled(running: House) -> None:
    client = running.client
    job = client.call("CreateSnapshot", "web-1", "one")
    client.wait(job)
    assert client.wait(job, timeout=0)["Name"] == "one"
    with pytest.raises(Busy):
        client.ask(job, "Job", "Cancel")


# ---- many


def test_1000_calls_at_once_are_all_answered(house: House) -> None:
    house.host_of(150)
    client = house.start()
    answers = at_once(client, *[("GetDomain", (f"vm-{n % 150}",), {}) for n in range(1000)])
    assert answers == [paths.domain(uuid_of(n % 150)) for n in range(1000)]
    answers = at_once(client, *[creating(f"s{n % 2}", f"vm-{n}") for n in range(150)])
    for n, job in enumerate(answers):
        assert client.wait(job)["Name"] == f"s{n % 2}"
    assert house.daemon.running


def test_3_clients_with_120_calls_in_flight_on_a_system_bus_are_all_answered(
    crowded: House,
) -> None:
    clients = [crowded.client, crowded.another(), crowded.another()]
    assert len(clients[0].rows("ListDomains")) == 150

    async def flood(client: Client) -> list[Any]:
        name = f"of-{clients.index(client)}"
        jobs = await asyncio.gather(*(_job(client, f"vm-{n}", name) for n in range(120)))
        return list(await asyncio.gather(*(_wait(client, job) for job in jobs)))

    futures = [asyncio.run_coroutine_threadsafe(flood(client), client._loop) for client in clients]
    for number, future in enumerate(futures):
        assert [result["Name"] for result in future.result(60)] == [f"of-{number}"] * 120
    assert crowded.daemon.running


async def _job(client: Client, vm: str, name: str) -> str:
    call: Any = (paths.NAME, paths.ROOT, MANAGER, "CreateSnapshot", "ssa{sv}", vm, name, {})
    return str((await client.bus.call(*call, timeout=60))[0])


async def _wait(client: Client, job: str) -> Any:
    call = (paths.NAME, job, f"{INTERFACE}.Job", "Wait", "a{sv}", options({"timeout": 50}))
    return unwrap(await client.bus.call(*call, timeout=60))[0]
