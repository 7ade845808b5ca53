"""What every command shows in a terminal: at 80 and 200 columns, with colour and without."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pytest
from wcwidth import wcswidth

from snapd.cli.output import colours
from tests.bus import private_bus
from tests.driver.estate import TREES, VMS, furnish
from tests.driver.house import DATA, House
from tests.driver.plays import PLAYS
from tests.driver.test_odd_names import DOMAINS, TAKEN, host_of_domains, host_of_snapshots
from tests.driver.virtsnap import terminal
from tests.driver.vt import Screen

READ = ("status", "list", "list --tree", "show", "show VM", "show gone", "domains", "history",
        "preview", "policy list", "policy coverage")  # fmt: skip
"""Those whose transcripts a person has read: tests/data/transcripts."""
DRAWN = {"90"}
"""Of the bar, which is there only while a job takes over a second, as on a busy machine."""
COLOURS = {*vars(colours)["_OF"].values(), "0", *DRAWN}
SGR = re.compile(r"\x1b\[([0-9;]*)m")
VERSIONS = re.compile(r"(?<=virtsnapd )[\d.]+|(?<=libvirt )[\d.]+")
READ_ONES = DATA / "transcripts"
UNBROKEN = 100_000
Houses = Mapping[bool, tuple[House, Mapping[str, str]]]
# What is another one each time: ages, names made of the time, numbers of jobs, the last minutes.
CHANGING = re.compile(
    r"\b\d+ (?:s|min|h|d|w|y) ago|\bnow\b|\bin \d+ (?:s|min|h|d)\b|\d{8}T\d{6}Z-?[0-9a-f]*"
    r"|\d\d:\d\d:\d\dZ|(?<=job )\d+|2026-11-24 14:\d\d(?::\d\d)?|(?<=oldest_success=)\d+"
    r"|(?<=found-)\d|\b\d+ m?s\b"
)


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Houses]:
    """Two estates on buses of their own: one that is only looked at (True), and another one; each
    with the environment that is there."""
    with private_bus() as quiet, private_bus() as busy:
        made = {
            True: House(quiet.address, tmp_path_factory.mktemp("quiet")),
            False: House(busy.address, tmp_path_factory.mktemp("busy")),
        }
        try:
            quiet_env, busy_env = furnish(made[True]), furnish(made[False], found=4)
            yield {True: (made[True], quiet_env), False: (made[False], busy_env)}
        finally:
            for house in made.values():
                print(house.daemon.log)
                house.close()


def played(
    name: str,
    houses: Houses,
    monkeypatch: pytest.MonkeyPatch,
    *,
    columns: int,
    colour: bool,
) -> str:
    """The transcript."""
    play = PLAYS[name]
    house, environment = houses[play.reads]
    more = play.before(house.client) or ()
    with monkeypatch.context() as own:
        for key, value in environment.items():
            own.setenv(key, value)
        own.setenv("TERM", "xterm-256color")
        own.setenv("EDITOR", "sed -i s/9/4/")
        own.delenv("VISUAL", raising=False)
        own.delenv("COLUMNS", raising=False)
        own.delenv("NO_COLOR", raising=False)
        if not colour:
            own.setenv("NO_COLOR", "1")
        with terminal(house.address, "--system", *play.words, *more, columns=columns) as seen:
            for text, answer in play.answers:
                seen.until(text)
                seen.type(answer)
            assert seen.end() == play.code, seen.screen
    return seen.screen


def lines(transcript: str) -> list[str]:
    """As they stand on the screen in the end. AssertionError for a sequence that does more than
    to paint, or to draw over a line."""
    screen = Screen(UNBROKEN)
    screen.write(transcript)
    return screen.lines[:-1] if screen.lines[-1] == "" else screen.lines


def words(transcript: str) -> list[str]:
    return CHANGING.sub("#", "\n".join(lines(transcript))).split()


def in_columns(line: str) -> bool:
    """Whether it stands in columns. A sentence is for the terminal to wrap: a line that we broke
    would end a command that is copied."""
    return "  " in line.strip()


@pytest.mark.parametrize("name", PLAYS)
def test_transcript(name: str, houses: Houses, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for columns in (80, 200):
        for colour in (True, False):
            transcript = played(name, houses, monkeypatch, columns=columns, colour=colour)
            told.append(words(transcript))
            shown = lines(transcript)
            wide = [line for line in shown if in_columns(line) and wcswidth(line) > columns]
            assert wide == []
            found = {code for codes in SGR.findall(transcript) for code in codes.split(";")}
            assert found <= (COLOURS if colour else set())
            assert not cut(told[-1])
        assert told[-1] == told[-2], "the same words with colour and without"


def cut(told: list[str]) -> list[str]:
    """Names of which only a beginning is shown."""
    names = [*VMS, *(name for tree in TREES.values() for name in tree)]
    begun = [word[:-1] for word in told if word.endswith("…") and len(word) > 2]
    return [word for word in begun if any(name.startswith(word) for name in names)]


@pytest.mark.parametrize("name", READ)
def test_transcript_reads_as_a_person_would_have_it(
    name: str, houses: Houses, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcript = played(name, houses, monkeypatch, columns=80, colour=False)
    typed = " ".join(("$ virtsnap", *PLAYS[name].words))
    shown = "\n".join([typed, *lines(transcript), ""]).replace(
        str(houses[True][0].folder), "/FOLDER"
    )
    assert VERSIONS.sub("VERSION", shown) == (READ_ONES / f"{file(name)}.txt").read_text()


def test_transcripts_that_were_read_are_all_played() -> None:
    assert {path.stem for path in READ_ONES.glob("*.txt")} == set(map(file, READ))


def file(name: str) -> str:
    return re.sub("[ -]+", "-", name)


# --- names that break naive code

# Each as a person has to see it, beside those that are shown as they are.
ESCAPED = {
    "\n": "\\n",
    " ": "' '",
    "trail ": "'trail '",
    "a\x7fb": "a\\x7fb",
    "a\u2028b": "a\\u2028b",
    "zero\u200bwidth": "zero\\u200bwidth",
    "a\\b": "a\\\\b",
}
HOSTILE = {
    "list": ("list", "web-1"),
    "tree": ("list", "web-1", "--tree"),
    "preview": ("preview", "web-1"),
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """VMs of all names that there are, and web-1 with snapshots of all names."""
    with private_bus() as bus:
        made = House(bus.address, tmp_path_factory.mktemp("hostile"))
        try:
            domains = host_of_domains([case["name"] for case in DOMAINS])
            made.serve_text(
                host_of_snapshots(TAKEN).replace("</node>", domains.removeprefix("<node>"))
            )
            made.start().rows("ListDomains")
            yield made
        finally:
            print(made.daemon.log)
            made.close()


def shown(house: House, *words: str) -> str:
    with terminal(house.address, *words, columns=200) as seen:
        assert seen.end() == 0, seen.screen
    # in the end no control character but what ends a line, and what paints
    text = SGR.sub("", seen.screen).replace("\r\n", "\n")
    assert [c for c in text if not c.isprintable() and c != "\n"] == []
    return text


@pytest.mark.parametrize("words", HOSTILE.values(), ids=HOSTILE)
def test_names_of_any_kind_are_whole_and_leave_no_control_character(
    words: tuple[str, ...], hostile: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = shown(hostile, *words).splitlines()
    assert {"\n", "a\x7fb", "zero\u200bwidth", "x" * 1000} <= set(TAKEN)
    for name in TAKEN:
        seen = ESCAPED.get(name, name)
        found = [line for line in lines if f" {seen}  " in f" {line}  "]
        assert len(found) == 1, name


@pytest.mark.parametrize("words", ["status", "list", "domains", "history"])
def test_names_of_vms_of_any_kind_are_whole(
    words: str, hostile: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("COLUMNS", raising=False)
    names = [case["name"] for case in DOMAINS]
    for name in names:
        if not hostile.client.snapshots(name):
            hostile.client.create(name, "s")
    text = shown(hostile, words)
    assert [name for name in names if f"{name}  " not in text] == []


def test_show_of_a_hostile_name_leaves_no_control_character(hostile: House) -> None:
    for name in ESCAPED:
        first = shown(hostile, "show", "web-1", name).splitlines()[0]
        assert first == f"VM web-1: snapshot {ESCAPED[name]}"
