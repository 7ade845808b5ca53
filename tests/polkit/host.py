"""A host of our own: a real system bus and a real polkitd, users, and virtsnapd as it is installed.

The system bus, polkit's folders and the users' files have no option for another place. So this
process leaves the machine's mount namespace, and in its own they are those of a scratch folder.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bed.private import leave_the_machine
from tests.client import TOP, Client, Daemon

SOCKET = Path("/run/dbus/system_bus_socket")
ADDRESS = f"unix:path={SOCKET}"
POLKITD = "/usr/lib/polkit-1/polkitd"
SERVICE = "virtsnapd"
MEMBER = "member"
"""In the group libvirt: the rule that we ship is for him. The others are in no group."""
PLAIN = ("plain", "asked", "leaver")
"""No rule says a word of them, so what the actions themselves say holds."""
RULES = {"allowed": "YES", "denied": "NO", "reverter": "revert", "planner": "policy"}
"""Users with a rule of the tests' for everything; or YES for that one action and no more said."""
USERS = {name: 64100 + n for n, name in enumerate((SERVICE, MEMBER, *PLAIN, *RULES))}
ROOT = "root"
PASSWORD = "open sesame"
"""Root's, who is the only admin here."""
_HASH = (
    "$6$virtsnap$NBWq6tpLX65bYtE.3o.OOr4.1HSTxCePohcfyHhsI9eUXLFrsXQos7rob1//m08sqGaQmlUS08HPQpbFQ"
    "Azh51"
)

RULES_SECONDS = 5.0
"""What the daemon of the tests waits for polkit, so that nobody waits long for a dead one."""
ENTRY = (
    "import snapd.bus.polkit as it; "
    f"it.RULES_SECONDS = {RULES_SECONDS}; "
    "from snapd.__main__ import main; main()"
)

TEST_RULES = """
polkit.addRule(function(action, subject) {
    var rules = %s;
    var rule = rules[subject.user];
    if (action.id.indexOf("org.virtsnap.snapd1.") !== 0 || rule === undefined) {
        return polkit.Result.NOT_HANDLED;
    }
    var asked = {user: subject.user, action: action.id};
    ["domain", "uuid", "snapshot", "policy", "verb", "created", "identity"].forEach(function(key) {
        asked[key] = action.lookup(key);
    });
    polkit.spawn(["/bin/sh", "-c", 'printf "%%s\\\\n" "$1" >>"$0"', "%s", JSON.stringify(asked)]);
    if (rule === "YES" || rule === "NO") {
        return polkit.Result[rule];
    }
    return action.id === "org.virtsnap.snapd1." + rule ? polkit.Result.YES : undefined;
});
"""


class Host:
    """Made in a process that has no threads yet; close() ends all that it started."""

    def __init__(self) -> None:
        leave_the_machine()
        self.scratch = Path(tempfile.mkdtemp(prefix="virtsnapd-polkit-", dir="/var/tmp"))
        self.scratch.chmod(0o755)
        self._covered: list[str] = []
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._clients: dict[str, Client] = {}
        self._record = self.scratch / "asked" / "record"
        self._users()
        self._files()
        self._start("bus", "dbus-daemon", "--system", "--nofork", "--nopidfile")
        _until("a system bus", SOCKET.exists)
        self.root = self.client(ROOT)
        self.polkit(on=True)
        self.daemon = Service(self.scratch / "service", "test://{copy}/host.xml")

    def close(self) -> None:
        try:
            if hasattr(self, "daemon") and self.daemon.running:
                self.daemon.close()
        finally:
            for client in self._clients.values():
                client.__exit__(None, None, None)
            for process in self._running.values():
                process.kill()
                process.wait(10)
            for place in reversed(self._covered):
                subprocess.run(["umount", "--lazy", place], check=True)
            shutil.rmtree(self.scratch)

    # --- who is there

    def client(self, user: str) -> Client:
        """A connection of that user's, the same one each time."""
        if user not in self._clients:
            self._clients[user] = self.another(user)
        return self._clients[user]

    def another(self, user: str) -> Client:
        """One more connection of that user's, which the caller closes."""
        with _as(user):
            return Client(ADDRESS)

    def uid(self, user: str) -> int:
        return 0 if user == ROOT else USERS[user]

    def asked(self) -> list[dict[str, Any]]:
        """What polkitd was asked about the users of RULES, since the last time."""
        lines = self._record.read_text().splitlines()
        self._record.write_text("")
        return [json.loads(line) for line in lines]

    # --- polkit

    def polkit(self, *, on: bool) -> None:
        """Start polkitd, or have it be gone: nothing on this bus starts it by itself."""
        if on:
            self._start("polkit", POLKITD, "--no-debug")
        else:
            gone = self._running.pop("polkit")
            gone.kill()
            gone.wait(10)
        _until("polkitd", lambda: self._owned("org.freedesktop.PolicyKit1") is on)

    def hang(self, on: bool) -> None:
        """Have polkitd stand still, as with a rule that does not end."""
        self._running["polkit"].send_signal(signal.SIGSTOP if on else signal.SIGCONT)

    def _owned(self, name: str) -> bool:
        (owned,) = self.root.run(self.root.bus.bus_call("NameHasOwner", "s", name))
        return bool(owned)

    # --- what is where

    def _users(self) -> None:
        passwd, group = Path("/etc/passwd").read_text(), Path("/etc/group").read_text()
        lines = [line for line in group.splitlines() if not line.startswith("libvirt:")]
        lines.append(f"libvirt:x:64099:{MEMBER}")
        for name, uid in USERS.items():
            passwd += f"{name}:x:{uid}:{uid}::/nonexistent:/usr/sbin/nologin\n"
            lines.append(f"{name}:x:{uid}:")
        self._cover("/etc/passwd", text=passwd)
        self._cover("/etc/group", text="\n".join(lines) + "\n")
        self._cover("/etc/shadow", text=f"root:{_HASH}:20000:0:99999:7:::\n")

    def _files(self) -> None:
        """The bus with its own system.conf, polkit's folders with our files alone."""
        bus = {"org.virtsnap.Snapd1.conf": _ours("org.virtsnap.Snapd1.conf")}
        polkits = Path("/usr/share/dbus-1/system.d/org.freedesktop.PolicyKit1.conf")
        bus[polkits.name] = polkits.read_text()
        self._cover("/run/dbus", {})
        self._cover("/usr/share/dbus-1/system.d", bus)
        self._cover("/etc/dbus-1/system.d", {})
        self._cover("/usr/share/dbus-1/system-services", {})
        actions = {"org.virtsnap.snapd1.policy": _ours("org.virtsnap.snapd1.policy")}
        self._cover("/usr/share/polkit-1/actions", actions)
        shipped = {"60-virtsnapd.rules": _ours("org.virtsnap.snapd1.rules")}
        self._cover("/usr/share/polkit-1/rules.d", shipped)
        self._record.parent.mkdir()
        self._record.touch()
        self._record.chmod(0o666)
        rules = TEST_RULES % (json.dumps(RULES), self._record)
        self._cover("/etc/polkit-1/rules.d", {"10-tests.rules": rules})

    def _cover(self, place: str, files: Mapping[str, str] | None = None, text: str = "") -> None:
        """Have that file or folder of the machine's be another one, for us alone."""
        made = self.scratch / place.strip("/").replace("/", "-")
        if files is None:
            made.write_text(text)
        else:
            made.mkdir()
            for name, content in files.items():
                (made / name).write_text(content)
            Path(place).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", str(made), place], check=True)
        self._covered.append(place)

    def _start(self, name: str, *command: str) -> None:
        log = (self.scratch / f"{name}.log").open("ab")
        with log:
            self._running[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )


class Service(Daemon):
    """virtsnapd by its own user, on the system bus, from a copy of the checkout for him."""

    def __init__(self, folder: Path, uri: str) -> None:
        """uri: of libvirt, with {copy} for the copy's place."""
        copy = folder / "checkout"
        for part in ("snapd", "dbus"):
            shutil.copytree(TOP / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(TOP / "tests" / "data" / "testdriver" / "host.xml", copy)
        super().__init__(ADDRESS, uri.format(copy=copy), folder, system_bus=ADDRESS)
        subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
        self.cwd, self.uid = copy, USERS[SERVICE]
        policy = 'domains = ["db-*"]\nschedule = "@yearly"\n[keep]\nlast = 2\n'
        (self.config / "policies.d" / "yearly.toml").write_text(policy)
        subprocess.run(["chown", "-R", str(self.uid), str(folder)], check=True)

    def command(self) -> list[str]:
        user = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"]
        return [*user, "/usr/bin/python3", "-B", "-X", "dev", "-c", ENTRY, "--system"]


def _ours(name: str) -> str:
    return (TOP / "dbus" / name).read_text()


def _until(what: str, there: Callable[[], bool], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not there():
        assert time.monotonic() < deadline, f"{what}: not within {timeout:g} s"
        time.sleep(0.02)


@contextmanager
def _as(user: str) -> Iterator[None]:
    """Be that user, groups included, for those who ask the kernel who connects to them."""
    entry, ours = pwd.getpwnam(user), os.getgroups()
    os.setgroups(os.getgrouplist(user, entry.pw_gid))
    os.setresgid(entry.pw_gid, entry.pw_gid, 0)
    os.setresuid(entry.pw_uid, entry.pw_uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(ours)
