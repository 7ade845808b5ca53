"""Commands about policies and what they keep: policy with all that it has, preview."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .common import (
    add_command,
    count,
    job_options,
    offer,
    policy_argument,
    policy_option,
    vm_argument,
    yes_option,
)
from .moments import coming, instant

if TYPE_CHECKING:
    from .common import Commands


def add(commands: Commands) -> None:
    policy = add_command(
        commands,
        "policy",
        "",
        "say which VMs are snapshotted when, and how long that is kept",
        """virtsnap policy enable nightly              begin: put a template in force
        virtsnap policy list                        what is in force
        virtsnap policy coverage nightly            which VMs it covers, and whether it works
        virtsnap policy run nightly web-1           do not wait for the night
        virtsnap policy show nightly                how it reads, how it fares
        virtsnap policy set nightly keep.daily=14   change a key of it
        virtsnap policy edit nightly                change any of it, in your editor
        virtsnap preview web-1 --policy nightly     what it keeps and lets go
        virtsnap policy confirm nightly web-1       agree to a prune that waits
        virtsnap hold web-1 --policy nightly        have it leave a VM alone for a while
        virtsnap policy remove nightly              the end: its snapshots stay""",
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
    _edit(inner)
    _set(inner)
    _confirm(inner)
    _validate(inner)
    _preview(commands)


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


def _edit(commands: Commands) -> None:
    parser = add_command(
        commands,
        "edit",
        "policy_edit.edit",
        "change a policy in your editor ($VISUAL, $EDITOR): what is not valid is said, and what "
        "changes is shown before it is set",
        """virtsnap policy edit nightly
        virtsnap policy edit nightly --yes""",
    )
    policy_argument(parser)
    yes_option(parser)


def _set(commands: Commands) -> None:
    parser = add_command(
        commands,
        "set",
        "policy_edit.set_keys",
        "change keys of a policy, after showing what changes; virtsnapd-policy(5) has every key",
        """virtsnap policy set nightly keep.daily=14 keep.weekly=4
        virtsnap policy set nightly 'schedule=30 3 * * *'
        virtsnap policy set nightly domains=web-*,db-1     a list
        virtsnap policy set nightly limits.max_age=        none any more
        virtsnap policy set nightly limits.min_free=20GiB --yes""",
    )
    policy_argument(parser)
    changes = parser.add_argument(
        "changes",
        metavar="KEY=VALUE",
        nargs="+",
        help="a key as in a policy file, those of tables as keep.daily; KEY= takes it out",
    )
    offer(changes, "key")
    yes_option(parser)


def _confirm(commands: Commands) -> None:
    parser = add_command(
        commands,
        "confirm",
        "retention.confirm_prune",
        "let retention delete from a VM what it waits to have confirmed, since it is more than "
        "half of its snapshots; shows what goes and why, and asks",
        """virtsnap policy confirm nightly web-1
        virtsnap policy confirm nightly web-1 --yes""",
    )
    policy_argument(parser)
    vm_argument(parser)
    yes_option(parser)
    job_options(parser)


def _preview(commands: Commands) -> None:
    parser = add_command(
        commands,
        "preview",
        "retention.preview",
        "show what retention keeps of a VM, what it lets go, and why; nothing is done; -q names "
        "what would go",
        """virtsnap preview web-1
        virtsnap preview web-1 --policy nightly
        virtsnap preview web-1 --at 2026-12-24             as if it were that day
        virtsnap preview web-1 --at 4w                     as if it were in four weeks
        virtsnap preview web-1 --file ./nightly.toml       as if nightly were that file
        virtsnap preview web-1 --policy nightly --file ./other.toml""",
    )
    vm_argument(parser)
    policy_option(parser, default="", help="what this one made only (all of them)")
    parser.add_argument(
        "--at", metavar="TIME", type=coming, help="as if it were then, or so much later: 3h, 2d, 1w"
    )
    file = parser.add_argument(
        "--file",
        metavar="FILE",
        help="as if the policy, else the one of that name, were this policy file",
    )
    offer(file, "file")


def _validate(commands: Commands) -> None:
    parser = add_command(
        commands,
        "validate",
        "validate.validate",
        "check a policy file as the daemon would, without the daemon; exit code 0 valid, 2 invalid",
        """virtsnap policy validate nightly.toml
        virtsnap policy validate nightly.toml --after 2026-10-25T00:00Z --count 3
        virtsnap policy validate -      what comes on standard input""",
        daemon=False,
    )
    what = "a policy file, - for standard input"
    offer(parser.add_argument("file", metavar="FILE", help=what), "file")
    parser.add_argument("--after", metavar="TIME", type=instant, help="slots after this time")
    parser.add_argument("--count", metavar="N", type=count, default=5, help="how many slots (5)")
