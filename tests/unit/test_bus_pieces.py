"""Long work of many at once: one piece in each turn of the loop, everybody's in its order."""

from __future__ import annotations

import asyncio
import gc
import selectors
import time
from collections.abc import Coroutine
from functools import partial
from itertools import islice
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest

from snapd.bus import contract, pack
from snapd.bus.listing import Lister, Row
from snapd.bus.objects import SnapshotObject
from snapd.bus.pieces import SECONDS, Pieces
from snapd.bus.policy_methods import PolicyMethods
from snapd.hypervisor import ChainFacts
from snapd.inventory import DomainPicture
from snapd.model import DomainInfo, Snapshot, SnapshotInfo, State
from snapd.planning.schedule import fires, parse

MANY = 20
SLOW = SECONDS / 4
"""What a row takes here."""


class Turns(selectors.DefaultSelector):
    """Counts the turns of a loop."""

    number = 0

    def select(self, timeout: float | None = None) -> Any:
        self.number += 1
        return super().select(timeout)


@pytest.fixture
def turns() -> Turns:
    return Turns()


def run(turns: Turns, work: Coroutine[Any, Any, None]) -> None:
    async def in_time() -> None:
        await asyncio.wait_for(work, 20)

    with asyncio.Runner(loop_factory=partial(asyncio.SelectorEventLoop, turns)) as runner:
        runner.run(in_time())


def test_pieces_of_many_stand_in_turns_of_their_own_one_after_the_other(turns: Turns) -> None:
    done: list[tuple[int, int]] = []

    async def work(pieces: Pieces, who: int) -> None:
        for _ in range(5):
            await pieces.next()
            done.append((turns.number, who))

    async def main() -> None:
        pieces = Pieces()
        await asyncio.gather(*(work(pieces, who) for who in range(MANY)))

    run(turns, main())
    assert [who for _, who in done] == list(range(MANY)) * 5
    assert len({turn for turn, _ in done}) == len(done)


@pytest.mark.parametrize("gone", [[0], [1], [0, 1, 2], [2, 5, 9], list(range(1, 9)), [9]])
@pytest.mark.parametrize("after", range(5))
def test_piece_of_who_is_gone_is_the_next_one_s(turns: Turns, gone: list[int], after: int) -> None:
    """after: turns until then: it waits, is to have its turn, or has had it."""
    done: list[int] = []

    async def work(pieces: Pieces, who: int) -> None:
        for _ in range(3):
            await pieces.next()
        done.append(who)

    async def main() -> None:
        pieces = Pieces()
        tasks = [asyncio.create_task(work(pieces, who)) for who in range(10)]
        for _ in range(after):
            await asyncio.sleep(0)
        for who in gone:
            tasks[who].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert done == [who for who in range(10) if who not in gone]
        await pieces.next()

    run(turns, main())


def test_piece_is_over_soon() -> None:
    async def main() -> None:
        until = await Pieces().next()
        assert 0 < until - time.monotonic() <= SECONDS

    asyncio.run(main())


# ---- lists

OPTIONS: dict[str, Any] = {"from": "", "limit": 100, "fields": []}


class Lists:
    """Lists of as many rows, each of which takes long, made at once."""

    def __init__(self, turns: Turns, rows: int) -> None:
        stock = SimpleNamespace(incomplete=dict, checked=7)
        self.lister = Lister(contract.load(), cast("Any", stock))
        self.turns, self.items = turns, list(range(rows))
        self.made: list[tuple[int, int]] = []
        self.slow = SLOW

    def row(self, who: int, item: int) -> Row:
        time.sleep(self.slow)
        self.made.append((self.turns.number, who))
        return {"Item": item}

    async def page(self, who: int) -> tuple[list[Row], Row]:
        row = partial(self.row, who)
        return await self.lister.page(self.items, lambda item: (-item,), row, OPTIONS)


def test_lists_at_once_have_a_turn_each_and_are_whole(turns: Turns) -> None:
    lists = Lists(turns, 12)

    async def main() -> None:
        pages = await asyncio.gather(*(lists.page(who) for who in range(MANY)))
        info = {"Next": "", "Total": 12, "Incomplete": [], "Checked": 7}
        assert pages == [([{"Item": item} for item in reversed(range(12))], info)] * MANY

    run(turns, main())
    later = lists.made[MANY * 6 :]  # all begin at once, and none has made five rows by then
    of_turn: dict[int, set[int]] = {}
    for turn, who in later:
        of_turn.setdefault(turn, set()).add(who)
    assert all(len(who) == 1 for who in of_turn.values())
    assert len(of_turn) >= MANY
    firsts = [next(n for n, made in enumerate(lists.made) if made[1] == who) for who in range(MANY)]
    lasts = [max(n for n, made in enumerate(lists.made) if made[1] == who) for who in range(MANY)]
    assert max(firsts) < min(lasts)  # nobody waits until another one is done


def test_small_lists_wait_for_nobody(turns: Turns) -> None:
    """A burst of them would pile up, and the memory that they take."""
    lists = Lists(turns, 3)
    lists.slow = 0

    async def main() -> None:
        begun = turns.number
        await asyncio.gather(*(lists.page(who) for who in range(500)))
        assert turns.number - begun < 5

    run(turns, main())


def test_list_that_is_broken_off_leaves_its_turn_to_the_others(turns: Turns) -> None:
    lists = Lists(turns, 12)

    async def main() -> None:
        tasks = [asyncio.create_task(lists.page(who)) for who in range(MANY)]
        while len(lists.made) < 30:
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        pages = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(page, asyncio.CancelledError) for page in pages[::2])
        assert all(isinstance(page, tuple) and len(page[0]) == 12 for page in pages[1::2])

    run(turns, main())


def test_slots_of_a_schedule_that_are_far_apart_are_found_in_pieces(turns: Turns) -> None:
    """A thousand leap days take as long as a list of thousands."""
    leap, now, zone = "30 2 29 2 *", 1790000000, "Europe/Berlin"
    policy = SimpleNamespace(schedule=leap, timezone=zone)
    kept = SimpleNamespace(get=lambda _name: policy)
    methods = PolicyMethods(cast("Any", SimpleNamespace(clock=lambda: now, policies=kept)))
    methods._lister = Lists(turns, 0).lister
    options = {"definition": {}, "after": 0, "count": 1000}

    async def main() -> None:
        begun = turns.number
        found = await methods.preview_schedule(cast("Any", None), "leap", options)
        assert found == list(islice(fires(parse(leap), now, ZoneInfo(zone)), 1000))
        assert turns.number - begun > 3

    run(turns, main())


def test_rows_of_snapshots_are_nothing_for_the_collector_of_garbage(turns: Turns) -> None:
    """It looks at all that it knows of, within one turn, the more often the more there is."""
    infos = [SnapshotInfo(f"s{n}", n, State.RUNNING, disks=("vda", "vdb")) for n in range(300)]
    picture = DomainPicture(DomainInfo("u", "vm", State.RUNNING), {i.name: i for i in infos})
    hypervisor = SimpleNamespace(has_images=True, chains=ChainFacts())
    rooms = cast("Any", SimpleNamespace(hypervisor=hypervisor))
    gc.collect()  # which finds that tuples of strings are nothing for it
    lister = Lists(turns, 0).lister
    member = contract.load()["org.virtsnap.Snapd1.Manager"].methods["ListSnapshots"]

    async def main() -> None:
        page = await lister.objects(
            "org.virtsnap.Snapd1.Snapshot",
            [Snapshot("u", "vm", info) for info in infos],
            lambda snapshot: (snapshot.info.created,),
            lambda snapshot: SnapshotObject(rooms, picture, snapshot),
            OPTIONS | {"limit": 1000},
        )
        (rows, _info) = pack.results(member, page)
        assert len(rows.rows) == 300
        assert rows.rows[0]["Disks"] == ("vda", "vdb")
        assert not any(gc.is_tracked(row) for row in rows.rows)

    run(turns, main())
