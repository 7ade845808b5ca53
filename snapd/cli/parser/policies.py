"""Commands about policies: list, enable, run, remove, show, validate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .common import (
    add_command,
    count,
    instant,
    job_options,
    offer,
    policy_argument,
    vm_argument,
    yes_option,
)

if TYPE_CHECKING:
    from .common import Commands


def add(commands: Commands) -> None:
    policy = add_command(
        commands,
        "policy",
        "",
        "say which VMs are snapshotted when, and how long that is kept",
        """virtsnap policy list
        virtsnap policy enable nightly
        virtsnap policy run nightly web-1""",
    )
    inner: Commands = policy.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_command(
        inner,
        "list",
        "policies.list_policies",
        "list the policies in force",
        """virtsnap policy list
        virtsnap policy list --json""",
    )
    _coverage(inner)
    _enable(inner)
    _run(inner)
    _remove(inner)
    _show(inner)
    _validate(inner)


def _coverage(commands: Commands) -> None:
    parser = add_command(
        commands,
        "coverage",
        "coverage.coverage",
        "list the VMs that policies cover: whether it works there, when it runs, and how it fares",
        """virtsnap policy coverage
        virtsnap policy coverage nightly
        virtsnap policy coverage --json""",
    )
    policy_argument(parser, nargs="?", default="", help="one policy only")


def _enable(commands: Commands) -> None:
    parser = add_command(
        commands,
        "enable",
        "enable.enable",
        "put a template or a policy file in force, after showing what it would do",
        """virtsnap policy enable nightly
        virtsnap policy enable ./hourly.toml
        virtsnap policy enable nightly --yes""",
    )
    template = parser.add_argument(
        "template", metavar="TEMPLATE|FILE", help="its name, or a path to a .toml"
    )
    offer(template, "template")
    yes_option(parser)


def _run(commands: Commands) -> None:
    parser = add_command(
        commands,
        "run",
        "policies.run",
        "run a policy now: snapshot, then let go what it does not keep",
        """virtsnap policy run nightly
        virtsnap policy run nightly web-1""",
    )
    policy_argument(parser)
    vm_argument(parser, nargs="?", default="")
    job_options(parser)


def _remove(commands: Commands) -> None:
    parser = add_command(
        commands,
        "remove",
        "policies.remove",
        "put a policy out of force that was enabled here; its snapshots stay",
        "virtsnap policy remove nightly",
    )
    policy_argument(parser)
    yes_option(parser)


def _show(commands: Commands) -> None:
    parser = add_command(
        commands,
        "show",
        "show.show",
        "show a policy in force: its file, its next and last run, what is odd about it",
        """virtsnap policy show nightly
        virtsnap policy show nightly --json""",
    )
    policy_argument(parser)


def _validate(commands: Commands) -> None:
    parser = add_command(
        commands,
        "validate",
        "validate.validate",
        "check a policy file as the daemon would, without the daemon; exit code 0 valid, 2 invalid",
        """virtsnap policy validate nightly.toml
        virtsnap policy validate nightly.toml --after 2026-10-25T00:00Z --count 3""",
        daemon=False,
    )
    offer(parser.add_argument("file", metavar="FILE", help="a policy file"), "file")
    parser.add_argument("--after", metavar="TIME", type=instant, help="slots after this time")
    parser.add_argument("--count", metavar="N", type=count, default=5, help="how many slots (5)")
