"""Buses of their own for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bus import PrivateBus, private_bus


@pytest.fixture
def bus() -> Iterator[PrivateBus]:
    with private_bus() as made:
        yield made


@pytest.fixture
def system_like() -> Iterator[PrivateBus]:
    with private_bus(system_limits=True) as made:
        yield made
