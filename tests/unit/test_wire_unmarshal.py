"""Bodies read by our own readers: from the bytes of dbus_next's marshaller, and of a person's."""
# mypy: allow-untyped-calls

from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from dbus_next._private.marshaller import Marshaller
from dbus_next.errors import InvalidSignatureError
from hypothesis import given
from hypothesis import strategies as st

from snapd.wire import marshal
from snapd.wire.connection import PIECE, Reader
from snapd.wire.unmarshal import values
from snapd.wire.values import Variant
from tests.unit.test_wire_marshal import typed

REFUSED = (ValueError, IndexError, struct.error, InvalidSignatureError)
# sa{sv}tab: "hi", {"k": <int16 -2>, "é": <["x"]>}, 1, [True]; offsets beside it
BIG = bytes.fromhex(
    "00000002 686900 00"  # 0: the string, and a byte to 8
    "00000026 00000000"  # 8: the array's size, and 4 bytes to 16, which do not count
    "00000001 6b00 016e00 00 fffe 00000000"  # 16: k, its signature n, on 2; 4 bytes to 32
    "00000002 c3a900 02 617300 00 00000006 00000001 7800"  # 32: the other one, to 54
    "0000"  # 54: to 56
    "0000000000000001"  # 56
    "00000004 00000001"  # 64
)
BIG_VALUES = ["hi", {"k": Variant("n", -2), "é": Variant("as", ["x"])}, 1, [True]]


@given(st.lists(typed(), max_size=4))
def test_values_are_those_that_dbus_next_wrote(parts: list[tuple[str, Any]]) -> None:
    signature = "".join(sig for sig, _ in parts)
    body = [value for _, value in parts]
    reference = Marshaller(signature, body)
    reference.marshall()
    assert values(bytes(reference.buffer), "<", signature) == body


def test_values_of_a_big_endian_peer() -> None:
    assert values(BIG, ">", "sa{sv}tab") == BIG_VALUES


@pytest.mark.parametrize("length", range(len(BIG)))
def test_body_that_is_cut_short_is_refused(length: int) -> None:
    with pytest.raises(REFUSED):
        values(BIG[:length], ">", "sa{sv}tab")


def test_variant_of_no_value_or_of_two_is_refused() -> None:
    for signature in (b"\0\0", b"\2ss\0"):
        with pytest.raises(REFUSED):
            values(signature + bytes(16), "<", "v")


def call_of(kind: int) -> tuple[list[dict[str, Variant]], dict[str, Any]]:
    """Rows, and what stands in the header of such a message."""
    rows = [{"Name": Variant("s", f"vm-{n}"), "Created": Variant("x", n)} for n in range(1000)]
    place = {"path": "/a", "interface": "b.c", "member": "D"}
    return rows, {"reply_to": 7} if kind == marshal.METHOD_RETURN else place


@pytest.mark.parametrize("kind", [marshal.METHOD_RETURN, marshal.SIGNAL, marshal.METHOD_CALL])
def test_large_body_is_read_or_left_to_be_read(kind: int) -> None:
    rows, head = call_of(kind)
    reader = Reader(io.BytesIO(marshal.frame(kind, 3, "aa{sv}s", [rows, "end"], **head)))
    message = reader.unmarshall()
    left = reader.unread() if reader.unread else None
    assert (left if kind == marshal.METHOD_CALL else message.body) == [rows, "end"]
    assert message.signature == "aa{sv}s"


class Slow:
    """A stream that has only a little at a time, and nothing every third time."""

    def __init__(self, data: bytes, at_once: int) -> None:
        self._data, self._at_once, self._asked = data, at_once, 0

    def read(self, size: int) -> bytes | None:
        self._asked += 1
        if not self._asked % 3 and self._data:
            return None
        size = min(size, self._at_once)
        data, self._data = self._data[:size], self._data[size:]
        return data


@pytest.mark.parametrize("at_once", [1, 7, 1000, 4096])
@pytest.mark.parametrize("kind", [marshal.METHOD_RETURN, marshal.METHOD_CALL])
def test_large_message_that_comes_in_parts_is_whole(kind: int, at_once: int) -> None:
    rows, head = call_of(kind)
    stream = Slow(marshal.frame(kind, 3, "aa{sv}s", [rows, "end"], **head), at_once)
    reader = Reader(stream)
    while (message := reader.unmarshall()) is None:
        pass
    assert (reader.unread() if reader.unread else message.body) == [rows, "end"]


def test_large_message_that_ends_in_the_middle_is_the_end() -> None:
    rows, head = call_of(marshal.METHOD_CALL)
    data = marshal.frame(marshal.METHOD_CALL, 3, "aa{sv}s", [rows, "end"], **head)
    reader = Reader(Slow(data[:-1], 4096))
    with pytest.raises(EOFError):
        while reader.unmarshall() is None:
            pass


def test_message_of_many_bytes_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bus has as much as we take; who else is served waits meanwhile."""
    monkeypatch.setattr("snapd.wire.connection.SECONDS_AT_ONCE", 0)
    head: dict[str, Any] = {"path": "/a", "interface": "b.c", "member": "D"}
    text = "x" * (10 * PIECE)
    reader = Reader(io.BytesIO(marshal.frame(marshal.METHOD_CALL, 3, "s", [text], **head)))
    pauses = 0
    while reader.unmarshall() is None:
        assert reader.paused
        pauses += 1
        assert pauses < 1000
    assert pauses == 10
    assert reader.unread is not None and reader.unread() == [text]
