"""libvirt before 9.9 makes external snapshots and can't go back to them: none is made there."""

from __future__ import annotations

from tests.bed.guest import Guest
from tests.client import Client
from tests.external.test_overlays import sources
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
