"""Whether libvirt may be dialled, by what systemd says of the units that serve it."""

from __future__ import annotations

import pytest

from snapd.units import Unit, servers_of, why_stopped

BOTH = frozenset({"libvirtd", "virtqemud"})
NONE = Unit("virtqemud", "inactive", "success", listening=False)


def libvirtd(active: str, result: str = "success", *, listening: bool = True) -> Unit:
    return Unit("libvirtd", active, result, listening)


def test_one_that_was_stopped_is_left_alone_and_said_how_to_start() -> None:
    why = why_stopped([libvirtd("inactive"), NONE], {"libvirtd"})
    assert why == "libvirtd was stopped: systemctl start libvirtd"


def test_one_that_is_being_stopped_is_not_dialled_either() -> None:
    assert why_stopped([libvirtd("deactivating"), NONE], {"libvirtd"}) == "libvirtd is stopping"


def test_virtqemud_that_was_stopped_is_the_one_that_is_named() -> None:
    stopped = Unit("virtqemud", "inactive", "success", listening=True)
    why = why_stopped([libvirtd("inactive"), stopped], {"virtqemud"})
    assert why == "virtqemud was stopped: systemctl start virtqemud"


@pytest.mark.parametrize(
    "unit",
    [
        libvirtd("active"),
        libvirtd("activating"),  # an upgrade, a restart, systemd's own after a crash
        libvirtd("reloading"),
        libvirtd("failed", "exit-code"),
        libvirtd("failed", "watchdog"),
        libvirtd("deactivating", "signal"),  # it crashed, and systemd clears up
        libvirtd("inactive", listening=False),  # nobody starts it by dialling
    ],
    ids=lambda u: f"{u.active}-{u.result}-{u.listening}",
)
def test_anything_else_is_dialled(unit: Unit) -> None:
    assert why_stopped([unit, NONE], BOTH) == ""


def test_one_that_never_served_us_is_started_by_dialling_as_at_boot() -> None:
    assert why_stopped([libvirtd("inactive"), NONE], {"virtqemud"}) == ""


def test_the_other_one_that_runs_now_is_dialled() -> None:
    other = Unit("virtqemud", "active", "success", listening=True)
    assert why_stopped([libvirtd("inactive"), other], {"libvirtd"}) == ""


@pytest.mark.parametrize(
    "uri",
    ["qemu:///system", "qemu+unix:///system", "qemu:///system?mode=direct"],
)
def test_uri_of_this_hosts_system_libvirt_has_units(uri: str) -> None:
    assert servers_of(uri) == ("libvirtd", "virtqemud")


@pytest.mark.parametrize(
    "uri",
    [
        "qemu:///session",
        "test:///default",
        "test:///etc/system",
        "qemu+ssh://root@other/system",
        "qemu+tcp://localhost/system",
        "qemu:///system?socket=/tmp/libvirt-sock",
        "",
    ],
)
def test_uri_of_any_other_has_none(uri: str) -> None:
    assert servers_of(uri) == ()
