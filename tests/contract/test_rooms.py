"""Which room may import which: read from the imports themselves, those for type checkers too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SNAPD = Path(__file__).parents[2] / "snapd"
VOCABULARY = {"model", "errors"}
TELLING = VOCABULARY | {"journal"}
# One level only: what a room gets through another one is that one's business.
MAY = {
    "model": set(),
    "errors": set(),
    "wire": VOCABULARY,
    "hypervisor": TELLING,
    "store": TELLING,
    "names": VOCABULARY,
    "journal": VOCABULARY,
    "planning": VOCABULARY,
    "settings": VOCABULARY | {"planning"},
    "inventory": TELLING | {"hypervisor"},
    "operations": TELLING | {"hypervisor", "inventory", "store", "names"},
    "policy": TELLING | {"operations", "inventory", "store", "settings", "names", "planning"},
    "cli": VOCABULARY | {"wire", "settings", "planning"},
}
# what builds and connects the rooms
OUTERMOST = {
    "daemon",
    "options",
    "service",
    "status",
    "leaving",
    "logind",
    "units",
    "__main__",
    "__init__",
}
GUARDED = {"libvirt": "hypervisor", "libvirtaio": "hypervisor", "dbus_next": "wire"}


def _imports(text: str, package: tuple[str, ...]) -> Iterator[str]:
    """Every module that a file names in an import, in full; package: the one that it is in."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _files() -> list[Path]:
    return sorted(SNAPD.rglob("*.py"))


def _room(path: Path) -> str:
    return path.relative_to(SNAPD).parts[0].removesuffix(".py")


def _package(path: Path) -> tuple[str, ...]:
    return ("snapd", *path.relative_to(SNAPD).parts[:-1])


def _rooms() -> set[str]:
    return {_room(p) for p in _files()}


def _reached(path: Path) -> set[str]:
    """The rooms of ours that a file imports from; a name of the package itself is no room."""
    found = set()
    for name in _imports(path.read_text(), _package(path)):
        first, _, rest = name.partition(".")
        if first == "snapd" and (room := rest.partition(".")[0]) in _rooms():
            found.add(room)
    return found - {_room(path), "__init__"}


def _allowed(room: str) -> set[str]:
    if room in OUTERMOST:
        return _rooms()
    if room == "bus":
        return _rooms() - {"cli", *OUTERMOST}
    return MAY[room]


def _id(path: Path) -> str:
    return str(path.relative_to(SNAPD))


def test_imports_of_every_spelling_are_read() -> None:
    text = (
        "import libvirt as l\nfrom ..model import State\nfrom .. import store\n"
        "from . import rows\nfrom snapd.wire import paths\n"
        "if TYPE_CHECKING:\n    from ..bus.router import Router\n"
        "def late():\n    import dbus_next.aio\n"
    )
    assert sorted(_imports(text, ("snapd", "policy"))) == [
        "dbus_next.aio",
        "libvirt",
        "snapd.bus.router.Router",
        "snapd.model.State",
        "snapd.policy.rows",
        "snapd.store",
        "snapd.wire.paths",
    ]


def test_rooms_every_one_has_a_rule() -> None:
    assert _rooms() == {*MAY, "bus", *OUTERMOST}


@pytest.mark.parametrize("path", _files(), ids=_id)
def test_imports_reach_only_where_the_room_may(path: Path) -> None:
    assert _reached(path) <= _allowed(_room(path))


@pytest.mark.parametrize("path", _files(), ids=_id)
def test_imports_of_libvirt_and_dbus_next_only_in_their_rooms(path: Path) -> None:
    for name in _imports(path.read_text(), _package(path)):
        owner = GUARDED.get(name.partition(".")[0])
        assert owner in (None, _room(path)), f"{name} belongs to {owner}"
