"""policy validate: a policy file as the daemon would load it, without the daemon."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from ...errors import InvalidArgument
from ...model import Policy
from ...planning.schedule import fires, parse
from ...settings import Checked, Fault, check_definition, load_zone, system_timezone
from ...settings.values import parse_toml, read_file
from ..output.screen import Screen

INVALID = 2


def validate(args: Namespace, screen: Screen) -> int:
    path = Path(args.file)
    checked = check_file(path)
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


def _show(screen: Screen, file: str, checked: Checked, slots: list[int]) -> None:
    for fault in checked.faults:
        screen.say(f"{file}: {fault}")
    for warning in checked.warnings:
        screen.say(f"{file}: warning: {warning.item}: {warning.message}")
    if checked.policy is None:
        screen.say(f"{file} is not valid")
        return
    screen.say(
        f"{file} is valid: policy {checked.policy.name}, time zone {checked.policy.timezone}"
    )
    if checked.policy.schedule:
        screen.say("next_fires (UTC):")
    for slot in slots:
        screen.say(f"  {utc(slot)}")


def utc(seconds: int) -> str:
    """`2026-10-25T00:30:00Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
