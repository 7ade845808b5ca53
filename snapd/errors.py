"""The one exception tree: a class here is a D-Bus error name and a CLI exit code.

A message is one line: what happened, to which VM, why, and the way out. It names files by their
base name only and holds no traceback; the wire room removes control characters.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

PREFIX = "org.virtsnap.Error."


class SnapdError(Exception):
    """Base of all errors that a caller may see; `name` is the D-Bus error name.

    detail: data for programs beside the sentence (API.md, Job.ErrorDetail): `reason` (a reason
    word), `disk`, `item`, `need` and `have` (bytes), `ways` (words). near: names that may have
    been meant, which only a client looks for.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        disk: str = "",
        item: str = "",
        need: int | None = None,
        have: int | None = None,
        ways: Iterable[str] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.disk = disk
        self.item = item
        self.need = need
        self.have = have
        self.ways = tuple(ways)
        self.near: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The D-Bus error name, `org.virtsnap.Error.` and the class."""
        return PREFIX + type(self).__name__


class InvalidName(SnapdError):
    """A snapshot name that some libvirt would lose, refuse or never delete."""

    exit_code = 2


class InvalidArgument(SnapdError):
    """An argument, option or policy value that means nothing here."""

    exit_code = 2


class NoSuchDomain(SnapdError):
    """No VM of that name or UUID at this libvirt URI."""

    exit_code = 3


class NoSuchSnapshot(SnapdError):
    """The VM has no snapshot of that name."""

    exit_code = 3


class NoSuchPolicy(SnapdError):
    """No policy of that name is in force."""

    exit_code = 3


class AlreadyExists(SnapdError):
    """The name is taken, in libvirt's list or inside an image."""

    exit_code = 4


class Changed(SnapdError):
    """What is there now is not what the caller looked at."""

    exit_code = 4


class Unsupported(SnapdError):
    """This VM, libvirt or version cannot do it; `reason` says which rule."""

    exit_code = 4


class Busy(SnapdError):
    """Somebody else is at work on the VM; the message names the holder."""

    exit_code = 4


class NeedsForce(SnapdError):
    """Possible, but something would be lost that the caller has to name."""

    exit_code = 4


class PreflightFailed(SnapdError):
    """Something that the verb needs is missing; nothing was touched."""

    exit_code = 4


class NoSpace(SnapdError):
    """Not enough room on the file system of an image; nothing was written."""

    exit_code = 4


class AgentUnavailable(SnapdError):
    """Quiescing was required and the guest agent does not answer."""

    exit_code = 4


class PermissionDenied(SnapdError):
    """libvirt or the host refused access to a file."""

    exit_code = 4


class NotAuthorized(SnapdError):
    """The caller may not do this; final."""

    exit_code = 5


class Unavailable(SnapdError):
    """No libvirt, or it is still being read."""

    exit_code = 6


class OutcomeUnknown(SnapdError):
    """The call broke off: it may have been carried out or not."""


class Partial(SnapdError):
    """Some of it is done, some is not; the message says what."""


class Inconsistent(SnapdError):
    """libvirt's record and the images disagree."""

    exit_code = 4


class Protected(SnapdError):
    """Pinned, an admin's file, or in use."""

    exit_code = 4


class TimedOut(SnapdError):
    """The wait ended, the work goes on."""


class Cancelled(SnapdError):
    """The job was cancelled before it changed anything."""


class LimitExceeded(SnapdError):
    """Too many calls or requests at once."""


class LibvirtError(SnapdError):
    """Any other libvirt error: number, domain and its one line."""


class Internal(SnapdError):
    """A fault of ours; the id is in the journal."""


def without_vm(message: str, vm: str) -> str:
    """A message without the VM that it begins with, where that one is named before it."""
    return message.removeprefix(f"VM {vm}: ")


def by_name(name: str) -> type[SnapdError] | None:
    """The class of a D-Bus error name; None where it isn't one of ours."""
    return _TREE.get(name)


_TREE = {PREFIX + cls.__name__: cls for cls in SnapdError.__subclasses__()}
