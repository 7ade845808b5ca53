"""The router on a bus in memory. Error names: the D-Bus specification and API.md."""

from __future__ import annotations

import asyncio
import logging
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from snapd.bus.standard import INTROSPECTABLE, OBJECT_MANAGER, PEER, PROPERTIES
from snapd.wire import paths
from snapd.wire.values import Variant
from tests.fakebus import FakeBus, RemoteError
from tests.toy import BOX, TOY, UUID, Box, Shop, Toy

FREEDESKTOP = "org.freedesktop.DBus.Error."
OURS = "org.virtsnap.Error."
ROOT = paths.ROOT
FIRST = paths.domain(UUID.format(0))


def fake() -> FakeBus:
    async def uid(name: str) -> list[Any]:
        return [1000]

    return FakeBus(remote={"GetConnectionUnixUser": uid})


async def failure(bus: FakeBus, *args: Any, **how: Any) -> str:
    with pytest.raises(RemoteError) as caught:
        await bus.call(*args, **how)
    return caught.value.name


def test_call_with_options_answers_all_out_arguments() -> None:
    async def main() -> None:
        Shop(bus := fake())
        assert await bus.call(ROOT, BOX, "Echo", "sa{sv}", "a", {}) == ["a", 1000]
        for kind in "ynqiuxt":  # any integer type
            options = {"times": Variant(kind, 2)}
            assert await bus.call(ROOT, BOX, "Echo", "sa{sv}", "a", options) == ["aa", 1000]
        assert await bus.call(ROOT, "", "Echo", "sa{sv}", "a", {}) == ["a", 1000]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tines": Variant("u", 1)}, "tines"),
        ({"times": Variant("s", "1")}, "times"),
        ({"times": Variant("b", True)}, "times"),
        ({"times": Variant("x", -1)}, "out of range"),
        ({"times": Variant("t", 2**32)}, "out of range"),
        ({"mood": Variant("s", "sad")}, "calm, wild"),
        ({"later": Variant("b", True)}, "not supported by this version"),
    ],
)
def test_options_wrong_invalid_argument_names_it(options: dict[str, Variant], words: str) -> None:
    async def main() -> None:
        Shop(bus := fake())
        with pytest.raises(RemoteError) as caught:
            await bus.call(ROOT, BOX, "Echo", "sa{sv}", "a", options)
        assert caught.value.name == OURS + "InvalidArgument"
        assert words in caught.value.text

    asyncio.run(main())


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ((ROOT + "/nothing", BOX, "Echo"), "UnknownObject"),
        (("/org/elsewhere", INTROSPECTABLE, "Introspect"), "UnknownObject"),
        ((paths.domain(UUID.format(99)), TOY, "X"), "UnknownObject"),
        ((ROOT, "a.b", "Echo"), "UnknownInterface"),
        ((ROOT, OBJECT_MANAGER, "GetManagedObjects"), "UnknownInterface"),
        ((paths.DOMAINS, PROPERTIES, "GetAll", "s", BOX), "UnknownInterface"),
        ((ROOT, BOX, "Ecco"), "UnknownMethod"),
        ((ROOT, "", "Ecco"), "UnknownMethod"),
        ((ROOT, BOX, "Echo", "s", "a"), "InvalidArgs"),
        ((ROOT, BOX, "Echo", "ua{sv}", 1, {}), "InvalidArgs"),
        ((ROOT, PROPERTIES, "Get", "ss", BOX, "Sise"), "UnknownProperty"),
        ((ROOT, PROPERTIES, "Get", "ss", "a.b", "Size"), "UnknownInterface"),
        ((ROOT, PROPERTIES, "Set", "ssv", BOX, "Size", Variant("u", 2)), "PropertyReadOnly"),
        ((ROOT, PROPERTIES, "Set", "ssv", BOX, "Sise", Variant("u", 2)), "UnknownProperty"),
    ],
)
def test_call_of_unknown_thing_gives_the_standard_error(call: Any, error: str) -> None:
    async def main() -> None:
        Shop(bus := fake())
        assert await failure(bus, *call) == FREEDESKTOP + error

    asyncio.run(main())


def test_ping_on_any_path_answers() -> None:
    async def main() -> None:
        Shop(bus := fake())
        assert await bus.call("/no/where", PEER, "Ping") == []
        (first,) = await bus.call(ROOT, PEER, "GetMachineId")
        assert [first] == await bus.call(ROOT, PEER, "GetMachineId")
        assert len(first) == 32

    asyncio.run(main())


def test_introspect_of_every_parent_leads_to_every_object() -> None:
    async def main() -> None:
        Shop(bus := fake())
        found = {}

        async def walk(path: str) -> None:
            (xml,) = await bus.call(path, INTROSPECTABLE, "Introspect")
            node = ET.fromstring(xml)
            found[path] = {each.attrib["name"] for each in node.findall("interface")}
            for child in node.findall("node"):
                await walk(f"{path.rstrip('/')}/{child.attrib['name']}")

        await walk("/")
        assert {path for path, names in found.items() if TOY in names} == {
            paths.domain(UUID.format(number)) for number in range(3)
        }
        assert {path for path, names in found.items() if OBJECT_MANAGER in names} == {
            paths.DOMAINS,
            paths.POLICIES,
            paths.JOBS,
            *(paths.snapshots_of(UUID.format(number)) for number in range(3)),
        }

    asyncio.run(main())


def test_introspect_shows_annotations_and_no_comments() -> None:
    async def main() -> None:
        Shop(bus := fake())
        (xml,) = await bus.call(ROOT, INTROSPECTABLE, "Introspect")
        assert "short_description" not in xml
        node = ET.fromstring(xml)
        emits = node.find(f"interface[@name='{BOX}']/property[@name='Maker']/annotation")
        assert emits is not None
        assert emits.attrib["value"] == "const"

    asyncio.run(main())


def test_get_all_answers_every_property_typed() -> None:
    async def main() -> None:
        Shop(bus := fake())
        reply = await bus.post(ROOT, PROPERTIES, "GetAll", "s", BOX)
        types = {name: each.signature for name, each in reply.body[0].items()}
        assert types == {"Size": "u", "Maker": "s", "Weight": "d", "Dust": "t", "Plan": "a{sv}"}
        assert await bus.call(ROOT, PROPERTIES, "GetAll", "s", PEER) == [{}]
        assert await bus.call(FIRST, PROPERTIES, "Get", "ss", TOY, "Age") == [0]
        assert await bus.call(ROOT, PROPERTIES, "Get", "ss", BOX, "Plan") == [
            {"keep": {"last": 3}, "domains": ["a", "b"], "memory": False}
        ]

    asyncio.run(main())


def test_get_all_with_a_failing_property_answers_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        shop = Shop(bus := fake())
        del shop.source.toys[UUID.format(0)].name
        (values,) = await bus.call(FIRST, PROPERTIES, "GetAll", "s", TOY)
        assert values == {"Age": 0, "Box": ROOT}

    asyncio.run(main())
    assert "property Name" in caplog.text


def test_get_managed_objects_of_a_collection_is_complete() -> None:
    async def main() -> None:
        Shop(bus := fake(), toys=90)
        (objects,) = await bus.call(paths.DOMAINS, OBJECT_MANAGER, "GetManagedObjects")
        assert len(objects) == 90
        assert objects[FIRST] == {TOY: {"Name": "toy 0", "Age": 0, "Box": ROOT}}
        assert await bus.call(paths.POLICIES, OBJECT_MANAGER, "GetManagedObjects") == [{}]

    asyncio.run(main())


def test_list_rows_have_the_types_of_the_properties() -> None:
    async def main() -> None:
        Shop(bus := fake())
        reply = await bus.post(ROOT, BOX, "ListToys", "a{sv}", {"count": Variant("u", 1)})
        rows, info = reply.body
        assert {key: each.signature for key, each in rows[0].items()} == {
            "Name": "s",
            "Age": "x",
            "Path": "o",
        }
        assert info["Total"].signature == "t"
        assert list(info["Broken"].value[0]) == ["Name"]  # Age isn't known: left out

    asyncio.run(main())


def test_error_of_ours_is_one_clean_line() -> None:
    async def main() -> None:
        Shop(bus := fake())
        assert await failure(bus, ROOT, BOX, "Fail", "sa{sv}", "ours", {}) == OURS + "Busy"

    asyncio.run(main())


@pytest.mark.parametrize("how", ["boom", "type"])
def test_unknown_exception_is_internal_and_opaque(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> str:
        Shop(bus := fake())
        with pytest.raises(RemoteError) as caught:
            await bus.call(ROOT, BOX, "Fail", "sa{sv}", how, {})
        assert caught.value.name == OURS + "Internal"
        return caught.value.text

    text = asyncio.run(main())
    found = re.fullmatch(r"a fault of virtsnapd; its log has it under ([0-9a-f]{8})", text)
    assert found, text
    (record,) = [r for r in caplog.records if found[1] in r.getMessage()]
    assert record.levelno == logging.ERROR
    assert record.exc_info  # the traceback is in the log, with the id


def test_property_that_fails_is_internal_by_get_and_left_out_of_all(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_box: Box) -> float:
        raise RuntimeError("secret /etc/shadow")

    async def main() -> None:
        Shop(bus := fake())
        with pytest.raises(RemoteError) as caught:
            await bus.call(ROOT, PROPERTIES, "Get", "ss", BOX, "Weight")
        assert caught.value.name == OURS + "Internal"
        assert "secret" not in caught.value.text
        (values,) = await bus.call(ROOT, PROPERTIES, "GetAll", "s", BOX)
        assert "Weight" not in values and "Size" in values

    monkeypatch.setattr(Box, "weight", property(broken))
    asyncio.run(main())
    assert "secret /etc/shadow" in caplog.text


def test_reply_over_24_mib_is_refused_with_the_way_out() -> None:
    async def main() -> None:
        Shop(bus := fake())
        options = {"count": Variant("u", 30), "size": Variant("u", 2**20)}
        with pytest.raises(RemoteError) as caught:
            await bus.call(ROOT, BOX, "ListToys", "a{sv}", options)
        assert caught.value.name == OURS + "LimitExceeded"
        assert "'limit'" in caught.value.text

    asyncio.run(main())


def test_call_over_one_mib_is_refused_unread() -> None:
    async def main() -> None:
        Shop(bus := fake())
        error = await failure(bus, ROOT, BOX, "Echo", "sa{sv}", "a", {}, size=2**20 + 1)
        assert error == OURS + "LimitExceeded"

    asyncio.run(main())


def test_no_reply_is_honoured_for_results_and_errors() -> None:
    async def main() -> None:
        Shop(bus := fake())
        bus.post(ROOT, BOX, "Echo", "sa{sv}", "a", {}, no_reply=True)
        bus.post(ROOT, BOX, "Fail", "sa{sv}", "ours", {}, no_reply=True)
        bus.post(ROOT, BOX, "Ecco", no_reply=True)
        await bus.call(ROOT, PEER, "Ping")
        assert len(bus.sent) == 1

    asyncio.run(main())


# ---- signals


def test_changed_in_one_turn_is_one_signal_with_the_last_values() -> None:
    async def main() -> None:
        shop = Shop(bus := fake())
        for size in (2, 3):
            shop.box.size = size
            shop.signals.changed(shop.box, "Size", "Weight", "Maker", "Dust")
        await asyncio.sleep(0)
        expected = [BOX, {"Size": 3}, ["Weight"]]
        assert bus.signals() == [(ROOT, "PropertiesChanged", expected)]
        shop.signals.changed(shop.box, "Maker")
        await asyncio.sleep(0)
        assert len(bus.signals()) == 1

    asyncio.run(main())


def test_signal_comes_after_the_changes_before_it() -> None:
    async def main() -> None:
        shop = Shop(bus := fake())
        shop.signals.changed(shop.box, "Size")
        shop.signals.signal(ROOT, BOX, "Shaken", "me", {"Hard": True})
        await asyncio.sleep(0)
        assert [member for _, member, _ in bus.signals()] == ["PropertiesChanged", "Shaken"]
        assert bus.signals()[1] == (ROOT, "Shaken", ["me", {"Hard": True}])

    asyncio.run(main())


def test_added_and_removed_are_signalled_by_the_collection() -> None:
    async def main() -> None:
        shop = Shop(bus := fake())
        toy = Toy(7)
        shop.signals.added(toy)
        shop.signals.changed(toy, "Age")
        shop.signals.removed(toy)
        await asyncio.sleep(0)
        values = {"Name": "toy 7", "Age": 7, "Box": ROOT}
        assert bus.signals() == [
            (paths.DOMAINS, "InterfacesAdded", [toy.path, {TOY: values}]),
            (paths.DOMAINS, "InterfacesRemoved", [toy.path, [TOY]]),
        ]

    asyncio.run(main())
