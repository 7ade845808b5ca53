"""Fill the pages of this folder with what the code knows: options, exit codes, keys, interfaces.

Used by packaging/man: generate.py REFERENCE OUT, two folders; reStructuredText comes out. Needs
nothing but the standard library.
"""

from __future__ import annotations

import argparse
import re
import runpy
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

HERE = Path(__file__).parent
TOP = HERE.parents[1]
sys.path.insert(0, str(TOP))

from snapd import errors, options  # noqa: E402
from snapd.cli import parser as cli  # noqa: E402

WIDTH = 68  # of 80 columns, after the indent of an example
GENERAL = "general options"
INTERFACES = ("Manager", "Domain", "Snapshot", "Policy", "Job")


def main() -> None:
    reference, out = map(Path, sys.argv[1:])
    keys = runpy.run_path(str(TOP / "snapd/settings/keys.py"))
    daemon, client = options.build(), cli.build()
    parts = {
        "virtsnapd": {
            "USAGE": usage(daemon),
            "OPTIONS": arguments(daemon, ""),
            "KEYS": key_list(keys["DAEMON"]),
        },
        "virtsnap": {
            "GENERAL": arguments(client, GENERAL) + "\n\n" + arguments(client, "options"),
            "COMMANDS": "\n\n".join(command(one) for one in commands(client)),
            "EXIT": exit_codes(client),
            "EXAMPLES": examples(client),
        },
        "virtsnapd-policy": {"KEYS": key_list(keys["POLICY"])},
        "org.virtsnap.Snapd1": {"INTERFACES": interfaces(reference)},
    }
    for page, parts_of_page in parts.items():
        text = (HERE / f"{page}.rst").read_text()
        for name, part in parts_of_page.items():
            text = text.replace(f"@{name}@", part)
        if left := re.findall("^@[A-Z]+@$", text, re.MULTILINE):
            sys.exit(f"{page}.rst wants what there is not: {', '.join(left)}")
        (out / f"{page}.rst").write_text(text)


def plain(text: str) -> str:
    """Text in which nothing means anything to reStructuredText."""
    return re.sub(r"([\\*`|_])", r"\\\1", text)


def item(head: str, text: str) -> str:
    """One of a definition list."""
    body = "\n".join(f"    {line}".rstrip() for line in text.splitlines())
    return f"{head}\n{body}"


def literal(text: str) -> str:
    return "::\n\n" + "\n".join(f"    {line}".rstrip() for line in text.splitlines())


# --- command lines


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """All commands, those that have others below them before these, in the order of --help."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield inner
                yield from commands(inner)


def command(parser: argparse.ArgumentParser) -> str:
    title = parser.prog
    parts = [f"{title}\n{'-' * len(title)}", usage(parser), plain(parser.description or "")]
    parts += [arguments(parser, "positional arguments"), arguments(parser, "options", but="help")]
    parts.append(examples(parser))
    return "\n\n".join(part for part in parts if part)


def usage(parser: argparse.ArgumentParser) -> str:
    """The synopsis, without the options that every command has."""
    shown = [a for a in _of(parser, "options") if a.dest != "help"]
    shown += [*_of(parser, "positional arguments")]
    shown += [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    words = [f"**{plain(parser.prog)}**", *(_word(action) for action in shown)]
    return " ".join(words)


def _word(action: argparse.Action) -> str:
    if isinstance(action, argparse._SubParsersAction):
        return f"*{action.metavar}* ..."
    if not action.option_strings:
        word = f"*{plain(str(action.metavar))}*"
        more = {"?": f"[{word}]", "*": f"[{word} ...]", "+": f"{word} ..."}
        return more.get(str(action.nargs), word)
    word = f"**{action.option_strings[0]}**" + _value(action)
    return word if action.required else f"[{word}]"


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.choices and not action.metavar:
        return f" *{plain('|'.join(map(str, action.choices)))}*"
    return f" *{plain(str(action.metavar))}*"


def arguments(parser: argparse.ArgumentParser, title: str, but: str = "") -> str:
    """The arguments of a group, but one, as a list; "" = of all groups."""
    lines = []
    for action in (a for a in _of(parser, title) if a.dest != but):
        names = [f"**{name}**{_value(action)}" for name in action.option_strings]
        head = ", ".join(names) or f"*{plain(str(action.metavar))}*"
        text = (action.help or "").replace("%(prog)s", parser.prog)
        lines.append(item(head, plain(text)))
    return "\n\n".join(lines)


def _of(parser: argparse.ArgumentParser, title: str) -> Iterator[argparse.Action]:
    """Those of a group; with "options" also of the groups that a command has of its own."""
    for group in parser._action_groups:
        own = group.title not in ("positional arguments", "general options")
        if title in ("", group.title) or (own and title == "options"):
            for action in group._group_actions:
                subcommands = isinstance(action, argparse._SubParsersAction)
                if not subcommands and action.help != argparse.SUPPRESS:
                    yield action


def _epilog(parser: argparse.ArgumentParser, title: str) -> str:
    """A part of an epilog, without its heading and indent."""
    for part in (parser.epilog or "").split("\n\n"):
        heading, _, rest = part.partition("\n")
        if heading == f"{title}:":
            return "\n".join(line[2:] for line in rest.splitlines())
    return ""


def examples(parser: argparse.ArgumentParser) -> str:
    """The examples, within the page: what is said of one beside it where there is room, or below;
    one that is too long goes on in a second line."""
    split = [
        re.split("   +", line, maxsplit=1) for line in _epilog(parser, "examples").splitlines()
    ]
    column = max((len(one[0]) for one in split if sum(map(len, one)) + 3 <= WIDTH), default=0)
    lines: list[str] = []
    for typed, *meaning in split:
        beside = f"{typed:{column}}   {''.join(meaning)}".rstrip()
        if len(beside) <= WIDTH:
            lines.append(beside)
        else:
            lines += [_broken(typed), *(f"    {one}" for one in meaning)]
    return literal("\n".join(lines)) if lines else ""


def _broken(typed: str) -> str:
    """A command line within the page."""
    if len(typed) <= WIDTH:
        return typed
    head, option, rest = typed.rpartition(" --")
    return f"{head} \\\n   {option}{rest}"


def exit_codes(parser: argparse.ArgumentParser) -> str:
    """The codes as --help has them, each with the D-Bus errors that end in it."""
    by_code: dict[int, list[str]] = {}
    for error in errors.SnapdError.__subclasses__():
        by_code.setdefault(error.exit_code, []).append(error.__name__)
    lines, others = [], []
    for line in _epilog(parser, "exit codes").splitlines():
        whose, colon, rest = line.rpartition(": ")
        codes = re.findall(r"(\d+) +(.+?)(?=  +\d|$)", rest)
        if colon:  # of a command that has codes of its own
            listed = ", ".join(f"{code} {meaning}" for code, meaning in codes)
            others.append(f"**{plain(whose)}** has codes of its own: {plain(listed)}.")
            continue
        for code, meaning in codes:
            text = plain(meaning)
            if names := by_code.pop(int(code), []):
                text += f" (on the bus: {', '.join(names)})"
            lines.append(item(code, text))
    if by_code:
        sys.exit(f"virtsnap --help says nothing of the exit codes {sorted(by_code)}")
    return "\n\n".join([*lines, *others])


# --- files, interfaces


def key_list(keys: Iterable[tuple[str, ...]]) -> str:
    lines = []
    for name, default, meaning, *_ in keys:
        what = default if default == "required" else f"default: {default}"
        lines.append(item(f"**{plain(name)}** ({plain(what)})", plain(meaning)))
    return "\n\n".join(lines)


def interfaces(reference: Path) -> str:
    """The reference pages one after the other, as sections of one page."""
    pages = []
    for name in INTERFACES:
        text = (reference / f"org.virtsnap.Snapd1.{name}.rst").read_text()
        text = re.sub(r"^\.\. .*\n", "", text, flags=re.MULTILINE)
        text = re.sub(r"^-+\nDescription\n-+\n", "", text, flags=re.MULTILINE)
        pages.append(text.strip())
    return "\n\n".join(pages)


if __name__ == "__main__":
    main()
