"""Which objects there are, while VMs are still being read."""

from __future__ import annotations

import asyncio
from typing import Any

from snapd.bus.tree import Tree

UUID = "22222222-2222-4222-8222-222222222201"
LABEL = "22222222_2222_4222_8222_222222222201"
ROOT = "/org/virtsnap/Snapd1"


class Reading:
    """A daemon that reads its one VM, with one snapshot, while a call waits."""

    manager = "manager"

    def __init__(self) -> None:
        self.read: dict[str, list[str]] = {}
        self.waits = 0

    async def settled(self) -> None:
        self.waits += 1
        self.read = {UUID: ["one"]}

    def domain_uuids(self) -> list[str]:
        return list(self.read)

    def domain(self, uuid: str) -> Any | None:
        return uuid if uuid in self.read else None

    def snapshot_names(self, uuid: str) -> list[str]:
        return self.read.get(uuid, [])

    def snapshot(self, uuid: str, name: str) -> Any | None:
        return name if name in self.read.get(uuid, []) else None

    def policy_names(self) -> list[str]:
        return []

    def policy(self, name: str) -> Any | None:
        return None

    def job_numbers(self) -> list[int]:
        return []

    def job(self, number: int) -> Any | None:
        return None


def found(path: str) -> tuple[Any | None, list[str] | None, int]:
    """What is at a path for a call that comes while the VM is being read: the object, the members,
    and how often it waited."""
    source = Reading()
    tree = Tree(source)
    obj = asyncio.run(tree.find(ROOT + path))
    return obj, tree.members(ROOT + path), source.waits


def test_find_waits_for_vms_their_snapshots_and_the_collections_of_both() -> None:
    assert found("/domains") == (None, [f"{ROOT}/domains/{LABEL}"], 1)
    assert found("/snapshots") == (None, None, 1)
    assert found(f"/domains/{LABEL}") == (UUID, None, 1)
    assert found(f"/snapshots/{LABEL}/one") == ("one", None, 1)
    one = f"{ROOT}/snapshots/{LABEL}/one"
    assert found(f"/snapshots/{LABEL}") == (None, [one], 1)


def test_find_waits_for_nothing_else() -> None:
    assert found("") == ("manager", None, 0)
    assert found("/policies") == (None, [], 0)
    assert found("/policies/nightly") == (None, None, 0)
    assert found("/jobs/1") == (None, None, 0)
    assert found("/nowhere") == (None, None, 0)
