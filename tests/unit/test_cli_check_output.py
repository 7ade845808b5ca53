"""check's answers: as a plugin of Nagios, as JSON, and as Prometheus's own parser reads it."""
# mypy: allow-untyped-calls

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from snapd.cli.output import plugin
from snapd.cli.output.prometheus import metrics
from snapd.cli.output.screen import Screen
from snapd.cli.verdict import Seen, findings
from tests.unit.checks import VM1, VM2, covered, problem

NOW = 1_800_000_000.7
FINE = Seen(
    "running",
    unit_file="enabled",
    connected=True,
    loading=False,
    health="ok",
    coverage=[
        covered("web", "web-1", VM1, LastSuccess=1_799_996_400, LastRun=1_799_996_400, NextRun=7),
        covered("web", "web-2", VM2, LastSuccess=1_799_999_000),
        covered("db", "web-1", VM1),
    ],
)
BAD = Seen(
    "running",
    unit_file="disabled",
    enable="systemctl enable virtsnapd",
    connected=True,
    loading=False,
    health="critical",
    problems=[
        problem("critical", "web is overdue", "overdue", VM1, "web"),
        problem("critical", "db failed | badly\n", "run-failed", VM1, "db"),
        problem("warning", "held", "held"),
    ],
    coverage=[
        covered("web", "web-1", VM1, LastErrorName="org.virtsnap.Error.Busy"),
        covered("db", "web-1", VM1, LastErrorName="org.virtsnap.Error.NoSpace"),
        covered("web", "web-2", VM2),
    ],
)
# [label]=value[unit];[warn];[crit];[min];[max], of the plugin guidelines
DATUM = re.compile(r"[a-z_]+=[0-9]+(s|)(;[0-9]*){0,4}")


def shown(seen: Seen) -> list[str]:
    return plugin.lines(seen, findings(seen), NOW)


# --- the plugin


def test_plugin_where_all_is_well_is_one_line() -> None:
    assert shown(FINE) == [
        "VIRTSNAP OK - 2 VMs under 2 policies, no problem | "
        "problems_critical=0;;0;0 problems_warning=0;0;;0 covered=3;;;0 overdue=0;;0;0 "
        "failed=0;;0;0 oldest_success=3600s;;;0"
    ]


def test_plugin_says_the_worst_first_then_a_line_each() -> None:
    assert shown(BAD) == [
        "VIRTSNAP CRITICAL - web is overdue (and 3 more) | "
        "problems_critical=2;;0;0 problems_warning=2;0;;0 covered=3;;;0 overdue=1;;0;0 "
        "failed=2;;0;0",
        "critical: web is overdue",
        "critical: db failed \\x7c badly\\n",
        "warning: virtsnapd.service is disabled: it is not started at boot; "
        "systemctl enable virtsnapd",
        "warning: held",
    ]


def test_plugin_of_a_stopped_daemon_measures_nothing() -> None:
    assert shown(Seen("stopped", "virtsnapd is not running")) == [
        "VIRTSNAP CRITICAL - virtsnapd is not running",
        "critical: virtsnapd is not running",
    ]


@pytest.mark.parametrize("seen", [FINE, BAD], ids=["fine", "bad"])
def test_plugin_performance_data_have_the_guidelines_form(seen: Seen) -> None:
    first, *rest = shown(seen)
    text, data = first.split("|")
    assert text.startswith("VIRTSNAP ") and all(DATUM.fullmatch(each) for each in data.split())
    assert not any("|" in line for line in rest)


def test_plugin_success_in_the_future_is_no_negative_age() -> None:
    seen = Seen("running", coverage=[covered("web", "web-1", VM1, LastSuccess=1_800_000_999)])
    assert shown(seen)[0].endswith("oldest_success=0s;;;0")


def test_plugin_counts_one_vm_and_one_policy_as_one() -> None:
    seen = Seen("running", coverage=[covered("web", "web-1", VM1)])
    assert " - 1 VM under 1 policy, no problem | " in shown(seen)[0]


# --- JSON


def test_document_says_all_that_is_known() -> None:
    found = plugin.document(BAD, findings(BAD))
    assert {key: found[key] for key in list(found)[:9]} == {
        "Status": "CRITICAL",
        "Code": 2,
        "Message": "web is overdue (and 3 more)",
        "Running": True,
        "AtBoot": False,
        "UnitFileState": "disabled",
        "Connected": True,
        "Loading": False,
        "Health": "critical",
    }
    assert [each["Severity"] for each in found["Findings"]] == ["critical"] * 2 + ["warning"] * 2
    assert found["Findings"][1]["Message"] == "db failed | badly\n"
    assert found["Problems"] == BAD.problems and found["Coverage"] == BAD.coverage


@pytest.mark.parametrize(
    ("daemon", "running"), [("stopped", False), ("mute", True), ("unknown", None)]
)
def test_document_has_the_same_keys_where_nothing_is_known(
    daemon: str, running: bool | None
) -> None:
    seen = Seen(daemon, "why")
    found = plugin.document(seen, findings(seen))
    assert found.keys() == plugin.document(FINE, []).keys()
    assert found["Running"] is running
    for key in ("AtBoot", "UnitFileState", "Connected", "Loading", "Health"):
        assert found[key] is None
    assert found["Problems"] == found["Coverage"] == []


# --- Prometheus


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """All samples, as prometheus_client reads them; each name explained, each series once."""
    families = list(text_string_to_metric_families(text))
    assert len({each.name for each in families}) == len(families)
    assert text.endswith("\n")
    for each in families:
        assert each.documentation and each.type == "gauge" and each.name.startswith("virtsnap_")
        assert each.samples and {one.name for one in each.samples} == {each.name}
        assert text.count(f"# TYPE {each.name} ") == text.count(f"# HELP {each.name} ") == 1
    listed = [
        ((one.name, tuple(sorted(one.labels.items()))), one.value)
        for each in families
        for one in each.samples
    ]
    assert len(dict(listed)) == len(listed)
    return dict(listed)


def on(domain: str, policy: str) -> tuple[tuple[str, str], ...]:
    return (("domain", domain), ("policy", policy))


def test_metrics_of_a_healthy_daemon() -> None:
    found = samples(metrics(FINE))
    single = {name: value for (name, labels), value in found.items() if not labels}
    assert single == {
        "virtsnap_up": 1,
        "virtsnap_enabled_at_boot": 1,
        "virtsnap_libvirt_connected": 1,
        "virtsnap_loading": 0,
        "virtsnap_health": 0,
    }
    success = "virtsnap_last_success_timestamp_seconds"
    assert found[(success, on("web-1", "web"))] == 1_799_996_400
    assert found[(success, on("web-2", "web"))] == 1_799_999_000
    assert found[(success, on("web-1", "db"))] == 0
    assert found[("virtsnap_next_run_timestamp_seconds", on("web-1", "web"))] == 7
    assert found[("virtsnap_last_run_timestamp_seconds", on("web-1", "web"))] == 1_799_996_400
    for severity in ("critical", "warning"):
        assert found[("virtsnap_problems", (("severity", severity),))] == 0
    assert len(found) == len(single) + 2 + 5 * 3


def test_metrics_of_what_is_wrong() -> None:
    found = samples(metrics(BAD))
    assert found[("virtsnap_health", ())] == 2
    assert found[("virtsnap_enabled_at_boot", ())] == 0
    assert found[("virtsnap_problems", (("severity", "critical"),))] == 2
    assert found[("virtsnap_problems", (("severity", "warning"),))] == 1
    wrong = {
        (name, labels)
        for (name, labels), value in found.items()
        if name in ("virtsnap_overdue", "virtsnap_last_run_failed") and value
    }
    assert wrong == {
        ("virtsnap_overdue", on("web-1", "web")),
        ("virtsnap_last_run_failed", on("web-1", "web")),
        ("virtsnap_last_run_failed", on("web-1", "db")),
    }


@pytest.mark.parametrize("daemon", ["stopped", "mute"])
def test_metrics_of_a_daemon_that_is_not_up_invent_nothing(daemon: str) -> None:
    assert samples(metrics(Seen(daemon, "why"))) == {("virtsnap_up", ()): 0}
    there = samples(metrics(Seen(daemon, "why", "disabled")))
    assert there == {("virtsnap_up", ()): 0, ("virtsnap_enabled_at_boot", ()): 0}


@pytest.mark.parametrize(
    "name",
    ['say "hi"', "back\\slash", "two\nrows", "\\n", '\\"', "ends\\", "a,b={c}", "größe", " ", "#"],
)
def test_metrics_labels_are_read_back_as_they_were(name: str) -> None:
    seen = Seen("running", coverage=[covered("web", name, VM1, LastSuccess=5)])
    key = ("virtsnap_last_success_timestamp_seconds", on(name, "web"))
    assert samples(metrics(seen))[key] == 5


def test_metrics_escape_labels_as_the_format_says() -> None:
    seen = Seen("running", coverage=[covered("web", 'a\\b"c\nd', VM1)])
    assert 'virtsnap_overdue{domain="a\\\\b\\"c\\nd",policy="web"} 0\n' in metrics(seen)


def test_metrics_have_a_series_once_while_two_vms_have_one_name() -> None:
    rows: list[dict[str, Any]] = [covered("web", "vm", VM1), covered("web", "vm", VM2)]
    assert ("virtsnap_overdue", on("vm", "web")) in samples(metrics(Seen("running", coverage=rows)))


def test_metrics_of_a_part_have_no_health_of_the_whole() -> None:
    assert ("virtsnap_health", ()) not in samples(metrics(Seen("running", health=None)))


def test_export_is_as_it_is_for_a_file(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    Screen(json=False).export('x{domain="gr\u00f6\u00dfe\x1b[31m"} 0\n')
    sys.stdout.flush()
    assert capfdbinary.readouterr().out == b'x{domain="gr\xc3\xb6\xc3\x9fe\x1b[31m"} 0\n'


def test_export_reaches_no_terminal_with_an_escape(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    Screen(json=False).export("one\x1b[31m 0\ntwo 1\n")
    assert capsys.readouterr().out == "one\\x1b[31m 0\ntwo 1\n"
