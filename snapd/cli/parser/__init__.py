"""What can be typed: the whole tree of commands, a file a noun, without importing what they do."""

from __future__ import annotations

from argparse import Namespace

from ... import __version__
from ...errors import InvalidArgument
from . import keeping, looking, policies, snapshots, system, trials, watching
from .common import FORMAT, Parser, bus_options
from .optional import spell_out

HELP = "help"
EPILOG = """\
examples:
  virtsnap                               what is protected, what is next, what is wrong
  virtsnap policy enable nightly         protect every VM, every night
  virtsnap create web-1 before-upgrade   take a snapshot now
  virtsnap revert web-1 before-upgrade   go back to it
  virtsnap list web-1 --json             for scripts
  virtsnap delete -- -vm -snapshot       names that begin with a dash

exit codes:
  0 done    1 failed    2 wrong usage    3 not found    4 refused, nothing changed
  5 not authorized    6 virtsnapd or libvirt unavailable    130 interrupted
  virtsnap check: 0 OK    1 WARNING    2 CRITICAL    3 UNKNOWN
  virtsnap with: the command's own, or 125 nothing was run    126 not executable    127 not found
"""


def build() -> Parser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="virtsnap",
        description="Scheduled, retained, safe snapshots of libvirt VMs.",
        epilog=EPILOG,
        formatter_class=FORMAT,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"virtsnap {__version__}")
    bus_options(parser, top=True)
    parser.set_defaults(action="status.status", daemon=True, parser=parser, format="status")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    system.add(commands)
    looking.add(commands)
    watching.add(commands)
    snapshots.add(commands)
    trials.add(commands)
    keeping.add(commands)
    policies.add(commands)
    return parser


def parse(arguments: list[str]) -> Namespace:
    """The command line, read. `action` names a function of the actions, `daemon` says whether it
    needs one. Raises InvalidArgument."""
    if command_of(arguments) == HELP:
        arguments = _with_help(arguments)
    of_with = command_of(arguments) == trials.WITH
    ours, behind = trials.split(arguments) if of_with else (arguments, [])
    parser = build()
    args: Namespace
    try:
        args, unknown = parser.parse_known_args(spell_out(ours))
    except InvalidArgument:
        if behind[1:2] != ["--"]:
            raise
        # `with -- -vm -- COMMAND`: the first dashes keep the VM from being an option
        args, unknown = parser.parse_known_args([*spell_out(ours), "--", behind[0]])
        behind = behind[2:]
    if unknown:
        raise args.parser.unknown(unknown)
    several = [one for one in vars(args).values() if isinstance(one, list)]
    for value in [*vars(args).values(), *(each for one in several for each in one)]:
        if isinstance(value, str) and not _is_text(value):
            raise InvalidArgument(f"argument {value!r} is not UTF-8: no name on the bus can be it")
    if of_with:
        if args.command:
            raise InvalidArgument(f"write -- before the command: -- {args.command[0]}")
        args.command = behind  # as it was typed, in whatever encoding
    return args


def _with_help(arguments: list[str]) -> list[str]:
    """`help policy list` as `policy list --help`."""
    at = arguments.index(HELP)
    return [*arguments[:at], *arguments[at + 1 :], "--help"]


def command_of(arguments: list[str]) -> str:
    """The command that is meant, also where the rest means nothing; "" = none."""
    words = iter(arguments)
    for word in words:
        if word == "--bus-address":
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
