"""Names like the one that isn't there, and where else it is: beside the error that says so.

Only what is at hand is looked at, nothing is started for it, and whatever goes wrong here is not
told: the error is what counts.
"""

from __future__ import annotations

import asyncio
import shlex
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import NoSuchDomain, NoSuchPolicy, NoSuchSnapshot, SnapdError
from ..wire import paths
from ..wire.fault import WireError
from . import templates
from .alike import near
from .output.text import command

if TYPE_CHECKING:
    from .client import Client

LIMIT = 5000
PATIENCE = 2.0
_OTHER = {"system": "session", "session": "system"}
_WHOSE = {"session": "your session's", "system": "the system's"}
_FLATPAKS = {"org.gnome.Boxes": "GNOME Boxes", "org.virt_manager.virt-manager": "virt-manager"}
_ASKED = (SnapdError, WireError, OSError, TimeoutError)


def in_flatpak(vm: str, home: Path) -> str:
    """The Flatpak'd app that has a VM of that name in a libvirt of its own; "" = none."""
    for file in sorted(home.glob(".var/app/*/config/libvirt/qemu/*.xml")):
        if file.stem == vm:
            app = file.relative_to(home).parts[2]
            return _FLATPAKS.get(app, app)
    return ""


async def add(client: Client, args: Namespace, error: SnapdError) -> None:
    """Add to the error what may have been meant: names to its `near`, sentences to its notes."""
    match error:
        case NoSuchDomain():
            await _domain(client, args, error)
        case NoSuchSnapshot():
            await _snapshot(client, args, error)
        case NoSuchPolicy():
            await _some(client, error, _typed(args, "policy"), "ListPolicies")
            for template in _typed(args, "template"):
                error.near = tuple(near(template, templates.known()))


async def _domain(client: Client, args: Namespace, error: NoSuchDomain) -> None:
    for vm in _typed(args, "vm"):
        await _some(client, error, [vm], "ListDomains")
        other = _OTHER.get(args.bus, "")
        if other and await _is_on(other, vm):
            again = shlex.join(["virtsnap", f"--{other}", *_unbused(args)])
            error.add_note(f"it is one of {_WHOSE[other]}: {again}")
        with suppress(OSError, RuntimeError):
            if app := in_flatpak(vm, Path.home()):
                error.add_note(
                    f"the Flatpak of {app} has a VM of that name, in a libvirt of its own, which "
                    "is out of reach"
                )


async def _snapshot(client: Client, args: Namespace, error: NoSuchSnapshot) -> None:
    for vm in _typed(args, "vm"):
        words = _typed(args, "snapshot", "snapshots", "names")
        await _some(client, error, words, "ListSnapshots", vm)
        if (see := command(args.bus, "list", vm)) not in error.message:
            error.add_note(f"what it has: {see}")


async def _some(client: Client, error: SnapdError, words: list[str], member: str, *of: str) -> None:
    """What is near to each word that is no name of that list."""
    if not words:
        return
    with suppress(*_ASKED):
        async with asyncio.timeout(PATIENCE):
            rows, _ = await client.ask(member, *of, fields=["Name"], limit=LIMIT)
        names = [str(row["Name"]) for row in rows]
        for word in words:
            found = near(word, names) if word not in names else []
            error.near = (*error.near, *(each for each in found if each not in error.near))


async def _is_on(bus: str, vm: str) -> bool:
    """Whether a daemon that runs on that bus has such a VM."""
    from ..wire.transport import Transport

    with suppress(*_ASKED):
        async with asyncio.timeout(PATIENCE):
            transport = await Transport.connect(bus, PATIENCE)
            try:
                # by its unique name, for which the bus starts nothing
                (owner,) = await transport.bus_call("GetNameOwner", "s", paths.NAME)
                manager = (owner, paths.ROOT, "org.virtsnap.Snapd1.Manager")
                await transport.call(*manager, "GetDomain", "sa{sv}", vm, {})
                return True
            finally:
                await transport.close()
    return False


def _typed(args: Namespace, *keys: str) -> list[str]:
    """The names that were typed for these arguments."""
    found: list[str] = []
    for value in (getattr(args, key, None) for key in keys):
        found += [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [each for each in found if each]


def _unbused(args: Namespace) -> list[str]:
    """The words of the command line without those that say which bus."""
    words: list[str] = args.typed
    end = words.index("--") if "--" in words else len(words)
    return [each for each in words[:end] if each not in ("--system", "--session")] + words[end:]
