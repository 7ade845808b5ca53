"""What the parsers of all commands share: options, errors, and values that they read."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from ...errors import InvalidArgument

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction["Parser"]

# its own words as ours, in English; their translations are looked for again and again, which takes
# half of the time that it takes to build the parsers
argparse._ = lambda text: text  # type: ignore[attr-defined]

_DIGITS = 6
_MOST = 10**_DIGITS - 1
_UNITS = {"": 1, "s": 1, "min": 60, "h": 3600}


class FORMAT(argparse.RawDescriptionHelpFormatter):
    """Examples as they are written, a description as wide as the terminal."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


_DASHED = "a name that begins with a dash stands after --"


class _LeftOut(str):
    """What stands for a name that was left out."""


def typed_name(text: str) -> str:
    """A name that was typed, or one that was left out. An empty one is a slip, as of a variable
    that a script has not set: it would mean all, or any."""
    if not text and not isinstance(text, _LeftOut):
        raise argparse.ArgumentTypeError("the name is empty; give one, or leave it out")
    return str(text)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors go the way of all others."""

    _typed: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse has it, with the words kept for what is said of them."""
        self._typed = tuple(args or ())
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        if "required" in message and self._takes_names():
            ours = self._typed[: self._typed.index("--")] if "--" in self._typed else self._typed
            if any(_is_option(one) and not self._knows(one) for one in ours):
                message += f" ({_DASHED})"
        raise InvalidArgument(f"{message}; '{self.prog} --help' shows how")

    def _takes_names(self) -> bool:
        found = self._get_positional_actions()
        return any(not isinstance(one, argparse._SubParsersAction) for one in found)

    def _knows(self, word: str) -> bool:
        """Whether it is an option, or several of one letter."""
        known = self._option_string_actions
        short = not word.startswith("--") and all(f"-{letter}" in known for letter in word[1:])
        return short or word.partition("=")[0] in known

    def unknown(self, words: Sequence[str]) -> InvalidArgument:
        """What to say of words that mean nothing to this parser."""
        from ..alike import near

        options = [each[2:] for each in self._option_string_actions if each.startswith("--")]
        wrong = [each[2:].partition("=")[0] for each in words if each.startswith("--")]
        found = [f"--{one}" for each in wrong for one in near(each, options)]
        said = f"unrecognized arguments: {' '.join(words)}"
        if any(map(_is_option, words)) and not found and self._takes_names():
            said += f" ({_DASHED})"
        error = InvalidArgument(f"{said}; '{self.prog} --help' shows how")
        error.near = tuple(dict.fromkeys(found))
        return error

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Without this all commands that there are would be listed for a slip of the finger."""
        if action.choices is None or value in action.choices:
            return
        from ..alike import near

        error = InvalidArgument(_no_choice(action, value, self.prog), item=str(value))
        error.near = tuple(near(str(value), action.choices))
        raise error

    def _match_arguments_partial(
        self, actions: Sequence[argparse.Action], arg_strings_pattern: str
    ) -> list[int]:
        """Without this an optional argument counts as left out at the first option that stands
        before it, as in `delete web-1 --yes one`."""
        counts = super()._match_arguments_partial(actions, arg_strings_pattern)
        while counts and not counts[-1] and "A" in arg_strings_pattern[sum(counts) :]:
            counts.pop()
        return counts


def _is_option(word: str) -> bool:
    return len(word) > 1 and word.startswith("-")


def _no_choice(action: argparse.Action, value: Any, program: str) -> str:
    if isinstance(action, argparse._SubParsersAction):
        return f"there is no command {value!r}; '{program} --help' lists them"
    called = "/".join(action.option_strings) or action.metavar or action.dest
    known = ", ".join(map(str, action.choices or ()))
    return f"{called}: there is no {value!r}, only {known}"


def add_command(
    commands: Commands, name: str, action: str, summary: str, examples: str, daemon: bool = True
) -> Parser:
    """A command. action: `module.function` under actions; daemon: whether it needs one."""
    lines = "\n".join(f"  {line.strip()}" for line in examples.strip().splitlines())
    parser: Parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"examples:\n{lines}",
        formatter_class=FORMAT,
        allow_abbrev=False,
        parents=[_general()],
    )
    # `policy list` has the format policy-list
    parser.set_defaults(
        action=action,
        daemon=daemon,
        parser=parser,
        format="-".join(parser.prog.split()[1:]) or name,
    )
    return parser


@cache
def _general() -> Parser:
    """The general options of every command; made once, for there are many commands."""
    parser = Parser(add_help=False)
    bus_options(parser, top=False)
    return parser


def bus_options(parser: argparse.ArgumentParser, *, top: bool) -> None:
    """Options that may stand before and after the command; the last of a kind counts."""
    absent: dict[str, Any] = {} if top else {"default": argparse.SUPPRESS}
    bus = {"default": "system"} if top else absent
    group = parser.add_argument_group("general options")
    const: dict[str, Any] = {"action": "store_const", "dest": "bus"}
    group.add_argument(
        "--system", const="system", help="the system's VMs (default)", **const, **bus
    )
    group.add_argument("--session", const="session", help="your own session's VMs", **const, **bus)
    group.add_argument(
        "--bus-address", metavar="ADDR", dest="bus", help="a daemon on another bus", **bus
    )
    flag: dict[str, Any] = {"action": "store_true", **absent}
    group.add_argument("--json", help="one JSON document (virtsnap.schema.json says what)", **flag)
    group.add_argument("--quiet", "-q", help="names or ids only, one a line", **flag)
    group.add_argument("-0", dest="nul", help="as --quiet, with a NUL behind each", **flag)
    group.add_argument("--utc", help="times in UTC, not local", **flag)
    group.add_argument("--iso", help="times as in 2026-11-24T02:30:00+01:00", **flag)
    group.add_argument("--no-ask-password", help="fail where one is needed", **flag)


class Names:
    """What a shell offers for an argument, looked up only when it asks. kind: vm, snapshot (of the
    VM that was typed), foreign, trial (of those, the ones of that origin), policy, job, template,
    file, key (of a policy, with its =)."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
        from ..complete import names

        return names(self.kind, parsed_args)


def offer(action: argparse.Action, kind: str) -> None:
    """Have shells offer names of that kind for an argument; see Names."""
    action.completer = Names(kind)  # type: ignore[attr-defined]  # where argcomplete looks for it


def vm_argument(parser: argparse.ArgumentParser, **how: Any) -> None:
    how = _name({"dest": "vm", "metavar": "VM", "help": "name or UUID of a VM", **how})
    offer(parser.add_argument(**how), "vm")


def snapshot_argument(parser: argparse.ArgumentParser, kind: str = "snapshot", **how: Any) -> None:
    how = _name({"dest": "snapshot", "metavar": "SNAPSHOT", "help": "name of a snapshot", **how})
    offer(parser.add_argument(**how), kind)


def policy_argument(parser: argparse.ArgumentParser, **how: Any) -> None:
    how = _name({"metavar": "NAME", "help": "name of a policy", **how})
    offer(parser.add_argument("policy", **how), "policy")


def policy_option(parser: argparse._ActionsContainer, **how: Any) -> None:
    how = _name({"metavar": "P", "help": "name of a policy", **how})
    offer(parser.add_argument("--policy", **how), "policy")


def new_name(parser: argparse.ArgumentParser, *option: str, **how: Any) -> None:
    """The name of a snapshot that is to be made; none of those that are there is offered."""
    text = "its name; one is made up if left out"
    parser.add_argument(*option, **_name({"metavar": "NAME", "default": "", "help": text, **how}))


def _name(how: dict[str, Any]) -> dict[str, Any]:
    if how.get("default") == "":
        how["default"] = _LeftOut()
    return {"type": typed_name, **how}


def job_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-wait", action="store_true", help="print the job's D-Bus path and leave it to work"
    )


def preview_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preview",
        action="store_true",
        help="do nothing, only show what it would do; exit code 0 = it can be done, 4 = it cannot",
    )


def yes_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", "-y", action="store_true", help="do not ask")


def seconds(text: str) -> int:
    """A duration as `90`, `90s`, `2min` or `1h`."""
    found = re.fullmatch(r"([0-9]+)(s|min|h|)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write 90s, 2min or 1h")
    if len(found[1]) > _DIGITS:
        raise argparse.ArgumentTypeError(f"{text!r} is too long; the most is {_MOST}h")
    return int(found[1]) * _UNITS[found[2]]


def count(text: str) -> int:
    """A number from 1 to 1000."""
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1000")
    return int(text)
