"""The RPM packages as packaging/rpm/build makes them: what is in them, for whom, and what runs at
install. The lists were written by a person, from where systemd, D-Bus and polkit look for files."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import subprocess
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from snapd import __version__

TOP = Path(__file__).parents[2]

FILES = """
virtsnapd        drwxr-xr-x /etc/virtsnapd
virtsnapd        drwxr-xr-x /etc/virtsnapd/policies.d
virtsnapd        -rwxr-xr-x /usr/bin/virtsnapd
virtsnapd        -rw-r--r-- /usr/lib/systemd/catalog/virtsnapd.catalog
virtsnapd        -rw-r--r-- /usr/lib/systemd/system/virtsnap-check.service
virtsnapd        -rw-r--r-- /usr/lib/systemd/system/virtsnap-check.timer
virtsnapd        -rw-r--r-- /usr/lib/systemd/system/virtsnapd.service
virtsnapd        drwxr-xr-x /usr/lib/systemd/system/virtsnapd.service.d
virtsnapd        -rw-r--r-- /usr/lib/systemd/system/virtsnapd.service.d/back-off.conf
virtsnapd        -rw-r--r-- /usr/lib/systemd/user/virtsnapd.service
virtsnapd        -rw-r--r-- /usr/lib/sysusers.d/virtsnapd.conf
virtsnapd        -rw-r--r-- /usr/lib/tmpfiles.d/virtsnapd.conf
virtsnapd        -rw-r--r-- /usr/share/dbus-1/services/org.virtsnap.Snapd1.service
virtsnapd        -rw-r--r-- /usr/share/dbus-1/system-services/org.virtsnap.Snapd1.service
virtsnapd        -rw-r--r-- /usr/share/dbus-1/system.d/org.virtsnap.Snapd1.conf
virtsnapd        -rw-r--r-- /usr/share/polkit-1/actions/org.virtsnap.snapd1.policy
virtsnapd        -rw-r--r-- /usr/share/polkit-1/rules.d/60-virtsnapd-service-user.rules
virtsnapd        -rw-r--r-- /usr/share/polkit-1/rules.d/60-virtsnapd.rules
virtsnapd        -rw-r--r-- /usr/share/man/man5/org.virtsnap.Snapd1.5
virtsnapd        -rw-r--r-- /usr/share/man/man5/virtsnapd-policy.5
virtsnapd        -rw-r--r-- /usr/share/man/man8/virtsnapd.8
virtsnapd        drwxr-xr-x /usr/share/virtsnapd/policies
virtsnapd        -rw-r--r-- /usr/share/virtsnapd/policies/nightly.toml
virtsnap         -rwxr-xr-x /usr/bin/virtsnap
virtsnap         -rw-r--r-- /usr/lib/systemd/user/virtsnap-notify.service
virtsnap         -rw-r--r-- /usr/share/bash-completion/completions/virtsnap
virtsnap         -rw-r--r-- /usr/share/fish/vendor_completions.d/virtsnap.fish
virtsnap         -rw-r--r-- /usr/share/man/man1/virtsnap.1
virtsnap         -rw-r--r-- /usr/share/virtsnapd/virtsnap.schema.json
virtsnap         -rw-r--r-- /usr/share/zsh/site-functions/_virtsnap
virtsnap-common  drwxr-xr-x /usr/share/doc/virtsnap-common
virtsnap-common  -rw-r--r-- /usr/share/doc/virtsnap-common/README.md
virtsnap-common  drwxr-xr-x /usr/share/licenses/virtsnap-common
virtsnap-common  -rw-r--r-- /usr/share/licenses/virtsnap-common/LICENSE
virtsnap-common  drwxr-xr-x /usr/share/virtsnapd
virtsnap-common  drwxr-xr-x /usr/share/virtsnapd/dbus
virtsnap-common  -rw-r--r-- /usr/share/virtsnapd/dbus/org.virtsnap.Snapd1.Domain.xml
virtsnap-common  -rw-r--r-- /usr/share/virtsnapd/dbus/org.virtsnap.Snapd1.Job.xml
virtsnap-common  -rw-r--r-- /usr/share/virtsnapd/dbus/org.virtsnap.Snapd1.Manager.xml
virtsnap-common  -rw-r--r-- /usr/share/virtsnapd/dbus/org.virtsnap.Snapd1.Policy.xml
virtsnap-common  -rw-r--r-- /usr/share/virtsnapd/dbus/org.virtsnap.Snapd1.Snapshot.xml
"""

# As Fedora names them; the modules of virtsnap-common are imported by both programs.
REQUIRES = {
    "virtsnapd": {
        "virtsnap-common = {release}", "/usr/bin/python3", "python3-libvirt", "python3-systemd",
        "dbus", "polkit", "qemu-img", "/usr/bin/prlimit", "systemd", "systemd >= 254", "/bin/sh",
    },
    "virtsnap": {
        "virtsnap-common = {release}", "/usr/bin/python3", "python3-rich",
        "python3-tabulate", "python3-wcwidth",
        "python3-argcomplete", "/bin/sh",
    },
    "virtsnap-common": {
        "python3 >= 3.11", "python3-dbus-next", "python3-croniter", "python3-tomli-w", "tzdata",
    },
}  # fmt: skip
RECOMMENDS = {
    "virtsnapd": {"libvirt-daemon", "virtsnap"},
    "virtsnap": {"virtsnapd"},
    "virtsnap-common": set[str](),
}
# The folders of which each file has to be in some package, as it is.
SHIPPED = ("systemd", "dbus", "packaging/policies", "packaging/completions.d")
MODULES = "/usr/share/virtsnapd/snapd"


@dataclass(frozen=True)
class File:
    package: str
    mode: str
    owner: str
    path: str
    digest: str
    changed: int


class Packages:
    """What rpm says of the files that a build made."""

    def __init__(self, made: dict[str, Path], scratch: Path) -> None:
        self.made = made
        self._scratch = scratch
        self.files = [file for name in made for file in self._files(name)]

    def ask(self, package: str, form: str) -> list[str]:
        database = str(self._scratch / "db")
        command = ["rpm", "--dbpath", database, "-qp", "--qf", form, str(self.made[package])]
        return run(command).splitlines()

    def _files(self, package: str) -> list[File]:
        form = (
            "[%{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME}"
            " %{FILEMTIMES} <%{FILEDIGESTS}> %{FILENAMES}\n]"
        )
        rows = (line.split(" ", 4) for line in self.ask(package, form))
        return [
            File(package, mode, owner, _plain(path), digest[1:-1], int(time))
            for mode, owner, time, digest, path in rows
        ]

    def unpacked(self) -> Path:
        root = self._scratch / "root"
        root.mkdir(exist_ok=True)
        for package in self.made.values():
            archive = subprocess.run(["rpm2cpio", package], check=True, capture_output=True).stdout
            run(["cpio", "-idmu", "--quiet"], input=archive, cwd=root)
        return root


def _plain(path: str) -> str:
    """rpm of Debian puts the version into the names of folders, that of Debian 13 packs manuals."""
    return path.replace(f"-{__version__}", "").removesuffix(".gz")


def run(command: list[str], *, input: bytes = b"", cwd: Path = TOP) -> str:
    done = subprocess.run(command, input=input, cwd=cwd, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    scratch = tmp_path_factory.mktemp("rpm")
    # whoever builds may have closed his files to others
    told = run(["sh", "-c", 'umask 077; exec packaging/rpm/build "$1"', "sh", str(scratch)])
    paths = [Path(line) for line in told.splitlines()]
    names = {path.name.rpartition("-")[0].rpartition("-")[0]: path for path in paths
             if path.name.endswith(".noarch.rpm")}  # fmt: skip
    assert set(names) == set(REQUIRES)
    assert [path.name for path in paths if path.name.endswith(".src.rpm")]
    return Packages(names, scratch)


def test_files_and_their_modes_are_those_of_the_list(packages: Packages) -> None:
    found = {
        f"{file.package:16} {file.mode} {file.path}"
        for file in packages.files
        if not file.path.startswith(MODULES)
    }
    wanted = {line for line in FILES.splitlines() if line}
    assert sorted(found) == sorted(wanted)


def test_admins_folders_are_left_as_they_are_found(packages: Packages) -> None:
    rows = packages.ask("virtsnapd", "[%{FILEFLAGS:fflags} %{FILENAMES}\n]")
    ours = {path for flags, _, path in (row.partition(" ") for row in rows) if "g" in flags}
    assert ours == {"/etc/virtsnapd", "/etc/virtsnapd/policies.d"}


def test_all_is_roots_and_no_path_is_in_two_packages(packages: Packages) -> None:
    assert {file.owner for file in packages.files} == {"root:root"}
    paths = [file.path for file in packages.files]
    assert len(paths) == len(set(paths))


def test_modules_are_all_of_snapd_and_nothing_else_each_compiled(packages: Packages) -> None:
    parts = [file for file in packages.files if file.path.startswith(MODULES)]
    assert {file.package for file in parts} == {"virtsnap-common"}
    sources = {path.relative_to(TOP / "snapd") for path in (TOP / "snapd").rglob("*.py")}
    wanted = {f"{MODULES}/{path}" for path in sources}
    wanted |= {cache_from_source(path) for path in wanted}
    assert {file.path for file in parts if not file.mode.startswith("d")} == wanted
    assert {file.mode for file in parts} == {"-rw-r--r--", "drwxr-xr-x"}


def test_compiled_modules_are_taken_for_current(packages: Packages) -> None:
    """Nobody may write new ones there: each start of the CLI would compile everything."""
    changed = {file.path: file.changed for file in packages.files}
    root = packages.unpacked()
    sources = [path for path in changed if path.startswith(MODULES) and path.endswith(".py")]
    assert sources
    for path in sources:
        head = (root / cache_from_source(path)[1:]).read_bytes()[:12]
        assert struct.unpack("<II", head[4:]) == (0, changed[path]), path


def test_programs_find_their_modules_and_nothing_of_the_callers(
    packages: Packages, tmp_path: Path
) -> None:
    """Where they are installed, so in a root of their own folder: only the path is another one."""
    root = packages.unpacked()
    (tmp_path / "snapd.py").write_text("raise SystemExit('the caller was run')")
    (tmp_path / "argparse.py").write_text("raise SystemExit('the caller was run')")
    for program in ("virtsnapd", "virtsnap"):
        text = (root / "usr/bin" / program).read_text()
        assert text.count('"/usr/share/virtsnapd"') == 1
        moved = tmp_path / program
        moved.write_text(text.replace("/usr/share/virtsnapd", f"{root}/usr/share/virtsnapd"))
        moved.chmod(0o755)
        caller = os.environ | {"PYTHONPATH": str(tmp_path)}
        done = subprocess.run([moved, "--version"], cwd=tmp_path, env=caller, capture_output=True)
        assert done.stdout.decode() == f"{program} {__version__}\n", done.stderr


def test_packages_ask_for_what_they_need(packages: Packages) -> None:
    for package, wanted in REQUIRES.items():
        form = "[%{REQUIRENAME} %{REQUIREFLAGS:depflags} %{REQUIREVERSION}\n]"
        lines = {re.sub(" +", " ", line.rstrip()) for line in packages.ask(package, form)}
        # rpm's own features, and the user and group that newer ones read from the sysusers file
        found = {line for line in lines if not re.match(r"(rpmlib|user|group)\(", line)}
        release = packages.ask(package, "%{VERSION}-%{RELEASE}")[0]
        assert found == {each.format(release=release) for each in wanted}
        assert set(packages.ask(package, "[%{RECOMMENDNAME}\n]")) == RECOMMENDS[package]
        assert packages.ask(package, "%{VERSION} %{ARCH}") == [f"{__version__} noarch"]


@pytest.mark.parametrize("folder", SHIPPED)
def test_every_file_of_a_folder_is_shipped_as_it_is(packages: Packages, folder: str) -> None:
    digests = {file.digest for file in packages.files}
    paths = [path for path in (TOP / folder).rglob("*") if path.is_file()]
    assert paths
    left_out = [p for p in paths if hashlib.sha256(p.read_bytes()).hexdigest() not in digests]
    assert left_out == []


def test_scripts_are_those_of_the_units_and_are_shell(packages: Packages) -> None:
    for package in packages.made:
        for tag in ("PREIN", "POSTIN", "PREUN", "POSTUN"):
            script = "\n".join(packages.ask(package, f"%{{{tag}}}"))
            wanted = "systemd-sysusers" if tag == "PREIN" else "virtsnapd.service"
            if (package, tag) == ("virtsnap", "PREUN"):  # nor is it on before somebody wants it
                wanted = "virtsnap-notify.service"
            elif package != "virtsnapd":
                assert script == "(none)"
                continue
            assert packages.ask(package, f"%{{{tag}PROG}}") == ["/bin/sh"]
            run(["sh", "-n"], input=script.encode())
            assert "%" not in script  # a macro that nobody knows
            assert wanted in script


def test_user_is_made_before_the_files_are_there(packages: Packages, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    stand_in = tmp_path / "systemd-sysusers"
    stand_in.write_text(f'#!/bin/sh\nexec /usr/bin/systemd-sysusers --root={tmp_path} "$@"\n')
    stand_in.chmod(0o755)
    script = "\n".join(packages.ask("virtsnapd", "%{PREIN}"))
    run(["env", f"PATH={tmp_path}:{os.environ['PATH']}", "sh", "-c", script])
    users = [line.split(":") for line in (tmp_path / "etc/passwd").read_text().splitlines()]
    assert [(u[0], u[5], u[6]) for u in users if u[0] == "virtsnapd"] == [
        ("virtsnapd", "/var/lib/virtsnapd", "/usr/sbin/nologin")
    ]
    groups = [line.split(":") for line in (tmp_path / "etc/group").read_text().splitlines()]
    assert [g[3] for g in groups if g[0] == "libvirt"] == ["virtsnapd"]
