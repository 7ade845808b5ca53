"""The verbs under the real unit: inside its sandbox, in front of polkit, on real guests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.system.guests import MachineGuest
from tests.system.machines import MANAGER, SERVICE, Failed, Machine

NOT_AUTHORIZED = 5  # the CLI's exit code
NEEDS_PASSWORD = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
GDBUS = f"gdbus call --system -d {SERVICE} -o {MANAGER} -m {SERVICE}.Manager."
Verbs = tuple[Callable[..., object], Callable[..., object], Callable[..., object]]


def by_cli(machine: Machine, user: str) -> Verbs:
    """Create, revert, delete as a person would."""

    def create(domain: str, name: str, memory: str) -> object:
        return machine.virtsnap("create", domain, name, "--memory", memory, user=user)

    def revert(domain: str, name: str) -> object:
        return machine.virtsnap("revert", domain, name, "--yes", user=user)

    def delete(domain: str, name: str) -> object:
        return machine.virtsnap("delete", domain, name, "--yes", user=user)

    return create, revert, delete


def by_bus(machine: Machine, user: str) -> Verbs:
    """Create, revert, delete as a program would."""

    def verb(method: str, *words: str) -> object:
        (job,) = machine.call(method, *words, user=user)
        return machine.done(job, user=user)

    def create(domain: str, name: str, memory: str) -> object:
        options = ["1", "memory", "s", memory]
        return verb("CreateSnapshot", "ssa{sv}", domain, name, *options)

    def revert(domain: str, name: str) -> object:
        return verb("RevertSnapshot", "ssa{sv}", domain, name, "0")

    def delete(domain: str, name: str) -> object:
        return verb("DeleteSnapshot", "ssa{sv}", domain, name, "0")

    return create, revert, delete


@pytest.mark.parametrize(
    ("way", "user", "memory"),
    [
        (by_cli, "root", "no"),
        (by_cli, "member", "yes"),
        (by_bus, "root", "yes"),
        (by_bus, "member", "no"),
    ],
)
def test_revert_brings_back_what_the_guest_was(
    machine: Machine,
    guest: MachineGuest,
    way: Callable[[Machine, str], Verbs],
    user: str,
    memory: str,
) -> None:
    create, revert, delete = way(machine, user)
    guest.cmd("write", "note", "before")
    guest.cmd("set", "note", "before")
    boot = guest.cmd("boot-id")
    create("vm", "s1", memory)
    assert guest.tags(guest.images[0]) == guest.snapshots() == ["s1"]
    guest.cmd("write", "note", "after")
    guest.cmd("set", "note", "after")

    revert("vm", "s1")
    guest.wait()
    assert guest.cmd("read", "note") == "before"
    if memory == "yes":
        assert guest.cmd("get", "note") == "before"
        assert guest.cmd("boot-id") == boot
    else:
        assert guest.cmd("boot-id") != boot

    (safety,) = set(guest.snapshots()) - {"s1"}
    assert safety.startswith("safety-")
    delete("vm", "s1")
    assert guest.tags(guest.images[0]) == guest.snapshots() == [safety]


def test_other_user_may_read(machine: Machine, guest: MachineGuest) -> None:
    machine.virtsnap("create", "vm", "s1", user="member")
    rows, info = machine.call("ListSnapshots", "sa{sv}", "vm", "0", user="other")
    assert [row["Name"] for row in rows] == ["s1"]
    assert info["Total"] == 1
    assert "s1" in machine.virtsnap("list", "vm", user="other")
    (preview,) = machine.call("PreviewRevert", "ssa{sv}", "vm", "s1", "0", user="other")
    assert preview["Verdict"] == "yes"


def test_other_user_may_change_nothing(machine: Machine, guest: MachineGuest) -> None:
    machine.virtsnap("create", "vm", "s1", "--memory", "no")
    boot = guest.cmd("boot-id")
    tried = [
        "create vm mine",
        "revert vm s1 --yes",
        "delete vm s1 --yes",
        "describe vm s1 mine",
        "pin vm s1",
        "hold vm",
        "audit",
    ]
    codes = {words: machine.ran(f"virtsnap {words}", user="other").returncode for words in tried}
    assert codes == dict.fromkeys(tried, NOT_AUTHORIZED)
    assert guest.tags(guest.images[0]) == guest.snapshots() == ["s1"]
    assert guest.cmd("boot-id") == boot


def test_other_user_gets_the_error_by_its_name(machine: Machine, guest: MachineGuest) -> None:
    """gdbus says it. It doesn't offer to ask for a password, so what comes is polkit's answer that
    an admin's would do."""
    machine.virtsnap("create", "vm", "s1", "--memory", "no")
    tried = [
        "CreateSnapshot vm mine '{}'",
        "RevertSnapshot vm s1 '{}'",
        "DeleteSnapshot vm s1 '{}'",
        "DeleteOwnSnapshots vm '{}'",
        "SetPolicy p \"{'domains': <['*']>, 'schedule': <'@daily'>}\" '{}'",
        "Reload '{}'",
    ]
    said = {call: machine.ran(GDBUS + call, user="other").stderr for call in tried}
    assert {call for call in tried if NEEDS_PASSWORD not in said[call]} == set()
    assert guest.snapshots() == ["s1"]


def test_rule_that_forbids_is_final(machine: Machine, guest: MachineGuest) -> None:
    rule = 'polkit.addRule(function(a, s) { if (s.user == "member") return polkit.Result.NO; });'
    path = "/etc/polkit-1/rules.d/10-test.rules"
    machine.write(path, rule)
    try:
        refused = machine.wait(
            lambda: machine.ran(f"{GDBUS}CreateSnapshot vm '' '{{}}'", user="member").stderr,
            what="polkit has read the rule",
        )
        assert "org.virtsnap.Error.NotAuthorized" in refused
    finally:
        machine.run(["rm", path])


# --- images anywhere

FOLDERS = ["/home/x", "/mnt/y", "/srv/z", "/tmp/pool"]  # all else is in the pool


@pytest.fixture
def spread(machine: Machine) -> Iterator[MachineGuest]:
    """A running guest with a disk in each of FOLDERS."""
    machine.run(["mkdir", "-p", *FOLDERS])
    guest = MachineGuest.make(machine, "spread", FOLDERS)
    try:
        yield guest.up()
    finally:
        guest.remove()


def test_images_are_read_wherever_they_lie(machine: Machine, spread: MachineGuest) -> None:
    for image in spread.images:
        assert machine.run(["stat", "-c", "%U %a", image]) == "libvirt-qemu 600"
    machine.virtsnap("create", "spread", "s1", "--memory", "no")
    assert [spread.tags(image) for image in spread.images] == [["s1"]] * len(FOLDERS)
    (job,) = machine.call("Audit", "sa{sv}", "spread", "0")
    assert machine.done(job)["Findings"] == []
    machine.virtsnap("delete", "spread", "s1", "--yes")
    assert [spread.tags(image) for image in spread.images] == [[]] * len(FOLDERS)


def test_image_that_only_root_may_reach_is_read(machine: Machine) -> None:
    machine.run(["install", "-d", "-m", "700", "/root/vms"])
    off = MachineGuest.make(machine, "off", ["/root/vms"])
    try:
        machine.virtsnap("create", "off", "s1")
        assert off.tags(off.images[0]) == ["s1"]
    finally:
        off.remove()


def test_snapshot_of_another_tool_is_seen_at_once(machine: Machine, guest: MachineGuest) -> None:
    """By the watch on libvirt's folder, which the sandbox leaves open; a poll takes minutes."""
    guest.virsh("snapshot-create-as", "foreign")

    def origin() -> str:
        rows, _ = machine.call("ListSnapshots", "sa{sv}", "vm", "0")
        return str(rows[0]["Origin"]) if rows else ""

    assert machine.wait(origin, seconds=5) == "foreign"


@pytest.mark.parametrize(
    "folder",
    ["/var/lib/libvirt/images", "/home/x", "/tmp", "/etc", "/etc/virtsnapd/policies.d"],
)
def test_sandbox_lets_nothing_be_written(machine: Machine, folder: str) -> None:
    """From inside of its mounts, with its user's rights; the folder may even be its own."""
    machine.run(["install", "-d", "-o", "virtsnapd", "/home/x"])
    pid = machine.show("virtsnapd", "MainPID")
    user = ["setpriv", "--reuid", "virtsnapd", "--clear-groups"]
    with pytest.raises(Failed, match="Read-only"):
        machine.run(["nsenter", "-t", pid, "-m", "--", *user, "touch", f"{folder}/written"])
