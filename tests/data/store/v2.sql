-- A store as schema 2's own code left it, with rows of each kind: see README.md beside it.
BEGIN TRANSACTION;
CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "facts" VALUES('clock','1795255300');
CREATE TABLE history (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, not_before INTEGER NOT NULL,
    verb TEXT NOT NULL, domain TEXT NOT NULL, domain_name TEXT NOT NULL,
    snapshot TEXT NOT NULL, created INTEGER NOT NULL, policy TEXT NOT NULL,
    owner INTEGER NOT NULL, reason TEXT NOT NULL, result TEXT NOT NULL, job INTEGER NOT NULL
);
INSERT INTO "history" VALUES(1,1795138206,0,'create','22222222-2222-4222-8222-222222222201','web-1','nightly-20261120T013000Z',1795138205,'nightly',-1,'slot','done',1);
INSERT INTO "history" VALUES(2,1795200000,1795199000,'delete','22222222-2222-4222-8222-222222222203','db1','gone',1795000001,'',-1,'removed outside','done',0);
CREATE TABLE holds (
    policy TEXT NOT NULL, domain TEXT NOT NULL, reason TEXT NOT NULL, since INTEGER NOT NULL,
    until INTEGER NOT NULL, owner INTEGER NOT NULL, PRIMARY KEY (policy, domain)
) WITHOUT ROWID;
INSERT INTO "holds" VALUES('nightly','22222222-2222-4222-8222-222222222203','moving the disks',1795255210,0,1000);
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
INSERT INTO "jobs" VALUES(1,'create',0,'22222222-2222-4222-8222-222222222201','web-1','nightly-20261120T013000Z',1795138205,'nightly',-1,'done',NULL,'','','{}','[]','{"Name": "nightly-20261120T013000Z", "Consistency": "quiesced"}',1795138200,1795138201,1795138206,'','');
INSERT INTO "jobs" VALUES(2,'delete',0,'22222222-2222-4222-8222-222222222201','web-1','old',0,'',1000,'failed',NULL,'org.virtsnap.Error.Partial','VM web-1: half of it','{"reason": "half-made"}','[["tag-stays", "vdb", "disk vdb holds it"]]','{}',1795200010,1795200011,1795200012,'mine','print');
INSERT INTO "jobs" VALUES(3,'revert',0,'22222222-2222-4222-8222-222222222203','db1','good',1795000000,'',1000,'running','{"name": "good", "disks": {"vda": "/images/db1.qcow2"}}','','','{}','[]','{}',1795255199,1795255200,0,'','');
CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, policy TEXT NOT NULL, domain TEXT NOT NULL,
    domain_name TEXT NOT NULL, slot INTEGER NOT NULL, started INTEGER NOT NULL,
    finished INTEGER NOT NULL, outcome TEXT NOT NULL, reason TEXT NOT NULL,
    snapshot TEXT NOT NULL, job INTEGER NOT NULL
);
INSERT INTO "runs" VALUES(1,'nightly','22222222-2222-4222-8222-222222222201','web-1',1795138200,1795138201,1795138206,'made','','nightly-20261120T013000Z',1);
INSERT INTO "runs" VALUES(2,'nightly','22222222-2222-4222-8222-222222222203','db1',1795138200,1795138201,1795138202,'failed','no-space','',0);
CREATE TABLE slots (
    policy TEXT NOT NULL, domain TEXT NOT NULL, last_slot INTEGER NOT NULL,
    last_run INTEGER NOT NULL DEFAULT 0, last_success INTEGER NOT NULL DEFAULT 0,
    error_name TEXT NOT NULL DEFAULT '', error_message TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (policy, domain)
) WITHOUT ROWID;
INSERT INTO "slots" VALUES('nightly','22222222-2222-4222-8222-222222222201',1795138200,1795138200,1795138206,'','');
INSERT INTO "slots" VALUES('nightly','22222222-2222-4222-8222-222222222203',1795138200,1795138200,0,'org.virtsnap.Error.NoSpace','VM db1: no room');
CREATE TABLE snapshots (
    domain TEXT NOT NULL, name TEXT NOT NULL, created INTEGER NOT NULL,
    origin TEXT NOT NULL, policies TEXT NOT NULL DEFAULT '[]',
    state TEXT NOT NULL, consistency TEXT NOT NULL, pause_ms INTEGER NOT NULL DEFAULT -1,
    pin_reason TEXT, notes TEXT NOT NULL DEFAULT '[]',
    PRIMARY KEY (domain, name, created)
) WITHOUT ROWID;
INSERT INTO "snapshots" VALUES('22222222-2222-4222-8222-222222222201','before "ü"',1795200000,'manual','[]','shutoff','offline',-1,'known good, says
Ops','["memory-left-out"]');
INSERT INTO "snapshots" VALUES('22222222-2222-4222-8222-222222222201','nightly-20261120T013000Z',1795138205,'policy','["nightly", "weekly"]','running','quiesced',42,NULL,'[]');
INSERT INTO "snapshots" VALUES('22222222-2222-4222-8222-222222222203','safety-20261121T100000Z',1795255200,'safety','[]','paused','memory',2500,NULL,'[]');
CREATE INDEX jobs_open ON jobs (state) WHERE finished = 0;
CREATE INDEX jobs_request ON jobs (owner, request) WHERE request != '';
CREATE INDEX runs_domain ON runs (domain, id);
CREATE INDEX history_domain ON history (domain, id);
CREATE INDEX history_time ON history (time);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('jobs',3);
INSERT INTO "sqlite_sequence" VALUES('runs',2);
INSERT INTO "sqlite_sequence" VALUES('history',2);
COMMIT;
PRAGMA user_version = 2;
