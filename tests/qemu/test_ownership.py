"""Pins and descriptions on a real guest: what libvirt and the images hold afterwards."""

from __future__ import annotations

import time

from tests.bed.guest import Guest
from tests.client import Client, Daemon
from tests.qemu.conftest import NewGuest, know
from tests.qemu.steps import current, listed, note, on_disks, tags

PASSWORD = "s3cr3t-1"
VNC = f"<graphics type='vnc' autoport='yes' passwd='{PASSWORD}'/>"
POLICY = 'domains = ["vnc"]\nschedule = "@yearly"\nquiesce = "no"\n[keep]\nlast = 1\n'


def with_vnc(new_guest: NewGuest) -> Guest:
    guest = new_guest("vnc", agent=False)
    guest.define(guest.xml.replace("<devices>", f"<devices>{VNC}", 1))
    guest.start()
    guest.wait()
    return guest


def secure(guest: Guest, snapshot: str) -> str:
    return guest.virsh("snapshot-dumpxml", snapshot, "--security-info")


def run(client: Client) -> str:
    """Run the policy; the snapshot that it made. The next is newer: of two of one second no one
    is the newest."""
    (row,) = client.wait(client.call("RunPolicy", "one"))["Domains"]
    assert (row["Outcome"], row["Reason"]) == ("made", "")
    made = client.properties(row["Snapshot"], "Snapshot")
    client.until("another second", lambda: time.time() >= made["Created"] + 1)
    return str(made["Name"])


def test_described_and_pinned_snapshots_of_a_guest_with_a_vnc_password(
    client: Client, daemon: Daemon, new_guest: NewGuest
) -> None:
    guest = with_vnc(new_guest)
    know(client, guest)
    note(guest, "then")
    client.create("vnc", "one", memory="no", quiesce="no", description="first")
    client.create("vnc", "two", memory="yes")
    note(guest, "now")

    before = {name: secure(guest, name) for name in ("one", "two")}
    client.act("vnc", "one", "SetDescription", "before <13> & after")
    client.act("vnc", "two", "SetDescription", "the current one")
    assert all(PASSWORD in text for text in before.values())
    text = "<description>before &lt;13&gt; &amp; after</description>"
    assert secure(guest, "one") == before["one"].replace("<description>first</description>", text)
    text = "<name>two</name>\n  <description>the current one</description>"
    assert secure(guest, "two") == before["two"].replace("<name>two</name>", text, 1)
    assert (current(guest), guest.virsh("snapshot-parent", "two")) == ("two", "one")
    assert tags(guest) == [["one", "two"]]
    xml = client.act("vnc", "one", "GetXML")
    assert xml.strip() == guest.virsh("snapshot-dumpxml", "one")
    assert PASSWORD not in xml and "type='vnc'" in xml
    assert PASSWORD not in daemon.log

    client.revert("vnc", "one", safety_snapshot=False)
    guest.wait()
    assert on_disks(guest) == ["then"]
    assert PASSWORD in guest.virsh("dumpxml", "--security-info")
    client.revert("vnc", "two", safety_snapshot=False)
    assert on_disks(guest) == ["then"]

    policy = daemon.config / "policies.d" / "one.toml"
    policy.write_text(POLICY)
    try:
        client.call("Reload")
        pinned = run(client)
        client.act("vnc", pinned, "Pin", "audit")
        client.act("vnc", "one", "Pin", "")
        for name in (pinned, "one"):
            assert client.refused("DeleteSnapshot", "vnc", name) == ("Protected", "pinned")
        assert client.refused("DeleteSnapshot", "vnc", "one", children=True)[0] == "Protected"
        second, third = run(client), run(client)
    finally:
        policy.unlink()
        client.call("Reload")
    assert listed(guest) == sorted({"one", "two", pinned, third})
    assert [set(held) for held in tags(guest)] == [{"one", "two", pinned, third}]
    assert second not in listed(guest)
    client.act("vnc", "one", "Unpin")
    client.delete("vnc", "one")
    assert "one" not in listed(guest)
