"""The router on a real dbus-daemon, seen by systemd's and GLib's own tools."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess

import pytest

from snapd.wire import paths
from tests.bus import PrivateBus
from tests.contract.toys import NAME, ROOT, shop
from tests.toy import BOX, TOY, UUID


async def tool(bus: PrivateBus, *command: str) -> str:
    """The output of a command that has this bus as its session bus."""
    environment = os.environ | {"DBUS_SESSION_BUS_ADDRESS": bus.address, "TERM": "dumb"}
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    )
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    return out.decode()


def test_busctl_sees_tree_members_and_answers(bus: PrivateBus) -> None:
    async def main() -> None:
        async with shop(bus):
            busctl = ("busctl", f"--address={bus.address}", "--no-pager")
            tree = await tool(bus, *busctl, "tree", "--list", NAME)
            assert set(tree.split()) >= {
                "/org/virtsnap/Snapd1/jobs",
                *(paths.domain(UUID.format(number)) for number in range(3)),
                *(paths.snapshots_of(UUID.format(number)) for number in range(3)),
            }
            shown = await tool(bus, *busctl, "introspect", NAME, ROOT, BOX)
            rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines()}
            assert rows[".Echo"] == ["method", "sa{sv}", "su", "-"]
            assert rows[".Maker"] == ["property", "s", '"nobody"', "const"]
            assert rows[".Weight"] == ["property", "d", "0.5", "emits-invalidation"]
            call = (*busctl, "--json=short", "call", NAME, ROOT, BOX, "ListToys", "a{sv}")
            answer = json.loads(await tool(bus, *call, "1", "count", "t", "1"))
            assert answer["data"] == [
                [
                    {
                        "Name": {"type": "s", "data": "x"},
                        "Age": {"type": "x", "data": 0},
                        "Path": {"type": "o", "data": "/"},
                    }
                ],
                {
                    "Next": {"type": "s", "data": ""},
                    "Total": {"type": "t", "data": 1},
                    "Broken": {
                        "type": "aa{sv}",
                        "data": [{"Name": {"type": "s", "data": "b"}}],
                    },
                },
            ]
            assert "no option 'x' here" in await tool(bus, *call, "1", "x", "t", "1")

    asyncio.run(main())


@pytest.mark.skipif(not shutil.which("gdbus"), reason="gdbus (libglib2.0-bin) isn't installed")
def test_gdbus_introspects_all_and_calls(bus: PrivateBus) -> None:
    async def main() -> None:
        async with shop(bus):
            target = ("--session", "--dest", NAME, "--object-path")
            shown = await tool(bus, "gdbus", "introspect", "--recurse", *target, ROOT)
            assert shown.count(f"interface {TOY} {{") == 3
            assert "readonly x Age = 2;" in shown
            call = ("gdbus", "call", *target, ROOT, "--method", f"{BOX}.Echo")
            assert (
                await tool(bus, *call, "ü", "{'times': <2>}") == f"('üü', uint32 {os.getuid()})\n"
            )
            managed = "org.freedesktop.DBus.ObjectManager.GetManagedObjects"
            objects = await tool(bus, "gdbus", "call", *target, paths.DOMAINS, "--method", managed)
            assert objects.count("'Name': <'toy ") == 3

    asyncio.run(main())
