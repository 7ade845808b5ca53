"""What callers may ask of the verbs beyond the plain ones: the guest, libvirt's own tool and
qemu-img say whether it was done."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from snapd.errors import Partial
from tests.bed.guest import Guest
from tests.client import Client, Row
from tests.qemu.conftest import have_clock_set, know
from tests.qemu.steps import current, in_ram, listed, note, on_disks, tags, untouched

SHMEM = """<shmem name='virtsnapd-test'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>
"""
LIBVIRTS = {"running": "running", "paused": "paused", "stopped": "shut off"}


def warned(client: Client, job: str) -> set[str]:
    warnings = client.job(job)["Warnings"]
    print(f"warnings: {[w['Message'] for w in warnings]}")
    return {w["Reason"] for w in warnings}


def name_of(client: Client, result: Row) -> str:
    """The name of the safety snapshot that a revert took."""
    return str(client.properties(result["SafetySnapshot"], "Snapshot")["Name"])


def test_create_then_restart_and_stop_go_on_from_disks_and_keep_the_broken_state(
    client: Client, guest: Guest
) -> None:
    boot = guest.cmd("boot-id")
    note(guest, "broken")
    assert client.create("vm", "r", then="restart")["Consistency"] == "memory"
    guest.wait()
    assert guest.cmd("boot-id") != boot
    assert (in_ram(guest), on_disks(guest)) == ("nothing", ["broken", "broken"])
    note(guest, "works again")
    assert client.revert("vm", "r", safety_snapshot=False)["FinalState"] == "running"
    assert guest.cmd("boot-id") == boot
    assert (in_ram(guest), on_disks(guest)) == ("broken", ["broken", "broken"])

    assert client.create("vm", "s", then="stop")["Consistency"] == "memory"
    assert guest.state() == "shut off"
    assert client.snapshots("vm")["s"]["State"] == "running"
    assert client.create("vm", "o", then="restart")["Consistency"] == "offline"
    assert guest.state() == "shut off"
    assert (tags(guest), current(guest)) == ([["r", "s", "o"]] * 2, "o")
    assert client.revert("vm", "s", safety_snapshot=False)["FinalState"] == "running"
    assert (guest.cmd("boot-id"), in_ram(guest)) == (boot, "broken")


def test_create_then_stop_whose_ram_cannot_be_saved_is_refused(
    client: Client, guest: Guest
) -> None:
    with untouched(guest):
        for then in ("stop", "restart"):
            found = client.refused("CreateSnapshot", "vm", "x", then=then, max_pause=0)
            assert found == ("Unsupported", "pause-too-long")
        device = guest.folder / "shmem.xml"
        device.write_text(SHMEM)
        guest.virsh("attach-device", str(device), "--live")
        try:
            found = client.refused("CreateSnapshot", "vm", "x", then="stop")
            assert found == ("Unsupported", "unmigratable-device")
        finally:
            guest.virsh("detach-device", str(device), "--live")
            client.until("the device is gone", lambda: "shmem" not in guest.virsh("dumpxml"))


def test_trial_is_thrown_away_with_delete_after_and_the_clock_is_right(
    client: Client, guest: Guest
) -> None:
    have_clock_set(guest)
    note(guest, "then")
    guest.cmd("sh", "date -s @1500000000")
    client.create("vm", "t", trial=True, memory="yes")
    note(guest, "tried")
    client.act("vm", "t", "Pin", "we want to see it again")
    with untouched(guest):
        found = client.refused("RevertSnapshot", "vm", "t", delete_after=True)
        assert found == ("Protected", "pinned")
    note(guest, "tried")
    client.act("vm", "t", "Unpin")
    job = client.call("RevertSnapshot", "vm", "t", delete_after=True)
    done = client.wait(job)
    safety = name_of(client, done)
    assert (listed(guest), tags(guest)) == ([safety], [[safety]] * 2)
    assert (in_ram(guest), on_disks(guest)) == ("then", ["then", "then"])
    assert (done["TimeSet"], warned(client, job)) == (True, set())
    assert abs(int(guest.cmd("sh", "date +%s")) - time.time()) < 10
    client.revert("vm", safety, safety_snapshot=False)
    assert (in_ram(guest), on_disks(guest)) == ("tried", ["tried", "tried"])


def test_revert_with_a_hung_agent_and_a_trial_that_cannot_go_counts_all_the_same(
    client: Client, guest: Guest
) -> None:
    note(guest, "then")
    guest.cmd("sh", "killall -STOP qemu-ga")
    try:
        client.create("vm", "t", trial=True, memory="yes")
        note(guest, "tried")
        begun = time.monotonic()
        job = client.call("RevertSnapshot", "vm", "t", delete_after=True, safety_snapshot=False)
        client.until("it asks the agent", lambda: client.job(job)["Phase"] == "setting-time")
        client.act("vm", "t", "Pin", "kept in the last moment")
        done = client.wait(job)
        took = time.monotonic() - begun
    finally:
        guest.cmd("sh", "killall -CONT qemu-ga")
        guest.wait()
    assert (done["FinalState"], done["TimeSet"]) == ("running", False)
    assert warned(client, job) == {"guest-time", "not-deleted"}
    assert (listed(guest), tags(guest)) == (["t"], [["t"], ["t"]])
    assert (in_ram(guest), on_disks(guest)) == ("then", ["then", "then"])
    assert took < 30


def test_revert_ends_in_the_state_that_was_asked_for(client: Client, guest: Guest) -> None:
    note(guest, "then")
    client.create("vm", "ram", memory="yes")
    client.create("vm", "disks", memory="no", quiesce="no")
    client.create("vm", "last", memory="yes", then="stop")
    client.create("vm", "off")
    for name in ("ram", "disks", "off"):
        for after in ("running", "paused", "stopped"):
            done = client.revert("vm", name, after=after, safety_snapshot=False)
            assert (name, guest.state()) == (name, LIBVIRTS[after])
            assert done["FinalState"] == guest.state().replace(" ", "")
            assert current(guest) == name
    client.revert("vm", "ram", after="paused", safety_snapshot=False)
    guest.virsh("resume")
    assert (in_ram(guest), on_disks(guest)) == ("then", ["then", "then"])


def test_managed_save_is_discarded_only_with_both_words_and_never_resumed(
    client: Client, guest: Guest
) -> None:
    boot = guest.cmd("boot-id")
    note(guest, "then")
    client.create("vm", "base", memory="no", quiesce="no")
    note(guest, "now")
    guest.virsh("managedsave")
    know(client, guest)
    for words in ({"force": True}, {"discard_saved_state": True}):
        found = client.refused("RevertSnapshot", "vm", "base", **words)
        assert found == ("NeedsForce", "managed-save")
    assert "Managed save:   yes" in guest.virsh("dominfo")
    assert (tags(guest), listed(guest)) == ([["base"]] * 2, ["base"])

    done = client.revert("vm", "base", force=True, discard_saved_state=True)
    assert (done["FinalState"], guest.state()) == ("running", "running")
    assert "Managed save:   no" in guest.virsh("dominfo")
    guest.wait()
    assert guest.cmd("boot-id") != boot
    assert (in_ram(guest), on_disks(guest)) == ("nothing", ["then", "then"])
    safety = name_of(client, done)
    assert client.snapshots("vm")[safety]["Consistency"] == "crash"
    assert tags(guest) == [["base", safety]] * 2
    done = client.revert("vm", safety, after="running", safety_snapshot=False)
    assert done["FinalState"] == "running"
    guest.wait()
    assert on_disks(guest) == ["now", "now"]


def test_delete_with_children_takes_all_below_or_nothing(client: Client, guest: Guest) -> None:
    note(guest, "now")
    client.create("vm", "top", memory="no")
    client.create("vm", "root", memory="yes")
    client.create("vm", "left", memory="no")
    client.create("vm", "leaf", memory="no")
    client.revert("vm", "root", safety_snapshot=False)
    client.create("vm", "right", memory="no")
    everything = ["top", "root", "left", "leaf", "right"]
    client.act("vm", "leaf", "Pin", "")
    with untouched(guest):
        found = client.refused("DeleteSnapshot", "vm", "root", children=True)
        assert found == ("Protected", "pinned")
    assert tags(guest) == [everything, everything]
    client.act("vm", "leaf", "Unpin")
    deleted = client.delete("vm", "root", children=True)["Deleted"]
    assert sorted(deleted) == sorted(everything[1:])
    assert deleted.index("leaf") < deleted.index("left") < deleted.index("root")
    assert (listed(guest), tags(guest)) == (["top"], [["top"], ["top"]])


def test_delete_with_children_that_breaks_off_says_what_is_gone_and_what_stays(
    client: Client, guest: Guest
) -> None:
    def broken_off(top: str, how: Callable[[], object]) -> str:
        """Have something happen once the first child is gone; the error's message."""
        seen = len(client.signals("SnapshotDeleted"))
        job = client.call("DeleteSnapshot", "vm", top, children=True)
        gone = lambda: len(client.signals("SnapshotDeleted")) > seen  # noqa: E731
        client.until("the first is gone", gone, pause=0.01)
        how()
        with pytest.raises(Partial) as caught:
            client.wait(job)
        assert client.job(job)["ErrorDetail"]["Item"] == "s1"
        return caught.value.message

    client.listen()
    for name in ("s0", "s1", "s2", "s3", "s4"):
        client.create("vm", name, memory="no", quiesce="no")
    s1 = client.call("GetSnapshot", "vm", "s1")
    said = broken_off("s0", lambda: client.ask(s1, "Snapshot", "Pin", "in the last moment"))
    assert "s4, s3, s2 deleted" in said and "pinned" in said
    assert (listed(guest), tags(guest)) == (["s0", "s1"], [["s0", "s1"]] * 2)

    client.ask(s1, "Snapshot", "Unpin")
    for name in ("s5", "s6", "s7"):
        client.create("vm", name, memory="no", quiesce="no")
    said = broken_off("s1", lambda: guest.virsh("snapshot-delete", "s1", "--metadata"))
    assert "s7, s6, s5 deleted" in said and "s1" in said
    assert (listed(guest), tags(guest)) == (["s0"], [["s0", "s1"]] * 2)
    assert guest.state() == "running"
