"""Garbage is looked for in all there is but seldom while VMs are read, and as always otherwise."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from snapd import daemon


@pytest.fixture
def usual() -> Iterator[tuple[int, int, int]]:
    before = gc.get_threshold()
    yield before
    gc.set_threshold(*before)
    gc.unfreeze()


def test_collections_are_seldom_only_while_vms_are_read(usual: tuple[int, int, int]) -> None:
    def now(connected: bool, loading: bool) -> tuple[int, int, int]:
        inventory = SimpleNamespace(connected=connected, loading=loading)
        daemon._spare_collector(cast(Any, inventory))
        return gc.get_threshold()

    assert now(connected=False, loading=True) == usual
    assert now(connected=True, loading=True) == (*usual[:2], daemon.SELDOM)
    frozen = gc.get_freeze_count()
    assert now(connected=True, loading=False) == usual
    assert gc.get_freeze_count() > frozen
    assert now(connected=True, loading=True) == (*usual[:2], daemon.SELDOM)
    assert now(connected=False, loading=True) == usual
