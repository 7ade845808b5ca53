"""A private dbus-daemon with a config file of its own, for tests and the demo."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# session.conf's: as good as none
ROOMY = {
    "max_incoming_bytes": 10**9,
    "max_outgoing_bytes": 10**9,
    "max_message_size": 10**9,
    "max_completed_connections": 10**5,
    "max_incomplete_connections": 10**4,
    "max_connections_per_user": 10**5,
    "max_pending_service_starts": 10**4,
    "max_names_per_connection": 50_000,
    "max_match_rules_per_connection": 50_000,
    "max_replies_per_connection": 50_000,
}
# what dbus-daemon 1.14 has where system.conf says nothing
SYSTEM = {
    "max_incoming_bytes": 127 * 2**20,
    "max_outgoing_bytes": 127 * 2**20,
    "max_message_size": 32 * 2**20,
    "max_completed_connections": 2048,
    "max_incomplete_connections": 64,
    "max_connections_per_user": 256,
    "max_names_per_connection": 512,
    "max_match_rules_per_connection": 512,
    "max_replies_per_connection": 128,
}

# session.conf's: peers may send each other replies that nobody asked for; system.conf's: not
OPEN = '<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>'
# and only root, and by our own file the daemon's user, is told what the bus keeps
STATS = 'send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Debug.Stats"'
GUARDED = f"""<allow send_destination="*"/><allow receive_sender="*"/><deny {STATS}/></policy>
  <policy user="{os.geteuid()}"><allow {STATS} send_member="GetConnectionStats"/>"""

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    {policy}
    <allow own="*"/>
  </policy>
  {services}
  {limits}
</busconfig>
"""


@dataclass(frozen=True, slots=True)
class PrivateBus:
    """A running bus; process is the dbus-daemon, to be killed where a test wants it gone."""

    address: str
    process: subprocess.Popen[str]


@contextmanager
def private_bus(
    system_limits: bool = False,
    services: Path | None = None,
    other: dict[str, int] | None = None,
) -> Iterator[PrivateBus]:
    """A bus for this process and its children, gone afterwards.

    system_limits: those of the system bus (128 replies a connection, 32 MiB a message).
    services: a folder of activation files. other: limits that differ from these.
    """
    limits = (SYSTEM if system_limits else ROOMY) | (other or {})
    with tempfile.TemporaryDirectory(prefix="virtsnapd-bus-") as folder:
        config = Path(folder, "bus.conf")
        lines = (f'<limit name="{name}">{value}</limit>' for name, value in limits.items())
        policy = GUARDED if system_limits else OPEN
        parts = {"socket": f"{folder}/bus", "policy": policy, "limits": "\n  ".join(lines)}
        started = f"<servicedir>{services}</servicedir>" if services else ""
        config.write_text(CONFIG.format(**parts, services=started))
        command = ["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address=1"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            try:
                assert process.stdout is not None
                address = process.stdout.readline().strip()
                if not address:
                    raise RuntimeError(f"dbus-daemon ended at once: {process.wait()}")
                yield PrivateBus(address, process)
            finally:
                process.terminate()
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
