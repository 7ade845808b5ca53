"""virtsnap policy as a process against the real daemon: enable, run, remove, show."""

from __future__ import annotations

import time
import tomllib

from tests.client import TOP
from tests.driver.house import HOURLY, NODE, House
from tests.driver.virtsnap import cli, columns, terminal

NIGHTLY = TOP / "packaging" / "policies" / "nightly.toml"


def test_policy_enable_shows_each_vm_sets_it_and_says_what_next(running: House) -> None:
    done = cli(running, "policy", "enable", "nightly")
    assert done.code == 0
    for vm in ("web-1", "web-2", "db-1"):
        (row,) = [row for row in columns(done) if row[0] == vm]
        assert row[2].strip() == "internal" and row[3].strip() == "yes"
    (policy,) = running.client.rows("ListPolicies")
    assert (policy["Name"], policy["Source"]) == ("nightly", "api")
    assert policy["Definition"] == {
        "domains": ["*"],
        "schedule": "30 2 * * *",
        "keep": {"last": 3, "daily": 7},
    }
    assert "policy nightly is in force" in done.out and "policy run nightly" in done.out


def test_policy_enable_again_changes_nothing_and_says_so(running: House) -> None:
    cli(running, "policy", "enable", "nightly")
    revision = running.client.rows("ListPolicies")[0]["Revision"]
    done = cli(running, "policy", "enable", str(NIGHTLY))
    assert done.code == 0 and "already" in done.out
    assert running.client.rows("ListPolicies")[0]["Revision"] == revision


def test_policy_enable_vm_that_cannot_work_is_shown_with_the_reason(house: House) -> None:
    house.serve(f"test://{NODE}")
    house.start()
    done = cli(house, "policy", "enable", "nightly")
    words = {row[0].strip(): row[2].strip() for row in columns(done) if len(row) == 4}
    assert words["tdsaved"] == "managed-save" and words["tdtransient"] == "transient"


def test_policy_enable_name_of_an_admins_file_is_refused(house: House) -> None:
    house.policy("nightly", HOURLY)
    house.start()
    done = cli(house, "policy", "enable", "nightly", "--json")
    assert (done.code, done.error["error"]) == (4, "org.virtsnap.Error.Protected")


def test_policy_remove_of_an_admins_file_is_refused_before_it_asks(house: House) -> None:
    house.policy("nightly", HOURLY)
    house.start()
    with terminal(house.address, "policy", "remove", "nightly") as seen:
        assert seen.end() == 4
    assert "[y/N]" not in seen.screen
    assert "delete policies.d of its --config/nightly.toml" in seen.screen
    assert "way out: have the files read again" in seen.screen


def test_policy_enable_answered_no_sets_nothing(running: House) -> None:
    with terminal(running.address, "policy", "enable", "nightly") as seen:
        seen.until("[y/N]")
        seen.type("\n")
        assert seen.end() == 1
    assert "nothing was done" in seen.screen
    assert running.client.rows("ListPolicies") == []


def test_policy_run_twice_shows_what_was_let_go(house: House) -> None:
    house.policy("hourly", HOURLY.replace("last = 2", "last = 1"))
    house.start()
    first = cli(house, "policy", "run", "hourly", "web-1")
    name = columns(first)[1][2].strip()
    assert first.code == 0 and name.startswith("hourly-")
    time.sleep(1.1)  # libvirt's times are whole seconds
    second = cli(house, "policy", "run", "hourly", "web-1")
    assert columns(second)[1][3].strip() == name
    assert set(house.client.snapshots("web-1")) == {"by-hand", columns(second)[1][2].strip()}
    assert "by-hand" not in second.out


def test_policy_run_failure_of_one_vm_is_told_and_exits_1(house: House) -> None:
    house.serve(f"test://{NODE}")
    house.policy("all", HOURLY.replace("web-*", "td*"))
    house.start()
    done = cli(house, "policy", "run", "all")
    outcome = {row[0].strip(): row[1].strip() for row in columns(done)}
    assert done.code == 1
    assert (outcome["tdrun"], outcome["tdtransient"]) == ("made", "failed")
    critical = cli(house)
    assert "critical: policy all failed on VM tdtransient" in critical.out


def test_policy_remove_keeps_the_snapshots(running: House) -> None:
    cli(running, "policy", "enable", "nightly")
    cli(running, "policy", "run", "nightly", "web-1")
    assert cli(running, "policy", "remove", "nightly").code == 0
    assert running.client.rows("ListPolicies") == []
    assert len(running.client.snapshots("web-1")) == 2


def test_policy_show_is_its_file_with_what_is_odd_about_it(house: House) -> None:
    text = "domains = ['web-*']\non = ['start']\ncatch_up = 'skip'\n[keep]\nlast = 2\n"
    house.policy("triggered", text)
    house.start()
    done = cli(house, "policy", "show", "triggered")
    assert done.code == 0
    shown = [line[4:] for line in done.out.splitlines() if line.startswith("    ")]
    assert tomllib.loads("\n".join(shown)) == tomllib.loads(text)
    assert "policy triggered, an admin's file" in done.out
    assert done.err.startswith("warning: catch_up: ")
    document = cli(house, "policy", "show", "triggered", "--json").json
    assert [row["Key"] for row in document["Warnings"]] == ["catch_up"]
    assert document["Definition"] == tomllib.loads(text)
    listed = cli(house, "policy", "list")
    assert "on start" in listed.out


def test_policy_show_without_oddities_warns_of_nothing(running: House) -> None:
    cli(running, "policy", "enable", "nightly")
    done = cli(running, "policy", "show", "nightly")
    assert (done.code, done.err) == (0, "")
    assert 'schedule = "30 2 * * *"' in done.out and "set through the API" in done.out
