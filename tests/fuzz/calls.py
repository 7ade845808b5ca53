"""What is called: every method of the contract on every kind of object, by a seed.

Nothing that was answered goes into what is asked next, so the same seed asks the same. Names are
drawn from few, so that they hit: a snapshot that one call made is reverted to by another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from snapd.bus.contract import Contract, Interface, Member
from snapd.bus.standard import OBJECT_MANAGER, PROPERTIES
from snapd.wire import paths
from snapd.wire.values import INTEGERS, Option, Variant
from tests.driver.house import DB1, WEB1, WEB2
from tests.fuzz import values

OURS = "org.virtsnap.Snapd1"
DOMAINS = ("web-1", "web-2", "db-1", WEB1, WEB2, DB1, WEB1.upper())
SNAPSHOTS = ("by-hand", "s0", "s1", "s2", "s3", "s4")
POLICIES = ("p0", "p1", "p2", "p-3", "p_4")
FOREVER = 2**32 - 1
NOW = 1_790_000_000


@dataclass(frozen=True, slots=True)
class Call:
    """One call, and whether its arguments have the method's own types."""

    number: int
    path: str
    interface: str
    member: str
    signature: str
    body: tuple[Any, ...]
    fitting: bool

    def __str__(self) -> str:
        return (
            f"call {self.number}: {self.interface}.{self.member} on {self.path}, "
            f"{self.signature!r} {self.body!r:.400}"
        )


class Generator:
    """Makes calls for ever; the same for the same seed and contract."""

    def __init__(self, contract: Contract, seed: int) -> None:
        self._random = Random(seed)
        self._contract = contract
        self._methods = [
            (interface, member)
            for interface in contract.interfaces.values()
            for member in interface.methods.values()
        ]
        self._number = 0

    def __iter__(self) -> Iterator[Call]:
        while True:
            yield self._call()

    def _call(self) -> Call:
        random = self._random
        self._number += 1
        interface, member = random.choice(self._methods)
        path = self._path(interface.name)
        said = "" if random.random() < 0.03 else interface.name
        name = member.name
        if random.random() < 0.02:
            name = random.choice(("Nothing", "ListDomain", "x" * 255, "get_all"))
        if random.random() < 0.12:
            kinds = self._wrong(member)
            body = tuple(values.value(random, kind) for kind in values.split(kinds))
            fitting = kinds == member.signature_in
            return Call(self._number, path, said, name, kinds, body, fitting)
        body = tuple(self._argument(interface, member, arg.name, arg.type) for arg in member.ins)
        return Call(self._number, path, said, name, member.signature_in, body, True)

    def _wrong(self, member: Member) -> str:
        """Another signature: one argument more, one less, or another type."""
        kinds = [arg.type for arg in member.ins]
        random = self._random
        how = random.randrange(4)
        if how == 0 and kinds:
            kinds.pop(random.randrange(len(kinds)))
        elif how == 1 and kinds:
            kinds[random.randrange(len(kinds))] = values.signature(random)
        elif how == 2:
            kinds = [values.signature(random) for _ in range(random.randrange(6))]
        else:
            kinds.insert(random.randint(0, len(kinds)), values.signature(random))
        return "".join(kinds)

    # ---- objects

    def _path(self, interface: str) -> str:
        """Mostly an object that has the interface, else any."""
        random = self._random
        if random.random() < 0.06:
            return self._any_path()
        match interface.removeprefix(OURS + "."):
            case "Manager":
                return paths.ROOT
            case "Snapshot":
                return self._snapshot()
            case "Job":
                return self._job()
        if interface == OBJECT_MANAGER:
            return self._collection()
        return self._any_path()

    def _any_path(self) -> str:
        random = self._random
        odd = (
            "/",
            "/org",
            "/org/virtsnap/Snapd1/snapshots",
            "/org/virtsnap/Snapd1/jobs/0",
            "/org/virtsnap/Snapd1/jobs/99999999999999999999",
            "/org/virtsnap/Snapd1/domains/_",
            "/org/virtsnap/Snapd1/policies/_ff",
            f"{paths.snapshots_of(WEB1)}/_ed_a0_80",
            "/" + "x" * 3000,
            "/a" * 1000,
        )
        kinds = (
            lambda: paths.ROOT,
            lambda: paths.domain(random.choice((WEB1, WEB2, DB1))),
            lambda: paths.policy(random.choice(POLICIES)),
            self._snapshot,
            self._job,
            self._collection,
            lambda: random.choice(odd),
        )
        return random.choice(kinds)()

    def _snapshot(self) -> str:
        return paths.snapshot(self._random.choice((WEB1, WEB2, DB1)), self._name(SNAPSHOTS))

    def _job(self) -> str:
        return paths.job(self._random.randrange(1, 40 + self._number // 8))

    def _collection(self) -> str:
        uuid = self._random.choice((WEB1, WEB2, DB1))
        few = (paths.DOMAINS, paths.POLICIES, paths.JOBS, paths.snapshots_of(uuid))
        return self._random.choice(few)

    # ---- arguments

    def _argument(self, interface: Interface, member: Member, name: str, kind: str) -> Any:
        random = self._random
        if name == "options":
            return self._options(member)
        if kind == "a{sv}":
            return self._definition()
        if kind == "as":
            return [self._name(SNAPSHOTS) for _ in range(random.choice((0, 1, 3, 1001)))]
        if kind != "s":
            return values.value(random, kind)
        if interface.name == PROPERTIES:
            return self._property(name)
        if name == "name" and "Policy" in member.name:
            return self._name(POLICIES)
        if name == "name" and member.name == "GetDomain":
            return self._name(DOMAINS)
        few: dict[str, tuple[str, ...]] = {
            "domain": (*DOMAINS, *DOMAINS, ""),
            "name": (*SNAPSHOTS, *SNAPSHOTS, ""),
            "policy": (*POLICIES, ""),
        }
        return self._name(few.get(name, ("a reason",)))

    def _name(self, few: tuple[str, ...]) -> str:
        random = self._random
        return values.odd_string(random) if random.random() < 0.08 else random.choice(few)

    def _property(self, name: str) -> str:
        names = tuple(self._contract.interfaces)
        if name == "interface_name":
            return self._name((*names, ""))
        known = [n for each in names for n in self._contract[each].properties]
        return self._name(tuple(known))

    def _options(self, member: Member) -> dict[str, Variant]:
        random = self._random
        made = {}
        for name, option in member.options.items():
            if random.random() < 0.3:
                made[name] = self._option(member, name, option)
        if random.random() < 0.04:
            made[values.odd_string(random)] = values.variant(random)
        return made

    def _option(self, member: Member, name: str, option: Option) -> Variant:
        random = self._random
        if random.random() < 0.08:
            return values.variant(random)
        if option.choices and random.random() < 0.9:
            return Variant("s", random.choice(option.choices))
        if option.type == "a{sv}":
            return Variant("a{sv}", self._definition())
        if name == "fields":
            keys = [key for place in member.keys.values() for key in place] or ["Name"]
            return Variant(
                "as", [self._name(tuple(keys)) for _ in range(random.choice((1, 3, 65)))]
            )
        if name in ("max_wait", "timeout"):  # a Wait has to end within the run
            return Variant("u", random.choice((0, 0, 1, 2, 5, FOREVER)))
        if name in ("since", "until", "after", "at") and random.random() < 0.5:
            return Variant("x", random.choice((0, NOW, NOW + 10**8)))
        if name == "domain":
            return Variant("s", self._name(DOMAINS))
        if name == "request":
            return Variant("s", random.choice(("r1", "r2", "r3", "é" * 40, "")))
        if option.type in INTEGERS and random.random() < 0.3:
            kind = random.choice(tuple(INTEGERS))
            return Variant(kind, values.integer(random, kind))
        return Variant(option.type, values.value(random, option.type))

    def _definition(self) -> dict[str, Variant]:
        """A policy that works, but for what is wrong in it."""
        random = self._random
        keep = {"last": Variant("x", random.randrange(1, 4))}
        made = {
            "domains": Variant("as", [random.choice(("web-*", "db-1", f"uuid:{DB1}", "*"))]),
            "schedule": Variant("s", random.choice(("0 3 * * *", "@daily", "30 2 29 2 *"))),
            "keep": Variant("a{sv}", keep),
        }
        for key in ("memory", "kind", "quiesce", "only_if", "catch_up", "max_pause", "min_gap"):
            if random.random() < 0.1:
                word = random.choice(("yes", "no", "auto", "once", "90s", "1h", "internal", "try"))
                made[key] = Variant("s", word)
        if random.random() < 0.1:
            made["limits"] = Variant("a{sv}", {"max_count": Variant("u", random.randrange(5))})
        if random.random() < 0.25:
            made[random.choice((*made, "on", "exclude", "timezone", "randomized_delay"))] = (
                values.variant(random)
            )
        if random.random() < 0.1:
            keep[random.choice(("last", "daily", "within", "x"))] = values.variant(random)
        if random.random() < 0.05:
            made[values.odd_string(random)] = values.variant(random)
        return made
