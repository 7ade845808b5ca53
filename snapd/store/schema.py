"""The tables of the store, and nothing about what they mean to anybody.

Everything that libvirt cannot remember: what we own, what was really got, pins, jobs with their
intents, runs, last slots, history, holds, how VMs that are off were left. Times are seconds UTC.
"""

import sqlite3
from collections.abc import Iterable

_TABLES = """
CREATE TABLE snapshots (
    domain TEXT NOT NULL, name TEXT NOT NULL, created INTEGER NOT NULL,
    origin TEXT NOT NULL, policies TEXT NOT NULL DEFAULT '[]',
    state TEXT NOT NULL, consistency TEXT NOT NULL, pause_ms INTEGER NOT NULL DEFAULT -1,
    pin_reason TEXT, notes TEXT NOT NULL DEFAULT '[]',
    PRIMARY KEY (domain, name, created)
) WITHOUT ROWID;

CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, verb TEXT NOT NULL, parent INTEGER NOT NULL DEFAULT 0,
    domain TEXT NOT NULL, domain_name TEXT NOT NULL, snapshot TEXT NOT NULL,
    created INTEGER NOT NULL DEFAULT 0, policy TEXT NOT NULL, owner INTEGER NOT NULL,
    state TEXT NOT NULL, intent TEXT,
    error_name TEXT NOT NULL DEFAULT '', error_message TEXT NOT NULL DEFAULT '',
    detail TEXT NOT NULL DEFAULT '{}', warnings TEXT NOT NULL DEFAULT '[]',
    result TEXT NOT NULL DEFAULT '{}',
    queued INTEGER NOT NULL, started INTEGER NOT NULL DEFAULT 0,
    finished INTEGER NOT NULL DEFAULT 0, request TEXT NOT NULL DEFAULT '',
    fingerprint TEXT NOT NULL DEFAULT ''
);
CREATE INDEX jobs_open ON jobs (state) WHERE finished = 0;
CREATE INDEX jobs_request ON jobs (owner, request) WHERE request != '';

CREATE TABLE slots (
    policy TEXT NOT NULL, domain TEXT NOT NULL, last_slot INTEGER NOT NULL,
    last_run INTEGER NOT NULL DEFAULT 0, last_success INTEGER NOT NULL DEFAULT 0,
    error_name TEXT NOT NULL DEFAULT '', error_message TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (policy, domain)
) WITHOUT ROWID;

CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, policy TEXT NOT NULL, domain TEXT NOT NULL,
    domain_name TEXT NOT NULL, slot INTEGER NOT NULL, started INTEGER NOT NULL,
    finished INTEGER NOT NULL, outcome TEXT NOT NULL, reason TEXT NOT NULL,
    snapshot TEXT NOT NULL, job INTEGER NOT NULL
);
CREATE INDEX runs_domain ON runs (domain, id);

CREATE TABLE history (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, not_before INTEGER NOT NULL,
    verb TEXT NOT NULL, domain TEXT NOT NULL, domain_name TEXT NOT NULL,
    snapshot TEXT NOT NULL, created INTEGER NOT NULL, policy TEXT NOT NULL,
    owner INTEGER NOT NULL, reason TEXT NOT NULL, result TEXT NOT NULL, job INTEGER NOT NULL
);
CREATE INDEX history_domain ON history (domain, id);
CREATE INDEX history_time ON history (time);

CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

_HOLDS = """
CREATE TABLE holds (
    policy TEXT NOT NULL, domain TEXT NOT NULL, reason TEXT NOT NULL, since INTEGER NOT NULL,
    until INTEGER NOT NULL, owner INTEGER NOT NULL, PRIMARY KEY (policy, domain)
) WITHOUT ROWID;
"""

# When others removed the snapshot, 0 = it is there as far as we know.
_GONE = "ALTER TABLE snapshots ADD COLUMN gone INTEGER NOT NULL DEFAULT 0;"

# last_ok: when the policy owed the domain nothing; short_since: since when there has been no room.
# A run that is not finished is one that a daemon has begun and not settled.
_OWED = """
ALTER TABLE slots ADD COLUMN domain_name TEXT NOT NULL DEFAULT '';
ALTER TABLE slots ADD COLUMN last_ok INTEGER NOT NULL DEFAULT 0;
ALTER TABLE slots ADD COLUMN short_since INTEGER NOT NULL DEFAULT 0;
UPDATE slots SET last_ok = CASE last_success WHEN 0 THEN last_slot ELSE last_success END;
CREATE INDEX runs_open ON runs (id) WHERE finished = 0;
CREATE TABLE rests (
    domain TEXT PRIMARY KEY, name TEXT NOT NULL, created INTEGER NOT NULL, stamp TEXT NOT NULL
) WITHOUT ROWID;
"""

STEPS = {1: _TABLES, 2: _HOLDS, 3: _GONE, 4: _OWED}
"""Version -> what makes it of the one before; of what was released nothing is ever edited."""


def apply(db: sqlite3.Connection, steps: Iterable[str], version: int) -> None:
    """Run the steps and note the version, all or nothing. Raises sqlite3.DatabaseError."""
    db.executescript(f"BEGIN IMMEDIATE; {''.join(steps)} PRAGMA user_version={version}; COMMIT")
