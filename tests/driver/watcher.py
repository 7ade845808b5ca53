"""virtsnap watch as a process whose lines are read as they come; and a daemon that is played, for
events that the test driver's libvirt does not have."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

from snapd.wire import paths
from snapd.wire.messages import Incoming
from snapd.wire.values import Variant, unwrap
from tests.client import INTERFACE, TOP, Client
from tests.driver.virtsnap import command
from tests.schema import checked

TIME = re.compile(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d  ")


class Watcher:
    """out, err: the lines so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.out: list[str] = []
        self.err: list[str] = []
        assert process.stdout and process.stderr
        self._threads = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((process.stdout, self.out), (process.stderr, self.err))
        ]

    def _read(self, stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))

    def read(self) -> None:
        for thread in self._threads:
            thread.start()

    def until(self, found: Callable[[], Any], timeout: float = 30) -> None:
        deadline = time.monotonic() + timeout
        while not found():
            assert time.monotonic() < deadline, f"{self.out} {self.err}"
            time.sleep(0.05)

    def says(self, text: str, times: int = 1) -> None:
        """Wait until so many lines of the answer have it."""
        self.until(lambda: sum(text in line for line in self.out) >= times)

    def notes(self, text: str, times: int = 1) -> None:
        """Wait until so many lines beside the answer have it."""
        self.until(lambda: sum(text in line for line in self.err) >= times)

    @property
    def told(self) -> list[str]:
        """The lines of the answer without their times, which they all have."""
        assert all(TIME.match(line) for line in self.out), self.out
        return [TIME.sub("", line) for line in self.out]

    @property
    def events(self) -> list[dict[str, Any]]:
        """With --json: the documents but the first, which says that all is heard from then on."""
        documents = [checked(json.loads(line)) for line in self.out]
        assert {each.pop("format") for each in documents} == {"watch/1"}
        assert documents[0]["Event"] == "Watching"
        return documents[1:]

    def interrupt(self) -> int:
        """As Ctrl-C does; its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> int:
        code = self.process.wait(30)
        self._join()
        assert not any("Traceback" in line for line in self.err), self.err
        return code

    def _join(self) -> None:
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(10)

    def close(self) -> None:
        self._join()
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()


@contextmanager
def watching(
    address: str, *arguments: str, session: str = "", read: bool = True
) -> Iterator[Watcher]:
    """virtsnap watch, once it hears. session: the address of the session's bus. read: what it
    writes; else it is read by nobody until read() is called."""
    env = {**os.environ, "DBUS_SESSION_BUS_ADDRESS": session or "unix:path=/nonexistent"}
    process = subprocess.Popen(
        command(address, "watch", *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=TOP,
        env=env,
    )
    made = Watcher(process)
    try:
        if read:
            made.read()
            made.until(lambda: made.err or made.out or process.poll() is not None)
        yield made
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        made.close()


class Played:
    """A daemon of which a test says what it tells and answers: API.md's words, on a real bus.

    problems, history: rows; jobs: properties by their path; whole: connected, and all is read;
    domain: name and UUID of its only VM.
    """

    def __init__(
        self, address: str, problems: Sequence[dict[str, Any]] = (), *, whole: bool = True
    ) -> None:
        self.address = address
        self._client: Client | None = Client(address)
        self.problems = list(problems)
        self.history: list[dict[str, Any]] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self.whole = whole
        self.domain = ("web-1", "22222222-2222-4222-8222-222222222201")
        self._tasks: set[asyncio.Future[bool]] = set()
        self.client.bus.serve(self._answer)
        self.client.run(self.client.bus.request_name(paths.NAME))

    @property
    def client(self) -> Client:
        assert self._client
        return self._client

    def close(self) -> None:
        client, self._client = self._client, None
        if client:
            client.__exit__(None, None, None)

    def _answer(self, call: Incoming) -> None:
        def reply(signature: str, *values: Any) -> None:
            task = asyncio.ensure_future(self.client.bus.reply(call, signature, lambda: values))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        rows = {"ListProblems": self.problems, "ListHistory": self.history}.get(call.member)
        if rows is not None:
            info = variants({"Next": "", "Total": len(rows)})
            reply("aa{sv}a{sv}", [variants(row) for row in rows], info)
        elif call.member == "GetAll" and call.path == paths.ROOT:
            reply("a{sv}", variants({"Connected": self.whole, "Loading": not self.whole}))
        elif call.member == "GetDomain":
            assert call.body[0] in self.domain
            reply("o", paths.domain(self.domain[1]))
        elif call.member == "GetAll" and call.path == paths.domain(self.domain[1]):
            reply("a{sv}", variants(dict(zip(("Name", "UUID"), self.domain, strict=True))))
        elif call.member == "GetAll" and call.path in self.jobs:
            reply("a{sv}", variants(self.jobs[call.path]))
        else:
            name = "org.freedesktop.DBus.Error.UnknownObject"
            self.client.bus.error(call, name, f"{call.member} of {call.path}")

    def tell(self, member: str, *strings: str, detail: Mapping[str, Any]) -> None:
        """Send a signal of the Manager."""
        signature = "sos" if member.startswith("Snapshot") else "sss"
        body = [*strings, variants(detail)]
        self._signal(paths.ROOT, f"{INTERFACE}.Manager", member, signature[:2] + "a{sv}", body)

    def problem(self, member: str, row: Mapping[str, Any]) -> None:
        self.tell(member, row["DomainUUID"], row["ID"], detail=row)

    def changed(self, **values: Any) -> None:
        body = [f"{INTERFACE}.Manager", variants(values), []]
        properties = "org.freedesktop.DBus.Properties"
        self._signal(paths.ROOT, properties, "PropertiesChanged", "sa{sv}as", body)

    def completed(self, path: str, state: str) -> None:
        body = [state, "", "", {}]
        self._signal(path, f"{INTERFACE}.Job", "Completed", "sssa{sv}", body)

    def _signal(self, *what: Any) -> None:
        async def send() -> None:
            self.client.bus.signal(*what)

        self.client.run(send())


def variants(row: Mapping[str, Any]) -> dict[str, Variant]:
    kinds = {bool: "b", int: "x", str: "s", list: "as", float: "d", dict: "a{sv}"}
    return {key: Variant(kinds[type(value)], unwrap(value)) for key, value in row.items()}
