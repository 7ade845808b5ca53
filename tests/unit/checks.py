"""Rows of ListProblems and ListCoverage, for the tests of check."""

from __future__ import annotations

from typing import Any

VM1 = "22222222-2222-4222-8222-222222222201"
VM2 = "22222222-2222-4222-8222-222222222202"


def problem(
    severity: str, message: str, word: str = "run-failed", uuid: str = "", policy: str = ""
) -> dict[str, Any]:
    return {
        "Severity": severity,
        "Message": message,
        "Problem": word,
        "DomainUUID": uuid,
        "Policy": policy,
    }


def covered(policy: str, domain: str, uuid: str, **values: Any) -> dict[str, Any]:
    return {
        "Policy": policy,
        "DomainName": domain,
        "DomainUUID": uuid,
        "LastSuccess": 0,
        "LastRun": 0,
        "NextRun": 0,
        "LastErrorName": "",
        **values,
    }
