"""virtsnap check against the real daemon: what monitoring is told, and that nothing is started."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from snapd.wire.messages import Incoming
from snapd.wire.text import one_line
from tests.bus import PrivateBus, private_bus
from tests.client import Client
from tests.driver.house import DB1, HOURLY, NODE, WEB1, House
from tests.driver.test_coverage import SKIPS, joined, set_slots
from tests.driver.virtsnap import Done, virtsnap

HOUR = 3600
EVERY = HOURLY.replace("web-*", "*")
SYSTEMD = "org.freedesktop.systemd1"
NOBODY = "unix:path=/nonexistent/bus"
START = "start it: virtsnapd --bus-address ADDR --connect URI --config DIR --state DIR"


def check(house: House | PrivateBus, *arguments: str) -> Done:
    return virtsnap(house.address, "check", *arguments)


def first(done: Done) -> tuple[str, str]:
    """The first line: before the performance data, and these."""
    text, _, data = done.out.splitlines()[0].partition(" | ")
    return text, data


@contextmanager
def systemd(address: str, state: str) -> Iterator[list[Incoming]]:
    """Something that answers on that bus as systemd does for a unit file in that state, "" = it
    knows none; the calls that it had."""
    had: list[Incoming] = []
    with Client(address) as client:
        tasks = set()

        def answer(call: Incoming) -> None:
            had.append(call)
            if state:
                tasks.add(asyncio.ensure_future(client.bus.reply(call, "s", lambda: [state])))
            else:
                name = "org.freedesktop.DBus.Error.FileNotFound"
                client.bus.error(call, name, one_line("No such file or directory"))

        client.bus.serve(answer)
        client.run(client.bus.request_name(SYSTEMD))
        yield had


# --- a daemon that runs


def test_check_where_all_is_well_is_ok(house: House) -> None:
    house.policy("all", EVERY)
    client = house.start()
    client.wait(client.call("RunPolicy", "all"))
    done = check(house)
    text, data = first(done)
    assert (done.code, done.err) == (0, "")
    assert text == "VIRTSNAP OK - 3 VMs under 1 policy, no problem"
    assert data.startswith("problems_critical=0;;0;0 problems_warning=0;0;;0 covered=3;;;0 ")
    assert len(done.out.splitlines()) == 1


def test_check_warning_is_what_the_daemon_calls_one(house: House) -> None:
    house.policy("web")
    client = house.start()
    (row,) = client.rows("ListProblems")
    assert (row["Severity"], row["Problem"]) == ("warning", "uncovered")
    done = check(house)
    assert (done.code, done.out.splitlines()[1:]) == (1, [f"warning: {row['Message']}"])
    assert first(done)[0] == f"VIRTSNAP WARNING - {row['Message']}"


def failing(house: House) -> Client:
    """Start it with a policy that fails on tdtransient and works on tdrun."""
    house.serve(f"test://{NODE}")
    house.policy("td", HOURLY.replace('"web-*"', '"tdrun", "tdtransient"'))
    client = house.start()
    client.wait(client.call("RunPolicy", "td"))
    return client


def test_check_failing_policy_is_critical_and_said(house: House) -> None:
    failing(house)
    done = check(house)
    assert done.code == 2
    text, data = first(done)
    assert text.startswith("VIRTSNAP CRITICAL - policy td failed on VM tdtransient: ")
    assert "failed=1;;0;0" in data.split() and "covered=2;;;0" in data.split()
    failed, *rest = done.out.splitlines()[1:]
    assert failed.startswith("critical: policy td failed on VM tdtransient: ")
    assert rest and all(line.startswith("warning: ") for line in rest)


def test_check_json_has_the_rows_of_the_bus(house: House) -> None:
    client = failing(house)
    done = check(house, "--json")
    found = done.json
    assert (done.code, found["Status"], found["Code"]) == (2, "CRITICAL", 2)
    assert (found["Running"], found["Connected"], found["Loading"]) == (True, True, False)
    assert found["Health"] == client.properties()["Health"] == "critical"
    assert found["Problems"] == client.rows("ListProblems")
    assert found["Coverage"] == client.rows("ListCoverage", "")
    assert (found["AtBoot"], found["UnitFileState"]) == (None, None)


def test_check_of_a_part_is_not_told_of_the_others(house: House) -> None:
    failing(house)
    assert check(house, "tdrun").code == 0
    assert check(house, "tdrun", "--policy", "td").code == 0
    done = check(house, "tdtransient", "--policy", "td", "--json")
    assert done.code == 2
    assert {row["DomainName"] for row in done.json["Problems"]} == {"tdtransient"}
    assert [row["DomainName"] for row in done.json["Coverage"]] == ["tdtransient"]
    assert done.json["Health"] is None
    assert check(house, "--policy", "td").code == 2
    for arguments, name in ((["nope"], "nope"), (["--policy", "nope"], "nope")):
        done = check(house, *arguments)
        assert (done.code, done.err) == (3, "") and name in first(done)[0]
        assert done.out.startswith("VIRTSNAP UNKNOWN - ")


def test_check_of_a_part_by_uuid_also_of_a_vm_that_nothing_covers(house: House) -> None:
    house.policy("web", HOURLY.replace("schedule", 'exclude = ["db-*"]\nschedule'))
    house.start()
    assert first(check(house, WEB1))[0] == "VIRTSNAP OK - 1 VM under 1 policy, no problem"
    assert first(check(house, DB1))[0] == "VIRTSNAP OK - 0 VMs under 0 policies, no problem"


def test_check_overdue_is_critical_in_every_form(house: House) -> None:
    house.policy("web", SKIPS)
    joined(house.start())
    house.stop()
    ok = int(time.time()) // HOUR * HOUR - 5 * HOUR + 30
    set_slots(house, last_ok=ok, last_success=ok)
    house.start()
    done = check(house)
    assert done.code == 2
    assert "policy web is overdue on VM web-1" in done.out
    data = first(done)[1].split()
    assert "overdue=2;;0;0" in data
    (oldest,) = (each for each in data if each.startswith("oldest_success="))
    assert abs(int(oldest[15:].partition("s")[0]) - (time.time() - ok)) < 60
    done = check(house, "--prometheus")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    on = '{domain="web-1",policy="web"}'
    assert f"virtsnap_overdue{on} 1" in lines
    assert f"virtsnap_last_success_timestamp_seconds{on} {ok}" in lines
    assert {"virtsnap_up 1", "virtsnap_health 2"} <= set(lines)


def test_check_without_libvirt_is_critical_as_the_daemon_says(house: House) -> None:
    house.policy("web")
    house.serve("test:///nonexistent/host.xml")
    client = house.start()
    client.until("it has tried", lambda: client.properties()["Health"] == "critical")
    for arguments in ([], ["web-1"], ["--policy", "web"]):
        done = check(house, *arguments)
        assert done.code == 2, done.out
        assert first(done)[0].startswith("VIRTSNAP CRITICAL - no connection to libvirt at test:")
    assert "virtsnap_libvirt_connected 0\n" in check(house, "--prometheus").out


def test_check_daemon_that_hangs_is_critical(running: House) -> None:
    running.daemon.hang(True)
    try:
        begun = time.monotonic()
        done = check(running, "--timeout", "2")
        assert time.monotonic() - begun < 20
        metrics = check(running, "--timeout", "1s", "--prometheus")
    finally:
        running.daemon.hang(False)
    assert (done.code, done.err) == (2, "")
    assert first(done)[0].startswith("VIRTSNAP CRITICAL - virtsnapd does not answer")
    assert (metrics.code, metrics.out.splitlines()[-1]) == (0, "virtsnap_up 0")
    assert check(running).code == 1


# --- a daemon that does not


@pytest.fixture
def activating(tmp_path: Path) -> Iterator[tuple[PrivateBus, Path]]:
    """A bus that would start the daemon when it is called, and the file that tells of it."""
    told, services = tmp_path / "started", tmp_path / "services"
    services.mkdir()
    (services / "org.virtsnap.Snapd1.service").write_text(
        f"[D-BUS Service]\nName=org.virtsnap.Snapd1\nExec=/bin/sh -c 'touch {told}; exit 1'\n"
    )
    with private_bus(system_limits=True, services=services) as bus:
        yield bus, told


@pytest.mark.parametrize("place", ["address", "system"])
@pytest.mark.parametrize("form", [[], ["--json"], ["--prometheus"], ["web-1"]], ids=str)
def test_check_starts_no_daemon_and_calls_that_critical(
    place: str,
    form: list[str],
    activating: tuple[PrivateBus, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bus, told = activating
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
    where = ["--system"] if place == "system" else []
    done = check(bus, *where, *form)
    assert not told.exists()
    assert done.code == (0 if "--prometheus" in form else 2) and done.err == ""
    virtsnap(bus.address, "list", *where)
    assert told.exists()  # so it could have been


def test_check_without_daemon_says_so_and_how_to_start_it(bus: PrivateBus) -> None:
    done = check(bus)
    what = f"virtsnapd is not running on that bus; {START}"
    what += "; whether it is started at boot is not known"
    assert done.out == f"VIRTSNAP CRITICAL - {what}\ncritical: {what}\n"
    found = check(bus, "--json").json
    assert (found["Status"], found["Running"], found["AtBoot"]) == ("CRITICAL", False, None)
    up = "# HELP virtsnap_up Whether virtsnapd runs and answers.\n# TYPE virtsnap_up gauge\n"
    assert check(bus, "--prometheus").out == f"{up}virtsnap_up 0\n"


# --- started at boot?


def test_check_says_that_the_unit_is_not_enabled_at_boot(bus: PrivateBus) -> None:
    with systemd(bus.address, "disabled") as had:
        done = check(bus)
        found = check(bus, "--json").json
    assert done.code == 2
    critical, warning = done.out.splitlines()[1:]
    assert critical == f"critical: virtsnapd is not running on that bus; {START}"
    assert warning == (
        "warning: virtsnapd.service is disabled: it is not started at boot; "
        "systemctl enable virtsnapd"
    )
    assert (found["AtBoot"], found["UnitFileState"]) == (False, "disabled")
    assert [(c.path, c.interface, c.member, list(c.body)) for c in had] == [
        (
            "/org/freedesktop/systemd1",
            f"{SYSTEMD}.Manager",
            "GetUnitFileState",
            ["virtsnapd.service"],
        )
    ] * 2


@pytest.mark.parametrize(
    ("state", "code", "at_boot"), [("enabled", 0, True), ("disabled", 1, False), ("", 0, None)]
)
def test_check_running_daemon_that_no_boot_starts_is_a_warning(
    state: str, code: int, at_boot: bool | None, house: House
) -> None:
    house.policy("all", EVERY)
    house.start()
    with systemd(house.address, state):
        done = check(house, "--json")
    assert (done.code, done.json["AtBoot"]) == (code, at_boot)


# --- everything else


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nope"],
        ["--timeout", "0"],
        ["--timeout", "soon"],
        ["--policy"],
        ["one", "two"],
        ["--json", "--prometheus"],
    ],
    ids=str,
)
def test_check_wrong_usage_is_unknown_and_not_critical(
    arguments: list[str], bus: PrivateBus
) -> None:
    done = check(bus, *arguments)
    assert (done.code, done.err) == (3, "")
    if "--json" in arguments:
        assert done.json["Status"] == "UNKNOWN"
    else:
        assert done.out.startswith("VIRTSNAP UNKNOWN - ")


def test_check_wrong_usage_of_others_stays_what_it_is(bus: PrivateBus) -> None:
    assert virtsnap(bus.address, "create", "check", "--nope").code == 2


@pytest.mark.parametrize("form", [[], ["--json"]], ids=str)
def test_check_bus_that_cannot_be_reached_is_unknown(form: list[str]) -> None:
    done = virtsnap(NOBODY, "check", *form)
    assert (done.code, done.err) == (3, "")
    text: Any = done.json["Message"] if form else first(done)[0]
    assert "that bus cannot be reached" in text
    if form:
        assert (done.json["Status"], done.json["Running"]) == ("UNKNOWN", None)


@pytest.mark.parametrize(
    ("address", "code", "why"),
    [
        (NOBODY, 2, "No such file or directory; start it: systemctl start dbus"),
        ("nonsense", 3, "nonsense: address did not contain a transport"),
    ],
)
def test_check_without_the_system_bus_is_critical_and_with_a_wrong_address_unknown(
    address: str, code: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
    done = virtsnap(NOBODY, "check", "--system")
    assert (done.code, done.err) == (code, "")
    assert "the system bus cannot be reached: " in done.out
    assert first(done)[0].endswith(why)
    answer = virtsnap(NOBODY, "check", "--system", "--json").json
    assert (answer["Code"], answer["Running"]) == (code, False if code == 2 else None)


def test_check_prometheus_of_a_bus_that_cannot_be_reached_writes_nothing() -> None:
    done = virtsnap(NOBODY, "check", "--prometheus")
    assert (done.code, done.out) == (3, "")
    assert "that bus cannot be reached" in done.err


def test_check_bus_that_does_not_answer_is_unknown(bus: PrivateBus) -> None:
    bus.process.send_signal(signal.SIGSTOP)
    try:
        done = check(bus, "--timeout", "1")
    finally:
        bus.process.send_signal(signal.SIGCONT)
    assert done.code == 3
    assert first(done)[0].startswith("VIRTSNAP UNKNOWN - that bus cannot be reached: ")
    assert first(done)[0].endswith(": it does not answer")
