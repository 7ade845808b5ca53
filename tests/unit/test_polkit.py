"""polkit's answers, and everything that is no answer: nobody may then."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from snapd.bus import polkit
from snapd.bus.polkit import Polkit
from snapd.errors import Internal, NotAuthorized, SnapdError
from snapd.wire.fault import WireError, standard
from tests.unit.polkit_standin import (
    ACTION,
    BUS,
    CHALLENGE,
    DISMISSED,
    NO,
    YES,
    Caller,
    FakeBus,
    authorize,
    begun,
    hangs,
    raises,
    refused,
    says,
)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polkit, "RULES_SECONDS", 0.05)
    monkeypatch.setattr(polkit, "PERSON_SECONDS", 0.05)


# ---- what is asked


@pytest.mark.parametrize(("interactive", "flags"), [(False, 0), (True, 1)])
def test_yes_is_yes_and_a_person_is_asked_only_where_the_caller_allows(
    interactive: bool, flags: int
) -> None:
    bus = says(YES)
    asyncio.run(authorize(bus, Caller(interactive=interactive), {"verb": "Delete"}))
    ((subject, action, _details, given, number),) = bus.asked
    assert subject == ["system-bus-name", {"name": ":1.5"}]
    assert (action, given) == (ACTION, flags)
    assert number
    assert bus.taken_back == []
    assert bus.heard == []


def test_each_check_has_a_number_of_its_own_and_no_answer_is_kept() -> None:
    async def main() -> None:
        asking = Polkit(bus := says(YES))
        for _ in range(3):
            await authorize(bus, Caller(), of=asking)
        assert len({asked[4] for asked in bus.asked}) == 3

    asyncio.run(main())


def test_details_are_the_five_keys_as_clean_lines() -> None:
    bus = says(YES)
    details = {
        "domain": "we\0b\udc80\n-1",
        "snapshot": "x" * 5000,
        "verb": "Delete\r\u2028\x9b",
        "created": "17",
        "polkit.message": "please",
    }
    asyncio.run(authorize(bus, Caller(), details))
    assert bus.asked[0][2] == {
        "domain": "we\ufffdb\ufffd\ufffd-1",
        "uuid": "",
        "snapshot": "x" * 1024,
        "policy": "",
        "verb": "Delete\ufffd\ufffd\ufffd",
    }


# ---- no yes


@pytest.mark.parametrize("interactive", [False, True])
def test_no_is_not_authorized(interactive: bool) -> None:
    assert "not for you" in asyncio.run(refused(says(NO), Caller(interactive=interactive)))


def test_challenge_without_the_flag_is_interactive_authorization_required() -> None:
    with pytest.raises(WireError) as caught:
        asyncio.run(authorize(says(CHALLENGE), Caller()))
    assert caught.value.name == f"{BUS}.Error.InteractiveAuthorizationRequired"


@pytest.mark.parametrize(("answer", "word"), [(CHALLENGE, "agent"), (DISMISSED, "dismissed")])
def test_challenge_with_the_flag_is_not_authorized(answer: list[Any], word: str) -> None:
    assert word in asyncio.run(refused(says(answer), Caller(interactive=True)))


@pytest.mark.parametrize(
    "answer",
    [
        [],
        [True],
        [None],
        [[]],
        [[True]],
        [[True, False]],
        [[1, False, {}]],
        [["true", False, {}]],
        [[True, False, []]],
        [[True, 0, {}]],
        [[True, False, {}, 1]],
        [[True, False, {}], 1],
        [[False, 1, {}]],
        [[None, False, {}]],
        [{"authorized": True}],
    ],
    ids=repr,
)
@pytest.mark.parametrize("interactive", [False, True])
def test_answer_that_makes_no_sense_is_no(answer: list[Any], interactive: bool) -> None:
    bus = says(answer)
    assert "makes no sense" in asyncio.run(refused(bus, Caller(interactive=interactive)))


@pytest.mark.parametrize(
    "error",
    [
        standard("ServiceUnknown", "The name was not provided by any .service files"),
        standard("NameHasNoOwner", "nobody"),
        standard("NoReply", "the other side hung up"),
        standard("Disconnected", "the bus is gone"),
        standard("AccessDenied", "Rejected send message"),
        standard("LimitsExceeded", "too many"),
        WireError("org.freedesktop.PolicyKit1.Error.NotAuthorized", "Only trusted callers"),
        WireError("org.freedesktop.PolicyKit1.Error.Failed", "Action is not registered"),
        Internal("as if it were one of ours"),
    ],
    ids=str,
)
@pytest.mark.parametrize("number", [0, 1000], ids=["root", "user"])
@pytest.mark.parametrize("interactive", [False, True])
def test_error_is_no_for_root_as_for_everybody_and_says_why(
    error: WireError | SnapdError, number: int, interactive: bool
) -> None:
    text = asyncio.run(refused(raises(error), Caller(interactive=interactive, number=number)))
    assert (error.text if isinstance(error, WireError) else error.message) in text
    assert "not even root" in text


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("interactive", [False, True])
def test_no_answer_in_time_is_no_and_the_question_is_taken_back(interactive: bool) -> None:
    bus = hangs()
    assert "no answer" in asyncio.run(refused(bus, Caller(interactive=interactive)))
    assert bus.taken_back == [bus.asked[0][4]]
    assert bus.heard == []


@pytest.mark.usefixtures("hasty")
def test_no_answer_to_taking_it_back_either_is_no() -> None:
    bus = hangs()
    bus.deaf = True
    assert "no answer" in asyncio.run(refused(bus, Caller(interactive=True)))


def test_a_person_has_minutes_a_rule_less_than_a_client_waits() -> None:
    bus = says(YES)
    asyncio.run(authorize(bus, Caller()))
    asyncio.run(authorize(bus, Caller(interactive=True)))
    rules, person = bus.timeouts
    assert 15 < rules < 25  # polkit ends a rule after 15 s, a client gives up after 25 s
    assert person >= 120


# ---- the caller leaves, the daemon stops


def test_caller_that_leaves_ends_it_and_the_question_is_taken_back() -> None:
    async def main() -> None:
        bus = hangs()
        asking = asyncio.create_task(refused(bus, Caller(interactive=True)))
        await begun(bus)
        bus.comes(":1.5")
        bus.leaves(":1.6")
        await asyncio.sleep(0.05)
        assert not asking.done()
        assert bus.taken_back == []
        bus.leaves(":1.5")
        assert "left the bus" in await asking
        assert bus.taken_back == [bus.asked[0][4]]
        assert bus.heard == []

    asyncio.run(main())


def test_caller_that_has_left_before_it_is_listened_for_ends_it() -> None:
    async def main() -> None:
        bus = hangs()
        bus.here.clear()
        assert "left the bus" in await refused(bus, Caller(interactive=True))
        assert bus.taken_back == [asked[4] for asked in bus.asked]

    asyncio.run(main())


@pytest.mark.usefixtures("hasty")
def test_caller_that_leaves_while_its_question_is_being_taken_back_does_no_harm() -> None:
    bus = hangs()
    bus.on_taking_back = lambda: bus.leaves(":1.5")
    asyncio.run(refused(bus, Caller(interactive=True)))
    assert len(bus.taken_back) == 1


def test_many_callers_are_listened_for_by_one_subscription_as_long_as_one_asks() -> None:
    async def main() -> None:
        bus = hangs()
        asking = Polkit(bus)
        names = [f":1.{n}" for n in range(20, 24)]
        bus.here |= set(names)
        tasks = {
            name: asyncio.create_task(
                authorize(bus, Caller(name, interactive=True, number=n), of=asking)
            )
            for n, name in enumerate(names)
        }
        await begun(bus, 4)
        for name in names:
            assert len(bus.heard) == 1
            bus.leaves(name)
            with pytest.raises(NotAuthorized):
                await tasks.pop(name)
            assert not any(task.done() for task in tasks.values())
        assert bus.heard == []

    asyncio.run(main())


@pytest.mark.parametrize("interactive", [False, True])
def test_daemon_that_stops_takes_its_questions_back(interactive: bool) -> None:
    async def main() -> None:
        bus = hangs()
        asking = asyncio.create_task(authorize(bus, Caller(interactive=interactive)))
        await begun(bus)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert bus.taken_back == [bus.asked[0][4]]
        assert bus.heard == []

    asyncio.run(main())


# ---- no user uses up what all need


def test_questions_of_one_user_wait_for_each_other_and_for_nobody_else() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def open_dialog() -> list[Any]:
            await gate.wait()
            return YES

        bus = FakeBus(open_dialog)
        asking = Polkit(bus)
        names = [f":1.{n}" for n in range(100)]
        bus.here |= set(names)
        mine = [
            asyncio.create_task(authorize(bus, Caller(name, interactive=True), of=asking))
            for name in names
        ]
        await begun(bus, polkit.AT_ONCE)
        await asyncio.sleep(0.05)
        assert len(bus.asked) == polkit.AT_ONCE
        other = asyncio.create_task(authorize(bus, Caller(number=0), of=asking))
        await begun(bus, polkit.AT_ONCE + 1)
        bus.leaves(names[-1])  # one of those that wait for their turn
        with pytest.raises(NotAuthorized):
            await mine.pop()
        gate.set()
        await asyncio.gather(*mine, other)
        assert len(bus.asked) == 100
        assert bus.taken_back == []

    asyncio.run(main())
