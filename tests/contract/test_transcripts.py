"""Each command is shown once in a terminal, by a transcript of tests/driver."""

from __future__ import annotations

from snapd.cli import parser as cli
from tests.contract.test_man import commands
from tests.driver.plays import PLAYS


def test_every_command_has_a_transcript_and_no_other() -> None:
    acting = (one for one in commands(cli.build()) if one.get_default("action"))
    known = {one.prog.removeprefix("virtsnap ") for one in acting}
    assert len(known) > 30
    assert {name for name in known if name not in PLAYS} == set()
    typed = {name: " ".join(play.words) for name, play in PLAYS.items()}
    begun = {
        name: [word for word in known if f"{line} ".startswith(f"{word} ")]
        for name, line in typed.items()
    }
    assert {name for name, of in begun.items() if len(of) != 1} == set()
    assert {name for name, (of,) in begun.items() if name in known and name != of} == set()
