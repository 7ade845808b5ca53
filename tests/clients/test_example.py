"""packaging/examples/snapshots.py: the client that shows how one is written."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clients.tools import Listener, listener, run
from tests.driver.house import HOST, House, many

EXAMPLE = Path(__file__).parents[2] / "packaging" / "examples" / "snapshots.py"


class Shown:
    """The example at work, and the list that it has printed last."""

    def __init__(self, out: Listener) -> None:
        self._out = out

    def until(self, what: str, found: Callable[[list[str]], bool]) -> list[str]:
        """Wait until the list is as it should be; its lines, in the words that they hold."""
        self._out.until(what, lambda lines: found(last(lines)))
        return last(self._out.lines)


def last(lines: list[str]) -> list[str]:
    """The last list that has been printed to its end, which is an empty line."""
    shown: list[str] = []
    begun: list[str] = []
    for line in lines:
        if line:
            begun.append(line)
        else:
            shown, begun = begun, []
    return shown


@contextmanager
def showing(house: House) -> Iterator[Shown]:
    with listener(sys.executable, str(EXAMPLE), "--address", house.address) as out:
        yield Shown(out)


def marked(lines: list[str]) -> list[str]:
    """The names of the snapshots that have the mark of the current one."""
    return [line.split()[1] for line in lines if line.startswith("  * ")]


def has(name: str) -> Callable[[list[str]], bool]:
    return lambda lines: any(f" {name} " in line for line in lines)


def test_list_follows_what_other_clients_do(house: House) -> None:
    head, _, tail = HOST.read_text().rpartition("type='qcow2'")
    house.serve_text(f"{head}type='raw'{tail}")  # the disk of db-1
    client = house.start()
    with showing(house) as example:
        shown = example.until("the list", has("by-hand"))
        words = [line.split() for line in shown]
        assert shown[0] == (
            "db-1, paused: can't be snapshotted, a writable disk is raw; only qcow2 can hold "
            "snapshots (raw-disk)"
        )
        assert shown[1] == "web-1, running"
        assert words[2][:2] == ["*", "by-hand"]
        assert words[2][-3:] == ["running,", "internal,", "foreign"]
        assert shown[3:] == ["web-2, shutoff"]

        client.create("web-1", "one")
        shown = example.until("the new one", has("one"))
        assert marked(shown) == ["one"]
        client.create("web-2", "off")
        shown = example.until("that of the other VM", has("off"))
        assert shown[-1].split()[-3:] == ["shutoff,", "internal,", "manual"]
        client.delete("web-2", "off")
        example.until("its end", lambda lines: not has("off")(lines))
        client.revert("web-1", "by-hand", safety_snapshot=False)
        shown = example.until("the mark's move", lambda lines: marked(lines) == ["by-hand"])
        assert has("one")(shown)


def test_list_goes_and_comes_back_with_the_daemon(house: House) -> None:
    with showing(house) as example:
        gone = ["virtsnapd is not running"]
        example.until("nobody there", lambda lines: lines == gone)
        house.start()
        example.until("the list", has("by-hand"))
        house.stop()
        example.until("nobody there again", lambda lines: lines == gone)
        house.start()
        example.until("the list again", has("by-hand"))


def test_list_of_several_pages_is_whole_and_sends_nothing_to_the_terminal(house: House) -> None:
    """A page has 1,000 rows. Names are others': one has the start of a terminal's command."""
    house.serve_text(many(1, 1002).replace("<name>s-7<", "<name>s-\x9b7<"))
    house.start()
    with showing(house) as example:
        shown = example.until("all of them", lambda lines: len(lines) == 1003)
    names = {line.split()[0] for line in shown[1:]}
    assert names == {f"s-{n}" for n in range(1002) if n != 7} | {r"'s-\x9b7'"}


def test_usage_and_wrong_buses_are_said_in_words() -> None:
    text = run(sys.executable, str(EXAMPLE), "--help")
    assert all(word in text for word in ("--system", "--session", "--address ADDR"))
    told = run(sys.executable, str(EXAMPLE), "--system", "--session", fails=True)
    assert "not allowed with" in told
    told = run(sys.executable, str(EXAMPLE), "--address", "unix:path=/nonexistent", fails=True)
    assert told == "no bus: Could not connect: No such file or directory\n"


def test_example_fits_a_reading_and_needs_gio_alone() -> None:
    text = EXAMPLE.read_text()
    assert len(text.splitlines()) <= 200
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or ".")
    assert found - sys.stdlib_module_names == {"gi", "gi.repository"}
    subprocess.run([EXAMPLE, "--help"], check=True, capture_output=True)  # it is executable
