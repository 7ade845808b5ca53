"""Statements that more than one of the store's methods uses; the names in them are ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

HALF_MADE = (
    "json_extract(detail, '$.reason') IS 'half-made' AND "
    "(error_name LIKE '%.Partial' OR error_name LIKE '%.Inconsistent')"
)
MENDED = (
    "EXISTS (SELECT 1 FROM jobs later WHERE later.domain = jobs.domain AND later.id > jobs.id "
    "AND later.state = 'done' AND CASE jobs.verb WHEN 'revert' THEN later.verb = 'revert' "
    "ELSE later.snapshot = jobs.snapshot END)"
)
FOR_POLICY = (  # what was asked for, as Request.fingerprint has it
    "EXISTS (SELECT 1 FROM json_each(json_extract(fingerprint, '$[5].policies')) WHERE value = ?)"
)
MARK = "UPDATE snapshots SET gone=? WHERE domain=? AND name=? AND created=?"
FORGET = "DELETE FROM snapshots WHERE domain=? AND name=? AND created=?"


def put(
    db: sqlite3.Connection, table: str, columns: Mapping[str, object], *, replace: bool = False
) -> int:
    """Insert one row; the names are ours, the values are bound. Returns its number."""
    verb = "REPLACE" if replace else "INSERT"
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    cursor = db.execute(f"{verb} INTO {table} ({names}) VALUES ({marks})", tuple(columns.values()))
    return cursor.lastrowid or 0
