"""virtsnap show: a snapshot that is there, one that is gone, a VM."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.driver.house import NODE, House
from tests.driver.test_cli_looking import PAINT, screen
from tests.driver.trees import TREE, WEB, host
from tests.driver.virtsnap import cli

POLICY = 'domains = ["web"]\nschedule = "30 2 * * *"\n[keep]\nlast = 1\n'


@pytest.fixture
def trees(house: House) -> House:
    house.serve_text(host())
    house.policy("nightly", POLICY)
    house.start().rows("ListDomains")
    return house


def facts(text: str) -> dict[str, str]:
    """What stands behind each label, its lines with a blank between."""
    found: dict[str, str] = {}
    label = ""
    for line in text.splitlines()[1:]:
        if parts := re.fullmatch(r"  (\S.*?) {2,}(\S.*)", line):
            label = parts[1]
            found[label] = parts[2]
        elif label and line.startswith("   "):
            found[label] += f" {line.strip()}"
        else:
            break
    return found


def test_show_says_what_the_bus_has_in_words(trees: House) -> None:
    trees.client.act(WEB, "before-upgrade", "Pin", "audit")
    done = cli(trees, "show", "web", "before-upgrade")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0] == "VM web: snapshot before-upgrade"
    said = facts(done.out)
    assert said["description"] == "why before-upgrade"
    assert said["origin"] == "foreign: by another tool, as far as is known"
    assert said["parent"] == "base"
    assert said["children"] == "tried, other, upgraded"
    assert said["children"].split(", ") == [k for k, on in TREE.items() if on == "before-upgrade"]
    assert said["pinned"] == "audit"
    assert said["VM then"] == "running"
    assert said["created"].startswith("2026-09-21 ")
    assert said["pause"] == "unknown", "nothing that was not measured is made up"
    assert said["delete"] == "not now: pinned: it is pinned"
    assert f"revert --preview web {'before-upgrade'}" in said["revert"]


def test_show_one_of_ours_says_who_made_it_and_what_it_holds(trees: House) -> None:
    trees.client.create("web", "mine", memory="no")
    said = facts(cli(trees, "show", "web", "mine").out)
    assert (said["made by"], said["origin"]) == ("root", "manual: by hand")
    assert (said["holds"], said["parent"]) == ("disks vda", "tried-more")
    assert said["consistency"] == "crash: crash-consistent"
    assert cli(trees, "show", "web", "mine").out.startswith(
        "VM web: snapshot mine, the current one\n"
    )
    trees.client.wait(trees.client.call("RunPolicy", "nightly"))
    (made,) = [r for r in trees.client.rows("ListSnapshots", "web") if r["Origin"] == "policy"]
    said = facts(cli(trees, "show", "web", made["Name"]).out)
    assert said["made by"] == "root, policy nightly (policy nightly, run by hand)"
    assert said["policies"] == "nightly"


def test_show_json_is_the_object_its_children_and_its_acts(trees: House) -> None:
    trees.client.create("web", "mine")
    answer = cli(trees, "show", WEB, "mine", "--json").json
    (row,) = [r for r in trees.client.rows("ListSnapshots", "web") if r["Name"] == "mine"]
    assert (answer["Snapshot"], answer["Children"]) == (row, [])
    assert [act["Verb"] for act in answer["History"]] == ["create"]
    assert cli(trees, "show", "web", "tried", "--json").json["Children"] == ["tried-more"]


def test_show_names_only_is_its_name_where_it_is_there(trees: House) -> None:
    assert cli(trees, "show", "web", "tried", "-q").out == "tried\n"
    assert cli(trees, "show", WEB, "-q").out == "web\n"
    trees.client.create("bare", "mine")
    trees.client.delete("bare", "mine")
    gone = cli(trees, "show", "bare", "mine", "-q")
    assert (gone.code, gone.out) == (0, "")


def test_show_hostile_names_are_escaped_and_in_no_command(house: House) -> None:
    house.serve_text(host({"two\nrows": "", "\u202egnp": "two\nrows", "-rf": "two\nrows"}, "-rf"))
    house.start()
    shown = cli(house, "show", "web", "two\nrows").out
    assert all(c.isprintable() or c == "\n" for c in shown)
    said = facts(shown)
    assert shown.startswith("VM web: snapshot two\\nrows\n")
    assert said["children"] == "\\u202egnp, -rf"
    assert said["revert"] == "nothing is known to be in the way"
    dashed = cli(house, "show", "web", "--", "-rf").out
    assert facts(dashed)["revert"].endswith(" revert --preview web -- -rf says more")
    assert facts(dashed)["parent"] == "two\\nrows"


# --- gone


def test_show_deleted_is_answered_from_history(trees: House) -> None:
    trees.client.create("bare", "mine")
    trees.client.delete("bare", "mine")
    done = cli(trees, "show", "bare", "mine")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0] == "VM bare: snapshot mine is not there any more"
    said = facts(done.out)
    assert (said["by"], said["made by"]) == ("root", "root")
    assert re.search(r"^\S+ \S+ +.* delete +bare +mine +root$", done.out, re.MULTILINE)
    answer = cli(trees, "show", "bare", "mine", "--json").json
    assert answer["Snapshot"] is None
    assert answer["History"] == trees.client.rows("ListHistory", "bare", snapshot="mine")


def test_show_pruned_says_by_which_policy_and_why(trees: House) -> None:
    for _ in range(2):
        trees.client.wait(trees.client.call("RunPolicy", "nightly"))
    (gone,) = [r for r in trees.client.rows("ListHistory", "web") if r["Verb"] == "delete"]
    said = facts(cli(trees, "show", "web", gone["SnapshotName"]).out)
    assert said["by"].endswith("policy nightly")
    assert (gone["Reason"], said["why"]) == (
        "retention: nightly: no-rule-matches",
        "no rule keeps it",
    )


def test_show_of_a_vm_that_is_gone_is_answered_from_history(trees: House) -> None:
    trees.client.create("bare", "mine")
    trees.stop()
    trees.serve_text(host().replace("<name>bare<", "<name>new<").replace("4402<", "4409<"))
    trees.start().rows("ListDomains")
    done = cli(trees, "show", "bare", "mine")
    assert done.code == 0
    assert done.out.splitlines()[0] == "VM bare: snapshot mine is not there any more, nor is the VM"


@pytest.mark.parametrize(
    ("typed", "error"),
    [
        (["web", "nope"], "NoSuchSnapshot"),
        (["nope", "tried"], "NoSuchDomain"),
        (["nope"], "NoSuchDomain"),
    ],
)
def test_show_what_nobody_knows_is_not_found(typed: list[str], error: str, trees: House) -> None:
    done = cli(trees, "show", *typed, "--json")
    assert (done.code, done.error["error"]) == (3, f"org.virtsnap.Error.{error}")


# --- a VM


def test_show_vm_says_what_is_known_of_it(trees: House) -> None:
    trees.client.call("Hold", "web", "nightly", 0, "migration")
    done = cli(trees, "show", "web")
    assert (done.code, done.out.splitlines()[0]) == (0, "VM web")
    said = facts(done.out)
    assert (said["state"], said["UUID"]) == ("running", WEB)
    assert said["snapshots"].startswith("8 (8 foreign), the newest ")
    assert said["current"] == "tried-more"
    assert said["can be made"].startswith("internal, internal-memory: yes external")
    assert "external-unsupported: external snapshots cannot be" in said["can be made"]
    assert said["policies"].startswith("nightly: warning, makes internal ones, ")
    assert said["held"] == "by policy nightly it left alone until it is taken back (migration)"
    assert said["last success"] == "never"
    (held,) = [p for p in trees.client.rows("ListProblems") if p["DomainUUID"] == WEB]
    assert f"warning: {held['Message']}" in done.out.splitlines()
    assert "way out: when it is over: virtsnap " in done.out


def test_show_vm_json_is_rows_as_the_bus_has_them(trees: House) -> None:
    answer = cli(trees, "show", "web", "--json").json
    assert answer["Domain"] == trees.client.domain("web")
    assert answer["Snapshots"] == len(TREE)
    assert answer["Coverage"] == trees.client.rows("ListCoverage", "")
    assert (answer["Holds"], answer["Problems"]) == ([], [])
    uncovered = cli(trees, "show", "bare", "--json").json
    assert [problem["Problem"] for problem in uncovered["Problems"]] == ["uncovered"]
    assert uncovered["Coverage"] == []


def test_show_vm_whose_run_failed_says_why(house: House) -> None:
    house.serve(f"test://{NODE}")
    house.policy("all", POLICY.replace("web", "tdtransient"))
    client = house.start()
    client.wait(client.call("RunPolicy", "all"))
    said = facts(cli(house, "show", "tdtransient").out)
    domain: Any = client.domain("tdtransient")
    assert said["last failure"] == domain["LastErrorMessage"] != ""
    assert "cannot work: " in said["policies"]
    assert "transient: the VM is transient" in said["can be made"]


# --- terminals


@pytest.mark.parametrize("typed", [["show", "web"], ["show", "web", "tried"]])
@pytest.mark.parametrize("wide", [80, 200])
def test_show_folds_at_the_edge_of_the_terminal(
    typed: list[str], wide: int, trees: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(wide))
    monkeypatch.setenv("TERM", "xterm")
    painted = screen(trees, *typed)
    assert painted.startswith("\x1b[1mVM web")
    lines = [line for line in PAINT.sub("", painted).splitlines() if trees.address not in line]
    assert max(map(len, lines)) <= wide
    assert facts(PAINT.sub("", painted))["state" if len(typed) == 2 else "VM then"] == "running"
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in screen(trees, *typed)
