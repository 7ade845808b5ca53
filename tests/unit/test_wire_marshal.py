"""Marshalling. The bytes: those of dbus_next's own marshaller, which is not our code."""
# mypy: allow-untyped-calls

from __future__ import annotations

import struct
from typing import Any

import pytest
from dbus_next._private.marshaller import Marshaller
from dbus_next.constants import MessageType
from dbus_next.message import Message
from dbus_next.signature import SignatureTree
from hypothesis import given
from hypothesis import strategies as st

from snapd.wire import marshal
from snapd.wire.marshal import MarshalError, Rows, TooLarge
from snapd.wire.text import clean, one_line
from snapd.wire.values import Variant, variant
from tests.fakebus import read

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
BASIC: dict[str, st.SearchStrategy[Any]] = {
    "y": st.integers(0, 2**8 - 1),
    "b": st.booleans(),
    "n": st.integers(-(2**15), 2**15 - 1),
    "q": st.integers(0, 2**16 - 1),
    "i": st.integers(-(2**31), 2**31 - 1),
    "u": st.integers(0, 2**32 - 1),
    "x": st.integers(-(2**63), 2**63 - 1),
    "t": st.integers(0, 2**64 - 1),
    "d": st.floats(allow_nan=False),
    "s": TEXT,
    "o": st.sampled_from(["/", "/a/b_c", "/org/virtsnap"]),
    "g": st.sampled_from(["", "a{sv}", "(iu)as"]),
}


@st.composite
def typed(draw: st.DrawFn, depth: int = 3) -> tuple[str, Any]:
    """A signature of one complete type and a value of it."""
    kind = draw(st.sampled_from([*BASIC, "a", "(", "{", "v", "ay"] if depth else [*BASIC]))
    if kind in BASIC:
        return kind, draw(BASIC[kind])
    if kind == "ay":
        return kind, draw(st.binary(max_size=9))
    if kind == "v":
        inner, value = draw(typed(depth - 1))
        return kind, Variant(inner, value)
    if kind == "(":
        fields = draw(st.lists(typed(depth - 1), min_size=1, max_size=4))
        return f"({''.join(sig for sig, _ in fields)})", [value for _, value in fields]
    inner, value = draw(typed(depth - 1))
    count = draw(st.integers(0, 3))
    if kind == "{":
        keys = draw(st.lists(TEXT, min_size=count, max_size=count, unique=True))
        return f"a{{s{inner}}}", dict.fromkeys(keys, value)
    return ("a" + inner, [value] * count) if inner != "y" else ("ay", bytes(count))


@given(st.lists(typed(), max_size=4))
def test_marshal_body_any_values_are_dbus_nexts_bytes(parts: list[tuple[str, Any]]) -> None:
    signature = "".join(sig for sig, _ in parts)
    body = [value for _, value in parts]
    reference = Marshaller(signature, body)
    reference.marshall()
    assert marshal.marshal_body(signature, body) == reference.buffer


def test_frame_of_a_signal_is_dbus_nexts_bytes() -> None:
    body = ["x", {"a": Variant("as", ["b"])}]
    message = Message.new_signal("/a", "b.c", "D", "sa{sv}", body)
    message.serial = 7
    head: dict[str, Any] = {"path": "/a", "interface": "b.c", "member": "D"}
    data = marshal.frame(marshal.SIGNAL, 7, "sa{sv}", body, **head)
    again = read(data)
    assert again.body == body
    assert (again.path, again.interface, again.member) == ("/a", "b.c", "D")
    assert data == bytes(message._marshall(False))


def test_frame_of_an_error_reads_back() -> None:
    head: dict[str, Any] = {"error": "a.b.C", "reply_to": 9, "destination": ":1.7"}
    message = read(marshal.frame(marshal.ERROR, 3, "s", ["text"], **head))
    assert message.message_type is MessageType.ERROR
    assert (message.error_name, message.reply_serial) == ("a.b.C", 9)
    assert (message.destination, message.serial) == (":1.7", 3)


def nested(depth: int) -> Variant:
    value = variant("s", "x")
    for _ in range(depth):
        value = variant("v", value)
    return value


@pytest.mark.parametrize(
    ("signature", "body"),
    [
        ("s", [1]),
        ("s", [b"a"]),
        ("s", [None]),
        ("s", ["a\0b"]),
        ("s", ["\udc80"]),
        ("o", ["/a\n"]),
        ("o", ["a"]),
        ("o", [7]),
        ("g", ["{"]),
        ("g", ["a" * 33 + "s"]),
        ("b", [1]),
        ("u", [-1]),
        ("u", [2**32]),
        ("u", ["1"]),
        ("x", [1.5]),
        ("as", ["abc"]),
        ("as", [7]),
        ("ay", ["abc"]),
        ("a{sv}", [[]]),
        ("a{sv}", [{"a": "b"}]),
        ("a{sv}", [{1: Variant("s", "b")}]),
        ("(su)", [["a"]]),
        ("v", ["a"]),
        ("v", [nested(64)]),
        ("a{sv}", [{"a": nested(62)}]),
        ("s", []),
        ("", ["a"]),
        ("h", [0]),
        ("{sv}", [{}]),
        ("z", [0]),
        ("a" * 33 + "s", [[]]),
    ],
)
def test_marshal_body_what_no_bus_takes_is_marshal_error(signature: str, body: Any) -> None:
    with pytest.raises(MarshalError):
        marshal.marshal_body(signature, body)


def test_marshal_body_nested_as_deep_as_dbus_allows_passes() -> None:
    assert marshal.marshal_body("v", [nested(62)])
    assert marshal.marshal_body("a{sv}", [{"a": nested(61)}])


# ---- rows


def as_variants(rows: Rows) -> list[dict[str, Variant]]:
    """The same as what any a{sv} has."""
    return [
        {key: variant(rows.kinds[key], item) for key, item in row.items() if item is not None}
        for row in rows.rows
    ]


@st.composite
def table(draw: st.DrawFn) -> Rows:
    """Rows of a few keys in any order, some without a value; names of any length."""
    columns = draw(st.dictionaries(TEXT, typed(), max_size=5))
    rows = []
    for _ in range(draw(st.integers(0, 4))):
        keys = draw(st.permutations([*columns]))[: draw(st.integers(0, 5))]
        rows.append({key: draw(st.sampled_from([columns[key][1], None])) for key in keys})
    return Rows({key: kind for key, (kind, _value) in columns.items()}, rows)


@given(table(), TEXT)
def test_rows_are_the_bytes_of_their_variants(rows: Rows, before: str) -> None:
    for signature, wrap in (("saa{sv}s", False), ("svs", True)):
        given_, wanted = (variant("aa{sv}", v) if wrap else v for v in (rows, as_variants(rows)))
        made = marshal.marshal_body(signature, [before, given_, "end"])
        assert made == marshal.marshal_body(signature, [before, wanted, "end"])


def test_rows_are_repaired_as_all_strings_are() -> None:
    rows = Rows({"Name": "s", "No\0te": "s"}, [{"Name": "a\0b"}, {"No\0te": "\udc80"}])
    made = marshal.marshal_body("aa{sv}", [rows], repair=True)
    assert made == marshal.marshal_body("aa{sv}", [as_variants(rows)], repair=True)
    with pytest.raises(MarshalError):
        marshal.marshal_body("aa{sv}", [Rows({"Name": "s"}, [{"Name": "a\0b"}])])


@pytest.mark.parametrize(
    ("signature", "kinds", "row"),
    [
        ("aa{sv}", {"A": "s"}, {"A": 1}),
        ("aa{sv}", {"A": "s"}, {"B": "x"}),
        ("aa{sv}", {"A": "u"}, {"A": -1}),
        ("aa{sv}", {"A": "b"}, {"A": 1}),
        ("aa{sv}", {"A": "as"}, {"A": "x"}),
        ("aa{sv}", {"A": "ss"}, {"A": "x"}),
        ("aa{sv}", {"A": "v"}, {"A": nested(61)}),
        ("aa{ss}", {"A": "s"}, {"A": "x"}),
    ],
)
def test_rows_that_do_not_fit_are_marshal_error(
    signature: str, kinds: dict[str, str], row: dict[str, Any]
) -> None:
    with pytest.raises(MarshalError):
        marshal.marshal_body(signature, [Rows(kinds, [row])])


def test_rows_nested_as_deep_as_dbus_allows_pass() -> None:
    deepest = Rows({"A": "v"}, [{"A": nested(59)}])
    assert marshal.marshal_body("aa{sv}", [deepest])
    assert marshal.marshal_body("aa{sv}", [as_variants(deepest)])


@pytest.mark.parametrize(
    "head",
    [
        {"path": "/a\n"},
        {"interface": "a"},
        {"interface": "a.b\n"},
        {"member": "a.b"},
        {"member": "a" * 256},
        {"error": "a.1"},
        {"destination": "a b.c"},
        {"destination": ":1.5\n"},
    ],
)
def test_frame_bad_header_is_marshal_error(head: dict[str, str]) -> None:
    with pytest.raises(MarshalError):
        marshal.frame(marshal.SIGNAL, 1, **head)  # type: ignore[arg-type]


def test_frame_over_its_limit_is_too_large() -> None:
    with pytest.raises(TooLarge) as caught:
        marshal.frame(marshal.METHOD_RETURN, 1, "s", ["x" * marshal.MAX_MESSAGE], reply_to=1)
    assert caught.value.size > marshal.MAX_MESSAGE == 33_554_432


def test_marshal_body_repair_cleans_strings_also_in_variants_and_keys() -> None:
    data = marshal.marshal_body("a{sv}", [{"k\0": Variant("s", "a\0\udc80b")}], repair=True)
    fine = marshal.marshal_body("a{sv}", [{"k\ufffd": Variant("s", "a\ufffd\ufffdb")}])
    assert data == fine


def test_signatures_of_a_hostile_peer_are_forgotten() -> None:
    before = len(SignatureTree._cache)
    for number in range(3000):
        SignatureTree._get(f"({'s' * (number % 200 + 1)}{'i' * (number // 200)})")
    assert len(SignatureTree._cache) == before
    assert SignatureTree._get.cache_info().currsize <= 1024  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "fit"),
    [
        ("a\0b", "a\ufffdb"),
        ("a\udcffb", "a\ufffdb"),
        ("a\x1b[31m", "a\ufffd[31m"),
        ("two\nlines\tand tab", "two\nlines\tand tab"),
        ("ü試", "ü試"),
    ],
)
def test_clean_text_replaces_what_no_bus_takes(text: str, fit: str) -> None:
    assert clean(text) == fit


def test_clean_limit_cuts_between_characters() -> None:
    assert clean("aüü", 4) == "aü"
    assert clean("aüü", 5) == "aüü"


def test_one_line_has_no_breaks_and_no_controls() -> None:
    assert one_line(" a\r\n b\x1b[2K\u2028c\x85d\x7f\0 ") == "a b [2K c d"


def test_struct_sizes_of_the_header_are_the_specifications() -> None:
    data = marshal.frame(marshal.METHOD_CALL, 5, "u", [9], path="/", member="M")
    endian, kind, flags, version, body, serial, fields = struct.unpack("<BBBBIII", data[:16])
    assert (endian, kind, flags, version, body, serial) == (ord("l"), 1, 0, 1, 4, 5)
    assert len(data) == 16 + fields + -fields % 8 + 4
