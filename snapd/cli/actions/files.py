"""files: where what a snapshot holds lies, for a backup to copy."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from argparse import Namespace

from ...errors import Unsupported
from ..client import Client, Row
from ..output.screen import Screen
from ..output.text import name


async def files(client: Client, args: Namespace, screen: Screen) -> int:
    (path,) = await client.ask("GetSnapshot", args.vm, args.snapshot)
    row = await client.properties(path, "Snapshot")
    what = f"snapshot {name(row['Name'])} of VM {name(row['DomainName'])}"
    if row["Kind"] != "external":
        raise Unsupported(
            f"{what} is inside its images, which the VM goes on writing to: for files to copy, "
            "create one with --kind external",
            item=row["Name"],
        )
    rows = resting(await client.act_on(path, "Snapshot", "GetXML"))
    cells = [[each["Disk"], each["Format"], each["File"]] for each in rows]
    screen.table(["DISK", "FORMAT", "FILE"], cells)
    if row["Status"] != "ok":
        screen.note(f"{what} is {row['Status']}: it may not be whole")
    left = ", ".join(row["DisksLeftOut"])
    if left:
        screen.note(f"it does not hold {left}")
    screen.document({"rows": rows})
    return 0


def resting(snapshot: str) -> list[Row]:
    """The disks of an external snapshot, and the files that they were on when it was made: libvirt
    notes the domain of then. Nobody writes to these until it is merged."""
    root = ET.fromstring(snapshot)
    held = {d.get("name") for d in root.findall("./disks/disk[@snapshot='external']")}
    rows = []
    for disk in root.findall("./domain/devices/disk"):
        target, source, driver = (disk.find(tag) for tag in ("target", "source", "driver"))
        if target is None or target.get("dev") not in held or source is None:
            continue
        rows.append(
            {
                "Disk": target.get("dev", ""),
                "Format": driver.get("type", "") if driver is not None else "",
                "File": source.get("file") or source.get("dev") or "",
            }
        )
    return rows
