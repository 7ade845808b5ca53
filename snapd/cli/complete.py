"""Completion: what may stand where the cursor is. The shells' own files of packaging/completions.d
start virtsnap for it with _ARGCOMPLETE set to the name of the shell.

bash gives the line in COMP_LINE, since only it knows where that ends; zsh and fish give the words
as arguments, the last one as far as it is typed, and pick and quote by themselves. The answer is
one candidate after the other, each with an END; the exit code FILES asks for names of files,
UNFINISHED for no space behind it.
Nothing is started or waited for: what isn't there within a second is not offered.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from argparse import Namespace
from typing import Any, NoReturn

from ..errors import SnapdError
from ..wire import paths
from ..wire.fault import WireError
from ..wire.transport import Transport
from ..wire.values import unwrap, variant
from . import templates
from .parser import build
from .parser.optional import MEMORY, QUIESCE, spell_out

END = "\v"  # no XML can hold one, and so no name of libvirt's
FILES = 79
UNFINISHED = 78
SECONDS = 1.0
PATIENCE = 0.7
MOST = 5000
_MANAGER = "org.virtsnap.Snapd1.Manager"
_SAFE = re.compile(r"[\w@%+=:,./-]")
_LISTS = {
    "vm": "ListDomains",
    "snapshot": "ListSnapshots",
    "foreign": "ListSnapshots",
    "trial": "ListSnapshots",
    "policy": "ListPolicies",
    "job": "ListJobs",
}


def main(shell: str, arguments: list[str]) -> NoReturn:
    """Write what may stand there, and leave."""
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        from argcomplete import split_line
    except ImportError:
        os._exit(0)
    quote, words, prefix, start = "", arguments[:-1], arguments[-1] if arguments else "", 0
    if shell == "bash":
        os.environ["_ARGCOMPLETE_COMP_WORDBREAKS"] = os.environ.get("COMP_WORDBREAKS", "")
        point = int(os.environ["COMP_POINT"])
        quote, prefix, _, words, breaks = split_line(os.environ["COMP_LINE"], point)
        words, start = words[1:], breaks + 1 if breaks else 0
    found = candidates(words, prefix)
    found = {one: text for one, text in found.items() if one not in _begun or one != prefix}
    code = UNFINISHED if found and found.keys() <= _begun else 0
    if _wanted and not any(one.startswith(prefix) for one in found):
        os._exit(FILES)
    if shell == "bash":
        found = {quoted(one[start:], quote): "" for one in found if one.startswith(prefix)}
    os.write(1, "".join(_records(shell, found)).encode(errors="surrogateescape"))
    os._exit(code)


def _records(shell: str, found: dict[str, str]) -> list[str]:
    match shell:
        case "fish":
            return [f"{one}\t{text}\0" for one, text in found.items() if "\t" not in one]
        case "zsh":
            return [f"{one}{END}{text}{END}" for one, text in found.items()]
    return [f"{one}{END}" for one in found]


def candidates(words: list[str], prefix: str) -> dict[str, str]:
    """What may come after the words, each with what it is; more than begins with the prefix."""
    import argcomplete

    class Finder(argcomplete.CompletionFinder):  # type: ignore[misc]
        def quote_completions(self, completions: list[str], *_: Any) -> list[str]:
            return completions  # it knows bash's quotes only, and not all of them

    def nothing(**_: Any) -> list[str]:
        return []

    last = words[-1] if words else ""
    values = {"--memory": MEMORY, "--quiesce": QUIESCE}.get(last)
    if values is None or not any(one.startswith(prefix) for one in values):
        words = spell_out(words)
    names_only = "--" in words
    option = prefix.startswith("-") and not names_only
    if option and "=" in prefix:
        words = [*words, prefix.partition("=")[0]]  # as argcomplete's own entry does
    if "--" in words and not any(one.startswith("-") for one in words[words.index("--") + 1 :]):
        # the argparse of Python 3.13 does not say what may follow it
        words = [one for one in words if one != "--"]
    finder = Finder(build(), always_complete_options=False, default_completer=nothing)
    found = finder._get_completions(["virtsnap", *words], prefix if option else "", "", None)
    texts: dict[str, str] = {}
    if option or not last.startswith("-"):  # each value of an option would have the option's
        for which, text in finder.get_display_completions().items():
            texts |= dict.fromkeys(which.split(), text or "")
    # a name that begins with a dash would be taken for an option
    fit = (one for one in found if option or names_only or not one.startswith("-"))
    return {one: texts.get(one, "") for one in fit}


def quoted(text: str, quote: str) -> str:
    """Text as bash takes it literally, within that kind of quotes, "" = none."""
    if not text.isprintable():
        inner = "".join(_escaped(one) for one in text)
        return f"{quote}$'{inner}'{quote}"
    if quote == "'":
        return text.replace("'", r"'\''")
    if quote == '"':
        # in these a ! is history's also after a backslash
        return re.sub(r'(["\\$`])', r"\\\1", text).replace("!", "\"'!'\"")
    return "".join(one if _SAFE.match(one) else f"\\{one}" for one in text)


def _escaped(one: str) -> str:
    if one in "'\\":
        return f"\\{one}"
    return one if one.isprintable() else "".join(f"\\x{byte:02x}" for byte in one.encode())


# --- names that only the daemon knows

_wanted: set[str] = set()
_begun: set[str] = set()  # what goes on with a value


def names(kind: str, args: Namespace) -> list[str]:
    """The names of that kind (see parser.common.Names) that there are now; none where the daemon
    is not running or says nothing soon."""
    if kind == "file":
        _wanted.add("files")
        return []
    if kind == "key":
        from ..settings.keys import POLICY

        _begun.update(f"{key.name}=" for key in POLICY)
        return sorted(_begun)
    if kind == "template":
        _wanted.add("files")
        return templates.known()
    vm = getattr(args, "vm", None) or ""
    if _LISTS[kind] == "ListSnapshots" and not vm:
        return []
    try:
        return asyncio.run(_ask(kind, vm, args.bus))
    except (SnapdError, WireError, OSError, TimeoutError):
        return []


async def _ask(kind: str, vm: str, bus: str) -> list[str]:
    async with asyncio.timeout(PATIENCE):
        transport = await Transport.connect(bus)
        # by its unique name, for which the bus starts nothing
        (owner,) = await transport.bus_call("GetNameOwner", "s", paths.NAME)
        field = "Path" if kind == "job" else "Name"
        options = {"fields": variant("as", [field]), "limit": variant("u", MOST)}
        if kind in ("foreign", "trial"):
            options["origin"] = variant("s", kind)
        of_vm = _LISTS[kind] == "ListSnapshots"
        what = ("sa{sv}", vm, options) if of_vm else ("a{sv}", options)
        out = await transport.call(owner, paths.ROOT, _MANAGER, _LISTS[kind], *what)
        rows = unwrap(out[0])
        if kind == "job":
            return [str(row["Path"].rpartition("/")[2]) for row in rows]
        return [str(row["Name"]) for row in rows]
