"""The sizes that the contract names: what is as large as that is taken, one more is refused; and
a page that would be too large ends early."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from snapd.errors import InvalidArgument
from tests.client import Client
from tests.driver.house import HOURLY, WEB1, House
from tests.driver.policies import with_definition

KIB = 1024
BIG = {"domains": ["web-*"], "schedule": "0 * * * *", "keep": {"last": 2}}


def globs(size: int, letter: str = "x") -> dict[str, Any]:
    """A definition with about that many bytes of globs, none longer than names are."""
    return BIG | {"exclude": [letter * (96 // len(letter.encode()))] * (size // 100)}


def named(client: Client, count: int) -> None:
    client.call("Adopt", "web-1", ["by-hand"] * count, "hourly")


TEXTS: dict[str, tuple[int, Callable[[Client, str], object]]] = {
    "description": (4 * KIB, lambda c, text: c.create("web-1", description=text)),
    "SetDescription": (4 * KIB, lambda c, text: c.act("web-1", "by-hand", "SetDescription", text)),
    "Pin": (KIB, lambda c, text: c.act("web-1", "by-hand", "Pin", text)),
    "Hold": (KIB, lambda c, text: c.call("Hold", "web-1", "", 0, text)),
    "request": (64, lambda c, text: c.call("Audit", "", request=text)),
}


@pytest.mark.parametrize("what", TEXTS)
@pytest.mark.parametrize("letter", ["x", "\u00fc"])
def test_text_of_the_most_bytes_is_taken_and_one_more_refused(
    running: House, what: str, letter: str
) -> None:
    most, send = TEXTS[what]
    text = letter * (most // len(letter.encode()))
    send(running.client, text)
    with pytest.raises(InvalidArgument):
        send(running.client, text + "x")


def test_text_is_kept_whole(running: House) -> None:
    client, text = running.client, "\u00fc" * (2 * KIB)
    client.create("web-1", "one", description=text)
    client.act("web-1", "one", "Pin", text[: KIB // 2])
    row = client.snapshots("web-1")["one"]
    assert (row["Description"], row["PinReason"]) == (text, text[: KIB // 2])


def test_names_1000_are_taken_and_one_more_refused(house: House) -> None:
    house.policy("hourly", HOURLY)
    client = house.start()
    with pytest.raises(InvalidArgument) as refused:
        named(client, 1001)
    assert "1000" in refused.value.message
    named(client, 1000)
    assert client.snapshots("web-1")["by-hand"]["Policies"] == ["hourly"]


def test_fields_64_are_taken_and_one_more_refused(shared: House) -> None:
    rows = shared.client.rows("ListDomains", fields=["Name"] * 64)
    assert [row["Name"] for row in rows] == ["db-1", "web-1", "web-2"]
    with pytest.raises(InvalidArgument):
        shared.client.rows("ListDomains", fields=["Name"] * 65)


@pytest.mark.parametrize(
    "send",
    [
        lambda c, d: with_definition(c, "SetPolicy", "big", d),
        lambda c, d: with_definition(c, "ValidatePolicy", "big", d),
        lambda c, d: c.call("PreviewSchedule", "", definition=d),
        lambda c, d: c.call("ListCoverage", "", definition=d),
        lambda c, d: c.call("PreviewRetention", "web-1", "", definition=d),
    ],
    ids=["SetPolicy", "ValidatePolicy", "PreviewSchedule", "ListCoverage", "PreviewRetention"],
)
def test_definition_of_64_kib_is_taken_and_much_more_refused(
    running: House, send: Callable[[Client, dict[str, Any]], object]
) -> None:
    send(running.client, globs(60 * KIB))
    with pytest.raises(InvalidArgument) as refused:
        send(running.client, globs(70 * KIB))
    assert "64 are taken" in refused.value.message
    with pytest.raises(InvalidArgument):
        send(running.client, globs(70 * KIB, "\u00fc"))


def test_page_of_large_rows_ends_early_and_goes_on(house: House) -> None:
    """A row of history holds a description of any length that another tool gave, so to say."""
    house.tables()
    columns = "time, not_before, verb, domain, domain_name, snapshot, created, policy, owner"
    acts = [(n, "\u2603" * 1000 + str(n)) for n in range(10_000)]
    with house.db() as db:
        db.executemany(
            f"INSERT INTO history ({columns}, reason, result, job)"
            f" VALUES (?, 0, 'describe', '{WEB1}', 'web-1', 's', 1, '', 0, ?, 'done', 0)",
            [(1790000000 + n, reason) for n, reason in acts],
        )
    client = house.start()
    seen: list[str] = []
    pages, cursor = 0, ""
    while pages == 0 or cursor:
        rows, info = client.call("ListHistory", "web-1", **{"from": cursor}, limit=10_000)
        seen += [row["Reason"] for row in rows if row["Verb"] == "describe"]
        assert sum(len(row["Reason"].encode()) for row in rows) < 24 * KIB * KIB
        pages, cursor = pages + 1, info["Next"]
    assert pages > 1
    assert seen == [reason for _n, reason in reversed(acts)]
