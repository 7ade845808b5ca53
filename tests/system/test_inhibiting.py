"""The host waits for jobs at work: logind and polkit let the service's user ask for it."""

from __future__ import annotations

import re

import pytest

from snapd.logind import MODES
from tests.system.guests import MachineGuest
from tests.system.inflight import in_flight
from tests.system.machines import Failed, Machine

SHOW = ["systemd-inhibit", "--list", "--no-legend"]
WEAK = "block-weak"


def knows_weak(machine: Machine) -> bool:
    """Debian 13's systemd does. There only the weak mode leaves root's `systemctl poweroff` be."""
    return int(machine.run("systemctl --version").split()[1]) >= 257


@pytest.mark.parametrize("mode", MODES)
def test_services_user_may_hold_up_shutdown_and_sleep_at_once(machine: Machine, mode: str) -> None:
    """As snapd/logind.py asks for it. Debian 12's logind then asks of the lid's switch."""
    hold = ["systemd-inhibit", "--what=shutdown:sleep", "--who=test", "--why=why", f"--mode={mode}"]
    if mode == WEAK and not knows_weak(machine):
        with pytest.raises(Failed, match="Invalid mode"):
            machine.run([*hold, *SHOW], user="virtsnapd")
        return
    held = machine.run([*hold, *SHOW], user="virtsnapd").splitlines()
    (line,) = [words for each in held if (words := each.split())[0] == "test"]
    assert line[2] == "virtsnapd"
    assert line[-3:] == ["shutdown:sleep", "why", mode]


def test_job_holds_the_host_up_so_that_root_may_stop_it(
    machine: Machine, guest: MachineGuest
) -> None:
    with in_flight(guest):
        line = machine.wait(
            lambda: machine.run(SHOW).partition("virtsnapd")[2],
            what="the host is held up",
        )
        mode = line.splitlines()[0].split()[-1]
        assert mode == (WEAK if knows_weak(machine) else "block")
    machine.wait(lambda: "virtsnapd" not in machine.run(SHOW), what="it goes on")


def test_no_other_user_may_block_them(machine: Machine) -> None:
    hold = ["systemd-inhibit", "--what=shutdown:sleep", "--mode=block", "true"]
    for user in ("member", "other"):
        done = machine.ran(hold, user=user)
        assert done.returncode == 1
        # "Access denied" of Debian 12; Debian 13 would ask for a password, and there is nobody.
        assert re.search("denied|authentication required", done.stderr, re.IGNORECASE)
