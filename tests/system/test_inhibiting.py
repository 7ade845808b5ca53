"""The host waits for jobs at work: logind and polkit let the service's user ask for it."""

from __future__ import annotations

import re

import pytest

from snapd.logind import MODES
from tests.system.machines import Machine

SHOW = ["systemd-inhibit", "--list", "--no-legend"]


@pytest.mark.parametrize("mode", MODES)
def test_services_user_may_hold_up_shutdown_and_sleep_at_once(machine: Machine, mode: str) -> None:
    """As snapd/logind.py asks for it. Debian 12's logind then asks of the lid's switch."""
    hold = ["systemd-inhibit", "--what=shutdown:sleep", "--who=test", "--why=why", f"--mode={mode}"]
    held = machine.run([*hold, *SHOW], user="virtsnapd").splitlines()
    (line,) = [words for each in held if (words := each.split())[0] == "test"]
    assert line[2] == "virtsnapd"
    assert line[-3:] == ["shutdown:sleep", "why", mode]


def test_no_other_user_may_block_them(machine: Machine) -> None:
    hold = ["systemd-inhibit", "--what=shutdown:sleep", "--mode=block", "true"]
    for user in ("member", "other"):
        done = machine.ran(hold, user=user)
        assert done.returncode == 1
        # "Access denied" of Debian 12; Debian 13 would ask for a password, and there is nobody.
        assert re.search("denied|authentication required", done.stderr, re.IGNORECASE)
