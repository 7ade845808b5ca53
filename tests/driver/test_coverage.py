"""ListCoverage and the problems that come of it, over D-Bus: who is covered, and how that fares."""

from __future__ import annotations

import time
from typing import Any

import pytest

from snapd.errors import SnapdError
from snapd.wire import paths
from tests.client import Client, Row
from tests.driver.house import DB1, HOST, HOURLY, NODE, WEB1, WEB2, House, many
from tests.driver.virtsnap import virtsnap

HOUR, DAY = 3600, 86400
SKIPS = HOURLY.replace("[keep]", 'catch_up = "skip"\n[keep]')
WITH_RAM = {
    "domains": ["*"],
    "schedule": "0 3 * * *",
    "timezone": "UTC",
    "memory": "yes",
    "keep": {"last": 3, "daily": 7},
}


def about(client: Client, word: str) -> list[Row]:
    return [row for row in client.rows("ListProblems") if row["Problem"] == word]


def joined(client: Client) -> None:
    """Wait until the policies have looked at their VMs."""
    client.until_read()
    time.sleep(0.5)


def set_slots(house: House, **values: Any) -> None:
    """Have the daemon, which must be stopped, find other values in the policies' slots."""
    with house.db() as db:
        keys = ", ".join(f"{key} = ?" for key in values)
        assert db.execute(f"UPDATE slots SET {keys}", tuple(values.values())).rowcount


# --- rows


def test_coverage_of_policies_in_force_row_by_row(house: House) -> None:
    house.policy("web")
    house.policy("all", HOURLY.replace("web-*", "*"))
    client = house.start()
    rows = client.rows("ListCoverage", "")
    assert [(r["Policy"], r["DomainName"], r["DomainUUID"]) for r in rows] == [
        ("all", "db-1", DB1),
        ("all", "web-1", WEB1),
        ("all", "web-2", WEB2),
        ("web", "web-1", WEB1),
        ("web", "web-2", WEB2),
    ]
    assert {(r["Verdict"], r["Kind"], r["Health"], r["RamKept"]) for r in rows} == {
        ("yes", "internal", "ok", 0)
    }
    slot = (int(time.time()) // HOUR + 1) * HOUR
    assert {r["NextRun"] for r in rows} <= {slot, slot - HOUR}
    assert {(r["LastRun"], r["LastSuccess"], r["LastErrorName"]) for r in rows} == {(0, 0, "")}
    pauses = {r["DomainName"]: r["PauseMilliseconds"] for r in rows}
    assert pauses["web-2"] == 0  # it is off
    assert pauses["web-1"] == -1
    assert client.rows("ListCoverage", "web") == rows[3:]


def test_coverage_after_a_run_has_its_times_and_pause(house: House) -> None:
    house.policy("web")
    client = house.start()
    before = int(time.time())
    client.wait(client.call("RunPolicy", "web", domain="web-1"))
    done, other = client.rows("ListCoverage", "web")
    assert before <= done["LastRun"] == done["LastSuccess"] <= time.time()
    assert done["Health"] == "ok" and other["LastRun"] == 0


def test_coverage_of_a_failed_run_is_critical_and_so_is_its_policy(house: House) -> None:
    house.serve(f"test://{NODE}")
    house.policy("td", HOURLY.replace("web-*", "td*"))
    client = house.start()
    client.wait(client.call("RunPolicy", "td"))
    rows = {r["DomainName"]: r for r in client.rows("ListCoverage", "td")}
    failed = rows["tdtransient"]
    assert (failed["Verdict"], failed["Kind"]) == ("transient", "")
    assert (failed["Health"], failed["LastErrorName"]) == (
        "critical",
        "org.virtsnap.Error.Unsupported",
    )
    assert failed["LastErrorMessage"] and failed["LastRun"] and not failed["LastSuccess"]
    policy = client.properties(paths.policy("td"), "Policy")
    assert policy["Health"] == "critical"
    assert policy["LastSuccess"] == max(r["LastSuccess"] for r in rows.values()) > 0


def test_coverage_of_a_definition_that_is_not_saved(running: House) -> None:
    client = running.client
    rows = client.rows("ListCoverage", "", definition=WITH_RAM)
    assert [(r["Policy"], r["DomainName"]) for r in rows] == [
        ("unsaved", "db-1"),
        ("unsaved", "web-1"),
        ("unsaved", "web-2"),
    ]
    assert {r["RamKept"] for r in rows} == {10 * (64 << 20)}
    assert {r["NextRun"] % DAY for r in rows} == {3 * HOUR}
    named = client.rows("ListCoverage", "mine", definition={**WITH_RAM, "domains": ["db-1"]})
    assert [(r["Policy"], r["DomainName"]) for r in named] == [("mine", "db-1")]
    assert client.rows("ListPolicies") == [] and client.rows("ListRuns", "") == []


def test_coverage_in_pages_and_fields_and_what_is_refused(house: House) -> None:
    house.serve_text(many(5))
    house.policy("all", HOURLY.replace("web-*", "*"))
    client = house.start()
    whole = client.rows("ListCoverage", "", fields=["DomainName"])
    assert whole == [{"DomainName": f"vm-{n}"} for n in range(5)]
    found, info = client.call("ListCoverage", "", limit=2)
    assert info["Total"] == 5
    while info["Next"]:
        more, info = client.call("ListCoverage", "", **{"limit": 2, "from": info["Next"]})
        found += more
    assert [r["DomainName"] for r in found] == [r["DomainName"] for r in whole]
    for values, opts, name in (
        (["nope"], {}, "NoSuchPolicy"),
        ([""], {"definition": {"domains": ["*"]}}, "InvalidArgument"),
        ([""], {"fields": ["Nope"]}, "InvalidArgument"),
    ):
        with pytest.raises(SnapdError) as error:
            client.call("ListCoverage", *values, **opts)
        assert error.value.name == f"org.virtsnap.Error.{name}"


# --- problems


def test_cannot_work_is_told_when_the_policy_is_read(house: House) -> None:
    house.serve(f"test://{NODE}")
    house.policy("td", HOURLY.replace("web-*", "td*"))
    client = house.start()
    client.rows("ListDomains")
    found = {r["DomainName"]: r for r in about(client, "cannot-work")}
    assert found.keys() == {"tdsaved", "tdtransient"}
    saved = found["tdsaved"]
    assert (saved["Severity"], saved["Policy"]) == ("warning", "td")
    assert "managed save" in saved["Message"] and "start" in saved["Ways"]
    assert client.rows("ListRuns", "") == []
    assert client.properties(paths.policy("td"), "Policy")["Health"] == "warning"


def test_cannot_work_on_a_raw_disk_is_told_with_the_way_out(house: House) -> None:
    first, rest = HOST.read_text().split("<name>db-1</name>")
    house.serve_text(first + "<name>db-1</name>" + rest.replace("type='qcow2'", "type='raw'", 1))
    house.policy("all", HOURLY.replace("web-*", "*"))
    client = house.start()
    client.rows("ListDomains")
    (row,) = about(client, "cannot-work")
    assert (row["DomainName"], row["DomainUUID"], row["Policy"]) == ("db-1", DB1, "all")
    assert "disk vda is raw" in row["Message"] and "convert-to-qcow2" in row["Ways"]
    assert client.rows("ListCoverage", "all")[0]["Verdict"] == "raw-disk"
    house.policy("all", HOURLY)
    client.call("Reload")
    assert about(client, "cannot-work") == []


def test_run_that_was_refused_says_that_it_is_not_tried_again(house: House) -> None:
    house.serve(f"test://{NODE}")
    house.policy("td", HOURLY.replace("web-*", "tdsaved"))
    joined(house.start())
    house.stop()
    set_slots(house, last_slot=int(time.time()) // HOUR * HOUR - 3 * HOUR)
    client = house.start()
    (row,) = client.until("the slot", lambda: about(client, "run-failed"))
    assert "not tried again until the VM or the policy changes" in row["Message"]
    assert (row["Severity"], row["DomainName"]) == ("critical", "tdsaved")
    (covered,) = client.rows("ListCoverage", "td")
    assert (covered["Verdict"], covered["Health"]) == ("managed-save", "critical")
    assert covered["LastErrorMessage"] in row["Message"]


def test_overdue_is_told_right_at_the_start_and_gone_after_a_run(house: House) -> None:
    """The daemon was down over two slots, and catches none of them up."""
    house.policy("web", SKIPS)
    joined(house.start())
    house.stop()
    ok = int(time.time()) // HOUR * HOUR - 5 * HOUR + 30
    set_slots(house, last_ok=ok, last_success=ok)
    client = house.start()
    client.listen()
    client.rows("ListDomains")
    found = {r["DomainName"]: r for r in about(client, "overdue")}
    assert found.keys() == {"web-1", "web-2"}
    row = found["web-1"]
    assert (row["Severity"], row["Policy"], row["Ways"]) == ("critical", "web", ["policy-run"])
    assert row["Since"] == ok - 30 + 2 * HOUR
    assert client.properties()["Health"] == "critical"
    assert {r["Health"] for r in client.rows("ListCoverage", "web")} == {"critical"}
    told = virtsnap(house.address, "status")
    assert "way out: make it up now: " in told.out and "policy run web web-1" in told.out
    if not client.signals("ProblemRaised"):
        time.sleep(2)  # they were raised before we listened, or are about to be
    client.wait(client.call("RunPolicy", "web", domain="web-1"))
    assert {r["DomainName"] for r in about(client, "overdue")} == {"web-2"}
    client.until("it is told", lambda: client.signals("ProblemCleared"))
    assert {s[2]["Problem"] for s in client.signals("ProblemCleared")} == {"overdue"}


def test_overdue_is_not_told_while_held(house: House) -> None:
    house.policy("web", SKIPS)
    client = house.start()
    client.call("Hold", "web-1", "web", 0, "moving")
    joined(client)
    house.stop()
    set_slots(house, last_ok=int(time.time()) - 9 * HOUR)
    client = house.start()
    client.rows("ListDomains")
    assert {r["DomainName"] for r in about(client, "overdue")} == {"web-2"}
    assert {r["DomainName"] for r in about(client, "held")} == {"web-1"}
    assert client.rows("ListCoverage", "web")[0]["Health"] == "warning"


def test_clock_that_went_back_is_told_with_what_comes_of_it(house: House) -> None:
    house.policy("web")
    house.tables()
    with house.db() as db:
        when = str(int(time.time()) + 10 * DAY)
        db.execute("INSERT OR REPLACE INTO facts VALUES ('clock', ?)", (when,))
    client = house.start()
    (row,) = about(client, "clock")
    assert row["Severity"] == "warning" and "nothing is pruned" in row["Message"]
    assert "before a time that it had already" in row["Message"]


def renamed(house: House, old: str, new: str) -> None:
    """Have the daemon find a VM under another name; it must be stopped."""
    house.serve_text(HOST.read_text().replace(f"<name>{old}</name>", f"<name>{new}</name>"))


@pytest.mark.parametrize("new", ["mail-1", "web-1-off"])
def test_vm_that_left_its_last_policy_by_a_rename_is_told(house: House, new: str) -> None:
    house.policy("web", HOURLY.replace("schedule", 'exclude = ["*-off", "db-*"]\nschedule'))
    joined(house.start())
    house.stop()
    renamed(house, "web-1", new)
    client = house.start()
    client.rows("ListDomains")
    (row,) = about(client, "uncovered")
    assert (row["DomainUUID"], row["DomainName"]) == (WEB1, new)
    assert "policy" in row["Message"] and "web" in row["Message"]
    assert "renamed from web-1" in row["Message"]
    exclude = f'exclude = ["uuid:{WEB1}", "db-*"]\nschedule'
    house.policy("web", HOURLY.replace("schedule", exclude))
    client.call("Reload")
    assert about(client, "uncovered") == []


def test_vm_made_anew_under_the_name_begins_anew_and_is_said_once(house: House) -> None:
    house.policy("web")
    client = house.start()
    client.wait(client.call("RunPolicy", "web", domain="web-1"))
    assert client.rows("ListCoverage", "web")[0]["LastSuccess"]
    house.stop()
    anew = WEB1[:-3] + "999"
    house.serve_text(HOST.read_text().replace(WEB1, anew))
    client = house.start()
    joined(client)
    row = client.rows("ListCoverage", "web")[0]
    assert (row["DomainName"], row["DomainUUID"], row["LastSuccess"]) == ("web-1", anew, 0)
    assert house.daemon.log.count(f"UUID {WEB1}, now {anew}") == 1
    client = house.again()
    joined(client)
    assert house.daemon.log.count(f"UUID {WEB1}, now {anew}") == 1


# --- virtsnap


def test_policy_coverage_shows_each_vm_and_what_failed(house: House) -> None:
    house.serve(f"test://{NODE}")
    house.policy("td", HOURLY.replace("web-*", "td*"))
    client = house.start()
    client.wait(client.call("RunPolicy", "td"))
    done = virtsnap(house.address, "policy", "coverage", "td")
    assert done.code == 0
    lines = {line.split()[1]: line for line in done.out.splitlines()}
    assert "transient" in lines["tdtransient"] and "critical" in lines["tdtransient"]
    assert "internal" in lines["tdrun"] and "yes" in lines["tdrun"]
    assert "policy td on VM tdtransient failed last" in done.err
    shown = virtsnap(house.address, "policy", "coverage", "--json").json
    assert shown["rows"] == client.rows("ListCoverage", "")


def test_policy_enable_shows_the_ram_that_is_kept(running: House) -> None:
    path = running.folder / "ram.toml"
    text = HOURLY.replace("schedule", 'memory = "yes"\nschedule').replace("last = 2", "last = 4")
    path.write_text(text)
    done = virtsnap(running.address, "policy", "enable", str(path), "--json", "--yes")
    assert [(r["DomainName"], r["RamKept"]) for r in done.json["Coverage"]] == [
        ("web-1", 256 << 20),
        ("web-2", 256 << 20),
    ]
    again = virtsnap(running.address, "policy", "enable", str(path))
    assert again.out.count("up to 256 MiB") == 2
