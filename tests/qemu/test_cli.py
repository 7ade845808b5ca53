"""virtsnap's own ways on a real guest: to try something, to run a command, to go back. The guest,
libvirt's tool and the images say what came of it."""

from __future__ import annotations

from tests.bed.guest import Guest
from tests.bus import PrivateBus
from tests.driver.virtsnap import Done, terminal, virtsnap
from tests.qemu.steps import note, on_disks, tags


def done(bus: PrivateBus, *words: str) -> Done:
    """A command that does what it is to do."""
    found = virtsnap(bus.address, *words)
    assert found.code == 0, found
    return found


def holds(guest: Guest, text: str) -> None:
    """Its disks have it, once it answers: it boots where RAM was not in the snapshot."""
    guest.wait()
    assert on_disks(guest) == [text] * len(guest.disks)


def test_trial_is_thrown_away_and_undone_and_another_one_kept(
    bus: PrivateBus, guest: Guest
) -> None:
    note(guest, "before")
    done(bus, "try", "vm", "one", "--no-memory")
    note(guest, "tried")
    done(bus, "discard", "vm")
    holds(guest, "before")
    assert all("one" not in each for each in tags(guest))

    done(bus, "undo", "vm", "--yes")
    holds(guest, "tried")
    done(bus, "try", "vm", "two", "--no-memory")
    note(guest, "better")
    done(bus, "accept", "vm")
    holds(guest, "better")
    assert all("two" not in each for each in tags(guest))


def test_command_that_fails_offers_the_way_back_and_one_that_works_leaves_nothing(
    bus: PrivateBus, guest: Guest
) -> None:
    note(guest, "before")
    was = tags(guest)
    done(bus, "with", "vm", "--no-memory", "--", "true")
    assert tags(guest) == was

    words = ("with", "vm", "--no-memory", "--name", "w", "--", "sh", "-c", "read line; exit 7")
    with terminal(bus.address, *words) as seen:
        seen.until("snapshot w is made")
        note(guest, "broken")
        seen.type("go on\n")
        seen.until("[y/N] ")
        seen.type("y\n")
        assert seen.end(120) == 7
    holds(guest, "before")
    assert all("w" not in each for each in tags(guest))
