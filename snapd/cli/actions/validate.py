"""policy validate: a policy file as the daemon would load it, without the daemon."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from ...errors import InvalidArgument
from ...model import Policy
from ...planning.schedule import fires, parse
from ...settings import Checked, Fault, check_definition, load_zone, system_timezone
from ...settings.values import MAX_BYTES, parse_toml, read_file
from ..output import times
from ..output.screen import Screen

INVALID = 2
STDIN = "-"


def validate(args: Namespace, screen: Screen) -> int:
    checked = check_stdin() if args.file == STDIN else check_file(Path(args.file))
    if not checked.policy and is_name(args.file):
        show = screen.command("policy", "show", args.file)
        said = f"there is no file of that name, and a file is wanted; to see the policy: {show}"
        checked = Checked(None, (Fault("", said),))
    slots: list[int] = []
    if checked.policy:
        slots = _slots(checked.policy, args.after, args.count, int(screen.now))
    _show(screen, args.file, checked, slots)
    screen.document(
        {
            "Valid": checked.policy is not None,
            "Errors": [{"Key": f.key, "Message": f.message} for f in checked.faults],
            "Warnings": [{"Key": w.item, "Message": w.message} for w in checked.warnings],
            "NextFires": slots,
            "next_fires": [utc(slot) for slot in slots],
        }
    )
    return 0 if checked.policy else INVALID


def is_name(file: str) -> bool:
    """Whether it may be a policy's or a template's name, and is no file's."""
    return re.fullmatch("[a-z][a-z0-9_-]{0,63}", file) is not None and not Path(file).exists()


def check_stdin() -> Checked:
    """The policy that comes on standard input, of whatever name, or all that is wrong with it."""
    try:
        with open(0, "rb", closefd=False) as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InvalidArgument(f"has over {MAX_BYTES} bytes")
        return check_definition("stdin", parse_toml(content), "admin", system_timezone())
    except OSError as error:
        return Checked(None, (Fault("", f"cannot be read: {error.strerror}"),))
    except InvalidArgument as error:
        return Checked(None, (Fault("", error.message),))


def check_file(path: Path) -> Checked:
    """The policy in a file, named by its stem, or all that is wrong with it."""
    try:
        definition = read_definition(path)
        return check_definition(path.stem, definition, "admin", system_timezone())
    except InvalidArgument as error:
        return Checked(None, (Fault("", error.message),))


def read_definition(path: Path) -> Mapping[str, object]:
    """The keys of a policy file. Raises InvalidArgument."""
    try:
        return parse_toml(read_file(path))
    except OSError as error:
        raise InvalidArgument(f"cannot be read: {error.strerror}") from error


def _slots(policy: Policy, after: int | None, count: int, now: int) -> list[int]:
    begin = now if after is None else after
    if not policy.schedule:
        return []
    return list(islice(fires(parse(policy.schedule), begin, load_zone(policy.timezone)), count))


def _show(screen: Screen, typed: str, checked: Checked, slots: list[int]) -> None:
    file = "standard input" if typed == STDIN else typed
    for fault in checked.faults:
        screen.say(f"{file}: {fault}")
    for warning in checked.warnings:
        screen.say(f"{file}: warning: {warning.item}: {warning.message}")
    if checked.policy is None:
        screen.say(f"{file} is not valid")
        return
    which = f"policy {checked.policy.name}, " if typed != STDIN else ""
    screen.say(f"{file} is valid: {which}time zone {checked.policy.timezone}")
    if checked.policy.schedule:
        screen.say("next runs:")
    for slot in slots:
        screen.say(f"  {times.moment(slot, screen.now)}")


def utc(seconds: int) -> str:
    """`2026-10-25T00:30:00Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
