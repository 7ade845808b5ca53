"""A policy's definition, from a file or from the bus -> Policy, strictly, with warnings."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache

from ..errors import InvalidArgument
from ..model import Floor, Keep, Policy, Warned
from ..planning import schedule
from ..planning.retention import Rules
from .lint import COUNTS, warnings
from .values import (
    MAX_BYTES,
    Fault,
    Table,
    duration,
    floor,
    join_faults,
    kind_of,
    some_of,
    text,
    whole,
    word,
)
from .zones import load_zone

MAX_KEEP = 1_000_000
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
MATCHES = 20_000
"""So many answers are kept: each a list of globs on a VM."""
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a definition: a policy, or every fault that was found; warnings in any case."""

    policy: Policy | None
    faults: tuple[Fault, ...]
    warnings: tuple[Warned, ...] = ()

    def demand(self, label: str) -> tuple[Policy, list[Warned]]:
        """The policy and its warnings, or InvalidArgument: `LABEL: key: reason; ...`."""
        if self.policy is None:
            listed = join_faults(self.faults)
            raise InvalidArgument(f"{label}: {listed}", item=self.faults[0].key)
        return self.policy, list(self.warnings)


def check_policy_name(name: str) -> str:
    """The name, or InvalidArgument where it cannot be a policy's."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"policy name {name[:64]!r} must be 1 to 64 of a-z, 0-9, '_', '-' and start with "
            "a letter",
            item=name[:64],
        )
    return name


def policy_from_definition(
    name: str, definition: Mapping[str, object], source: str, system_zone: str
) -> tuple[Policy, list[Warned]]:
    """The policy that a definition describes, and what is odd about it.

    definition: the keys of a policy file, tables as mappings. source: admin or api. system_zone:
    the zone where none is named. InvalidArgument: every wrong key with the reason.
    """
    checked = check_definition(name, definition, source, system_zone)
    return checked.demand(f"policy {name!r}")


def check_definition(
    name: str, definition: Mapping[str, object], source: str, system_zone: str
) -> Checked:
    """As policy_from_definition(), but all faults as data; raises nothing but for the name."""
    check_policy_name(name)
    faults: list[Fault] = []
    policy, cron = _read(name, definition, source, system_zone, faults)
    if faults:
        return Checked(None, tuple(faults))
    plain = {key: _plain(value) for key, value in definition.items()}
    canonical = json.dumps(plain, sort_keys=True)
    if len(canonical) > MAX_BYTES:
        return Checked(None, (Fault("", f"is over {MAX_BYTES} bytes long"),))
    revision = hashlib.sha256(canonical.encode()).hexdigest()[:16]
    policy = replace(policy, definition=plain, revision=revision)
    return Checked(policy, (), tuple(warnings(policy, cron)))


def _plain(value: object) -> object:
    """The caller's mappings and lists as our own."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, list | tuple) else value


def _read(
    name: str,
    definition: Mapping[str, object],
    source: str,
    system_zone: str,
    faults: list[Fault],
) -> tuple[Policy, schedule.Cron | None]:
    top = Table(definition, faults)
    keep, limits = top.table("keep"), top.table("limits")
    cron = top.take("schedule", lambda value: schedule.parse(_schedule_text(value)), None)
    _require(top, keep)
    policy = Policy(
        name=name,
        source=source,
        revision="",
        domains=top.take("domains", _globs, ()),
        exclude=top.take("exclude", _globs, ()),
        schedule=cron.expression if cron else "",
        timezone=top.take("timezone", lambda value: load_zone(text(value)).key, system_zone),
        catch_up=top.take("catch_up", word("once", "skip"), "once") == "once",
        max_lateness=top.take("max_lateness", duration(), None),
        randomized_delay=top.take("randomized_delay", duration(low=0), 0),
        kind=top.take("kind", word("auto", "internal", "external"), "auto"),
        memory=top.take("memory", word("yes", "no"), "no") == "yes",
        on=top.take("on", some_of("start", "shutdown", "crash"), ()),
        min_gap=top.take("min_gap", duration(low=0), 3600),
        max_pause=top.take("max_pause", duration(), 60),
        quiesce=top.take("quiesce", word("no", "try", "require"), "try"),
        only_if=top.take("only_if", word("always", "running", "changed"), "always"),
        keep=Keep(
            **{kind: keep.take(kind, whole(1, MAX_KEEP), 0) for kind in COUNTS},
            within=keep.take("within", duration(), 0),
        ),
        max_age=limits.take("max_age", duration(), None),
        max_count=limits.take("max_count", whole(1, MAX_KEEP), None),
        min_free=limits.take("min_free", floor, Floor(percent=5)),
    )
    if policy.memory and policy.quiesce == "require":
        top.fault("quiesce", 'with memory = "yes" nothing is quiesced; leave one of them out')
    if policy.memory and policy.kind == "external":
        what = "external snapshots with RAM are made by hand only; leave memory or kind out"
        top.fault("memory", what)
    for table in (top, keep, limits):
        table.finish()
    return policy, cron


def _require(top: Table, keep: Table) -> None:
    """Faults for what has to be there."""
    if "domains" not in top:
        top.fault("domains", 'is required; ["*"] is every VM')
    if "schedule" not in top and "on" not in top:
        top.fault("schedule", 'schedule or on is required; "30 2 * * *" is 02:30 every day')
    if not any(kind in keep for kind in (*COUNTS, "within")):
        top.fault("keep", f"needs at least one of {', '.join(COUNTS)}, within")


def _schedule_text(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(f'must be text as "30 2 * * *", not {kind_of(value)}')
    return value


def _globs(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        raise InvalidArgument(f'must be a list; write ["{value[:64]}"]')
    if not isinstance(value, list | tuple):
        raise InvalidArgument(f"must be a list of globs, not {kind_of(value)}")
    return tuple(_glob(item) for item in value)


def _glob(value: object) -> str:
    pattern = text(value)
    if pattern.startswith("uuid:") and not _UUID.fullmatch(pattern[5:]):
        raise InvalidArgument(f"{pattern[:64]!r} is no UUID; virsh domuuid VM shows it")
    return pattern


def matches(policy: Policy, name: str, uuid: str) -> bool:
    """Whether a domain of that present name and UUID is under the policy."""
    if not _any(policy.domains, name, uuid):
        return False
    return not (policy.exclude and _any(policy.exclude, name, uuid))


@lru_cache(MATCHES)
def _any(patterns: tuple[str, ...], name: str, uuid: str) -> bool:
    """All VMs are asked for at each look, and hardly ever has one another name, or a policy other
    globs."""
    return any(
        pattern[5:].lower() == uuid.lower()
        if pattern.startswith("uuid:")
        else fnmatchcase(name, pattern)
        for pattern in patterns
    )


def rules_of(policy: Policy) -> Rules:
    """The policy's retention as the planner takes it."""
    return Rules(policy.keep, load_zone(policy.timezone), policy.max_age, policy.max_count)
