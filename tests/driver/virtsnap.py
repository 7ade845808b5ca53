"""virtsnap as a process: in a pipe, or in a terminal of its own."""

from __future__ import annotations

import codecs
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.client import TOP
from tests.driver.house import House
from tests.schema import documents


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The answer, without its format, which is a known one."""
        return _known(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error document, the only thing that was printed."""
        assert self.out == ""
        return _known(self.err)


def _known(text: str) -> dict[str, Any]:
    """The one document that the text is, as the schema has it."""
    (document,) = documents(text)
    return {key: value for key, value in document.items() if key != "format"}


def command(address: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "snapd.cli", "--bus-address", address, *arguments]


def virtsnap(address: str, *arguments: str) -> Done:
    """Run it without a terminal; AssertionError where it shows a traceback."""
    done = subprocess.run(
        command(address, *arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=TOP,
        timeout=60,
        check=False,
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in err, err
    return Done(done.returncode, out, err)


def cli(house: House, *arguments: str) -> Done:
    """Run it without a terminal against the daemon of the house."""
    return virtsnap(house.address, *arguments)


def columns(done: Done) -> list[list[str]]:
    """The cells of a table, whose columns stand two spaces apart."""
    lines = done.out.splitlines()
    return [[cell for cell in line.split("  ") if cell.strip()] for line in lines]


def rows(house: House, *arguments: str) -> list[dict[str, Any]]:
    """What the command lists, as JSON has it."""
    found: list[dict[str, Any]] = cli(house, *arguments, "--json").json["rows"]
    return found


class Terminal:
    """virtsnap in a terminal. screen: all that it has written so far; process: its own."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self._master, self.process = master, process
        self.screen = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()  # a read may end within a letter

    def until(self, text: str, timeout: float = 20) -> None:
        """Read until the text is there."""
        deadline = time.monotonic() + timeout
        while text not in self.screen:
            assert self._read(deadline - time.monotonic()), f"no {text!r}: {self.screen!r}"

    def until_secret(self, text: str, timeout: float = 20) -> None:
        """Read until the text is there and what is typed isn't shown: who turns that off after the
        text may throw away what was typed before."""
        self.until(text, timeout)
        deadline = time.monotonic() + timeout
        while termios.tcgetattr(self._master)[3] & termios.ECHO:
            assert time.monotonic() < deadline, "what is typed is still shown"
            time.sleep(0.01)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self, timeout: float = 20) -> int:
        """Read until it ends; its exit code."""
        deadline = time.monotonic() + timeout
        while self._read(deadline - time.monotonic()):
            pass
        code = self.process.wait(max(deadline - time.monotonic(), 0.1))
        assert "Traceback" not in self.screen, self.screen
        return code

    def _read(self, timeout: float) -> bool:
        if not select.select([self._master], [], [], max(timeout, 0))[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: nobody has the other end any more
            return False
        self.screen += self._decoder.decode(data)
        return bool(data)


@contextmanager
def terminal(address: str, *arguments: str, columns: int = 0) -> Iterator[Terminal]:
    """virtsnap in a terminal of its own, which is its controlling one: Ctrl-C reaches it. columns:
    letters in a line of it, 0 = it does not say."""
    process: subprocess.Popen[bytes] | None = None
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24 if columns else 0, columns))
    try:
        process = subprocess.Popen(
            # setsid --ctty makes the terminal the controlling one
            ["setsid", "--ctty", *command(address, *arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=TOP,
        )
        os.close(slave)
        slave = -1
        yield Terminal(master, process)
    finally:
        if slave >= 0:
            os.close(slave)
        os.close(master)
        if process is not None and process.poll() is None:
            process.kill()
            process.wait(10)
