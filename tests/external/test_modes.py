"""What callers may ask of external snapshots beyond the plain ones, with real guests: what comes
after, trials, disks that are left out, paused guests, whose the files are."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from snapd.cli.actions.files import resting
from tests.bed.guest import Guest
from tests.client import Client
from tests.external.moments import calm
from tests.external.standing import nothing_else_is_there, stands_alone
from tests.external.test_audit import audit, words
from tests.external.test_overlays import sources
from tests.qemu.conftest import NewGuest, know
from tests.qemu.steps import current, frozen, in_ram, listed, note, on_disks

VM = "modes"
PLAIN = {"kind": "external", "memory": "no", "quiesce": "no"}
RAM = {"kind": "external", "memory": "yes"}
UNSUPPORTED = "Unsupported"


@pytest.fixture
def guest(client: Client, new_guest: NewGuest) -> Guest:
    """A running guest of a qcow2 disk and a raw one, which the daemon knows."""
    made = new_guest(VM, disks=["qcow2", "raw"], disk_mib=16, memory=128)
    made.define()
    made.start()
    calm(made)
    know(client, made)
    return made


def shows(guest: Guest, text: str, ram: str = "nothing") -> None:
    calm(guest)
    assert (on_disks(guest), in_ram(guest)) == ([text, text], ram)


def off(client: Client, guest: Guest) -> None:
    guest.cmd("sh", "sync")
    guest.virsh("destroy")
    know(client, guest)


@pytest.mark.long
def test_then_restart_and_stop_go_on_from_the_overlays_and_keep_the_broken_state(
    client: Client, guest: Guest
) -> None:
    boot = guest.cmd("boot-id")
    note(guest, "broken")
    found = client.refused("CreateSnapshot", VM, "x", kind="external", then="stop", max_pause=0)
    assert found == (UNSUPPORTED, "pause-too-long")
    found = client.refused(
        "CreateSnapshot", VM, "x", kind="external", then="stop", quiesce="require"
    )
    assert (found, guest.state(), listed(guest)) == ((UNSUPPORTED, "no-memory"), "running", [])

    assert client.create(VM, "r", kind="external", then="restart")["Consistency"] == "memory"
    assert guest.state() == "running"
    shows(guest, "broken")
    assert guest.cmd("boot-id") != boot
    note(guest, "works again")
    know(client, guest)
    looked = client.call("PreviewCreate", VM, "s", then="stop", **PLAIN)
    assert (looked["Verdict"], looked["FinalState"]) == ("yes", "shutoff")
    assert client.create(VM, "s", then="stop", **PLAIN)["Consistency"] == "crash"
    assert guest.state() == "shut off"
    assert client.snapshots(VM)["s"]["State"] == "running"
    know(client, guest)
    assert client.create(VM, "o", then="restart", **PLAIN)["Consistency"] == "offline"
    assert guest.state() == "shut off", "there was nothing to restart"
    stands_alone(guest, ["r", "s", "o"])

    assert client.revert(VM, "r", safety_snapshot=False)["FinalState"] == "running"
    shows(guest, "broken", "broken")
    assert guest.cmd("boot-id") == boot
    assert client.revert(VM, "s", safety_snapshot=False)["FinalState"] == "running"
    shows(guest, "works again")
    assert client.delete(VM, "r", children=True)["Deleted"][-1] == "r"
    stands_alone(guest, [])
    shows(guest, "works again")


@pytest.mark.parametrize(
    "wish",
    [pytest.param(PLAIN, id="disks"), pytest.param(RAM, id="ram", marks=pytest.mark.long)],
)
def test_trial_is_thrown_away_or_kept_and_nothing_is_left(
    client: Client, guest: Guest, wish: dict[str, str]
) -> None:
    ram = "then" if wish == RAM else "nothing"
    note(guest, "then")
    client.create(VM, "t", trial=True, **wish)
    assert client.snapshots(VM)["t"]["Origin"] == "trial"
    note(guest, "tried")
    boot, on = guest.cmd("boot-id"), sources(guest)
    looked = client.call("PreviewRevert", VM, "t", delete_after=True)
    (against,) = looked["Blockers"]
    assert (against["Reason"], against["Ways"]) == ("active-non-leaf", ["no-safety-snapshot"])
    found = client.refused("RevertSnapshot", VM, "t", delete_after=True)
    assert found == (UNSUPPORTED, "active-non-leaf")
    assert (guest.cmd("boot-id"), sources(guest), listed(guest)) == (boot, on, ["t"])

    job = client.call("RevertSnapshot", VM, "t", delete_after=True, safety_snapshot=False)
    assert client.wait(job)["FinalState"] == "running"
    assert "not-deleted" not in {w["Reason"] for w in client.job(job)["Warnings"]}
    shows(guest, "then", ram)
    stands_alone(guest, [])

    client.create(VM, "kept", trial=True, **wish)
    note(guest, "tried well")
    assert client.delete(VM, "kept")["Deleted"] == ["kept"]
    shows(guest, "tried well", "tried well")
    stands_alone(guest, [])
    assert client.snapshots(VM) == {}


@pytest.mark.long
def test_trial_of_another_branch_is_thrown_away_although_the_present_is_kept(
    client: Client, guest: Guest
) -> None:
    for name in ("root", "trial"):
        note(guest, name)
        client.create(VM, name, **PLAIN)
    client.revert(VM, "root", safety_snapshot=False)
    shows(guest, "root")
    note(guest, "branch")
    client.create(VM, "branch", **PLAIN)
    note(guest, "now")
    assert client.call("PreviewRevert", VM, "trial", delete_after=True)["Verdict"] == "yes"
    job = client.call("RevertSnapshot", VM, "trial", delete_after=True)
    safety = client.properties(client.wait(job)["SafetySnapshot"], "Snapshot")["Name"]
    assert "not-deleted" not in {w["Reason"] for w in client.job(job)["Warnings"]}
    shows(guest, "trial")
    assert sorted(listed(guest)) == sorted(["root", "branch", safety])
    nothing_else_is_there(guest)
    client.revert(VM, safety, safety_snapshot=False)
    shows(guest, "now", "now")


def test_disk_that_is_left_out_is_listed_and_stays_what_it_is(client: Client, guest: Guest) -> None:
    note(guest, "then")
    first, second = sources(guest)
    found = client.refused("CreateSnapshot", VM, "x", disks=["vda"], **RAM)
    assert found == (UNSUPPORTED, "all-disks")
    looked = client.call("PreviewCreate", VM, "part", disks=["vda"], **PLAIN)
    assert (looked["Verdict"], looked["Disks"], looked["DisksLeftOut"]) == ("yes", ["vda"], ["vdb"])
    client.create(VM, "part", disks=["vda"], **PLAIN)
    row = client.snapshots(VM)["part"]
    assert (row["Disks"], row["DisksLeftOut"], row["Notes"]) == (
        ["vda"],
        ["vdb"],
        ["not-revertible"],
    )
    assert sources(guest) == [str(guest.folder / f"{VM}-vda.part.qcow2"), second]
    told = resting(client.act(VM, "part", "GetXML"))
    assert [(r["Disk"], r["Format"], r["File"]) for r in told] == [("vda", "qcow2", first)]
    amiss = audit(client, guest)  # earlier tests had a guest of this name
    assert {word for word, _item in words(amiss)} <= {"removed-outside"}
    note(guest, "now")
    boot = guest.cmd("boot-id")
    found = client.refused("RevertSnapshot", VM, "part", safety_snapshot=False)
    assert found == (UNSUPPORTED, "external-unsupported")
    assert (guest.cmd("boot-id"), in_ram(guest), on_disks(guest)) == (boot, "now", ["now", "now"])
    client.delete(VM, "part")
    assert sources(guest) == [first, second]
    shows(guest, "now", "now")
    nothing_else_is_there(guest)


@pytest.mark.long
def test_paused_guest_stays_paused_and_comes_back_so(client: Client, guest: Guest) -> None:
    note(guest, "then")
    guest.virsh("suspend")
    know(client, guest)
    made = client.create(VM, "p", kind="external", memory="no")
    assert (made["Consistency"], guest.state()) == ("crash", "paused")
    assert client.snapshots(VM)["p"]["State"] == "paused"
    guest.virsh("resume")
    assert frozen(guest) == "thawed"
    note(guest, "now")
    know(client, guest)
    done = client.revert(VM, "p", safety_snapshot=False)
    assert (done["FinalState"], guest.state(), current(guest)) == ("paused", "paused", "p")
    know(client, guest)
    client.delete(VM, "p")
    stands_alone(guest, [])
    guest.virsh("resume")
    shows(guest, "then")


def _of(path: str | Path) -> tuple[int, int, int]:
    found = Path(path).stat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


@pytest.mark.long
def test_files_belong_to_whom_the_disks_belong_and_nobody_else_may_read_them(
    client: Client, guest: Guest
) -> None:
    note(guest, "one")
    client.create(VM, "one", **RAM)
    off(client, guest)
    for path in sources(guest):
        shutil.chown(path, 64055, 109)
    client.create(VM, "two", **PLAIN)
    assert [_of(path) for path in sources(guest)] == [(64055, 109, 0o600)] * 2
    guest.start()
    calm(guest)
    know(client, guest)
    note(guest, "three")
    on = [_of(path)[:2] for path in sources(guest)]
    client.create(VM, "three", **RAM)
    assert [_of(path) for path in sources(guest)] == [(*owner, 0o600) for owner in on]
    for name in ("one", "three"):
        assert _of(guest.folder / f"{VM}.{name}.ram")[2] == 0o600
    client.revert(VM, "three", safety_snapshot=False)
    shows(guest, "three", "three")
    assert [_of(path) for path in sources(guest)] == [(*owner, 0o600) for owner in on]
