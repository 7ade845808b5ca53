"""Who did what a signal tells of, and for which policy."""

from __future__ import annotations

from ..errors import SnapdError
from ..wire import fault, paths
from ..wire.fault import WireError
from .client import Client, Row
from .output.people import DAEMON, user

OTHERS = "others"
NOT_KNOWN: Row = {"By": "", "OwnerUID": None, "Policy": ""}
_VERBS = {"SnapshotCreated": "create", "SnapshotDeleted": "delete", "SnapshotReverted": "revert"}
_LATELY = 60
"""Seconds that an act in history may be older than the signal of it."""


def author(row: Row) -> Row:
    """Of a row of ListJobs or ListHistory. By: a user's name, virtsnapd, or others."""
    if row.get("NotBefore"):
        return {"By": OTHERS, "OwnerUID": None, "Policy": ""}
    uid = row["OwnerUID"]
    return {"By": user(uid), "OwnerUID": uid, "Policy": row["Policy"]}


async def job(client: Client, path: str) -> Row:
    """Its properties, {} = not to be had any more."""
    try:
        return await client.properties(path, "Job")
    except (SnapdError, WireError) as error:
        return _nothing(error)


async def of(client: Client, signal: str, detail: Row, when: int) -> Row:
    """Whose act a snapshot's signal tells of: its job says so, or history, for one of several that
    a job has made or deleted. when: the signal was heard, seconds UTC."""
    if detail["Job"] != paths.NONE:
        row = await job(client, detail["Job"])
        return author(row) if row else NOT_KNOWN
    try:
        rows, _ = await client.rows(
            "ListHistory", detail["DomainUUID"], snapshot=detail["Name"], since=when - _LATELY
        )
    except (SnapdError, WireError) as error:
        _nothing(error)
        return NOT_KNOWN
    same = [r for r in rows if (r["Verb"], r["Created"]) == (_VERBS[signal], detail["Created"])]
    if same:
        return author(max(same, key=lambda row: int(row["Time"])))
    if signal == "SnapshotCreated" and detail["Origin"] != "foreign":
        return {"By": user(DAEMON), "OwnerUID": DAEMON, "Policy": ""}
    return {"By": OTHERS, "OwnerUID": None, "Policy": ""}


def _nothing(error: Exception) -> Row:
    """What the daemon cannot say any more is nothing; without a bus there is no more to tell."""
    if isinstance(error, WireError) and error.name == fault.DISCONNECTED:
        raise error
    return {}
