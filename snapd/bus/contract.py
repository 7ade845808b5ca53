"""The contract as data: dbus/*.xml read once, and compared with the classes that serve it.

Beside the standard annotations these are ours, all checked here:

`org.virtsnap.PolkitAction` (every method): the action that authorize() is asked for; `-` = a
    read, nobody is asked.
`org.virtsnap.OwnerMay` (method): `true` = the uid in the object's `owner_uid` needs no action.
`org.virtsnap.Waits` (method): `true` = it only waits, so it doesn't count as a call at work.
`org.virtsnap.Option.NAME` (method): `TYPE DEFAULT [WORD|WORD...]`, the default as JSON; or
    `TYPE unsupported` for what API.md names and this version doesn't do.
`org.virtsnap.Keys.ARG` or `.PROPERTY`: the keys of an `a{sv}` or of the rows of an `aa{sv}`, as
    `Name s, Created x`, or the name of an interface: its properties and `Path o`.
    `org.virtsnap.Keys.ARG.KEY`: the same one level down. Without it the types are inferred.
"""

from __future__ import annotations

import inspect
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from ..wire.marshal import MarshalError, compiled
from ..wire.values import Option
from .standard import STANDARD

OURS = "org.virtsnap."
EMITS = "org.freedesktop.DBus.Property.EmitsChangedSignal"
READ = "-"

Keys = Mapping[str, Mapping[str, str]]
"""Dotted place of a dict (`rows`, `Result.Domains`) -> its keys -> their D-Bus types."""
_T = TypeVar("_T")


class ContractError(Exception):
    """XML that says nonsense, or code that doesn't do what the XML says."""


@dataclass(frozen=True, slots=True)
class Argument:
    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Member:
    """A method, property or signal. attr: its snake_case name in the code; outs: of a property
    itself, of a signal all arguments; action: "" for reads; emits: EmitsChangedSignal."""

    kind: str
    name: str
    attr: str
    ins: tuple[Argument, ...] = ()
    outs: tuple[Argument, ...] = ()
    action: str = ""
    owner_may: bool = False
    waits: bool = False
    emits: str = "true"
    options: Mapping[str, Option] = field(default_factory=dict)
    keys: Keys = field(default_factory=dict)
    has_options: bool = False

    @property
    def signature_in(self) -> str:
        return "".join(arg.type for arg in self.ins)

    @property
    def signature_out(self) -> str:
        return "".join(arg.type for arg in self.outs)


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface. xml: its element as introspection shows it, without the documentation."""

    name: str
    xml: str
    methods: Mapping[str, Member]
    properties: Mapping[str, Member]
    signals: Mapping[str, Member]

    def members(self) -> Iterator[Member]:
        for table in (self.methods, self.properties, self.signals):
            yield from table.values()


@dataclass(frozen=True, slots=True)
class Contract:
    """All interfaces by name, ours and the standard ones."""

    interfaces: Mapping[str, Interface]

    def __getitem__(self, name: str) -> Interface:
        return self.interfaces[name]

    def property(self, interfaces: Sequence[str], name: str) -> tuple[str, Member]:
        """The interface and member of a property that an object with these interfaces has."""
        for interface in interfaces:
            if member := self.interfaces[interface].properties.get(name):
                return interface, member
        raise ContractError(f"no property {name} in {', '.join(interfaces)}")

    def verify(self, classes: Iterable[type]) -> None:
        """Raise ContractError with every difference between code and XML, both ways.

        Lacking: a member without code, an interface without class. Too much: a public property,
        or a public coroutine whose first argument is `call`, that the XML doesn't know.
        """
        classes = list(classes)
        faults = [fault for cls in classes for fault in self._faults(cls)]
        served = {name for cls in classes for name in cls.interfaces}  # type: ignore[attr-defined]
        ours = {name for name in self.interfaces if name.startswith(OURS)}
        faults += [f"no class serves {name}" for name in sorted(ours - served)]
        if faults:
            raise ContractError("code and contract differ: " + "; ".join(faults))

    def _faults(self, cls: type) -> Iterator[str]:
        names: tuple[str, ...] = cls.interfaces  # type: ignore[attr-defined]
        yield from (f"{cls.__name__} serves {n}, which no XML has" for n in names if n not in self)
        served = [self.interfaces[name] for name in names if name in self]
        methods = {m.attr: m for each in served for m in each.methods.values()}
        properties = {m.attr: m for each in served for m in each.properties.values()}
        for attr, member in methods.items():
            if fault := _method_fault(cls, member):
                yield f"{cls.__name__}.{attr}: {fault}"
        for attr in properties:
            if not (hasattr(cls, attr) or any(attr in _annotations(c) for c in cls.__mro__)):
                yield f"{cls.__name__} lacks the property {attr}"
        for attr, value in _public(cls):
            if _is_handler(value) and attr not in methods:
                yield f"{cls.__name__}.{attr} is in no XML"
            if isinstance(value, property) and attr not in properties and attr != "path":
                yield f"{cls.__name__}.{attr} is a property of no XML"

    def __contains__(self, name: str) -> bool:
        return name in self.interfaces


def _annotations(cls: type) -> Mapping[str, object]:
    return inspect.get_annotations(cls)


def _public(cls: type) -> Iterator[tuple[str, object]]:
    seen: dict[str, object] = {}
    for each in reversed(cls.__mro__):
        seen.update(vars(each))
    return ((name, value) for name, value in seen.items() if not name.startswith("_"))


def _is_handler(value: object) -> bool:
    if not inspect.iscoroutinefunction(value):
        return False
    return list(inspect.signature(value).parameters)[1:2] == ["call"]


def _method_fault(cls: type, member: Member) -> str:
    method = getattr(cls, member.attr, None)
    if method is None:
        return "is missing"
    if not inspect.iscoroutinefunction(method):
        return "is no coroutine"
    wanted = ["self", "call", *(snake(arg.name) for arg in member.ins)]
    got = list(inspect.signature(method).parameters)
    return "" if got == wanted else f"takes ({', '.join(got)}), not ({', '.join(wanted)})"


def folder() -> Path:
    """Where the XML files are: beside the package, in a checkout and as installed."""
    return Path(__file__).parents[2] / "dbus"


def load(where: Path | None = None) -> Contract:
    """Read every interface file of the folder. Raises ContractError that names the file."""
    where = where or folder()
    files = sorted(where.glob("org.virtsnap.*.xml"))
    if not files:
        raise ContractError(f"no interface XML in {where}")
    interfaces = {name: _interface(ET.fromstring(text)) for name, text in STANDARD.items()}
    for file in files:
        try:
            found = ET.fromstring(file.read_text(encoding="utf-8")).findall("interface")
            if [each.get("name") for each in found] != [file.stem]:
                raise ContractError("one interface, named as the file, expected")
            interfaces[file.stem] = _interface(found[0])
        except (ET.ParseError, ContractError, MarshalError, ValueError, KeyError) as error:
            raise ContractError(f"{file.name}: {error}") from error
    return Contract({name: _with_rows(each, interfaces) for name, each in interfaces.items()})


def snake(name: str) -> str:
    """`ListDomains` -> `list_domains`, `DomainUUID` -> `domain_uuid`."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return name.lower()


def _interface(element: ET.Element) -> Interface:
    tables: dict[str, dict[str, Member]] = {"method": {}, "property": {}, "signal": {}}
    for each in element:
        if each.tag in tables:
            member = _member(each, ours=element.attrib["name"].startswith(OURS))
            tables[each.tag][member.name] = member
    for node in element.iter():
        node.text = node.tail = None
    xml = ET.tostring(element, "unicode", short_empty_elements=True)
    return Interface(
        element.attrib["name"], xml, tables["method"], tables["property"], tables["signal"]
    )


def _member(element: ET.Element, ours: bool) -> Member:
    kind, name = element.tag, element.attrib["name"]
    notes = {note.attrib["name"]: note.attrib["value"] for note in element.iter("annotation")}
    ins, outs = _arguments(element)
    for arg in (*ins, *outs):
        compiled(arg.type)
    if kind == "property" and element.get("access") != "read":
        raise ContractError(f"{name}: only read properties are served")
    action = notes.get(f"{OURS}PolkitAction", "" if ours and kind == "method" else READ)
    if not action:
        raise ContractError(f"{name} lacks {OURS}PolkitAction ({READ} for a read)")
    emits = notes.get(EMITS, "true")
    if emits not in ("true", "invalidates", "const", "false"):
        raise ContractError(f"{name}: {EMITS} is {emits!r}")
    return Member(
        kind,
        name,
        snake(name),
        ins,
        outs,
        action="" if action == READ else action,
        owner_may=notes.get(f"{OURS}OwnerMay") == "true",
        waits=notes.get(f"{OURS}Waits") == "true",
        emits=emits,
        options=_prefixed(notes, f"{OURS}Option.", _option),
        keys=_prefixed(notes, f"{OURS}Keys.", _keys),
        has_options=bool(ins) and ins[-1] == Argument("options", "a{sv}"),
    )


def _arguments(element: ET.Element) -> tuple[tuple[Argument, ...], tuple[Argument, ...]]:
    if element.tag == "property":
        return (), (Argument(element.attrib["name"], element.attrib["type"]),)
    default = "out" if element.tag == "signal" else "in"
    args: dict[str, list[Argument]] = {"in": [], "out": []}
    for arg in element.findall("arg"):
        name = arg.get("name", "")
        args[arg.get("direction", default)].append(Argument(name, arg.attrib["type"]))
    return tuple(args["in"]), tuple(args["out"])


def _prefixed(notes: Mapping[str, str], prefix: str, parse: Callable[[str], _T]) -> dict[str, _T]:
    return {
        name.removeprefix(prefix): parse(text)
        for name, text in notes.items()
        if name.startswith(prefix)
    }


def _option(text: str) -> Option:
    kind, _, rest = text.partition(" ")
    compiled(kind)
    if rest == "unsupported":
        return Option(kind, supported=False)
    default, at = json.JSONDecoder().raw_decode(rest)
    choices = rest[at:].strip()
    return Option(kind, default, tuple(choices.split("|")) if choices else ())


def _keys(text: str) -> dict[str, str]:
    if " " not in text:
        return {"": text}  # an interface, resolved when all are read
    pairs = [part.strip().split(" ") for part in text.split(",")]
    for _, kind in pairs:
        compiled(kind)
    return dict(pairs)


def _with_rows(interface: Interface, read: Mapping[str, Interface]) -> Interface:
    """The interface with every `Keys` that names another one replaced by its properties."""

    def resolved(keys: Mapping[str, str]) -> Mapping[str, str]:
        if "" not in keys:
            return keys
        rows = {each.name: each.signature_out for each in read[keys[""]].properties.values()}
        return rows | {"Path": "o"}

    def table(members: Mapping[str, Member]) -> dict[str, Member]:
        return {
            name: replace(each, keys={place: resolved(keys) for place, keys in each.keys.items()})
            for name, each in members.items()
        }

    return replace(
        interface,
        methods=table(interface.methods),
        properties=table(interface.properties),
        signals=table(interface.signals),
    )
