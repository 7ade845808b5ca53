"""A desktop's polkit agent, without a person: it sees each dialog, and is told what to answer."""

from __future__ import annotations

import os
import queue
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snapd.wire.messages import Incoming
from snapd.wire.values import Variant, unwrap
from tests.client import Client

POLKIT = "org.freedesktop.PolicyKit1"
AUTHORITY = ("/org/freedesktop/PolicyKit1/Authority", f"{POLKIT}.Authority")
PATH = "/agent"
CANCELLED = f"{POLKIT}.Error.Cancelled"


@dataclass(frozen=True)
class Dialog:
    """What a person would see."""

    action: str
    message: str
    cookie: str
    call: Incoming


class Agent:
    """For all connections of this process, whoever's they are. dialogs: those that opened;
    cancelled: the cookies of those that polkit closed."""

    def __init__(self, root: Client) -> None:
        self._root = root
        self._uid = os.getuid()
        self.dialogs: queue.Queue[Dialog] = queue.Queue()
        self.cancelled: queue.Queue[str] = queue.Queue()
        self._open: dict[str, Dialog] = {}
        root.bus.serve(self._on_call)
        self._subject = ["unix-process", _this_process()]
        self._tell("RegisterAuthenticationAgent", "(sa{sv})ss", self._subject, "C", PATH)

    def close(self) -> None:
        self._tell("UnregisterAuthenticationAgent", "(sa{sv})s", self._subject, PATH)

    def dialog(self) -> Dialog:
        """The next one that opens."""
        return self.dialogs.get(timeout=20)

    def password(self, dialog: Dialog) -> None:
        """Give the right one of an admin's: here root's."""
        admin = ["unix-user", {"uid": Variant("u", 0)}]
        respond = ("AuthenticationAgentResponse2", "us(sa{sv})", self._uid, dialog.cookie, admin)
        self._tell(*respond)
        self._end(dialog)

    def dismiss(self, dialog: Dialog) -> None:
        self._end(dialog, CANCELLED)

    def _tell(self, member: str, sig: str, *body: Any) -> None:
        self._root.run(self._root.bus.call(POLKIT, *AUTHORITY, member, sig, *body))

    def _end(self, dialog: Dialog, error: str = "") -> None:
        async def end() -> None:
            if error:
                self._root.bus.error(dialog.call, error, "no")
            else:
                await self._root.bus.reply(dialog.call, "", list)

        self._root.run(end())

    def _on_call(self, call: Incoming) -> None:
        if call.member == "BeginAuthentication":
            action, message, _icon, _details, cookie, _who = unwrap(call.body)
            self._open[cookie] = Dialog(action, message, cookie, call)
            self.dialogs.put(self._open[cookie])
            return
        assert call.member == "CancelAuthentication", call
        (cookie,) = call.body
        self._root.bus.error(self._open[cookie].call, CANCELLED, "closed")
        self._root.bus.error(call, CANCELLED, "closed")  # polkit does not wait for an answer
        self.cancelled.put(cookie)


def _this_process() -> dict[str, Variant]:
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return {"pid": Variant("u", os.getpid()), "start-time": Variant("t", int(fields[19]))}
