"""Creates of external snapshots over D-Bus, of real guests: what came of them is said by libvirt,
qemu-img and the guest; going back is virsh's."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from snapd.errors import SnapdError
from snapd.wire.fault import WireError
from tests.bed.guest import Guest, virsh
from tests.bed.private import PrivateLibvirt
from tests.bed.recipe import Hardware
from tests.bus import private_bus
from tests.client import Client, Daemon
from tests.external.test_overlays import header, sources
from tests.qemu.conftest import NewGuest, know
from tests.qemu.steps import current, frozen, in_ram, listed, note, on_disks

PLAIN = {"kind": "external", "memory": "no", "quiesce": "no"}


@pytest.fixture
def two(new_guest: NewGuest, client: Client) -> Guest:
    """A running guest of a qcow2 and a raw disk, which the daemon knows."""
    guest = new_guest("two", disks=["qcow2", "raw"]).up()
    know(client, guest)
    return guest


def over(guest: Guest, name: str) -> list[str]:
    return [str(guest.folder / f"{guest.name}-vd{x}.{name}.qcow2") for x in "ab"]


def stands_on_both(guest: Guest, name: str, bases: list[str]) -> None:
    """Each disk is on a file of its own that is backed by what it was on, now and next time."""
    assert sources(guest) == over(guest, name)
    stored = guest.virsh("domblklist", "--details", "--inactive").splitlines()
    assert [row.split()[-1] for row in stored] == over(guest, name)
    for path, base in zip(over(guest, name), bases, strict=True):
        said = header(path)
        assert said["backing-filename"] == base
        form = "raw" if base.endswith(".raw") else "qcow2"
        assert said["backing-filename-format"] == form


def back(guest: Guest, name: str, *how: str) -> None:
    guest.virsh("snapshot-revert", name, *how)
    guest.wait()


def test_disk_only_of_running_guest_holds_both_disks_raw_ones_too(
    client: Client, two: Guest
) -> None:
    boot, bases, pools = two.cmd("boot-id"), sources(two), virsh("pool-list", "--all")
    note(two, "then")
    two.cmd("sh", "sync")
    with two.pulse() as pulse:
        made = client.create("two", "s1", **PLAIN)
    assert (made["Name"], made["Consistency"]) == ("s1", "crash")
    assert (listed(two), current(two)) == (["s1"], "s1")
    stands_on_both(two, "s1", bases)
    assert two.cmd("boot-id") == boot
    note(two, "now")
    row = client.snapshots("two")["s1"]
    assert (row["Kind"], row["State"], row["Origin"]) == ("external", "running", "manual")
    assert (row["Disks"], row["Status"]) == (["vda", "vdb"], "ok")
    print(f"standstill {pulse.standstill() * 1000:.0f} ms, told {row['PauseMilliseconds']} ms")
    client.create("two", "s2", **PLAIN)
    stands_on_both(two, "s2", over(two, "s1"))
    assert virsh("pool-list", "--all") == pools
    assert str(two.folder) not in str(client.rows("ListJobs", domain="two"))
    back(two, "s1", "--running")
    assert on_disks(two) == ["then", "then"]


def test_kind_auto_of_a_raw_disk_external_quiesced_and_said(client: Client, two: Guest) -> None:
    looked = client.call("PreviewCreate", "two", "s1", memory="no")
    assert (looked["Verdict"], looked["Kind"]) == ("yes", "external")
    assert "disk vdb is raw" in next(
        row["Message"] for row in looked["Loses"] if row["Reason"] == "external"
    )
    note(two, "then")
    made = client.create("two", "s1", memory="no", quiesce="require")
    assert made["Consistency"] == "quiesced"
    assert frozen(two) == "thawed"
    row = client.snapshots("two")["s1"]
    assert (row["Kind"], row["Notes"]) == ("external", ["external"])
    assert client.call("PreviewCreate", "two", "s2", memory="no")["Kind"] == "external"
    refused = client.refused("CreateSnapshot", "two", "s2", kind="internal", memory="no")
    assert refused == ("Unsupported", "mixed-tree")
    note(two, "now")
    back(two, "s1", "--running")
    assert on_disks(two) == ["then", "then"]


def test_shut_off_guest_goes_on_from_new_files(client: Client, two: Guest) -> None:
    note(two, "then")
    two.cmd("sh", "sync")
    bases = sources(two)
    two.virsh("destroy")
    know(client, two)
    made = client.create("two", "s1", **PLAIN)
    assert made["Consistency"] == "offline"
    stands_on_both(two, "s1", bases)
    two.start()
    two.wait()
    assert on_disks(two) == ["then", "then"]
    note(two, "now")
    two.virsh("destroy")
    two.virsh("snapshot-revert", "s1")
    two.start()
    two.wait()
    assert on_disks(two) == ["then", "then"]


def test_with_ram_while_the_guest_runs_on(client: Client, two: Guest) -> None:
    boot, bases = two.cmd("boot-id"), sources(two)
    note(two, "then")
    made = client.create("two", "s1", kind="external", memory="yes")
    assert made["Consistency"] == "memory"
    stands_on_both(two, "s1", bases)
    ram = two.folder / "two.s1.ram"
    assert ram.stat().st_mode & 0o777 == 0o600
    row = client.snapshots("two")["s1"]
    print(f"told {row['PauseMilliseconds']} ms")
    note(two, "now")
    two.virsh("snapshot-revert", "s1")
    assert (in_ram(two), on_disks(two)) == ("then", ["then", "then"])
    assert two.cmd("boot-id") == boot


def test_file_in_the_way_is_left_as_it_is(client: Client, two: Guest) -> None:
    """Seen beforehand or not: an image, and somebody's notes."""
    before = {}
    for name, content in (("s1", b"QFI\xfb somebody's image"), ("s2", b"somebody's notes")):
        path = Path(over(two, name)[1])
        path.write_bytes(content)
        before[path] = content
        client.create("two", name, **PLAIN)
        assert not set(sources(two)) & set(over(two, name))
        assert all(source.endswith(".qcow2") for source in sources(two))
    ram = two.folder / "two.s3.ram"
    ram.write_bytes(b"somebody's notes")
    before[ram] = b"somebody's notes"
    there = sources(two)
    refused = client.refused("CreateSnapshot", "two", "s3", kind="external", memory="yes")
    assert refused[0] == "AlreadyExists"
    assert {path: path.read_bytes() for path in before} == before
    assert sources(two) == there
    assert sorted(two.folder.glob("*s3*")) == [ram]
    note(two, "now")


# --- broken off


class Broken:
    """A guest whose creates are broken off, by a daemon that can be struck at each of its steps."""

    def __init__(self, bed: PrivateLibvirt, client: Client, daemon: Daemon, plans: Path) -> None:
        self.bed, self.client, self.daemon, self.plans = bed, client, daemon, plans
        self.guest = Guest.make(
            "broken", bed.images, disks=["qcow2", "raw"], hardware=Hardware(memory=96)
        ).up()
        know(client, self.guest)

    def play(self, who: str, struck: list[str], **wish: str) -> str:
        """Break a create off at the first step that is not in struck; return it, "" = none was
        left. It is made or it isn't, and nothing is left of one that isn't."""
        guest, client = self.guest, self.client
        name = f"{who}-{wish['memory']}-{len(struck)}"
        there, files = sources(guest), set(guest.folder.iterdir())
        pidfile = "" if who == "daemon" else f"{self.bed.scratch}/libvirtd.pid"
        kinds = ("asked", "stored", "during", "after") if not pidfile else ("before", "during")
        plan = {"verb": "create", "kinds": kinds, "struck": struck, "pidfile": pidfile}
        (self.plans / "said").write_text("")
        (self.plans / "plan.json").write_text(json.dumps({**plan, "seconds": 0}))
        with suppress(WireError):
            client.call("CreateSnapshot", guest.name, name, **{**PLAIN, **wish})
        client.until("it was struck, or ended", self._over, 60)
        self._mend()
        client.until("no job is open", self._idle, 60)
        said = (self.plans / "said").read_text().partition("struck: ")[2].strip()
        made = name in listed(guest)
        errors = [r["ErrorMessage"] for r in client.rows("ListJobs") if r["SnapshotName"] == name]
        print(f"{who} at {said or 'no step'}: {'made' if made else 'not made'} {errors}")
        rows = client.snapshots(guest.name)
        if made:
            stands_on_both(guest, name, there)
            assert (rows[name]["Status"], rows[name]["Origin"]) == ("ok", "manual")
        else:
            assert name not in rows
            assert sources(guest) == there
            assert set(guest.folder.iterdir()) == files
        (self.plans / "plan.json").unlink(missing_ok=True)
        if not made and not said:
            # 11.3 gives a node's name twice when it died as it made one, and not a third time
            # and once it died as RAM was saved, the next save may fail as well
            of_ram = wish["memory"] == "yes" and "Error in migration completion" in str(errors)
            assert "Duplicate nodes" in str(errors) or of_ram
            return self.play(who, [*struck, ""], **wish)
        return said.partition("\n")[0]

    def _mend(self) -> None:
        """What was struck dies in a moment; of a round without a strike nothing does."""
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline and self.daemon.running and self.bed.libvirtd_running():
            time.sleep(0.05)
        self.bed.mend_libvirtd()
        if not self.daemon.running:
            self.daemon.start()
        self.client.until("it is read", lambda: self.client.domain(self.guest.name), 60)

    def _over(self) -> bool:
        with suppress(WireError, SnapdError):
            return "struck" in (self.plans / "said").read_text() or self._idle()
        return False

    def _idle(self) -> bool:
        rows = self.client.rows("ListJobs", domain=self.guest.uuid)
        return all(row["State"] in ("done", "failed", "cancelled") for row in rows)


@pytest.fixture(scope="module")
def broken(
    session_bed: PrivateLibvirt, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broken]:
    folder = tmp_path_factory.mktemp("faulty")
    with private_bus() as bus:
        entry = ("tests.qemu.faulty", str(folder))
        daemon = Daemon(bus.address, "qemu:///system", folder, entry)
        daemon.start()
        with Client(bus.address) as client:
            stage = Broken(session_bed, client, daemon, folder)
            yield stage
        daemon.close()
    session_bed.mend_libvirtd()
    stage.guest.remove()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("who", "memory"),
    [
        ("daemon", "no"),
        pytest.param("daemon", "yes", marks=pytest.mark.long),
        pytest.param("libvirtd", "no", marks=pytest.mark.long),
        pytest.param("libvirtd", "yes", marks=pytest.mark.long),
    ],
)
def test_struck_at_each_step_it_is_made_or_nothing_is_left(
    broken: Broken, who: str, memory: str
) -> None:
    note(broken.guest, "kept")
    boot, struck = broken.guest.cmd("boot-id"), list[str]()
    while step := broken.play(who, struck, memory=memory):
        assert step not in struck
        struck.append(step)
    wanted = {"before make", "before create"}
    if memory == "yes":  # else it is over before libvirtd can be struck in it
        wanted.add("during create")
    assert len(struck) > 2 if who == "daemon" else wanted <= set(struck)
    assert broken.guest.state() == "running"
    assert broken.guest.cmd("boot-id") == boot
    assert on_disks(broken.guest) == ["kept", "kept"]
