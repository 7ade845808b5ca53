"""libvirt before 9.9 makes external snapshots and can't go back to them: none is made there."""

from __future__ import annotations

from tests.bed.guest import Guest
from tests.client import Client
from tests.external.test_overlays import sources
from tests.qemu.conftest import NewGuest, know
from tests.qemu.steps import listed
from tests.qemu.test_facts import facts


def test_external_snapshot_is_refused_and_auto_never_becomes_one(
    client: Client, guest: Guest
) -> None:
    before = sources(guest)
    assert not facts(guest).chains.capable
    refused = client.refused("CreateSnapshot", "vm", "s1", kind="external", memory="no")
    assert refused == ("Unsupported", "external-unsupported")
    assert (listed(guest), sources(guest)) == ([], before)
    client.create("vm", "s2", kind="auto", memory="no")
    assert client.snapshots("vm")["s2"]["Kind"] == "internal"
    assert sources(guest) == before


def test_raw_disk_stays_refused_with_the_reason_of_the_internal_one(
    client: Client, new_guest: NewGuest
) -> None:
    guest = new_guest("raw", disks=["raw"])
    guest.define()
    know(client, guest)
    looked = client.call("PreviewCreate", "raw", "s1")
    assert (looked["Verdict"], looked["Kind"]) == ("raw-disk", "internal")
    assert client.refused("CreateSnapshot", "raw", "s1") == ("Unsupported", "raw-disk")
    assert sources(guest) == [str(guest.images[0])]
    assert list(guest.folder.iterdir()) == [guest.images[0]]
