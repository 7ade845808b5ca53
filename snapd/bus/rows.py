"""Rows that are no objects: problems, runs, history; their keys are API.md's."""

from __future__ import annotations

from ..model import Problem
from ..policy import Coverage
from ..store import HistoryRow, HoldRow, RunRow
from ..wire import paths
from .listing import Row


def problem_row(problem: Problem) -> Row:
    return {
        "ID": problem.id,
        "Severity": problem.severity,
        "Problem": problem.problem,
        "DomainUUID": problem.domain,
        "DomainName": problem.domain_name,
        "Policy": problem.policy,
        "Since": problem.since,
        "Message": problem.message,
        "Ways": list(problem.ways),
    }


def coverage_row(row: Coverage) -> Row:
    return {
        "Policy": row.policy,
        "DomainUUID": row.domain,
        "DomainName": row.domain_name,
        "Verdict": row.verdict,
        "Kind": row.kind,
        "PauseMilliseconds": row.pause_ms,
        "NextRun": row.next_run,
        "LastRun": row.last_run,
        "LastSuccess": row.last_success,
        "LastErrorName": row.error_name,
        "LastErrorMessage": row.error_message,
        "Health": row.health,
        "RamKept": row.ram_kept,
        "Why": row.why,
    }


def run_row(run: RunRow) -> Row:
    return {
        "Run": run.id,
        "Policy": run.policy,
        "DomainUUID": run.domain,
        "DomainName": run.domain_name,
        "Slot": run.slot,
        "Started": run.started,
        "Finished": run.finished,
        "Outcome": run.outcome,
        "Reason": run.reason,
        "SnapshotName": run.snapshot,
        "Job": _job(run.job),
    }


def history_row(row: HistoryRow) -> Row:
    return {
        "Time": row.time,
        "NotBefore": row.not_before,
        "Verb": row.verb,
        "DomainUUID": row.domain,
        "DomainName": row.domain_name,
        "SnapshotName": row.snapshot,
        "Created": row.created,
        "Policy": row.policy,
        "OwnerUID": row.owner,
        "Reason": row.reason,
        "Result": row.result,
        "Job": _job(row.job),
    }


def hold_row(row: HoldRow) -> Row:
    return {"DomainUUID": row.domain, "Reason": row.reason, "Until": row.until}


def _job(number: int) -> str:
    return paths.job(number) if number else paths.NONE


PROBLEM_FIELDS = list(problem_row(Problem("", "", "")))
COVERAGE_FIELDS = list(coverage_row(Coverage()))
RUN_FIELDS = list(run_row(RunRow(0, "", "", "", 0, 0, 0, "", "", "", 0)))
HISTORY_FIELDS = list(history_row(HistoryRow(0, "", "", "")))
