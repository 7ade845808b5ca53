"""What of libvirt's words may be read by everybody."""

from __future__ import annotations

import libvirt
import pytest

from snapd.hypervisor.errormap import translate


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (  # libvirt 9.0, of a VM that is off and whose backing file is gone
            "internal error: Child process (/usr/bin/qemu-img snapshot -c y /srv/vm/top.qcow2) "
            "unexpected exit status 1: qemu-img: Could not open '/srv/vm/top.qcow2': Could not "
            "open backing file: Could not open '/srv/vm/base.qcow2': No such file or directory",
            "internal error: Child process (qemu-img snapshot -c y top.qcow2) unexpected exit "
            "status 1: qemu-img: Could not open 'top.qcow2': Could not open backing file: Could "
            "not open 'base.qcow2': No such file or directory",
        ),
        (
            "cannot open directory '/sys/bus/usb/devices': gone",
            "cannot open directory 'devices': gone",
        ),
        (  # libvirt 9.0, of a running VM with a virtiofs share: no file
            "cannot migrate domain: non-migratable device: 0000:00:02.0/vhost-user-fs",
            "cannot migrate domain: non-migratable device: 0000:00:02.0/vhost-user-fs",
        ),
        ("no connection driver available for qemu:///system", None),
        ("unable to connect to 'qemu+ssh://root@host/system'", None),
        ("external file for disk vda: /a/b.x, exists", "external file for disk vda: b.x, exists"),
    ],
)
def test_translate_files_are_named_by_their_last_part(said: str, shown: str | None) -> None:
    error = libvirt.libvirtError(said)
    error.err = (libvirt.VIR_ERR_INTERNAL_ERROR, 0, said, 2, "", "", "", -1, -1)
    message = translate(error, "cannot look").message
    assert message == f"cannot look: {shown or said} (libvirt error 1 of domain 0)"
