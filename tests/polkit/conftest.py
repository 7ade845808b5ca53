"""A host of the tests' own, as root; see host.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bed.private import PrivateLibvirt
from tests.polkit.host import Host


@pytest.fixture(scope="session")
def libvirt() -> Iterator[PrivateLibvirt]:
    """One that virtsnapd's user may connect to; it outlives the host, as its end is theirs."""
    made = PrivateLibvirt()
    made.start()
    Path("/run/libvirt/libvirt-sock").chmod(0o777)
    yield made
    made.close()


@pytest.fixture(scope="session")
def host(libvirt: PrivateLibvirt) -> Iterator[Host]:
    """One for all tests, with virtsnapd running; it has to have behaved at the end."""
    made = Host()
    try:
        made.daemon.start()
        yield made
    finally:
        if hasattr(made, "daemon"):
            print(made.daemon.log)
        made.close()


@pytest.fixture
def snapshot(host: Host) -> Iterator[str]:
    """A snapshot of web-2, gone afterwards whoever deleted it."""
    host.root.wait(host.root.call("CreateSnapshot", "web-2", "mine"))
    try:
        yield "mine"
    finally:
        for name in host.root.snapshots("web-2"):
            host.root.wait(host.root.call("DeleteSnapshot", "web-2", name))
