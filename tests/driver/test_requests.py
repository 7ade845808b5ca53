"""A caller's own id for what it asks, and what every method that makes a job takes beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from snapd.bus.contract import load
from snapd.errors import InvalidArgument, NoSuchSnapshot
from snapd.wire import paths
from tests.client import INTERFACE, Client
from tests.driver.house import HOURLY, WEB1, House

BY_HAND = paths.snapshot(WEB1, "by-hand")
Call = Callable[..., Any]
CALLS: dict[str, Call] = {
    "CreateSnapshot": lambda c, **o: c.call("CreateSnapshot", "web-1", "one", **o),
    "RevertSnapshot": lambda c, **o: c.call("RevertSnapshot", "web-1", "by-hand", **o),
    "DeleteSnapshot": lambda c, **o: c.call("DeleteSnapshot", "web-1", "by-hand", **o),
    "DeleteOwnSnapshots": lambda c, **o: c.call("DeleteOwnSnapshots", "web-1", **o),
    "Audit": lambda c, **o: c.call("Audit", "web-1", **o),
    "RunPolicy": lambda c, **o: c.call("RunPolicy", "hourly", **o),
    "ConfirmPrune": lambda c, **o: c.call("ConfirmPrune", "web-1", "hourly", "the-plan", **o),
    "Revert": lambda c, **o: c.ask(BY_HAND, "Snapshot", "Revert", opts=o),
    "Delete": lambda c, **o: c.ask(BY_HAND, "Snapshot", "Delete", opts=o),
}


def ended(client: Client, job: str) -> dict[str, Any]:
    """The job's properties, once it has ended, in whatever way."""
    return client.until("its end", lambda: j if (j := client.job(job))["Finished"] else None)


def test_calls_are_all_methods_that_make_a_job() -> None:
    contract = load()
    found = {
        name
        for interface in ("Manager", "Snapshot")
        for name, method in contract[f"{INTERFACE}.{interface}"].methods.items()
        if [(arg.name, arg.type) for arg in method.outs] == [("job", "o")]
    }
    assert set(CALLS) == found


@pytest.mark.parametrize("method", CALLS)
def test_request_of_every_verb_finds_its_job_again(house: House, method: str) -> None:
    house.policy("hourly", HOURLY)
    client, call = house.start(), CALLS[method]
    first = call(client, request="mine", max_wait=5)
    before = ended(client, first)
    if method == "Delete":  # the object is gone with it
        assert client.call("DeleteSnapshot", "web-1", "by-hand", request="mine") == first
    else:
        assert call(client, request="mine", max_wait=5) == first
    assert client.job(first) == before
    with pytest.raises(InvalidArgument) as refused:
        client.call("CreateSnapshot", "web-2", "two", request="mine")
    assert first.rpartition("/")[2] in refused.value.message
    assert "two" not in client.snapshots("web-2")


def test_request_of_a_delete_that_is_done_is_of_that_snapshot_alone(running: House) -> None:
    client = running.client
    client.create("web-1", "one")
    created = client.snapshots("web-1")["one"]["Created"]
    job = client.call("DeleteSnapshot", "web-1", "one", request="mine")
    assert client.wait(job)["Deleted"] == ["one"]
    again = client.call("DeleteSnapshot", "web-1", "one", request="mine", created=created)
    assert again == job
    for name, opts in (
        ("one", {}),
        ("one", {"request": "yours"}),
        ("one", {"request": "mine", "created": created + 1}),
        ("two", {"request": "mine"}),
    ):
        with pytest.raises(NoSuchSnapshot):
            client.call("DeleteSnapshot", "web-1", name, **opts)
    with pytest.raises(InvalidArgument):
        client.call("DeleteSnapshot", "web-1", "one", request="mine", children=True)
    with pytest.raises(InvalidArgument):
        client.call("RevertSnapshot", "web-1", "one", request="mine")


def test_request_of_a_delete_never_deletes_the_next_snapshot_of_that_name(running: House) -> None:
    client = running.client
    client.create("web-1", "one")
    client.wait(client.call("DeleteSnapshot", "web-1", "one", request="mine"))
    first = client.job(f"{paths.JOBS}/1")["Finished"]
    client.until("another second", lambda: time.time() >= first + 1)
    client.create("web-1", "one")
    with pytest.raises(InvalidArgument):
        client.call("DeleteSnapshot", "web-1", "one", request="mine")
    assert "one" in client.snapshots("web-1")


def test_request_of_a_revert_with_delete_after_finds_its_job_again(running: House) -> None:
    client = running.client
    opts = {"request": "mine", "delete_after": True, "safety_snapshot": False}
    job = client.call("RevertSnapshot", "web-1", "by-hand", **opts)
    client.wait(job)
    assert "by-hand" not in client.snapshots("web-1")
    assert client.call("RevertSnapshot", "web-1", "by-hand", **opts) == job


@pytest.mark.parametrize("text", ["x" * 64, "\u00fc" * 32])
def test_request_of_64_bytes_is_taken(running: House, text: str) -> None:
    client = running.client
    job = client.call("Audit", "", request=text)
    assert client.call("Audit", "", request=text) == job
    with pytest.raises(InvalidArgument):
        client.call("Audit", "", request=text + "\u00fc")
