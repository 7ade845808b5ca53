"""External snapshots of real guests. libvirt can go back to them since 9.9 (Debian 13); on an older
one (Debian 12) the one thing to test is that none is made."""

import libvirt

from tests.qemu.conftest import (
    bed,
    bus,
    client,
    daemon,
    guest,
    module_daemon,
    new_guest,
    pytest_collection_modifyitems,
    pytest_configure,
    session_bed,
    session_guest,
)

ABLE = libvirt.getVersion() >= 9_009_000
collect_ignore = ["test_refused.py"] if ABLE else []
collect_ignore_glob = [] if ABLE else ["test_[!r]*.py", "test_revert.py"]

__all__ = [
    "bed",
    "bus",
    "client",
    "daemon",
    "guest",
    "module_daemon",
    "new_guest",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "session_bed",
    "session_guest",
]
