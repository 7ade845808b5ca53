"""What apt makes of a machine: the service runs, as its unit says, and nothing is wrong."""

from __future__ import annotations

from tests.system.machines import Machine


def test_service_is_enabled_and_active_after_the_install(machine: Machine) -> None:
    assert machine.systemctl("is-enabled", "virtsnapd") == "enabled"
    assert machine.systemctl("is-active", "virtsnapd") == "active"
    assert machine.failed() == []
