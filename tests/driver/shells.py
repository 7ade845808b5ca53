"""Shells as a person has them: in a terminal, with the completion files as a package puts them.

`virtsnap` is there a script that completes as the real one, and else writes down what it was given.
"""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.client import TOP

PROMPT = "ready>"
SCRIPT = """#!/bin/sh
if [ -n "${{_ARGCOMPLETE-}}" ]; then
    PYTHONPATH={top} exec {python} -m snapd.cli "$@"
fi
printf '%s\\0' "$@" >{given}.new
mv {given}.new {given}
"""
START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
SETUP = {
    # lazily, as it does for what is installed
    "bash": """PS1='{prompt}'; bind 'set bell-style none'; bind 'set enable-bracketed-paste off'
        . /usr/share/bash-completion/bash_completion""",
    "zsh": """PS1='{prompt}'; fpath=({files} $fpath); unsetopt prompt_cr prompt_sp beep
        autoload -Uz compinit; compinit -u -D""",
}


class Shell:
    """A shell in a terminal. screen: all that it has written so far."""

    def __init__(self, master: int, given: Path) -> None:
        self._master, self._given = master, given
        self.screen = ""

    def gets(self, line: str, timeout: float = 20) -> list[str]:
        """Type a line (a TAB completes); the arguments that virtsnap then gets."""
        self._given.unlink(missing_ok=True)
        self.type(f"{line}\n")
        deadline = time.monotonic() + timeout
        while not self._given.exists():
            self.read(0.02)
            assert time.monotonic() < deadline, f"{line!r} ran nothing: {self.screen[-500:]!r}"
        self.until(PROMPT)
        return self._given.read_text().split("\0")[:-1]

    def type(self, text: str) -> None:
        self.screen = ""
        os.write(self._master, text.encode())

    def until(self, text: str, timeout: float = 20) -> None:
        deadline = time.monotonic() + timeout
        while text not in self.screen:
            self.read(0.1)
            assert time.monotonic() < deadline, f"no {text!r}: {self.screen[-500:]!r}"

    def read(self, timeout: float) -> None:
        if select.select([self._master], [], [], timeout)[0]:
            self.screen += os.read(self._master, 65536).decode(errors="replace")


def environment(folder: Path) -> dict[str, str]:
    """What finds our script and our completion files; both are made."""
    files, bin_ = folder / "completions", folder / "bin"
    bin_.mkdir(exist_ok=True)
    script = bin_ / "virtsnap"
    parts = {"top": TOP, "python": sys.executable, "given": folder / "given"}
    script.write_text(SCRIPT.format(**{k: shlex.quote(str(v)) for k, v in parts.items()}))
    script.chmod(0o755)
    subprocess.run([TOP / "packaging/completions", files], check=True)
    # the folders in which bash-completion and fish look by themselves
    for lazy, name in (("bash-completion/completions", "bash"), ("fish/completions", "fish")):
        (folder / lazy).mkdir(parents=True, exist_ok=True)
        there = folder / lazy / ("virtsnap" if name == "bash" else "virtsnap.fish")
        there.write_text((files / f"virtsnap.{name}").read_text())
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("COMP_")},
        "PATH": f"{bin_}:/usr/bin:/bin",
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "BASH_COMPLETION_USER_DIR": str(folder / "bash-completion"),
        "TERM": "xterm",
        "LC_ALL": "C.UTF-8",
        "HISTFILE": "",
    }


@contextmanager
def shell(name: str, folder: Path) -> Iterator[Shell]:
    """bash or zsh, ready for a line; folder: its home and working folder."""
    env = environment(folder)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", *START[name]],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=folder,
        env=env,
    )
    os.close(slave)
    try:
        made = Shell(master, folder / "given")
        setup = SETUP[name].format(prompt=PROMPT, files=shlex.quote(str(folder / "completions")))
        for line in setup.splitlines():
            made.type(f"{line.strip()}\n")
        made.type("printf '%s-%s\\n' set up\n")
        made.until("set-up")
        made.until(PROMPT)
        yield made
    finally:
        process.kill()
        process.wait(10)
        os.close(master)


def fish(folder: Path, line: str) -> tuple[list[str], str]:
    """What fish offers for the last word of a line, as words; and what it printed as errors."""
    # --escape writes a candidate as fish puts it in the line, and eval reads it as fish would
    code = (
        "for one in (complete --escape -C $argv[1] | string replace -r '\\t.*' '')\n"
        "eval printf '%s\\\\\\\\0' $one\nend"
    )
    done = subprocess.run(
        ["fish", "--private", "-c", code, line],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout.split("\0")[:-1], re.sub(r"\x1b\[[^m]*m", "", done.stderr)
