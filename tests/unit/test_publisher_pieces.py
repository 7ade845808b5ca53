"""The snapshots that a new domain has are told of in pieces: each once, and before what follows."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from snapd.bus import publisher as module
from snapd.bus.known import Known
from snapd.bus.publisher import Publisher
from snapd.inventory import DomainPicture
from snapd.model import DomainInfo, Snapshot, SnapshotInfo, State
from snapd.policy import Look

VM = "22222222-2222-4222-8222-222222222201"
MANY = 450


class Ear:
    """Hears the signals, and is every room that the publisher asks."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        infos = {f"s{n}": SnapshotInfo(f"s{n}", n + 1, State.RUNNING) for n in range(MANY)}
        self.picture = DomainPicture(DomainInfo(VM, "vm", State.RUNNING), infos)
        self.domains = {VM: self.picture}
        self.all: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return self  # a room

    def on_anything(self, *_given: Any, **_named: Any) -> None: ...

    on_change = on_status = on_event = on_load = on_run = listen = on_anything

    def of(self, picture: DomainPicture) -> list[Snapshot]:
        return [Snapshot(VM, "vm", info) for info in picture.snapshots.values()]

    def records_of(self, _uuid: str) -> list[Any]:
        return []

    def record(self, _key: Any) -> None: ...

    def gone(self, _key: Any) -> bool:
        return False

    def snapshot_of(self, _picture: DomainPicture, snapshot: Snapshot) -> Any:
        return SimpleNamespace(path=snapshot.info.name)

    def added(self, obj: Any) -> None:
        self.heard.append(("added", obj.path))

    def removed(self, obj: Any) -> None:
        self.heard.append(("removed", obj.path.rpartition("/")[2]))

    def changed(self, *_given: Any) -> None: ...

    def signal(self, *given: Any) -> None:
        self.heard.append((given[2], ""))


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Ear:
    ear = Ear()
    monkeypatch.setattr(module, "SnapshotObject", lambda _r, _p, s: ear.snapshot_of(_p, s))
    monkeypatch.setattr(module, "DomainObject", lambda *_: SimpleNamespace(path="domain"))
    return ear


def made(ear: Ear) -> Publisher:
    return Publisher(cast(Any, ear), cast(Any, ear), cast(Any, ear))


EVERY = [("added", f"s{n}") for n in range(MANY)]


def test_new_domain_is_told_of_in_pieces_and_whole(ear: Ear) -> None:
    async def main() -> None:
        made(ear)._publish(VM)
        assert ear.heard == [("added", "domain"), *EVERY[: module.AT_ONCE]]
        async with asyncio.timeout(5):
            while len(ear.heard) < MANY + 1:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        assert ear.heard == [("added", "domain"), *EVERY]

    asyncio.run(main())


def test_snapshot_that_goes_meanwhile_was_told_of_before_it_goes(ear: Ear) -> None:
    async def main() -> None:
        tells = made(ear)
        tells._publish(VM)
        left = {n: s for n, s in ear.picture.snapshots.items() if n != "s400"}
        ear.domains[VM] = DomainPicture(ear.picture.info, left)
        tells._publish(VM)
        await asyncio.sleep(0.05)
        gone = [("removed", "s400"), ("SnapshotDeleted", "")]
        assert ear.heard == [("added", "domain"), *EVERY, *gone]

    asyncio.run(main())


def test_domain_that_goes_meanwhile_takes_back_only_what_was_told(ear: Ear) -> None:
    async def main() -> None:
        tells = made(ear)
        tells._publish(VM)
        told = len(ear.heard)
        ear.domains.clear()
        tells._publish(VM)
        await asyncio.sleep(0.05)
        after = ear.heard[told:]
        assert after == [("removed", f"s{n}") for n in range(told - 1)] + [("removed", "domain")]

    asyncio.run(main())


class Slow(Ear):
    """So many VMs that to work out their problems takes long."""

    connected, loading, next_run = True, False, 0

    def __init__(self) -> None:
        super().__init__()
        self.compared, self.known, self.in_force = 0, Known(), dict[str, Any]()

    def look(self) -> Look:
        self.compared += 1
        begun = time.thread_time()
        while time.thread_time() < begun + 0.1:
            pass
        return Look([], {})


def test_problems_that_take_long_to_work_out_are_compared_less_often() -> None:
    async def main() -> None:
        slow = Slow()
        told = Publisher(cast(Any, slow), cast(Any, slow), cast(Any, slow))

        async def change(seconds: float) -> None:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                told._review()
                await asyncio.sleep(0.02)

        await change(0.9)
        assert slow.compared == 1
        while slow.compared == 1:
            await change(0.1)

    asyncio.run(main())
