"""While a person is asked for a password: what he reads, and what may happen meanwhile.

The acts are of those whose yes polkit does not keep: it would keep it for this process, whoever's
the connection is.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from snapd.errors import Changed, NotAuthorized
from snapd.wire.fault import WireError
from snapd.wire.paths import NAME, ROOT
from tests.client import INTERFACE, Client, options
from tests.polkit.agent import Agent
from tests.polkit.host import Host, Service

ACTION = "org.virtsnap.snapd1."


@pytest.fixture
def agent(host: Host) -> Iterator[Agent]:
    made = Agent(host.root)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as made:
        yield made


def ask(client: Client, member: str, *args: str, timeout: float = 60, **opts: Any) -> Any:
    """Call a verb of the Manager; a person may be asked."""
    to = (NAME, ROOT, f"{INTERFACE}.Manager", member, "s" * len(args) + "a{sv}")
    call = client.bus.call(*to, *args, options(opts), timeout=timeout, interactive=True)
    return client.run(call, timeout + 10)[0]


def test_person_reads_what_it_is_about_and_the_password_lets_it_through(
    host: Host, agent: Agent, pool: ThreadPoolExecutor, snapshot: str
) -> None:
    asked = host.client("asked")
    waiting = pool.submit(ask, asked, "DeleteSnapshot", "web-2", snapshot)
    dialog = agent.dialog()
    assert dialog.action == ACTION + "delete"
    text = "Authentication is required to delete snapshots of VM web-2: mine"
    assert dialog.message == text
    assert snapshot in host.root.snapshots("web-2")
    agent.password(dialog)
    job = waiting.result(20)
    host.root.wait(job)
    assert host.root.job(job)["OwnerUID"] == host.uid("asked")
    assert host.root.snapshots("web-2") == {}


def test_yes_to_a_destructive_act_is_for_that_one_alone(
    host: Host, agent: Agent, pool: ThreadPoolExecutor, snapshot: str
) -> None:
    """auth_admin, not auth_admin_keep: and we remember nothing either."""
    asked = host.client("asked")
    for _ in range(2):
        waiting = pool.submit(ask, asked, "DeleteOwnSnapshots", "web-2", dry_run=True)
        agent.password(agent.dialog())
        waiting.result(20)


def test_dialog_that_is_dismissed_is_no(
    host: Host, agent: Agent, pool: ThreadPoolExecutor, snapshot: str
) -> None:
    waiting = pool.submit(ask, host.client("asked"), "DeleteSnapshot", "web-2", snapshot)
    agent.dismiss(agent.dialog())
    with pytest.raises(NotAuthorized, match="dismissed"):
        waiting.result(20)
    assert snapshot in host.root.snapshots("web-2")


def test_open_dialogs_of_one_user_hold_up_neither_his_reads_nor_others(
    host: Host, agent: Agent, pool: ThreadPoolExecutor, snapshot: str
) -> None:
    asked = host.client("asked")
    waiting = pool.submit(ask, asked, "DeleteSnapshot", "web-2", snapshot)
    dialog = agent.dialog()
    assert asked.rows("ListDomains")
    host.client("member").wait(host.client("member").call("Audit", "web-2"))
    agent.dismiss(dialog)
    assert isinstance(waiting.exception(20), NotAuthorized)


@pytest.mark.parametrize("member", ["DeleteSnapshot", "RevertSnapshot"])
def test_snapshot_made_anew_under_the_dialog_is_changed(
    host: Host, agent: Agent, pool: ThreadPoolExecutor, snapshot: str, member: str
) -> None:
    root = host.root
    before = root.snapshots("web-2")[snapshot]["Created"]
    waiting = pool.submit(ask, host.client("asked"), member, "web-2", snapshot)
    dialog = agent.dialog()
    root.wait(root.call("DeleteSnapshot", "web-2", snapshot))
    time.sleep(max(0.0, before + 1.05 - time.time()))  # libvirt's times are whole seconds
    root.wait(root.call("CreateSnapshot", "web-2", snapshot))
    after = root.snapshots("web-2")
    assert after[snapshot]["Created"] > before
    agent.password(dialog)
    with pytest.raises(Changed):
        waiting.result(20)
    assert root.snapshots("web-2") == after


def test_caller_that_vanishes_has_his_dialog_closed_and_nothing_done(
    host: Host, agent: Agent, pool: ThreadPoolExecutor, snapshot: str
) -> None:
    with host.another("leaver") as leaver:
        waiting: Future[Any] = pool.submit(ask, leaver, "DeleteSnapshot", "web-2", snapshot)
        dialog = agent.dialog()
        leaver.run(leaver.bus.close())
        assert agent.cancelled.get(timeout=20) == dialog.cookie
        assert isinstance(waiting.exception(20), WireError)
    assert snapshot in host.root.snapshots("web-2")


def test_daemon_that_stops_closes_its_dialogs(
    host: Host, agent: Agent, pool: ThreadPoolExecutor, snapshot: str
) -> None:
    waiting = pool.submit(ask, host.client("asked"), "DeleteSnapshot", "web-2", snapshot)
    dialog = agent.dialog()
    begun = time.monotonic()
    try:
        assert host.daemon.stop() == 0
        assert time.monotonic() - begun < 10
        assert agent.cancelled.get(timeout=20) == dialog.cookie
        assert waiting.exception(20) is not None
    finally:
        host.daemon.start()


@pytest.fixture
def elsewhere(host: Host) -> Iterator[Service]:
    """virtsnapd in front of a libvirt that others use, too."""
    host.daemon.stop()
    made = Service(host.scratch / "elsewhere", "qemu:///system")
    made.start()
    try:
        yield made
    finally:
        print(made.log)
        made.close()
        host.daemon.start()


def virsh(*command: str, text: str = "") -> None:
    subprocess.run(["virsh", "-c", "qemu:///system", *command], input=text, text=True, check=True)


def define(uuid: str) -> None:
    vm = f"<name>twice</name><uuid>{uuid}</uuid><memory>1024</memory><os><type>hvm</type></os>"
    virsh("define", "/dev/stdin", text=f"<domain type='qemu'>{vm}</domain>")


def test_vm_made_anew_under_the_dialog_is_changed(
    host: Host, agent: Agent, pool: ThreadPoolExecutor, elsewhere: Service
) -> None:
    old, new = (f"99999999-9999-4999-8999-99999999990{n}" for n in (1, 2))
    define(old)
    root, asked = host.root, host.client("asked")
    root.until("the VM", lambda: root.domain("twice"))
    waiting = pool.submit(ask, asked, "DeleteOwnSnapshots", "twice")
    dialog = agent.dialog()
    assert "snapshots of VM twice" in dialog.message
    virsh("undefine", "twice")
    define(new)
    root.until("the new one", lambda: (root.domain("twice") or {}).get("UUID") == new)
    agent.password(dialog)
    with pytest.raises(Changed):
        waiting.result(20)
    assert root.rows("ListJobs") == []
