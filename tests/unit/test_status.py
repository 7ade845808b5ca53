"""The line that `systemctl status` shows."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from snapd.status import Doing, told

BERLIN = ZoneInfo("Europe/Berlin")
URI = "qemu:///system"


def test_idle_daemon_says_how_much_it_looks_after_and_what_comes_next() -> None:
    doing = Doing(URI, vms=12, policies=1, next_policy="nightly", next_run=1795570200)
    assert (
        told(doing, BERLIN) == "12 VMs, 1 policy; next: policy nightly on Wed 2026-11-25 02:30 CET"
    )


def test_nothing_to_look_after() -> None:
    assert told(Doing(URI)) == "no VMs, no policies"


def test_at_work_names_the_vms_and_counts_those_beyond_three() -> None:
    words = [f"reverting VM vm-{n}" for n in range(5)]
    assert told(Doing(URI, vms=5, policies=2, at_work=words)) == (
        "5 VMs, 2 policies; reverting VM vm-0, reverting VM vm-1, reverting VM vm-2, and 2 more"
    )


def test_problem_is_said_and_the_others_are_counted() -> None:
    doing = Doing(URI, vms=1, policies=1, problems=["policy file x.toml:\nline 1", "b", "c"])
    assert told(doing) == ("1 VM, 1 policy; problem: policy file x.toml: line 1 (and 2 more)")


def test_long_problem_leaves_the_line_readable() -> None:
    assert len(told(Doing(URI, problems=["x" * 5000]))) < 300


def test_no_connection_says_why() -> None:
    doing = Doing(URI, "libvirtd was stopped: systemctl start libvirtd", connected=False, vms=3)
    assert told(doing) == (
        "no connection to libvirt at qemu:///system "
        "(libvirtd was stopped: systemctl start libvirtd)"
    )


def test_vms_are_still_being_read() -> None:
    assert told(Doing(URI, loading=True, vms=1)) == "reading VMs at qemu:///system"
