"""What the daemon tells systemd, read at the socket that systemd would have given it."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.driver.house import House


class Systemd:
    """The other end of $NOTIFY_SOCKET."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.settimeout(20)

    def close(self) -> None:
        self._end.close()

    def next(self, word: str) -> dict[str, str]:
        """The next message that has the word, as its assignments."""
        while True:
            lines = self._end.recv(65536).decode().splitlines()
            message = dict(line.split("=", 1) for line in lines)
            if word in message:
                return message


@pytest.fixture
def systemd(house: House) -> Iterator[Systemd]:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as end:
        path = house.folder / "notify"
        end.bind(str(path))
        house.daemon.env["NOTIFY_SOCKET"] = str(path)
        yield Systemd(end)


def test_status_counts_vms_and_policies_and_says_the_next_slot(
    house: House, systemd: Systemd
) -> None:
    house.policy("hourly")
    house.start()
    assert systemd.next("READY")["STATUS"].startswith("reading VMs at test://")
    status = systemd.next("STATUS")["STATUS"]
    while status.startswith(("reading", "no connection")):  # before the VMs were read
        status = systemd.next("STATUS")["STATUS"]
    assert status.startswith("3 VMs, 1 policy; next: policy hourly on ")
    assert ":00 " in status


def test_reload_is_over_when_the_files_are_read_and_what_is_wrong_is_said(
    house: House, systemd: Systemd
) -> None:
    house.start().rows("ListDomains")
    systemd.next("READY")
    house.policy("broken", "domains = 7\n")
    before = time.monotonic_ns() // 1000
    os.kill(house.daemon.pid, signal.SIGHUP)
    begun = systemd.next("RELOADING")
    assert begun["RELOADING"] == "1"
    assert before <= int(begun["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    ended = systemd.next("READY")
    assert "problem: broken.toml: " in ended["STATUS"], ended
    (house.daemon.config / "policies.d" / "broken.toml").unlink()
    house.policy("hourly")
    os.kill(house.daemon.pid, signal.SIGHUP)
    systemd.next("RELOADING")
    ended = systemd.next("READY")
    assert ended["STATUS"].startswith("3 VMs, 1 policy; next: policy hourly on "), ended
    assert house.daemon.running


def test_reload_that_fails_is_over_as_well(house: House, systemd: Systemd) -> None:
    """systemd would wait for it, and take the service for hung."""
    folder = house.daemon.config / "policies.d"
    house.start().rows("ListDomains")
    systemd.next("READY")
    folder.rmdir()
    folder.write_text("")
    os.kill(house.daemon.pid, signal.SIGHUP)
    systemd.next("RELOADING")
    assert "problem: " in systemd.next("READY")["STATUS"]


def test_stop_is_said(house: House, systemd: Systemd) -> None:
    house.start()
    house.stop()
    assert systemd.next("STOPPING")["STOPPING"] == "1"


def test_systemd_that_is_gone_does_not_end_the_daemon(house: House, systemd: Systemd) -> None:
    house.start().rows("ListDomains")
    systemd.close()
    os.kill(house.daemon.pid, signal.SIGHUP)
    house.client.until("the end of the reload", lambda: "cannot be told" in house.daemon.log)
    assert len(house.client.rows("ListDomains")) == 3
