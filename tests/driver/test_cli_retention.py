"""virtsnap preview and policy confirm, history's filters, and tables that fit the terminal."""

from __future__ import annotations

import time
from itertools import takewhile
from pathlib import Path

import pytest

from tests.client import Client
from tests.driver.house import House, problems, uuid_of
from tests.driver.test_retention import own, run, text
from tests.driver.test_upkeep import gone
from tests.driver.virtsnap import cli, rows, terminal

OURS = [f"s-{n}" for n in range(12)]


@pytest.fixture
def many(house: House) -> Client:
    """Of a daemon with a VM of 12 snapshots, of which policy p keeps two."""
    house.host_of(1, 12)
    house.policy("p", text("vm-0", "last = 2"))
    own(house, OURS, "p")
    return house.start()


@pytest.fixture
def few(house: House) -> Client:
    """Of a daemon with a VM of two snapshots by policy p, which keeps one, and a foreign one."""
    house.host_of(1, 3)
    house.policy("p", text("vm-0", "last = 1"))
    own(house, ["s-0", "s-1"], "p")
    return house.start()


def fates(out: str) -> dict[str, str]:
    """Of each snapshot in the table: kept or let go."""
    lines = [line for line in out.splitlines() if line.startswith("s-")]
    return {x.split()[0]: "let go" if "  let go  " in x else "kept" for x in lines}


# --- preview


def test_preview_says_what_is_kept_what_goes_and_why(house: House, few: Client) -> None:
    done = cli(house, "preview", "vm-0")
    assert (done.code, done.err) == (0, "")
    assert fates(done.out) == {"s-2": "kept", "s-1": "kept", "s-0": "let go"}
    foreign, newest, oldest = (line for line in done.out.splitlines() if line.startswith("s-"))
    assert foreign.endswith("another tool made it")
    assert newest.endswith("  last 1 of 1, the newest, which never goes")
    assert oldest.endswith("  no rule keeps it")
    assert done.out.endswith("\n2 kept, 1 let go at the next prune\n")
    assert cli(house, "preview", "vm-0", "-q").out == "s-0\n"
    listed, info = few.call("PreviewRetention", "vm-0", "")
    assert cli(house, "preview", "vm-0", "--json").json == {"rows": listed, "info": info}
    assert few.rows("ListJobs") == []


def test_preview_of_one_policy_and_of_another_time(house: House, few: Client) -> None:
    done = cli(house, "preview", "vm-0", "--policy", "p", "--at", "2023-11-14T00:00Z", "--utc")
    assert fates(done.out) == {"s-1": "kept", "s-0": "kept"}, "both are of the future then"
    assert "its time lies ahead" in done.out
    assert "2 kept, 0 let go at 2023-11-14 00:00Z" in done.out


def test_preview_of_a_file_that_is_not_set(house: House, few: Client, tmp_path: Path) -> None:
    tried = tmp_path / "p.toml"
    tried.write_text(text("vm-0", "last = 9"))
    assert fates(cli(house, "preview", "vm-0", "--file", str(tried)).out) == {
        "s-1": "kept",
        "s-0": "kept",
    }
    other = tried.rename(tmp_path / "other.toml")
    said = cli(house, "preview", "vm-0", "--file", str(other))
    assert said.out == "" and "no snapshot made by policy other" in said.err
    done = cli(house, "preview", "vm-0", "--file", str(other), "--policy", "p", "--json").json
    assert [row["Keep"] for row in done["rows"]] == [True, True]
    assert fates(cli(house, "preview", "vm-0").out)["s-0"] == "let go", "nothing was set"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no policy in it"),
        ("x =", "is not valid TOML"),
        ("keep.last = 0", "keep.last: must be"),
    ],
)
def test_preview_of_a_bad_file_says_what_is_wrong(
    shared: House, tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / "p.toml").write_text(content)
    done = cli(shared, "preview", "web-1", "--file", str(tmp_path / "p.toml"))
    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["preview", "absent"], 3),
        (["preview", "web-1", "--policy", "absent"], 3),
        (["policy", "confirm", "absent", "web-1"], 3),
        (["history", "--since", "never"], 2),
        (["history", "--verb", "undo"], 2),
    ],
)
def test_refused_has_the_exit_code_of_its_error(
    shared: House, arguments: list[str], code: int
) -> None:
    assert cli(shared, *arguments).code == code


# --- confirm


def test_confirm_is_named_wherever_it_waits(house: House, many: Client) -> None:
    run(many, "p")
    many.until("a problem", lambda: "prune-held" in problems(many))
    begin = f"virtsnap --bus-address {house.address} policy confirm"
    assert f"see what would go, and agree: {begin} POLICY vm-0\n" in cli(house).out
    assert cli(house, "preview", "vm-0").out.endswith(f"to agree: {begin} p vm-0\n")


def test_confirm_shows_what_goes_asks_and_does_it(house: House, many: Client) -> None:
    run(many, "p")
    with terminal(house.address, "policy", "confirm", "p", "vm-0") as seen:
        seen.until("Delete these 11 snapshots of VM vm-0? [y/N]")
        assert "let go: 11 of 13 snapshots" in seen.screen
        assert seen.screen.count("no rule keeps it") == 11
        assert len(many.snapshots("vm-0")) == 13
        seen.type("y\n")
        assert seen.end() == 0
    assert "VM vm-0: snapshot s-0 is deleted" in seen.screen
    left = set(many.snapshots("vm-0"))
    assert len(left) == 2 and "s-11" in left
    again = cli(house, "policy", "confirm", "p", "vm-0")
    assert (again.code, again.out) == (0, "VM vm-0: retention lets nothing go; nothing was done\n")


def test_confirm_answered_no_does_nothing(house: House, many: Client) -> None:
    with terminal(house.address, "policy", "confirm", "p", "vm-0") as seen:
        seen.until("[y/N]")
        seen.type("n\n")
        assert seen.end() == 1
    assert set(many.snapshots("vm-0")) == set(OURS)


@pytest.mark.parametrize("option", ["-q", "--json"])
def test_confirm_shows_what_goes_before_it_asks_also_where_the_answer_is_for_a_program(
    house: House, few: Client, option: str
) -> None:
    with terminal(house.address, "policy", "confirm", "p", "vm-0", option) as seen:
        seen.until("Delete this snapshot of VM vm-0? [y/N]")
        before = seen.screen.splitlines()
        seen.type("n\n")
        assert seen.end() == 1
    assert before[0].startswith("  s-0 (2023-11-14 ")
    assert before[0].endswith("): p: no rule keeps it")
    assert before[1] == "let go: 1 of 3 snapshots"
    assert len(few.snapshots("vm-0")) == 3


def test_confirm_deletes_nothing_else_than_what_was_shown(house: House, many: Client) -> None:
    with terminal(house.address, "policy", "confirm", "p", "vm-0") as seen:
        seen.until("[y/N]")
        many.act(uuid_of(0), "s-3", "Pin", "")
        seen.type("y\n")
        assert seen.end() == 4
    assert set(many.snapshots("vm-0")) == set(OURS)


def test_confirm_json_is_the_job_and_quiet_the_names(house: House, few: Client) -> None:
    assert cli(house, "policy", "confirm", "p", "vm-0", "-q").out == "s-0\n"
    house.again()
    done = cli(house, "policy", "confirm", "p", "vm-0", "--json").json
    assert done["Result"] == {"Deleted": [], "Stays": []}


def test_confirm_policy_that_does_not_cover_the_vm_is_refused(house: House) -> None:
    house.policy("p", text("db-*", "last = 1"))
    house.start()
    done = cli(house, "policy", "confirm", "p", "web-1")
    assert done.code == 2 and "policy p does not cover VM web-1" in done.err


# --- history


def test_history_of_a_time_a_verb_a_policy(house: House) -> None:
    house.policy("p", text("web-1", "last = 9"))
    client = house.start()
    cli(house, "create", "web-1", "one")
    cli(house, "delete", "web-1", "one", "--yes")
    run(client, "p")

    def verbs(*filters: str) -> list[str]:
        return [row["Verb"] for row in rows(house, "history", "web-1", *filters)]

    assert verbs() == ["create", "delete", "create"]
    assert verbs("--verb", "create") == ["create", "create"]
    assert verbs("--policy", "p") == ["create"]
    assert verbs("--since", "1h") == ["create", "delete", "create"]
    assert verbs("--until", "1h") == []
    tomorrow = str(int(time.time()) + 86400)
    assert verbs("--since", tomorrow) == []
    assert cli(house, "history", "web-1", "--verb", "delete", "-q").out == "one\n"
    assert "nothing like that" in cli(house, "history", "--until", "1h").err


# --- narrow and wide


def shown(house: House, monkeypatch: pytest.MonkeyPatch, width: int, *words: str) -> list[str]:
    """The lines on a terminal of that width without colours."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    with terminal(house.address, *words) as seen:
        assert seen.end() == 0
    return [line.rstrip("\r") for line in seen.screen.splitlines()]


def test_tables_fit_80_letters_and_say_more_in_200(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.policy("p", text("vm-0", "last = 3\ndaily = 7"))
    house.host_of(1, 12)
    own(house, OURS, "p")
    client = house.start()
    run(client, "p")
    wanted = {
        ("status",): (["VM", "STATE", "POLICIES"], "NEXT RUN"),
        ("policy", "list"): (["POLICY", "WHEN", "KEEPS", "HEALTH"], "FROM"),
        ("policy", "coverage"): (["POLICY", "VM", "HEALTH", "KIND", "CAN WORK"], "VM STANDS STILL"),
        ("history", "vm-0"): (["AGE", "VERB", "SNAPSHOT", "BY", "REASON"], "TIME"),
        ("preview", "vm-0"): (["SNAPSHOT", "FATE", "WHY"], "CREATED"),
    }
    for words, (always, wide) in wanted.items():
        narrow, full = (table(shown(house, monkeypatch, n, *words), always) for n in (80, 200))
        print("\n".join([*narrow, "", *full, ""]))
        assert max(map(len, narrow)) <= 80, words
        assert wide in full[0] and max(map(len, full)) <= 200, words
        assert not any("…" in line for line in full), words


def table(lines: list[str], titles: list[str]) -> list[str]:
    """The table with all those titles, up to the next line that is none of it."""
    begin = next(n for n, line in enumerate(lines) if all(title in line for title in titles))
    return list(takewhile(lambda line: "  " in line, lines[begin:]))


def test_audit_shows_the_whole_proof_also_where_it_is_narrow(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone(house, "s-1")
    client = house.start()
    client.until("noted", lambda: client.rows("ListHistory", "web-1"))
    (found,) = rows(house, "audit")
    assert found["Proof"].startswith("made 2023-11-14 22:13:21 UTC by us")
    monkeypatch.setenv("COLUMNS", "40")
    with terminal(house.address, "audit", "--utc") as seen:
        assert seen.end() == 1
    proof = found["Proof"].replace(" UTC", "Z")
    assert f"  removed-outside  s-1   {proof}" in seen.screen
    assert cli(house, "audit", "-q").out == "web-1\n"


def test_tables_have_colours_on_a_terminal_unless_told(
    house: House, few: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with terminal(house.address, "preview", "vm-0") as seen:
        assert seen.end() == 0
    assert "\x1b[33mlet go\x1b[0m" in seen.screen
    assert "\x1b" not in "".join(shown(house, monkeypatch, 200, "preview", "vm-0"))


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["status"], "vm-0\n"),
        (["policy", "list"], "p\n"),
        (["policy", "show", "p"], "p\n"),
        (["policy", "coverage"], "vm-0\n"),
        (["preview", "vm-0"], "s-0\n"),
    ],
)
def test_quiet_is_names_and_nothing_else(
    house: House, few: Client, words: list[str], names: str
) -> None:
    done = cli(house, *words, "-q")
    assert (done.code, done.out, done.err) == (0, names, "")
    assert cli(house, *words, "-0").out == names.replace("\n", "\0")
