"""A few VMs on an afternoon, 2026-11-24 14:00 in Berlin, as people have them: what was made, by
whom and when is the same in each run, so that it can be read what virtsnap shows of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from tests.driver.clock import MovedClock
from tests.driver.house import DB1, NODE_END, TEST, WEB1, WEB2, House

ZONE = "Europe/Berlin"
BEGUN, NOW = "2026-11-19 10:00", "2026-11-24 14:00"
WIDE = "44444444-4444-4444-8444-444444444409"
VMS = {"web-1": (WEB1, 1), "web-2": (WEB2, 5), "db-1": (DB1, 3), "試驗": (WIDE, 1)}
"""Name -> UUID, and what it does in libvirt's number: 1 runs, 5 is off, 3 is paused."""
NIGHTLY = """\
domains = ["web-*", "db-1"]
schedule = "30 2 * * *"
timezone = "Europe/Berlin"
[keep]
last = 2
"""
WEEKLY = {
    "domains": ["web-2"],
    "schedule": "0 4 * * 0",
    "timezone": ZONE,
    "keep": {"last": 9},
}
"""A policy for the API."""
BY_HAND = "by-hand"
UPGRADE = "before-upgrade"
ROOT = 0


def at(when: str) -> int:
    """`2026-11-24 14:00` in Berlin, in seconds UTC."""
    return int(datetime.fromisoformat(when).replace(tzinfo=ZoneInfo(ZONE)).timestamp())


def nightly(day: int) -> tuple[str, int]:
    """Name and time of the policy's snapshot of that day of November."""
    made = at(f"2026-11-{day} 02:30")
    return f"nightly-202611{day}T013000Z", made


Tree = Mapping[str, tuple[str, int, str]]
"""Snapshots by their names: made on which one, when, and the description."""
TREES: Mapping[str, Tree] = {
    "web-1": {
        BY_HAND: ("", at("2026-10-02 09:12"), "made in virt-manager"),
        UPGRADE: (BY_HAND, at("2026-11-20 16:45"), "before the upgrade to 13"),
        nightly(22)[0]: (UPGRADE, nightly(22)[1], ""),
        nightly(23)[0]: (nightly(22)[0], nightly(23)[1], ""),
        nightly(24)[0]: (nightly(23)[0], nightly(24)[1], ""),
        "try-it": (UPGRADE, at("2026-11-24 09:00"), ""),
    },
    "db-1": {nightly(24)[0]: ("", nightly(24)[1], "")},
    "試驗": {"第一張": ("", at("2026-11-01 12:00"), "第一次的快照")},
}
CURRENT = {"web-1": nightly(24)[0], "db-1": nightly(24)[0], "試驗": "第一張"}
ORIGINS = {UPGRADE: "manual", "try-it": "trial"}


def furnish(house: House, found: int = 0) -> Mapping[str, str]:
    """Have the house's daemon started in front of them; what commands have to have in their
    environment to live in the same afternoon, where this is the system's bus. found: so many more
    snapshots of web-2 that are nobody's."""
    clock = MovedClock(house.folder)
    house.serve_text(
        host({f"found-{n}": ("", at("2026-10-01 12:00") + n, "") for n in range(found)})
    )
    house.daemon.env |= {**clock.env, "TZ": ZONE}
    house.policy("nightly", NIGHTLY)
    for when in (BEGUN, NOW):
        clock.set(at(when) - int(time.time()))
        if when == BEGUN:
            house.tables()
    _remember(house)
    house.start().rows("ListDomains")
    return {**clock.env, "TZ": ZONE, "DBUS_SYSTEM_BUS_ADDRESS": house.address}


def host(found: Tree) -> str:
    trees = {**TREES, "web-2": found}
    vms = "".join(_vm(name, trees.get(name, {})) for name in VMS)
    return f"<node xmlns:test='{TEST}'>{vms}{NODE_END}"


def _vm(name: str, tree: Tree) -> str:
    uuid, state = VMS[name]
    head = (
        f"<name>{name}</name><uuid>{uuid}</uuid><memory unit='KiB'>65536</memory>"
        "<os><type>hvm</type></os><devices><disk type='file' device='disk'>"
        f"<driver name='qemu' type='qcow2'/><source file='/nonexistent/{uuid}.qcow2'/>"
        "<target dev='vda' bus='virtio'/></disk></devices>"
    )
    made = "".join(
        f"<test:domainsnapshot><name>{one}</name><description>{about}</description>"
        + (f"<parent><name>{on}</name></parent>" if on else "")
        + f"<state>running</state><creationTime>{when}</creationTime>"
        f"<active>{int(one == CURRENT.get(name))}</active>"
        f"<domain type='test'>{head}</domain></test:domainsnapshot>"
        for one, (on, when, about) in tree.items()
    )
    return (
        f"<domain type='test' xmlns:test='{TEST}'>{head}"
        f"<test:runstate>{state}</test:runstate>{made}</domain>"
    )


def _remember(house: House) -> None:
    """Have the store know whose they are, what else was done, and that nothing is due."""
    acts = []
    with house.db() as db:
        for vm, name, when in (
            (vm, name, of[1]) for vm, tree in TREES.items() for name, of in tree.items()
        ):
            origin = "policy" if name.startswith("nightly") else ORIGINS.get(name)
            if origin is None:
                continue
            policy = "nightly" if origin == "policy" else ""
            row = (VMS[vm][0], name, when, origin, json.dumps([policy] if policy else []))
            pin = "audit until June" if name == UPGRADE else None
            db.execute(
                "INSERT INTO snapshots (domain, name, created, origin, policies, state,"
                " consistency, pause_ms, pin_reason) VALUES (?, ?, ?, ?, ?, 'running', 'crash', 40,"
                " ?)",
                (*row, pin),
            )
            acts.append((when, "create", vm, name, when, policy, ""))
        gone, made = nightly(21)
        acts.append(
            (nightly(24)[1] + 5, "delete", "web-1", gone, made, "nightly", "no rule keeps it")
        )
        for when, verb, vm, name, created, policy, why in sorted(acts):
            db.execute(
                "INSERT INTO history (time, not_before, verb, domain, domain_name, snapshot,"
                " created, policy, owner, reason, result, job)"
                " VALUES (?, 0, ?, ?, ?, ?, ?, ?, ?, ?, 'done', 0)",
                (when, verb, VMS[vm][0], vm, name, created, policy, -1 if policy else ROOT, why),
            )
        last = nightly(24)[1]
        for vm, success, error, message in (
            ("web-1", last, "", ""),
            ("web-2", 0, "org.virtsnap.Error.NoSpace", "VM web-2: 3 GiB are needed, 1 GiB is free"),
            ("db-1", last, "", ""),
        ):
            db.execute(
                "INSERT OR REPLACE INTO slots (policy, domain, last_slot, last_run, last_success,"
                " error_name, error_message) VALUES ('nightly', ?, ?, ?, ?, ?, ?)",
                (VMS[vm][0], last, last, success, error, message),
            )
