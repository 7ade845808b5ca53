"""check's answer in Prometheus's text format, for the textfile collector of node_exporter. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ..verdict import RUNNING, Seen, Status, of_word

Labels = tuple[tuple[str, str], ...]
Series = Mapping[Labels, int]
_ALONE: Labels = ()
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def metrics(seen: Seen) -> str:
    """The whole text. What is not known has no sample."""
    return "".join(
        line
        for name, help_text, series in _families(seen)
        if series
        for line in _family(f"virtsnap_{name}", help_text, series)
    )


def _family(name: str, help_text: str, series: Series) -> Iterator[str]:
    yield f"# HELP {name} {help_text}\n"
    yield f"# TYPE {name} gauge\n"
    for labels, value in series.items():
        pairs = ",".join(f'{key}="{text.translate(_ESCAPES)}"' for key, text in labels)
        yield f"{name}{{{pairs}}} {value}\n" if pairs else f"{name} {value}\n"


def _families(seen: Seen) -> Iterator[tuple[str, str, Series]]:
    running = seen.daemon == RUNNING
    yield "up", "Whether virtsnapd runs and answers.", {_ALONE: int(running)}
    boot = "Whether virtsnapd.service is started at boot."
    yield "enabled_at_boot", boot, _known(seen.at_boot)
    if not running:
        return
    yield "libvirt_connected", "Whether virtsnapd is connected to libvirt.", _known(seen.connected)
    loading = "Whether virtsnapd is still reading the VMs, so that more may be wrong."
    yield "loading", loading, _known(seen.loading)
    health = None if seen.health is None else of_word(seen.health)
    yield (
        "health",
        "Health of virtsnapd: 0 ok, 1 warning, 2 critical.",
        {} if health in (None, Status.UNKNOWN) else _known(health),
    )
    severities = [row["Severity"] for row in seen.problems]
    yield (
        "problems",
        "Problems that an administrator must act on.",
        {
            (("severity", word),): severities.count(word)
            for word in sorted({"critical", "warning", *severities})
        },
    )
    yield from _of_coverage(seen)


def _of_coverage(seen: Seen) -> Iterator[tuple[str, str, Series]]:
    late = {
        (row["DomainUUID"], row["Policy"]) for row in seen.problems if row["Problem"] == "overdue"
    }
    rows = [(_labels(row["DomainName"], row["Policy"]), row) for row in seen.coverage]
    for name, help_text, key in (
        ("last_success", "When a policy last succeeded on a VM; 0 = never.", "LastSuccess"),
        ("last_run", "When a policy last ran on a VM; 0 = never.", "LastRun"),
        ("next_run", "When a policy runs next on a VM; 0 = not planned.", "NextRun"),
    ):
        series = _series((labels, row[key]) for labels, row in rows)
        yield f"{name}_timestamp_seconds", help_text, series
    yield (
        "last_run_failed",
        "Whether a policy's last run on a VM failed.",
        _series((labels, bool(row["LastErrorName"])) for labels, row in rows),
    )
    yield (
        "overdue",
        "Whether a policy has missed two of its times on a VM.",
        _series((labels, (row["DomainUUID"], row["Policy"]) in late) for labels, row in rows),
    )


def _known(value: int | None) -> Series:
    return {} if value is None else {_ALONE: int(value)}


def _labels(domain: str, policy: str) -> Labels:
    return (("domain", domain), ("policy", policy))


def _series(samples: Iterable[tuple[Labels, int]]) -> Series:
    """Each once: two VMs can have one name while one is being renamed, and a series that comes
    twice costs the collector the whole file."""
    return {labels: int(value) for labels, value in samples}
