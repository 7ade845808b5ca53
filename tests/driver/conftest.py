"""The daemon as a process on a private bus, in front of libvirt's test driver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bus import PrivateBus, private_bus
from tests.driver.house import House


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a time-out of its own takes long: first, so that two workers end together."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


@pytest.fixture
def bus() -> Iterator[PrivateBus]:
    with private_bus() as made:
        yield made


@pytest.fixture
def house(bus: PrivateBus, tmp_path: Path) -> Iterator[House]:
    """A daemon that isn't started yet. It is stopped afterwards, and has to have behaved."""
    made = House(bus.address, tmp_path)
    try:
        yield made
    finally:
        print(made.daemon.log)  # pytest shows it where the test failed
        made.close()


@pytest.fixture
def running(house: House) -> House:
    """The same, started."""
    house.start()
    return house


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One daemon for all tests of a file that leave no trace; checked once, after the last."""
    with private_bus() as bus:
        made = House(bus.address, tmp_path_factory.mktemp("shared"))
        try:
            made.start().rows("ListDomains")
            yield made
        finally:
            print(made.daemon.log)
            made.close()
