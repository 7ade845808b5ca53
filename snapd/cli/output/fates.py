"""Why retention keeps a snapshot or lets it go, in words. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

_WORDS = {
    "foreign": "another tool made it",
    "pinned": "it is pinned",
    "time-unknown": "when it was made is not known",
    "future": "its time lies ahead",
    "no-policy": "no policy in force made it",
    "no-keep-rule": "nothing says what to keep",
    "held": "held, so that nothing goes",
    "newest": "the newest, which never goes",
    "within": "within the time of keep.within",
    "no-rule-matches": "no rule keeps it",
    "half-deleted": "it was half deleted",
    "max-age": "older than limits.max_age",
    "max-count": "more than limits.max_count",
    "safety-last": "more safety snapshots than safety.last",
    "safety-max-age": "a safety snapshot older than safety.max_age",
}
_COUNTED = {
    "last": "last",
    "hourly": "hour",
    "daily": "day",
    "weekly": "week",
    "monthly": "month",
    "yearly": "year",
    "safety": "safety snapshot",
}


def why(reasons: Iterable[str], alone: str = "") -> str:
    """Reasons as PreviewRetention has them, `POLICY: RULE`: each policy once, with its rules in
    words; what isn't known stays as it is. alone: a policy that need not be named."""
    of: dict[str, list[str]] = {}
    for reason in reasons:
        label, colon, rule = reason.rpartition(": ")
        if label == "deferred":
            label, rule = "", f"libvirt could not merge it yet, {rule}"
        elif label and rule == "no-policy":
            rule = "it is not in force"
        of.setdefault(label if colon else "", []).append(_words(rule))
    return "; ".join(
        f"{label}: {', '.join(rules)}" if label not in ("", alone) else ", ".join(rules)
        for label, rules in of.items()
    )


def told(act: Mapping[str, Any]) -> str:
    """Why somebody did what a row of history has: what the daemon lets go in words, too."""
    reason = str(act["Reason"])
    kind, _, rest = reason.partition(": ")
    if act["Verb"] != "delete" or kind not in ("retention", "room", "delete_after"):
        return reason
    if kind == "delete_after":
        return rest
    words = why(rest.split(", "), act["Policy"])
    return f"to make room: {words}" if kind == "room" else words


def policies(reasons: Iterable[str]) -> set[str]:
    """The policies that reasons name."""
    labels = (reason.rpartition(": ")[0] for reason in reasons)
    return {label for label in labels if label not in ("", "deferred")}


def _words(rule: str) -> str:
    if counted := re.fullmatch(r"([a-z]+) ([0-9]+)/([0-9]+)", rule):
        kind, n, of = counted.groups()
        if kind in _COUNTED:
            return f"{_COUNTED[kind]} {n} of {of}"
    state = rule.removeprefix("state:")
    return f"it is {state}" if state != rule else _WORDS.get(rule, rule)
