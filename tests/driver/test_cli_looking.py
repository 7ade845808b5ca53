"""virtsnap list: trees, columns, what is picked, names only, on narrow and wide terminals."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from tests.bus import private_bus
from tests.driver.house import House
from tests.driver.trees import BEGUN, TREE, WEB, host
from tests.driver.virtsnap import cli, terminal

POLICY = 'domains = ["line"]\nschedule = "30 2 * * *"\n[keep]\nlast = 9\n'
WEB_TREE = [
    "VM web",
    "○ base",
    "│",
    "○ before-upgrade",
    "├─○ other",
    "├─○ upgraded",
    "│ │",
    "│ ○ now",
    "│",
    "○ tried",
    "│",
    "● tried-more",
    "○ apart",
]
PAINT = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def host_of_trees(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """`web` with a tree, one of which is pinned; `bare`; `line`, two of which are of a policy."""
    with private_bus() as bus:
        made = House(bus.address, tmp_path_factory.mktemp("trees"))
        made.serve_text(host())
        made.policy("nightly", POLICY)
        try:
            client = made.start()
            client.rows("ListDomains")
            client.act(WEB, "other", "Pin", "audit until June")
            client.call("Adopt", "line", ["nightly-0001", "nightly-0002"], "nightly")
            yield made
        finally:
            print(made.daemon.log)
            made.close()


def names(house: House, *arguments: str) -> list[str]:
    done = cli(house, "list", *arguments, "-q")
    assert (done.code, done.err) == (0, "")
    return done.out.splitlines()


def drawn(text: str) -> list[str]:
    """The first column of a tree, without its title."""
    return [re.split(r"  +", line)[0] for line in text.splitlines()[1:]]


@pytest.fixture(params=[80, 200])
def wide(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Letters in a line of the terminals of this test."""
    monkeypatch.setenv("COLUMNS", str(request.param))
    monkeypatch.setenv("TERM", "xterm")
    return int(request.param)


def screen(house: House, *arguments: str) -> str:
    """What a command leaves on a terminal."""
    with terminal(house.address, *arguments) as seen:
        assert seen.end() == 0
    return seen.screen.replace("\r\n", "\n")


# --- the tree


def test_tree_is_that_of_libvirt_with_the_current_one_marked(host_of_trees: House) -> None:
    done = cli(host_of_trees, "list", "web", "--tree")
    assert (done.code, drawn(done.out)) == (0, WEB_TREE)
    (current,) = [row for row in done.out.splitlines() if "●" in row]
    assert "current" in current and "2026-09-21" in current


def test_tree_of_all_vms_has_one_for_each_that_has_some(host_of_trees: House) -> None:
    shown = drawn(cli(host_of_trees, "list", "--tree").out)
    line = ["VM line", "○ nightly-0000", "│", "○ nightly-0001", "│", "○ nightly-0002", "│",
            "● nightly-0003"]  # fmt: skip
    assert shown == [*line, *WEB_TREE]


def test_tree_where_the_locale_has_no_lines_is_of_ascii(
    host_of_trees: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    out = cli(host_of_trees, "list", "web", "--tree").out
    assert out.isascii()
    assert drawn(out)[-7:] == ["| |", "| o now", "|", "o tried", "|", "* tried-more", "o apart"]


def test_tree_of_some_shows_what_they_were_made_on_by_name_only(host_of_trees: House) -> None:
    done = cli(host_of_trees, "list", "web", "--tree", "--pinned")
    assert drawn(done.out) == ["VM web", "○ base", "│", "○ before-upgrade", "│", "○ other"]
    full = [line for line in done.out.splitlines()[1:] if "2026" in line]
    assert len(full) == 1 and "other" in full[0] and "pinned: audit until June" in full[0]
    shown = drawn(cli(host_of_trees, "list", "--tree", "--policy", "nightly").out)
    assert shown == ["VM line", "○ nightly-0000", "│", "○ nightly-0001", "│", "○ nightly-0002"]


def test_tree_of_hundreds_fits_a_narrow_terminal(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    side = {f"try-{n}": f"s-{n}" for n in range(0, 200, 20)}
    house.serve_text(
        host({f"s-{n}": f"s-{n - 1}" if n else "" for n in range(300)} | side, "s-299")
    )
    house.start()
    lines = PAINT.sub("", screen(house, "list", "web", "--tree")).splitlines()
    assert sum("○" in line or "●" in line for line in lines) == 310
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("├─○ try-") for line in lines) == 10


# --- the table


def test_current_one_is_marked_before_its_name(host_of_trees: House) -> None:
    lines = cli(host_of_trees, "list", "web").out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("*  ")] == ["tried-more"]
    assert len([line for line in lines if line.startswith("   ")]) == len(lines) - 1


def test_list_fits_the_terminal_and_cuts_no_name(host_of_trees: House, wide: int) -> None:
    shown = PAINT.sub("", screen(host_of_trees, "list"))
    lines = shown.splitlines()
    assert max(map(len, lines)) <= wide
    assert all(any(re.search(rf"\b{one}\b", line) for line in lines) for one in TREE)
    heading = lines[0].split()
    assert {"VM", "SNAPSHOT", "AGE", "STATE", "ORIGIN", "NOTES"} <= set(heading)
    if wide == 200:
        assert {"CREATED", "CONSISTENCY", "KIND", "DESCRIPTION"} <= set(heading)
        assert "too narrow" not in shown
    else:
        assert re.search(r"^\(too narrow for KIND, .*\)$", shown, re.MULTILINE)


def test_list_has_colour_only_where_it_is_wanted(
    host_of_trees: House, wide: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    painted = screen(host_of_trees, "list", "web")
    assert "\x1b[32m*\x1b[0m" in painted and "\x1b[32mcurrent\x1b[0m" in painted
    monkeypatch.setenv("NO_COLOR", "1")
    plain = screen(host_of_trees, "list", "web")
    assert plain == PAINT.sub("", painted) and "\x1b" not in plain


def test_columns_are_those_asked_for_in_their_order(host_of_trees: House) -> None:
    asked = "snapshot,parent,pin,uuid,left-out,delete"
    done = cli(host_of_trees, "list", "web", "--columns", asked)
    heading, *rows = [re.split(r"  +", line) for line in done.out.splitlines()]
    assert heading == ["SNAPSHOT", "PARENT", "PINNED", "UUID", "NO DELETE"]  # none is left out
    (other,) = [row for row in rows if row[0] == "other"]
    assert other == ["other", "before-upgrade", "audit until June", WEB, "pinned"]


def test_columns_asked_for_stay_on_a_narrow_terminal(
    host_of_trees: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    shown = screen(host_of_trees, "list", "--columns", "vm,snapshot,kind,created,consistency")
    assert "too narrow" not in shown
    assert "CONSISTENCY" in shown.splitlines()[0]


def test_columns_that_there_are_not_is_wrong_usage(host_of_trees: House) -> None:
    done = cli(host_of_trees, "list", "--columns", "size")
    assert (done.code, done.out) == (2, "")
    assert "no column 'size'; 'virtsnap list --help' lists them" in done.err


# --- which ones


@pytest.mark.parametrize(
    ("typed", "picked"),
    [
        ("web --current", ["tried-more"]),
        ("--current", ["line/nightly-0003", "web/tried-more"]),
        ("--pinned", ["web/other"]),
        ("line --policy nightly", ["nightly-0001", "nightly-0002"]),
        ("line --origin foreign", ["nightly-0000", "nightly-0003"]),
        ("--origin policy --newer-than 1790003601", ["line/nightly-0002"]),
        ("web --kind external", []),
        (f"web --older-than {BEGUN + 3600}", ["base"]),
        (f"web --newer-than {BEGUN + 3600 * 5}", ["now", "apart"]),
        ("--newer-than 1h", []),
        ("bare", []),
    ],
)
def test_list_picks(typed: str, picked: list[str], host_of_trees: House) -> None:
    if not picked:
        done = cli(host_of_trees, "list", *typed.split())
        assert (done.code, done.out) == (0, "")
        assert "no such snapshots" in done.err or "has no snapshots; to take one" in done.err
    assert names(host_of_trees, *typed.split()) == picked
    rows = cli(host_of_trees, "list", *typed.split(), "--json").json["rows"]
    assert [row["Name"] for row in rows] == [one.rpartition("/")[2] for one in picked]


def test_list_age_is_reckoned_from_now(house: House) -> None:
    house.serve_text(host())
    client = house.start()
    client.create("bare", "first", memory="no")
    time.sleep(3.1)  # libvirt's times are whole seconds
    client.create("bare", "second", memory="no")
    assert names(house, "bare", "--older-than", "2s") == ["first"]
    assert names(house, "bare", "--newer-than", "1min") == ["first", "second"]


def test_list_json_has_all_of_what_is_picked_whatever_the_columns(host_of_trees: House) -> None:
    answer = cli(host_of_trees, "list", "web", "--pinned", "--columns", "vm", "--tree", "--json")
    (row,) = host_of_trees.client.rows("ListSnapshots", "web")[4:5]
    assert row["Name"] == "other"
    assert answer.json["rows"] == [row]


def test_list_names_are_as_they_are_with_a_nul_behind_each(house: House) -> None:
    house.serve_text(host({"two\nrows": "", "a  b": "two\nrows", "-rf": ""}, ""))
    house.start()
    assert cli(house, "list", "web", "-0").out == "two\nrows\0a  b\0-rf\0"
    tree = cli(house, "list", "web", "--tree").out
    assert all(c.isprintable() or c == "\n" for c in tree)
    assert "two\\nrows" in tree


def test_list_vms_names_can_be_told_from_their_snapshots(host_of_trees: House) -> None:
    """libvirt has no slash in a VM's name: what stands before the first one is it."""
    for one in names(host_of_trees):
        vm, _, snapshot = one.partition("/")
        assert snapshot in host_of_trees.client.snapshots(vm)
