"""The bus contract as the project's API.md has it, copied by hand: what dbus/*.xml is held to."""

from __future__ import annotations

PAGE = 'fields:as=[] limit:u=1000 from:s=""'
JOB = 'max_wait:u=30 request:s=""'
SINCE = 'policy:s="" snapshot:s="" since:x=0 until:x=0 '
CREATE = (
    'description:s="" kind:s="auto" memory:s="auto" quiesce:s="try" disks:as=[] '
    'then:s="continue" max_pause:u=60 trial:b=false '
)
REVERT = (
    'created:x=0 safety_snapshot:b=true after:s="as-snapshot" delete_after:b=false '
    "discard_saved_state:b=false force:b=false "
)
DELETE = "created:x=0 children:b=false "
DEFINITION = "definition:a{sv}={} "

API = {
    "Manager": {
        "ListDomains": "a{sv} -> aa{sv}a{sv}, -",
        "ListSnapshots": "sa{sv} -> aa{sv}a{sv}, -",
        "ListPolicies": "a{sv} -> aa{sv}a{sv}, -",
        "ListProblems": "a{sv} -> aa{sv}a{sv}, -",
        "ListJobs": "a{sv} -> aa{sv}a{sv}, -",
        "ListCoverage": "sa{sv} -> aa{sv}a{sv}, -",
        "ListRuns": "sa{sv} -> aa{sv}a{sv}, -",
        "ListHistory": "sa{sv} -> aa{sv}a{sv}, -",
        "GetDomain": "sa{sv} -> o, -",
        "GetPolicy": "sa{sv} -> o, -",
        "GetSnapshot": "ssa{sv} -> o, -",
        "CreateSnapshot": "ssa{sv} -> o, create",
        "RevertSnapshot": "ssa{sv} -> o, revert",
        "DeleteSnapshot": "ssa{sv} -> o, delete",
        "PreviewCreate": "ssa{sv} -> a{sv}, -",
        "PreviewRevert": "ssa{sv} -> a{sv}, -",
        "PreviewDelete": "ssa{sv} -> a{sv}, -",
        "DeleteOwnSnapshots": "sa{sv} -> o, delete",
        "Adopt": "sassa{sv} -> , manage",
        "Hold": "ssxsa{sv} -> , policy",
        "Unhold": "ssa{sv} -> , policy",
        "Audit": "sa{sv} -> o, inspect",
        "ValidatePolicy": "sa{sv}a{sv} -> a{sv}, -",
        "SetPolicy": "sa{sv}a{sv} -> s, policy",
        "RemovePolicy": "sa{sv} -> , policy",
        "RunPolicy": "sa{sv} -> o, policy",
        "PreviewRetention": "ssa{sv} -> aa{sv}a{sv}, -",
        "ConfirmPrune": "sssa{sv} -> o, delete",
        "PreviewSchedule": "sa{sv} -> ax, -",
        "Reload": "a{sv} -> aa{sv}, manage",
        "SnapshotCreated": "soa{sv}",
        "SnapshotDeleted": "soa{sv}",
        "SnapshotReverted": "soa{sv}",
        "PolicyRunFinished": "ssa{sv}",
        "ProblemRaised": "ssa{sv}",
        "ProblemCleared": "ssa{sv}",
        "": "Version Features:as LibvirtURI Connected:b Loading:b LibvirtVersion "
        "HypervisorVersion Health NextRun:x",
    },
    "Domain": {
        "": "UUID Name State Support:a{ss} CurrentSnapshot:o Policies:as LastSuccess:x "
        "LastErrorName LastErrorMessage",
    },
    "Snapshot": {
        "Revert": "a{sv} -> o, revert",
        "Delete": "a{sv} -> o, delete",
        "Pin": "sa{sv} -> , pin",
        "Unpin": "a{sv} -> , pin",
        "SetDescription": "sa{sv} -> , create",
        "GetXML": "a{sv} -> s, inspect",
        "": "Name Description Domain:o DomainUUID DomainName Created:x TimeKnown:b State Status "
        "Kind Consistency Disks:as DisksLeftOut:as Notes:as Parent:o Current:b Origin "
        "Policies:as Pinned:b PinReason RevertBlocker DeleteBlocker PauseMilliseconds:x",
    },
    "Policy": {
        "": "Name Source Revision Definition:a{sv} NextRun:x LastRun:x LastSuccess:x "
        "LastErrorName LastErrorMessage Health Holds:aa{sv}",
    },
    "Job": {
        "Wait": "a{sv} -> a{sv}, -",
        "Cancel": "a{sv} -> , manage",
        "Completed": "sssa{sv}",
        "": "Verb Parent:o Domain:o Snapshot:o DomainUUID DomainName SnapshotName Policy State "
        "Phase Progress:d ErrorName ErrorMessage ErrorDetail:a{sv} Warnings:aa{sv} Result:a{sv} "
        "OwnerUID:x Started:x Finished:x Cancellable:b",
    },
}
"""Interface -> member -> signatures and polkit action; "": its properties, s where not said."""

EMITS = {
    "Manager.Version": "const",
    "Manager.LibvirtURI": "const",
    "Snapshot.RevertBlocker": "false",
    "Snapshot.DeleteBlocker": "false",
}
"""EmitsChangedSignal where it isn't true."""

OPTIONS = {
    "Manager.ListDomains": PAGE,
    "Manager.ListSnapshots": 'origin:s="" policy:s="" kind:s="" ' + PAGE,
    "Manager.ListPolicies": PAGE,
    "Manager.ListProblems": PAGE,
    "Manager.ListJobs": 'domain:s="" state:s="" ' + PAGE,
    "Manager.ListCoverage": DEFINITION + PAGE,
    "Manager.ListRuns": SINCE + PAGE,
    "Manager.ListHistory": SINCE + PAGE,
    "Manager.CreateSnapshot": CREATE + JOB,
    "Manager.RevertSnapshot": REVERT + JOB,
    "Manager.DeleteSnapshot": DELETE + JOB,
    "Manager.PreviewCreate": CREATE.strip(),
    "Manager.PreviewRevert": REVERT.strip(),
    "Manager.PreviewDelete": DELETE.strip(),
    "Manager.DeleteOwnSnapshots": "dry_run:b=false manual:b=false " + JOB,
    "Manager.Audit": JOB,
    "Manager.SetPolicy": 'if_revision:s=""',
    "Manager.RemovePolicy": 'if_revision:s=""',
    "Manager.RunPolicy": 'domain:s="" ' + JOB,
    "Manager.PreviewRetention": DEFINITION + "at:x=0 " + PAGE,
    "Manager.ConfirmPrune": JOB,
    "Manager.PreviewSchedule": DEFINITION + "after:x=0 count:u=10",
    "Snapshot.Revert": REVERT + JOB,
    "Snapshot.Delete": DELETE + JOB,
    "Job.Wait": "timeout:u=20",
}
"""Method -> its options with type and default, as JSON. No other method has any."""

WORDS = {
    "Manager.CreateSnapshot": {
        "kind": "auto internal external",
        "memory": "auto yes no",
        "quiesce": "try no require",
        "then": "continue stop restart",
    },
    "Manager.RevertSnapshot": {"after": "as-snapshot running paused stopped"},
    "Manager.ListSnapshots": {
        "origin": "manual policy event safety trial foreign",
        "kind": "internal external",
    },
    "Manager.ListJobs": {"state": "queued running done failed cancelled unknown"},
}
"""The words that an option takes; "" beside them where that is its default."""

INFO = "Next:s Total:t Incomplete:aa{sv} Checked:x"
INCOMPLETE = "DomainUUID:s DomainName:s ErrorName:s ErrorMessage:s"
PREVIEW = (
    "Verdict:s Blockers:aa{sv} Kind:s Consistency:s Disks:as DisksLeftOut:as FinalState:s "
    "Loses:aa{sv} LosesSince:x PauseMilliseconds:x SpaceNeed:t SpaceHave:t Foreign:b"
)
LOSES = "Reason:s Item:s Message:s"
RUN = (
    "Run:t Policy:s DomainUUID:s DomainName:s Slot:x Started:x Finished:x Outcome:s Reason:s "
    "SnapshotName:s Job:o"
)
PROBLEM = "ID:s Severity:s Problem:s DomainUUID:s DomainName:s Policy:s Since:x Message:s Ways:as"
SNAPSHOT = "Name:s DomainName:s Origin:s Created:x Job:o"
HOLDS = "DomainUUID:s Reason:s Until:x"
DETAIL = "Reason:s Disk:s Item:s Need:t Have:t Ways:as"
RESULT = (
    "Snapshot:o Name:s Consistency:s SafetySnapshot:o FinalState:s Deleted:as Stays:aa{sv} "
    "Domains:aa{sv}"
)
STAYS = "Name:s Reason:s"
DOMAINS = "DomainUUID:s Job:o Snapshot:o Outcome:s Reason:s"

KEYS = {
    "Manager.ListProblems": {"rows": PROBLEM},
    "Manager.ListPolicies": {"rows.Holds": HOLDS},
    "Manager.ListJobs": {
        "rows.ErrorDetail": DETAIL,
        "rows.Warnings": LOSES,
        "rows.Result": RESULT,
        "rows.Result.Stays": STAYS,
        "rows.Result.Domains": DOMAINS,
    },
    "Manager.ListCoverage": {
        "rows": "Policy:s DomainUUID:s DomainName:s Verdict:s Kind:s PauseMilliseconds:x NextRun:x "
        "LastRun:x LastSuccess:x LastErrorName:s LastErrorMessage:s Health:s"
    },
    "Manager.ListRuns": {"rows": RUN},
    "Manager.ListHistory": {
        "rows": "Time:x NotBefore:x Verb:s DomainUUID:s DomainName:s SnapshotName:s Created:x "
        "Policy:s OwnerUID:x Reason:s Result:s Job:o"
    },
    "Manager.PreviewCreate": {
        "preview": PREVIEW,
        "preview.Blockers": LOSES + " Ways:as",
        "preview.Loses": LOSES,
    },
    "Manager.PreviewRetention": {"rows": "Name:s Created:x Keep:b Reasons:as"},
    "Manager.ValidatePolicy": {
        "result": "Valid:b Errors:aa{sv} Warnings:aa{sv} NextFires:ax",
        "result.Errors": "Key:s Message:s",
        "result.Warnings": "Key:s Message:s",
    },
    "Manager.Reload": {"problems": PROBLEM},
    "Manager.SnapshotCreated": {"detail": SNAPSHOT},
    "Manager.SnapshotDeleted": {"detail": SNAPSHOT},
    "Manager.SnapshotReverted": {"detail": SNAPSHOT},
    "Manager.PolicyRunFinished": {"detail": RUN},
    "Manager.ProblemRaised": {"detail": PROBLEM},
    "Manager.ProblemCleared": {"detail": PROBLEM},
    "Policy.Holds": {"Holds": HOLDS},
    "Job.Wait": {
        "result": RESULT + " Findings:aa{sv}",
        "result.Findings": "Reason:s DomainUUID:s Item:s Proof:s",
        "result.Stays": STAYS,
        "result.Domains": DOMAINS,
    },
    "Job.ErrorDetail": {"ErrorDetail": DETAIL},
    "Job.Warnings": {"Warnings": LOSES},
    "Job.Result": {"Result": RESULT, "Result.Stays": STAYS, "Result.Domains": DOMAINS},
    "Job.Completed": {"detail": DETAIL},
}
"""Member -> dotted place of a dict -> its keys. The rest stands below."""

OBJECTS = {"ListDomains": "Domain", "ListSnapshots": "Snapshot"} | {
    "ListPolicies": "Policy",
    "ListJobs": "Job",
}
"""Lists whose rows have an object's properties, and Path."""

for _preview in ("PreviewRevert", "PreviewDelete"):
    KEYS[f"Manager.{_preview}"] = KEYS["Manager.PreviewCreate"]
for _list in (*API["Manager"], "PreviewRetention"):
    if _list.startswith("List") or _list == "PreviewRetention":
        plan = " Plan:s" if _list == "PreviewRetention" else ""
        KEYS[f"Manager.{_list}"] = {
            "info": INFO + plan,
            "info.Incomplete": INCOMPLETE,
            **KEYS.get(f"Manager.{_list}", {}),
        }

ADDED = {
    "coverage-why": {"Manager.ListCoverage": "rows.Why:s"},
    "ram-kept": {"Manager.ListCoverage": "rows.RamKept:t"},
    "time-set": {
        "Job.Result": "Result.TimeSet:b",
        "Job.Wait": "result.TimeSet:b",
        "Manager.ListJobs": "rows.Result.TimeSet:b",
    },
}
"""What is ours beyond API.md, by the word in Features that announces it."""

REASONS = (
    "mixed-tree raw-disk block-device network-disk shared-disk missing-disk wrong-format no-disk "
    "transient-disk encrypted-disk data-file pending-config other-file missing-file shared-base "
    "uefi-raw-nvram unmigratable-device transient external-unsupported monitor-off branching "
    "active-non-leaf not-in-chain children chain-limit pause-too-long apparmor-commit "
    "would-be-plaintext image-unreadable checkpoints managed-save tpm-newer block-job backup "
    "unfinished-job half-made"
)
ERRORS = (
    "InvalidName InvalidArgument NoSuchDomain NoSuchSnapshot NoSuchPolicy AlreadyExists Changed "
    "Unsupported Busy NeedsForce PreflightFailed NoSpace AgentUnavailable PermissionDenied "
    "NotAuthorized Unavailable OutcomeUnknown Partial Inconsistent Protected TimedOut Cancelled "
    "LimitExceeded LibvirtError Internal"
)
