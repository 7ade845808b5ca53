"""jobs: what is at work and what has just ended; one of them shown, followed or cancelled."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Sequence

from ...errors import InvalidArgument, SnapdError
from ...wire import fault, paths
from ...wire.fault import WireError
from ..client import Client, Row
from ..failures import JobFailed
from ..follow import follow
from ..output import facts, times, ways
from ..output.people import user
from ..output.previews import GOT
from ..output.screen import Screen
from ..output.tables import Column
from ..output.text import command, name, on_bus

FAILED = 1
_COLUMNS = (
    Column("JOB"),
    Column("VERB"),
    Column("VM"),
    Column("SNAPSHOT", spare=1),
    Column("POLICY", spare=4),
    Column("PART OF", spare=5),
    Column("STATE", words=True),
    Column("PHASE", spare=2),
    Column("BEGUN", spare=3),
    Column("TOOK", spare=6),
    Column("ERROR", free=True),
)


class NoSuchJob(SnapdError):
    """No job of that number is kept; the bus has no word of its own for that."""

    exit_code = 3
    name = f"{fault.FREEDESKTOP}.Error.UnknownObject"


async def jobs(client: Client, args: Namespace, screen: Screen) -> int:
    if args.job:
        if args.vm or args.state:
            raise InvalidArgument("--vm and --state pick among all jobs; give them without JOB")
        return await _one(client, args, screen)
    if args.wait or args.cancel:
        raise InvalidArgument("give the JOB that --wait and --cancel are about")
    rows, info = await client.rows("ListJobs", domain=args.vm, state=args.state)
    screen.names(number(row["Path"]) for row in rows)
    screen.table(_COLUMNS, [_cells(row, screen) for row in rows])
    if not rows:
        history = screen.command("history")
        such = "no such" if args.vm or args.state else "no"
        screen.note(f"there is {such} job now; {history} shows what was done before")
    screen.document({"rows": rows, "info": info})
    return 0


async def _one(client: Client, args: Namespace, screen: Screen) -> int:
    path, screen.format = args.job, "job"
    try:
        if args.cancel:
            await client.act_on(path, "Job", "Cancel")
        row = {"Path": path, **await client.properties(path, "Job")}
    except WireError as error:
        if error.name != NoSuchJob.name:
            raise
        raise NoSuchJob(
            f"there is no job {number(path)}, or it ended more than 10 minutes ago; what it did is "
            f"in {screen.command('history')}"
        ) from error
    if args.cancel:
        return await _cancelled(client, screen, path)
    if args.wait:
        row = await follow(client, screen, path)
    parts: list[Row] = []
    if row["Verb"] in ("run", "delete-own"):
        every, _ = await client.rows("ListJobs")
        parts = [each for each in every if each["Parent"] == path]
    _show(screen, row, parts)
    return code(row) if args.wait else 0


async def _cancelled(client: Client, screen: Screen, path: str) -> int:
    """Wait until it has ended, which it does at once."""
    try:
        row = await follow(client, screen, path)
    except JobFailed as error:
        if error.row["State"] != "cancelled":
            raise
        row = error.row
        screen.say(f"job {number(path)} is cancelled: nothing was changed")
    else:
        screen.say(f"job {number(path)} had ended: {row['State']}")
    screen.names([number(path)])
    screen.document({**row, "Parts": []})
    return 0 if row["State"] == "cancelled" else FAILED


def code(row: Row) -> int:
    """The exit code of a job that is done, as the command has it that began it."""
    result = row["Result"]
    failed = any(each["Outcome"] == "failed" for each in result.get("Domains", ()))
    return FAILED if failed or result.get("Findings") else 0


def number(path: str) -> str:
    return path.rpartition("/")[2]


def _cells(row: Row, screen: Screen) -> list[str]:
    return [
        number(row["Path"]),
        row["Verb"],
        name(row["DomainName"]) if row["DomainName"] else "",
        name(row["SnapshotName"]) if row["SnapshotName"] else "",
        row["Policy"],
        number(row["Parent"]),
        row["State"],
        _phase(row),
        times.age(row["Started"], screen.now),
        _took(row),
        times.local(row["ErrorMessage"]),
    ]


def _phase(row: Row) -> str:
    """`taking 50%`; "" where the state says it all."""
    if row["Finished"] or row["Phase"] == row["State"]:
        return ""
    share = f" {row['Progress']:.0%}" if row["Progress"] >= 0 else ""
    return f"{row['Phase']}{share}"


def _took(row: Row) -> str:
    begun, ended = row["Started"], row["Finished"]
    return times.elapsed(ended - begun) if begun and ended else ""


# --- one of them


def _show(screen: Screen, row: Row, parts: Sequence[Row]) -> None:
    screen.names([number(row["Path"])])
    of = f" of VM {name(row['DomainName'])}" if row["DomainName"] else ""
    screen.say(f"job {number(row['Path'])}: {row['Verb']}{of}, {row['State']}", row["State"])
    facts.show(screen, _facts(screen, row))
    if parts:
        screen.say()
    screen.table(_COLUMNS, [_cells(each, screen) for each in parts])
    screen.document({**row, "Parts": list(parts)})


def _facts(screen: Screen, row: Row) -> facts.Facts:
    now, wanted = screen.now, row["Cancellable"]
    cancel = screen.command("jobs", number(row["Path"]), options=["--cancel"])
    return [
        ("snapshot", name(row["SnapshotName"]) if row["SnapshotName"] else ""),
        ("policy", row["Policy"]),
        ("part of", f"job {number(row['Parent'])}" if row["Parent"] != paths.NONE else ""),
        ("asked for by", user(row["OwnerUID"])),
        ("phase", _phase(row)),
        ("begun", times.moment(row["Started"], now) if row["Started"] else "not yet"),
        ("ended", times.moment(row["Finished"], now) if row["Finished"] else ""),
        ("took", _took(row)),
        ("error", times.local(on_bus(row["ErrorMessage"], screen.bus))),
        ("way out", ways.told(row["ErrorDetail"].get("Ways", ()), screen.bus)),
        ("warning", [times.local(each["Message"]) for each in row["Warnings"]]),
        ("result", came_of(row["Result"], screen.bus)),
        ("to cancel it", cancel if wanted else ""),
    ]


def came_of(result: Row, bus: str) -> list[str]:
    """What came of a job, by its Result, a line each."""
    said = []
    if "Consistency" in result:
        got = GOT.get(result["Consistency"], result["Consistency"])
        said.append(f"snapshot {name(result['Name'])} is made, {got}")
    if "FinalState" in result:
        said.append(f"the VM is {result['FinalState']}")
    safety = paths.parse(result.get("SafetySnapshot", paths.NONE))
    if safety:
        said.append(f"what it was before is in {name(safety.name)}")
    said += [f"deleted {name(each)}" for each in result.get("Deleted", ())]
    said += [f"{name(each['Name'])} stays: {each['Reason']}" for each in result.get("Stays", ())]
    for word, count in Counter(each["Outcome"] for each in result.get("Domains", ())).items():
        said.append(f"{word} on {count} {'VM' if count == 1 else 'VMs'}")
    found = result.get("Findings")
    if found is not None:
        what = f"{len(found)} findings: '{command(bus, 'audit')}' shows them"
        said.append(what if found else "nothing is amiss")
    return said
