"""Policy files: a broken one disables only itself, and a good version stays."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from snapd.errors import NoSuchPolicy
from snapd.wire import paths
from tests.client import Client
from tests.driver.house import HOURLY, House
from tests.driver.policies import DEFINITION, about, in_force, with_definition


def reload(client: Client, house: House, how: str) -> None:
    if how == "Reload":
        client.call("Reload")
        return
    os.kill(house.daemon.pid, signal.SIGHUP)


# ---- broken files


def test_broken_file_disables_only_itself(house: House) -> None:
    house.policy("good")
    house.policy("broken", HOURLY.replace("last = 2", "last = 0"))
    house.policy("torn", "domains = [")
    client = house.start()
    assert in_force(client) == ["good"]
    found = about(client, "policy-file")
    assert {row["Policy"] for row in found} == {"broken", "torn"}
    assert all(row["Severity"] == "critical" for row in found)
    (broken,) = [row for row in found if row["Policy"] == "broken"]
    assert "broken.toml" in broken["Message"]
    assert "keep.last" in broken["Message"]
    assert "it is not in force" in broken["Message"]
    assert str(house.folder) not in broken["Message"]
    with pytest.raises(NoSuchPolicy) as refused:
        client.call("RunPolicy", "broken")
    assert "keep.last" in refused.value.message
    assert client.properties()["Health"] == "critical"


@pytest.mark.parametrize("how", ["Reload", "SIGHUP"])
@pytest.mark.parametrize(
    "edit", ["domains = [", HOURLY.replace("last = 2", "last = -1"), HOURLY + "surprise = 1\n"]
)
def test_last_good_version_stays_after_a_bad_edit(house: House, how: str, edit: str) -> None:
    path = house.policy("nightly")
    client = house.start()
    (before,) = client.rows("ListPolicies", fields=["Revision", "Definition"])
    path.write_text(edit)
    reload(client, house, how)
    client.until("a problem", lambda: about(client, "policy-file"))
    assert client.rows("ListPolicies", fields=["Revision", "Definition"]) == [before]
    assert client.properties()["Health"] == "critical"
    (row,) = about(client, "policy-file")
    assert "its last good version stays in force" in row["Message"]
    assert client.wait(client.call("RunPolicy", "nightly", domain="web-1"))["Domains"]
    path.write_text(HOURLY.replace("last = 2", "last = 5"))
    reload(client, house, how)
    client.until("mended", lambda: not about(client, "policy-file"))
    (after,) = client.rows("ListPolicies")
    assert after["Definition"]["keep"] == {"last": 5}
    assert after["Revision"] != before["Revision"]


def test_removed_file_takes_its_policy_along_and_keeps_its_snapshots(house: House) -> None:
    path = house.policy("nightly")
    client = house.start()
    client.wait(client.call("RunPolicy", "nightly", domain="web-2"))
    client.listen()
    path.unlink()
    assert client.call("Reload") == []
    assert in_force(client) == []
    client.until("removed", lambda: client.signals("InterfacesRemoved"))
    assert client.signals("InterfacesRemoved") == [
        [paths.policy("nightly"), ["org.virtsnap.Snapd1.Policy"]]
    ]
    assert [row["Policies"] for row in client.snapshots("web-2").values()] == [["nightly"]]


def test_reload_answers_what_is_wrong(house: House) -> None:
    client = house.start()
    house.policy("broken", "domains = 7\n")
    (row,) = client.call("Reload")
    assert (row["Problem"], row["Policy"]) == ("policy-file", "broken")
    assert row in client.rows("ListProblems")


@pytest.mark.parametrize("how", ["Reload", "SIGHUP"])
def test_new_bad_file_disables_only_itself_and_is_told(house: House, how: str) -> None:
    house.policy("good")
    client = house.start()
    before = client.rows("ListPolicies", fields=["Name", "Revision", "Definition"])
    client.listen()
    house.policy("broken", HOURLY.replace("last = 2", "last = 0"))
    reload(client, house, how)
    (row,) = client.until("a problem", lambda: about(client, "policy-file"))
    assert row["Policy"] == "broken"
    assert row["Message"].endswith("; it is not in force")
    assert client.rows("ListPolicies", fields=["Name", "Revision", "Definition"]) == before
    assert client.properties()["Health"] == "critical"
    client.until(
        "its signal",  # on a busy host those of the start come late
        lambda: row["ID"] in [identity for _, identity, _ in client.signals("ProblemRaised")],
        timeout=5,
    )
    assert f"{row['Message']}\n" in house.daemon.log


def test_files_of_any_name_are_told_of_in_one_line(house: House) -> None:
    folder = os.fsencode(house.daemon.config / "policies.d")
    for name in (b"not-utf8-\xff", b"new\nline", b"{policy.name}%s"):
        Path(os.fsdecode(folder + b"/" + name + b".toml")).write_text(HOURLY)
    house.policy("good")
    client = house.start()
    found = about(client, "policy-file")
    shown = {"not-utf8-\\udcff", "new\\nline", "{policy.name}%s"}
    assert {row["Policy"] for row in found} == shown
    assert all(row["Message"].isprintable() for row in found)
    assert in_force(client) == ["good"]


def test_folder_that_cannot_be_read_keeps_its_policies_in_force(house: House) -> None:
    house.policy("nightly")
    client = house.start()
    folder = house.daemon.config / "policies.d"
    folder.rename(folder.with_name("away"))
    folder.write_text("a file where the folder should be")
    (row,) = client.call("Reload")
    assert row["Message"].endswith("; the last good versions of its policies stay in force")
    assert in_force(client) == ["nightly"]
    folder.unlink()
    folder.with_name("away").rename(folder)
    assert client.call("Reload") == []
    assert in_force(client) == ["nightly"]


def test_key_that_is_not_built_is_refused_by_name(house: House) -> None:
    house.policy("early", "replicate = 'elsewhere'\n" + HOURLY)
    client = house.start()
    (row,) = about(client, "policy-file")
    assert "replicate: " in row["Message"]
    assert "not supported by this version" in row["Message"]
    assert in_force(client) == []


def test_policy_of_external_snapshots_cannot_work_where_libvirt_cannot_go_back(
    house: House,
) -> None:
    house.policy("outside", "kind = 'external'\n" + HOURLY)
    client = house.start()
    rows = client.rows("ListCoverage", "outside")
    assert {(r["Verdict"], r["Kind"]) for r in rows} == {("external-unsupported", "")}
    assert all("9.9 is the first that does" in r["Why"] for r in rows)
    told = [r for r in client.rows("ListProblems") if r["Problem"] == "cannot-work"]
    assert {r["DomainName"] for r in told} == {r["DomainName"] for r in rows}


def test_warnings_of_policies_in_force_are_logged(house: House) -> None:
    house.policy("often", HOURLY.replace("0 * * * *", "* * * * *"))
    client = house.start()
    assert "policy often: schedule: the schedule fires every minute" in house.daemon.log
    idle = DEFINITION | {"min_gap": "1h"}
    told = with_definition(client, "ValidatePolicy", "mine", idle)["Warnings"]
    assert [row["Key"] for row in told] == ["min_gap"]
    with_definition(client, "SetPolicy", "mine", idle)
    assert f"policy mine: min_gap: {told[0]['Message']}\n" in house.daemon.log


# ---- virtsnapd.toml


def test_reload_reads_policies_although_the_settings_are_wrong(house: House) -> None:
    client = house.start()
    file = house.daemon.config / "virtsnapd.toml"
    file.write_text("[limits]\nparalel = 2\n")
    house.policy("nightly")
    (row,) = client.call("Reload")
    assert (row["Problem"], row["Severity"]) == ("settings-file", "critical")
    assert row["Message"].startswith("virtsnapd.toml: limits.paralel: ")
    assert in_force(client) == ["nightly"]
    assert row in client.rows("ListProblems")
    file.write_text("[limits]\nparallel = 2\n")
    (row,) = client.call("Reload")
    assert (row["Severity"], row["Ways"]) == ("warning", ["restart"])
    assert "next start" in row["Message"]
    assert about(house.again(), "settings-file") == []
    assert client.call("Reload") == []


def test_reload_after_a_bad_start_does_not_say_that_all_is_well(house: House) -> None:
    file = house.daemon.config / "virtsnapd.toml"
    file.write_text("[safety]\nlast = 0\n")
    client = house.start()
    (before,) = about(client, "settings-file")
    file.write_text("[safety]\nlast = 1\n")
    (row,) = client.call("Reload")
    assert (row["ID"], row["Severity"]) == (before["ID"], "critical")
    assert row["Ways"] == ["restart"]
    file.write_text("[safety]\nlst = 1\n")
    (row,) = client.call("Reload")
    assert "safety.lst" in row["Message"]
    assert row["ID"] == before["ID"]


def test_hangup_says_in_the_log_what_is_wrong(house: House) -> None:
    house.start()
    (house.daemon.config / "virtsnapd.toml").write_text("[limits\n")
    house.policy("broken", "domains = 7\n")
    begun = len(house.daemon.log)
    os.kill(house.daemon.pid, signal.SIGHUP)
    house.client.until("the end", lambda: "policies are in force" in house.daemon.log[begun:])
    said = house.daemon.log[begun:]
    assert "virtsnapd.toml: is not valid TOML: " in said
    assert "; domains: must be a list of globs" in said


def test_problems_tell_of_coverage(house: House) -> None:
    house.policy("one", HOURLY.replace('["web-*"]', '["web-1"]\nexclude = ["db-*"]'))
    house.policy("none", HOURLY.replace("web-*", "mail-*"))
    client = house.start()
    client.rows("ListDomains")
    assert {row["DomainName"] for row in about(client, "uncovered")} == {"web-2"}
    assert {row["Policy"] for row in about(client, "policy-matches-nothing")} == {"none"}
