"""Rows that are no objects: problems, runs, history; their keys are API.md's."""

from __future__ import annotations

from ..model import Problem
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
RUN_FIELDS = list(run_row(RunRow(0, "", "", "", 0, 0, 0, "", "", "", 0)))
HISTORY_FIELDS = list(history_row(HistoryRow(0, "", "", "")))
