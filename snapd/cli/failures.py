"""Errors as a sentence with the way out, and as an exit code."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import SnapdError, by_name
from ..wire import fault
from ..wire.fault import WireError
from .output import times
from .output.screen import Screen
from .output.text import command, on_bus

FAILED, NOT_AUTHORIZED, UNAVAILABLE = 1, 5, 6
_ERROR = f"{fault.FREEDESKTOP}.Error."
_SYSTEMD = "org.freedesktop.systemd1."
_NOT_RUNNING = (fault.SERVICE_UNKNOWN, fault.NAME_HAS_NO_OWNER)
_OLDER = tuple(_ERROR + f"Unknown{what}" for what in ("Method", "Interface", "Object", "Property"))


_LOST = (fault.DISCONNECTED, fault.NO_REPLY)


class Unanswered(WireError):
    """No answer to a call that changes something, which may have been done. job: it makes one."""

    def __init__(self, error: WireError, *, job: bool) -> None:
        super().__init__(error.name, error.text)
        self.job = job


class JobFailed(Exception):
    """A job that did not end well. row: its properties and Path."""

    def __init__(self, row: dict[str, Any]) -> None:
        super().__init__(row["ErrorMessage"])
        self.row = row


def report(screen: Screen, error: Exception) -> int:
    """Show an error on standard error; the exit code that it means."""
    if isinstance(error, JobFailed):
        return _job(screen, error.row)
    if isinstance(error, WireError):
        sentence, code = explain(error, screen.bus)
        hints = _ways_in(code, sentence, screen.bus)
        return _show(screen, error.name, sentence, {}, code, hints=hints)
    if not isinstance(error, SnapdError):
        raise error
    detail = {
        key: value
        for key, value in {
            "Reason": error.reason,
            "Disk": error.disk,
            "Item": error.item,
            "Need": error.need,
            "Have": error.have,
            "Ways": list(error.ways),
            "Near": list(error.near),
        }.items()
        if value
    }
    hints = [*getattr(error, "__notes__", ())]
    hints += _ways_in(error.exit_code, error.message, screen.bus)
    if error.near:
        from .alike import told

        hints.insert(0, told(error.near))
    return _show(screen, error.name, error.message, detail, error.exit_code, hints=hints)


def unwritten(screen: Screen, error: OSError) -> int:
    """Say that the answer found no room; what was asked for may have been done."""
    sentence = f"the answer cannot be written: {error.strerror}"
    return _show(screen, "CannotWrite", sentence, {}, FAILED)


def _job(screen: Screen, row: dict[str, Any]) -> int:
    kind = by_name(row["ErrorName"])
    code = kind.exit_code if kind else FAILED
    message = row["ErrorMessage"] or f"the job ended as {row['State']}"
    return _show(screen, row["ErrorName"], message, row["ErrorDetail"], code, row)


def _show(
    screen: Screen,
    name: str,
    sentence: str,
    detail: dict[str, Any],
    code: int,
    job: Mapping[str, Any] | None = None,
    hints: Sequence[str] = (),
) -> int:
    """job: the row of the one that failed. hints: lines for people behind the sentence."""
    sentence = on_bus(sentence, screen.bus)
    job = job or {}
    number = f" (job {job['Path'].rpartition('/')[2]})" if job else ""
    lines = [f"virtsnap: {times.local(sentence)}{number}"]
    if detail.get("Ways"):
        from .output import ways  # not before: it needs dataclasses, 20 ms

        told = ways.told(detail["Ways"], screen.bus, {**job, **detail})
        lines += [f"  way out: {way}" for way in told if way not in sentence]
    lines += [f"  {hint}" for hint in hints]
    about = {**detail, "Job": job["Path"]} if job else detail
    screen.failure(lines, {"error": name, "message": sentence, "detail": about})
    return code


def explain(error: WireError, bus: str) -> tuple[str, int]:
    """An error of the bus itself: what it means here, and its exit code."""
    place = {"system": "the system bus", "session": "the session bus"}.get(bus, "that bus")
    if error.name == f"{_SYSTEMD}UnitMasked":
        user = "--user " if bus == "session" else ""
        how = f"an admin wants it so; to have it back: systemctl {user}unmask virtsnapd"
        return f"virtsnapd is masked and so not started on {place}: {how}", UNAVAILABLE
    if error.name in _NOT_RUNNING or error.name.startswith((f"{_ERROR}Spawn.", _SYSTEMD)):
        why = "" if error.name in _NOT_RUNNING else f" ({error.text})"
        return f"virtsnapd is not running on {place}{why}; {_start(bus)}", UNAVAILABLE
    if error.name == fault.NO_SERVER:
        return f"{place} cannot be reached: {error.text}{_other_bus(error, bus)}", UNAVAILABLE
    if is_lost(error):
        return f"virtsnapd on {place} {_unanswered(error, bus)}", UNAVAILABLE
    if error.name == f"{_ERROR}InteractiveAuthorizationRequired":
        which = error.text.partition(";")[0]
        return f"a password is needed and nobody may be asked ({which})", NOT_AUTHORIZED
    if error.name in (f"{_ERROR}AccessDenied", f"{_ERROR}AuthFailed"):
        return f"{place} does not let you: {error.text}", NOT_AUTHORIZED
    if error.name in _OLDER:
        what = "virtsnapd does not know that (an older version?)"
        return f"{what}: {error.text}; restart it after an upgrade", FAILED
    return f"{error.text or 'it failed'} ({error.name})", FAILED


def is_lost(error: WireError) -> bool:
    """Whether a call has no answer, and nobody knows what became of it."""
    return error.name in _LOST


def _unanswered(error: WireError, bus: str) -> str:
    _, within, seconds = error.text.rpartition(" within ")
    how = f"did not answer within {seconds}" if within else f"did not answer ({error.text})"
    if isinstance(error, Unanswered):
        maybe = "what was asked for may have been begun all the same"
        return f"{how}; {maybe}" + (f": {command(bus, 'jobs')} shows it" if error.job else "")
    user = {"system": "", "session": "--user "}.get(bus)
    return how if user is None else f"{how}; what it is at: systemctl {user}status virtsnapd"


def _ways_in(code: int, sentence: str, bus: str) -> list[str]:
    """What to try where a password is wanted. A plain no of polkit's has no way in."""
    wanted = code == NOT_AUTHORIZED and "needs a password" in sentence
    if not wanted or bus != "system" or os.geteuid() == 0:
        return []
    return [
        "as root, who is asked for nothing here: sudo virtsnap ...",
        "where a password can be typed: on a terminal with pkttyagent (ssh -t HOST virtsnap ...) "
        "or a desktop, without --no-ask-password",
    ]


def is_gone(error: Exception) -> bool:
    """Whether a bus could not be reached since nobody is at its address."""
    return isinstance(error.__cause__, (FileNotFoundError, ConnectionRefusedError))


def _other_bus(error: WireError, bus: str) -> str:
    """What to do about a bus that cannot be reached, where that is known."""
    if bus == "session":
        return "; there is none after su or sudo: log in as that user"
    if bus == "system":
        return "; start it: systemctl start dbus" if is_gone(error) else ""
    wrong = error.__cause__ is None or isinstance(error.__cause__, ValueError)
    if wrong or is_gone(error):
        return "; give --bus-address one that runs, unix:path=SOCKET, or leave it out"
    return ""


def _start(bus: str) -> str:
    if bus == "system":
        return "start it: systemctl enable --now virtsnapd (your own VMs: virtsnap --session)"
    if bus == "session":
        return "start it: systemctl --user enable --now virtsnapd (the system's: virtsnap --system)"
    return "start it: virtsnapd --bus-address ADDR --connect URI --config DIR --state DIR"
