"""What virtsnap prints: foreign strings, commands to type, errors."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from snapd import errors
from snapd.cli import failures
from snapd.cli.follow import Progress
from snapd.cli.output import text, ways
from snapd.cli.output.screen import Screen
from snapd.cli.parser import parse
from snapd.wire.fault import WireError, standard

SNAPD = Path(failures.__file__).parents[1]
NAMES = json.loads((Path(__file__).parents[1] / "data/names/snapshot_names.json").read_text())
HOSTILE = [each["name"] for each in NAMES] + [
    "two\nrows",
    "\rback",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\u202egnp.exe",
    "a\u2028b",
    "zero\u200bwidth",
    "\udcff",
    "back\\slash",
    "",
    " ",
    "trail ",
]


# --- strings from elsewhere


@pytest.mark.parametrize("hostile", HOSTILE)
def test_name_hostile_leaves_no_character_that_a_terminal_obeys(hostile: str) -> None:
    for shown in (text.safe(hostile), text.name(hostile)):
        categories = {unicodedata.category(c) for c in shown}
        assert not categories & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def test_name_different_names_stay_different() -> None:
    shown = {text.name(each) for each in HOSTILE}
    assert len(shown) == len(set(HOSTILE))
    assert text.name("a\nb") != text.name("a\\nb")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("web-1", "web-1"),
        ("a\nb", "a\\nb"),
        ("a\\nb", "a\\\\nb"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\u202ex", "\\u202ex"),
        ("trail ", "'trail '"),
        ("", "''"),
        ("Größe 日本", "Größe 日本"),
    ],
)
def test_name_is_shown_as(given: str, shown: str) -> None:
    assert text.name(given) == shown


def test_table_of_other_letters_behind_one_of_plain_ones_is_aligned() -> None:
    """As status prints several: what the first one did without, the second one needs."""
    code = (
        "from snapd.cli.output.screen import Screen\n"
        "for rows in ([['a', '1']], [['\u96ea\u96ea', '1'], ['b', '2']]):\n"
        "    Screen(json=False).table(['NAME', 'N'], rows)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.stderr == b""
    assert done.stdout.decode().splitlines()[3:] == ["\u96ea\u96ea  1", "b     2"]


def test_table_hostile_names_are_one_row_each(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(json=False).table(["NAME", "N"], [[each, str(n)] for n, each in enumerate(HOSTILE)])
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1 + len(HOSTILE)
    assert out.isascii() or all(c.isprintable() or c == "\n" for c in out)


def test_table_numbers_are_left_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(json=False).table(["NAME"], [["1e5"], ["007"], ["nan"]])
    assert capsys.readouterr().out.split() == ["NAME", "1e5", "007", "nan"]


def test_table_column_without_a_value_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(json=False).table(["A", "B", "C"], [["1", "", "2"], ["3", "", "4"]])
    assert capsys.readouterr().out == "A  C\n1  2\n3  4\n"


def test_document_with_json_is_all_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(json=True)
    screen.format = "list"
    screen.say("a line")
    screen.note("a note")
    screen.table(["A"], [["1"]])
    screen.document({"rows": ["\x1b\u202e"]})
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"format": "list/1", "rows": ["\x1b\u202e"]}
    assert shown.out.isascii() and shown.err == ""


# --- commands to type


@pytest.mark.parametrize("bus", ["system", "session", "unix:path=/tmp/a b,guid=1"])
@pytest.mark.parametrize(
    ("vm", "snapshot"),
    [("web", "s1"), ("-rf", "s1"), ("web", "--metadata"), ("a b", "$(reboot)'"), ("--json", "-y")],
)
def test_command_typed_in_a_shell_means_what_it_was_made_for(
    bus: str, vm: str, snapshot: str
) -> None:
    words = shlex.split(text.command(bus, "revert", vm, snapshot))
    args = parse(words[1:])
    assert (words[0], args.bus, args.action) == ("virtsnap", bus, "revert.revert")
    assert (args.vm, args.snapshot, args.json, args.yes) == (vm, snapshot, False, False)


def test_typable_name_with_controls_is_given_by_its_uuid() -> None:
    assert text.typable("web", "UUID") == "web"
    assert text.typable("a\nb", "UUID") == "UUID"
    assert text.typable("", "UUID") == "UUID"


def test_typable_name_that_is_taken_for_a_uuid_is_given_by_its_own() -> None:
    assert text.typable("AAAAAAAA-2222-4222-8222-222222222202", "UUID") == "UUID"
    assert text.typable("22222222-2222-4222-8222-22222222220g", "UUID") != "UUID"


# --- ways


def test_told_every_word_in_the_code_is_known() -> None:
    """The words stand beside `ways=` and in Blocker's last argument."""
    found: set[str] = set()
    for path in SNAPD.rglob("*.py"):
        if "cli" not in path.parts:
            source = path.read_text()
            for part in re.findall(r"ways=\(([^)]*)\)", source):
                found |= set(re.findall(r'"([a-z][a-z0-9-]+)"', part))
            for part in re.findall(r"Blocker\([^\n]*\(((?:\"[a-z0-9-]+\",? ?)+)\)\)", source):
                found |= set(re.findall(r'"([a-z][a-z0-9-]+)"', part))
    assert len(found) > 20
    assert [word for word in sorted(found) if ways.told([word], "system") == [word]] == []


@pytest.mark.parametrize("word", ["unpin", "delete-branch"])
def test_told_command_is_one_for_the_same_bus(word: str) -> None:
    (system,), (session,) = ways.told([word], "system"), ways.told([word], "session")
    assert "'virtsnap " in system
    assert session == system.replace("'virtsnap ", "'virtsnap --session ")


@pytest.mark.parametrize("word", ["reload", "restart", "allow-devices"])
def test_told_systemctl_is_for_the_manager_of_the_same_bus(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/mine")
    (system,), (session,) = ways.told([word], "system"), ways.told([word], "session")
    assert re.search("systemctl [a-z]+ virtsnapd", system)
    assert re.search("systemctl --user [a-z]+ virtsnapd", session)
    assert ways.told([word], "unix:path=/mine") == [session]
    assert "systemctl" not in ways.told([word], "unix:path=/other")[0]


@pytest.mark.parametrize(
    ("word", "policy", "command"),
    [
        ("unhold", "", "unhold web-1"),
        ("unhold", "nightly", "unhold --policy nightly web-1"),
        ("audit", "", "audit web-1"),
        ("policy-run", "nightly", "policy run nightly web-1"),
        ("confirm-prune", "nightly", "policy confirm nightly web-1"),
    ],
)
def test_told_command_names_the_vm_by_its_name(word: str, policy: str, command: str) -> None:
    problem = {"DomainUUID": "uuid-of-it", "DomainName": "web-1", "Policy": policy}
    (way,) = ways.told([word], "system", problem)
    assert way.endswith(f"virtsnap {command}")
    (odd,) = ways.told([word], "system", problem | {"DomainName": "web\n1"})
    assert odd.endswith(f"virtsnap {command}".replace("web-1", "uuid-of-it"))


# --- errors


@pytest.mark.parametrize("bus", ["session", "unix:path=/run/other"])
@pytest.mark.parametrize("json_", [False, True])
def test_error_names_commands_of_the_daemon_as_they_are_typed_on_the_same_bus(
    bus: str, json_: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """As all are written in the daemon's errors."""
    sources = (path for path in SNAPD.rglob("*.py") if "cli" not in path.parts)
    written = {
        each for path in sources for each in re.findall("'virtsnap [^']*'", path.read_text())
    }
    assert {"'virtsnap status'", "'virtsnap policy list'"} <= written
    screen = Screen(json=json_)
    screen.bus = bus
    option = "--session" if bus == "session" else f"--bus-address {bus}"
    for command in written:
        error = errors.NoSuchDomain(f"no VM 'virtsnap 1'; {command} lists them")
        failures.report(screen, error)
        failures.report(screen, failures.JobFailed(row(ErrorMessage=error.message)))
        typed = command.replace("virtsnap", f"virtsnap {option}")
        said = capsys.readouterr().err
        assert said.count(f"no VM 'virtsnap 1'; {typed} lists them") == 2
    screen.bus = "system"
    failures.report(screen, errors.NoSuchDomain("no VM; 'virtsnap status' lists them"))
    assert "no VM; 'virtsnap status' lists them" in capsys.readouterr().err


def row(**values: Any) -> dict[str, Any]:
    return {
        "Path": "/org/virtsnap/Snapd1/jobs/7",
        "State": "failed",
        "ErrorName": "",
        "ErrorMessage": "",
        "ErrorDetail": {},
        **values,
    }


CODES = {
    "InvalidName": 2,
    "InvalidArgument": 2,
    "NoSuchDomain": 3,
    "NoSuchSnapshot": 3,
    "NoSuchPolicy": 3,
    "Busy": 4,
    "Unsupported": 4,
    "NotAuthorized": 5,
    "Unavailable": 6,
    "TimedOut": 1,
    "LibvirtError": 1,
}


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_report_error_and_failed_job_give_the_same_exit_code(name: str, code: int) -> None:
    kind = errors.by_name(errors.PREFIX + name)
    assert kind is not None
    screen = Screen(json=False)
    assert failures.report(screen, kind("why")) == code
    failed = failures.JobFailed(row(ErrorName=errors.PREFIX + name, ErrorMessage="why"))
    assert failures.report(screen, failed) == code


@pytest.mark.parametrize(
    ("word", "code", "says"),
    [
        ("ServiceUnknown", 6, "not running on the system bus.*systemctl enable --now virtsnapd"),
        ("NameHasNoOwner", 6, "not running"),
        ("Spawn.ExecFailed", 6, "not running on the system bus .text"),
        ("NoServer", 6, "cannot be reached"),
        ("NoReply", 6, "did not answer.*: systemctl status virtsnapd"),
        ("Disconnected", 6, "did not answer"),
        ("AccessDenied", 5, "does not let you"),
        ("InteractiveAuthorizationRequired", 5, "password"),
        ("UnknownMethod", 1, "older"),
        ("LimitsExceeded", 1, "text"),
    ],
)
def test_report_bus_error_is_a_sentence_and_a_code(
    word: str, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error: WireError = standard(word, "text")
    assert failures.report(Screen(json=False), error) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(says, line)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (None, "did not answer within 25 s; what it is at: systemctl --user status virtsnapd"),
        (True, "begun all the same: virtsnap --session jobs shows it"),
        (False, "did not answer within 25 s; what was asked for may have been begun all the same"),
    ],
)
def test_explain_no_answer_says_what_a_read_or_an_act_may_have_done(
    act: bool | None, said: str
) -> None:
    text = "org.virtsnap.Snapd1 did not answer GetAll within 25 s"
    error = WireError("org.freedesktop.DBus.Error.NoReply", text)
    if act is not None:
        error = failures.Unanswered(error, job=act)
    sentence, code = failures.explain(error, "session")
    assert code == 6
    assert sentence.endswith(said) and "GetAll" not in sentence


@pytest.mark.parametrize(
    ("bus", "name", "says"),
    [
        ("system", "UnitMasked", "virtsnapd is masked.* systemctl unmask virtsnapd$"),
        ("session", "UnitMasked", "virtsnapd is masked.* systemctl --user unmask virtsnapd$"),
        ("system", "NoSuchUnit", "not running on the system bus .no unit.*enable --now virtsnapd"),
    ],
)
def test_explain_refusal_of_systemd_to_start_it_says_what_to_do(
    bus: str, name: str, says: str
) -> None:
    sentence, code = failures.explain(WireError(f"org.freedesktop.systemd1.{name}", "no unit"), bus)
    assert code == 6
    assert re.search(says, sentence)


def test_report_json_is_one_document_with_name_message_and_detail(
    capsys: pytest.CaptureFixture[str],
) -> None:
    detail = {"Reason": "raw-disk", "Disk": "vda", "Ways": ["detach-disk"]}
    error = errors.PREFIX + "Unsupported"
    failed = failures.JobFailed(row(ErrorName=error, ErrorMessage="no", ErrorDetail=detail))
    failures.report(Screen(json=True), failed)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert json.loads(shown.err) == {
        "format": "error/1",
        "error": error,
        "message": "no",
        "detail": {**detail, "Job": "/org/virtsnap/Snapd1/jobs/7"},
    }


def test_report_text_tells_the_ways_out_and_the_job(capsys: pytest.CaptureFixture[str]) -> None:
    failed = failures.JobFailed(
        row(
            ErrorName=errors.PREFIX + "Unsupported",
            ErrorMessage="VM\nx cannot",
            ErrorDetail={"Ways": ["no-memory", "a-new-word"]},
        )
    )
    failures.report(Screen(json=False), failed)
    assert capsys.readouterr().err.splitlines() == [
        "virtsnap: VM\\nx cannot (job 7)",
        "  way out: leave RAM out: --no-memory",
        "  way out: a-new-word",
    ]


def test_job_in_a_log_has_one_line_a_phase_and_not_one_a_percent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = Progress(Screen(json=False), "/org/virtsnap/Snapd1/jobs/5")
    job.changed({"Verb": "delete", "DomainName": "web-1", "Phase": "merging", "State": "running"})
    for share in (0.1, 0.2, 0.3):
        job.changed({"Progress": share})
    job.changed({"Phase": "verifying"})
    said = capsys.readouterr().err.splitlines()
    assert said == ["job 5: delete web-1: merging", "job 5: delete web-1: verifying"]
