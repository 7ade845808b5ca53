"""Paths. Labels: what systemd's sd_bus_path_encode() gave (libsystemd 252, called directly)."""

from __future__ import annotations

import ctypes
import ctypes.util

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapd.wire import paths
from snapd.wire.paths import Place

UUID = "11111111-1111-4111-8111-111111111101"
LABEL = "11111111_1111_4111_8111_111111111101"


def systemd_label(text: str) -> str | None:
    """The label as libsystemd writes it; None where there is no libsystemd."""
    found = ctypes.util.find_library("systemd")
    if found is None:
        return None
    library = ctypes.CDLL(found)
    path = ctypes.c_char_p()
    result = library.sd_bus_path_encode(b"/p", text.encode(), ctypes.byref(path))
    assert result >= 0
    assert path.value is not None
    return path.value.decode().removeprefix("/p/")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("", "_"),
        ("abc", "abc"),
        ("1abc", "_31abc"),
        ("a1", "a1"),
        ("a_b", "a_5fb"),
        ("a-b", "a_2db"),
        ("a_2db", "a_5f2db"),
        ("lab vm", "lab_20vm"),
        ("ü", "_c3_bc"),
        ("_", "_5f"),
        ("a\nb", "a_0ab"),
    ],
)
def test_encode_text_is_systemds_label(text: str, label: str) -> None:
    assert paths.encode(text) == label
    assert paths.decode(label) == text
    assert systemd_label(text) in (label, None)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_encode_any_text_is_systemds_label_and_comes_back(text: str) -> None:
    label = paths.encode(text)
    assert systemd_label(text) in (label, None)
    assert paths.decode(label) == text
    assert paths.is_path("/" + label)


def test_label_longer_than_any_name_is_not_read() -> None:
    """A caller may send one of a mebibyte, which took longer than a thousand calls."""
    name = "\u2603" * (paths.MAX_LABEL // 9)
    assert paths.decode(paths.encode(name)) == name
    assert paths.decode(paths.encode(name + "\u2603")) is None
    assert paths.parse(paths.snapshot(UUID, name * 2)) is None


@pytest.mark.parametrize("label", ["a_2Db", "a-b", "_zz", "a_", "_61", "1", "_c3", "", "a\n"])
def test_decode_label_that_is_not_canonical_none(label: str) -> None:
    assert paths.decode(label) is None


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/org/virtsnap/Snapd1", Place("manager")),
        ("/org/virtsnap/Snapd1/domains", Place("collection", name="domains")),
        (f"/org/virtsnap/Snapd1/domains/{LABEL}", Place("domain", uuid=UUID)),
        (
            f"/org/virtsnap/Snapd1/snapshots/{LABEL}",
            Place("collection", uuid=UUID, name="snapshots"),
        ),
        (
            f"/org/virtsnap/Snapd1/snapshots/{LABEL}/a_2db",
            Place("snapshot", uuid=UUID, name="a-b"),
        ),
        ("/org/virtsnap/Snapd1/policies/nightly_2d2", Place("policy", name="nightly-2")),
        ("/org/virtsnap/Snapd1/jobs/17", Place("job", number=17)),
        ("/org/virtsnap/Snapd1/jobs/017", None),
        ("/org/virtsnap/Snapd1/jobs/0", None),
        ("/org/virtsnap/Snapd1/jobs/-1", None),
        ("/org/virtsnap/Snapd1/snapshots", None),
        ("/org/virtsnap/Snapd1/domains/x", None),
        (f"/org/virtsnap/Snapd1/domains/{LABEL.replace('1', 'A')}", None),
        ("/org/virtsnap/Snapd11", None),
        ("/org", None),
        ("/", None),
    ],
)
def test_parse_path_gives_its_place(path: str, place: Place | None) -> None:
    assert paths.parse(path) == place


def test_builders_paths_are_those_of_the_contract() -> None:
    root = "/org/virtsnap/Snapd1"
    assert paths.domain(UUID) == f"{root}/domains/{LABEL}"
    assert paths.snapshot(UUID, "1.b") == f"{root}/snapshots/{LABEL}/_31_2eb"
    assert paths.policy("a_b") == f"{root}/policies/a_5fb"
    assert paths.job(3) == f"{root}/jobs/3"
    assert paths.parent(paths.snapshot(UUID, "x")) == paths.snapshots_of(UUID)
    assert paths.parent("/org") == "/"


@pytest.mark.parametrize("text", ["/a\n", "", "a", "/a/", "//", "/a-b", "/ü"])
def test_is_path_of_what_dbus_refuses_false(text: str) -> None:
    assert not paths.is_path(text)
