"""A machine as an object: see `machine` beside this, which boots it, and conftest.py."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tests.bed import recipe

T = TypeVar("T")
Row = dict[str, Any]
SCRIPT = Path(__file__).with_name("machine")
STATES = Path("/run/virtsnapd-machines")
SERVICE = "org.virtsnap.Snapd1"
MANAGER = "/org/virtsnap/Snapd1"


class Failed(AssertionError):
    """A command in a machine failed: its words, its status, what it printed."""


class Machine:
    """A booted machine. Commands are words, or one string for sh; output comes without the last
    newline. A user is root unless told: see conftest.USERS."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._keeper: subprocess.Popen[bytes] | None = None

    def up(self, root: Path) -> None:
        """Boot on an overlay of root. From now on the machine ends with this process."""
        # First: it outlives us by a moment, however we end, and takes the machine down.
        self._keeper = subprocess.Popen(
            [SCRIPT, "keep", self.name], stdin=subprocess.PIPE, start_new_session=True
        )
        guest = recipe.build()
        words = ["--root", str(root), "--bind", f"{guest}:{guest}", "--owner", str(os.getpid())]
        _script("up", *words, self.name)

    def down(self) -> None:
        """End it at once, and remove every trace of it."""
        assert self._keeper is not None
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        assert self._keeper.wait(timeout=60) == 0

    def reboot(self, *, cut: bool = False) -> None:
        """Power off in order (logind tells, services stop) and boot again: /run and /tmp are new,
        everything else stays. Guests that run are shut down, by libvirt-guests, or die.
        cut: not in order, but as when the power fails."""
        _script("reboot", self.name, *(["cut"] if cut else []))

    def ran(
        self,
        command: str | Sequence[str],
        *,
        user: str | None = None,
        text: str | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, however it ends; `text` is its standard input."""
        words = ["sh", "-c", command] if isinstance(command, str) else list(command)
        if user is not None:
            words = ["runuser", "-u", user, "--", *words]
        return subprocess.run(
            [SCRIPT, "run", self.name, "--", *words],
            input=text or "",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )

    def run(
        self,
        command: str | Sequence[str],
        *,
        user: str | None = None,
        check: bool = True,
        text: str | None = None,
        timeout: float = 60,
    ) -> str:
        """Run a command and return its output; raise Failed if it fails, unless check is False:
        what it said on standard error comes after the output then."""
        done = self.ran(command, user=user, text=text, timeout=timeout)
        if check and done.returncode != 0:
            shown = command if isinstance(command, str) else shlex.join(command)
            raise Failed(f"{shown}: status {done.returncode}: {done.stdout}{done.stderr}".strip())
        return (done.stdout if check else done.stdout + done.stderr).strip("\n")

    def copy(self, *sources: Path, to: str) -> None:
        """Copy files and trees of the host into a folder of the machine, owned by root."""
        _script("cp", self.name, *map(str, sources), to)

    def write(self, path: str, text: str) -> None:
        """Write a file, with its folders."""
        self.run(f"mkdir -p {shlex.quote(str(Path(path).parent))}")
        self.run(["tee", path], text=text)

    def wait(self, condition: Callable[[], T], seconds: float = 30, what: str = "") -> T:
        """Wait until condition() is true, and return it. Failed counts as not yet."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                last: object = (found := condition())
                if found:
                    return found
            except Failed as e:
                last = e
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:g} s: {what or condition}: {last!r}")
            time.sleep(0.1)

    # --- systemd

    def systemctl(self, *words: str, check: bool = True) -> str:
        return self.run(["systemctl", *words], check=check)

    def show(self, unit: str, key: str) -> str:
        """A property of a unit, as `systemctl show` has it."""
        return self.run(["systemctl", "show", "--value", "--property", key, unit])

    def failed(self) -> list[str]:
        """The units that have failed."""
        return self.run("systemctl --failed --plain --no-legend | cut -d' ' -f1").split()

    def journal(self, *words: str, boot: int = 0, **fields: str) -> list[Row]:
        """The journal's entries of a boot (0 this, -1 the last) that have all these fields, oldest
        first, with all their fields; words: more for journalctl. Fields that begin with _ too:
        journal(_SYSTEMD_UNIT="virtsnapd.service"), journal(MESSAGE_ID=...)."""
        self.run("journalctl --sync")
        matches = [f"{key}={value}" for key, value in fields.items()]
        command = ["journalctl", "-q", "--all", "-o", "json", f"--boot={boot}", *words, *matches]
        return [json.loads(line) for line in self.run(command).splitlines()]

    def session(self, user: str) -> list[str]:
        """Words that put a command into a user's own session, whose systemd and bus then run:
        machine.run([*machine.session("member"), "systemctl", "--user", "status"])."""
        self.run(["loginctl", "enable-linger", user])
        runtime = f"/run/user/{self.run(['id', '-u', user])}"
        self.wait(lambda: self.ran(["test", "-S", f"{runtime}/bus"]).returncode == 0)
        places = [f"XDG_RUNTIME_DIR={runtime}", f"DBUS_SESSION_BUS_ADDRESS=unix:path={runtime}/bus"]
        return ["runuser", "-u", user, "--", "env", f"HOME=/home/{user}", *places]

    # --- virtsnapd

    def virtsnap(self, *words: str, user: str | None = None, check: bool = True) -> str:
        """The CLI's output."""
        return self.run(["virtsnap", *words], user=user, check=check, timeout=120)

    def virtsnap_json(self, *words: str, user: str | None = None) -> Any:
        return json.loads(self.virtsnap(*words, "--json", user=user))

    def busctl(self, *words: str, user: str | None = None, check: bool = True) -> str:
        return self.run(["busctl", *words], user=user, check=check)

    def call(
        self,
        method: str,
        signature: str = "",
        *values: str,
        path: str = MANAGER,
        user: str | None = None,
    ) -> list[Any]:
        """Call a method of the API by busctl and return its out arguments, without variants.
        method: a Manager's, or with its interface, as Job.Wait. Values as busctl wants them: an
        array or dict begins with its length. An error raises Failed with its message."""
        interface, _, member = (
            f"{SERVICE}.{method if '.' in method else f'Manager.{method}'}".rpartition(".")
        )
        words = ["--json=short", "call", SERVICE, path, interface, member]
        answer = self.busctl(*words, *([signature, *values] if signature else []), user=user)
        return [_plain(value) for value in json.loads(answer)["data"]] if answer else []

    def done(self, job: str, *, user: str | None = None) -> Row:
        """Wait for a job and return its result; its error raises Failed."""
        return dict(
            self.call("Job.Wait", "a{sv}", "1", "timeout", "u", "60", path=job, user=user)[0]
        )

    def get(self, path: str, key: str) -> Any:
        """A property: get(MANAGER, "Manager.Connected")."""
        interface, _, member = f"{SERVICE}.{key}".rpartition(".")
        answer = self.busctl("--json=short", "get-property", SERVICE, path, interface, member)
        return _plain(json.loads(answer))

    # --- from outside

    def inside(self, path: str) -> Path:
        """A path of the machine, for this process. Links in it with a `/` first lead astray."""
        pid = (STATES / self.name / "init").read_text().split()[0]
        return Path(f"/proc/{pid}/root{path}")


def _script(*words: str) -> None:
    done = subprocess.run([SCRIPT, *words], capture_output=True, text=True, timeout=180)
    if done.returncode != 0:
        raise Failed(f"machine {shlex.join(words)}: {done.stderr.strip()}")


def _plain(value: Any) -> Any:
    """busctl's JSON without its variants, which are objects of type and data."""
    if isinstance(value, dict):
        if value.keys() == {"type", "data"}:
            return _plain(value["data"])
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
