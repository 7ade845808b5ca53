"""What libvirt says of the pools, where virtqemud passes the question on to virtstoraged."""

from __future__ import annotations

import errno
from typing import cast

import libvirt
import pytest

from snapd.hypervisor.host import volumes


class Refusing:
    """A connection whose listing of pools fails with an error of libvirt's that has a number."""

    def __init__(self, code: int, number: int) -> None:
        self._error = libvirt.libvirtError("refused")
        self._error.err = (code, 0, "refused", 2, None, None, None, number, -1)

    def listAllStoragePools(self, flags: int) -> list[libvirt.virStoragePool]:  # noqa: N802
        raise self._error


def asked(code: int, number: int) -> object:
    return volumes(cast(libvirt.virConnect, Refusing(code, number)), 1)


def test_where_virtstoraged_has_no_socket_no_pool_is_active() -> None:
    assert asked(libvirt.VIR_ERR_SYSTEM_ERROR, errno.ENOENT) == ({}, [])


@pytest.mark.parametrize(
    ("code", "number"),
    [
        (libvirt.VIR_ERR_SYSTEM_ERROR, errno.ECONNREFUSED),
        (libvirt.VIR_ERR_SYSTEM_ERROR, errno.ECONNRESET),
        (libvirt.VIR_ERR_INTERNAL_ERROR, errno.ENOENT),
    ],
)
def test_any_other_failure_tells_nothing_about_pools(code: int, number: int) -> None:
    with pytest.raises(libvirt.libvirtError):
        asked(code, number)
