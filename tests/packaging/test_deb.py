"""The Debian packages as packaging/deb makes them: what is in them, for whom, and what runs at
install. The lists were written by a person, from where systemd, D-Bus, polkit, man and the shells
look for files."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from snapd import __version__

TOP = Path(__file__).parents[2]

# {units} is where this suite's debhelper puts them.
FILES = """
virtsnapd        755 /usr/bin/virtsnapd
virtsnapd        644 {units}/virtsnap-check.service
virtsnapd        644 {units}/virtsnap-check.timer
virtsnapd        644 {units}/virtsnapd.service
virtsnapd        644 /usr/lib/systemd/catalog/virtsnapd.catalog
virtsnapd        644 /usr/lib/systemd/user/virtsnapd.service
virtsnapd        644 /usr/lib/sysusers.d/virtsnapd.conf
virtsnapd        644 /usr/lib/tmpfiles.d/virtsnapd.conf
virtsnapd        644 /usr/share/dbus-1/services/org.virtsnap.Snapd1.service
virtsnapd        644 /usr/share/dbus-1/system-services/org.virtsnap.Snapd1.service
virtsnapd        644 /usr/share/dbus-1/system.d/org.virtsnap.Snapd1.conf
virtsnapd        644 /usr/share/doc/virtsnapd/changelog.gz
virtsnapd        644 /usr/share/doc/virtsnapd/copyright
virtsnapd        644 /usr/share/man/man5/org.virtsnap.Snapd1.5.gz
virtsnapd        644 /usr/share/man/man5/virtsnapd-policy.5.gz
virtsnapd        644 /usr/share/man/man8/virtsnapd.8.gz
virtsnapd        644 /usr/share/polkit-1/actions/org.virtsnap.snapd1.policy
virtsnapd        644 /usr/share/polkit-1/rules.d/60-virtsnapd-service-user.rules
virtsnapd        644 /usr/share/polkit-1/rules.d/60-virtsnapd.rules
virtsnapd        644 /usr/share/virtsnapd/policies/nightly.toml
virtsnap         755 /usr/bin/virtsnap
virtsnap         644 /usr/lib/systemd/user/virtsnap-notify.service
virtsnap         644 /usr/share/bash-completion/completions/virtsnap
virtsnap         644 /usr/share/doc/virtsnap/changelog.gz
virtsnap         644 /usr/share/doc/virtsnap/copyright
virtsnap         644 /usr/share/fish/vendor_completions.d/virtsnap.fish
virtsnap         644 /usr/share/man/man1/virtsnap.1.gz
virtsnap         644 /usr/share/virtsnapd/virtsnap.schema.json
virtsnap         644 /usr/share/zsh/vendor-completions/_virtsnap
virtsnap-common  644 /usr/share/doc/virtsnap-common/README.md.gz
virtsnap-common  644 /usr/share/doc/virtsnap-common/changelog.gz
virtsnap-common  644 /usr/share/doc/virtsnap-common/copyright
virtsnap-common  755 /usr/share/python3/runtime.d/virtsnap-common.rtupdate
virtsnap-common  644 /usr/share/virtsnapd/dbus/org.virtsnap.Snapd1.Domain.xml
virtsnap-common  644 /usr/share/virtsnapd/dbus/org.virtsnap.Snapd1.Job.xml
virtsnap-common  644 /usr/share/virtsnapd/dbus/org.virtsnap.Snapd1.Manager.xml
virtsnap-common  644 /usr/share/virtsnapd/dbus/org.virtsnap.Snapd1.Policy.xml
virtsnap-common  644 /usr/share/virtsnapd/dbus/org.virtsnap.Snapd1.Snapshot.xml
"""
# Only where systemd knows the keys in it.
BACK_OFF = "virtsnapd        644 {units}/virtsnapd.service.d/back-off.conf"

# The modules of virtsnap-common are imported by both programs. Those without a version are as
# they have been since before Debian 12.
DEPENDS = {
    "virtsnapd": {
        "virtsnap-common (= {version})", "python3-libvirt (>= 9.0)", "python3-systemd",
        "dbus (>= 1.12) | dbus-system-bus", "polkitd", "qemu-utils", "systemd", "python3:any",
    },
    "virtsnap": {
        "virtsnap-common (= {version})", "python3-argcomplete", "python3-rich",
        "python3-tabulate", "python3-wcwidth", "python3:any",
    },
    "virtsnap-common": {
        "python3 (>= 3.11)", "python3-dbus-next", "python3-croniter", "python3-tomli-w", "tzdata",
        "python3:any",
    },
}  # fmt: skip
RECOMMENDS = {
    "virtsnapd": {"libvirt-daemon-system", "virtsnap"},
    "virtsnap": {"virtsnapd"},
    "virtsnap-common": set[str](),
}
# What debhelper's scripts ask for, by its version.
OF_DEBHELPER = re.compile(r"init-system-helpers |systemd \| systemd-standalone-sysusers")
SCRIPTS = {
    "virtsnapd": {"postinst", "prerm", "postrm"},
    "virtsnap": {"postinst", "postrm"},  # of the user unit
    "virtsnap-common": {"postinst", "prerm"},  # which compile the modules
}
MODULES = "/usr/share/virtsnapd/snapd"
SOURCES = ("LICENSE", "README.md", "pyproject.toml", "dbus", "packaging", "snapd", "systemd")


class Deb:
    """What dpkg says of one file. files: by path, as installed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with tarfile.open(fileobj=io.BytesIO(ask("--fsys-tarfile", path))) as archive:
            self.files = {each.name[1:]: each for each in archive.getmembers()}
        with tarfile.open(fileobj=io.BytesIO(ask("--ctrl-tarfile", path))) as archive:
            parts = {each.name[2:]: archive.extractfile(each) for each in archive.getmembers()}
        self.control = {name: part.read().decode() for name, part in parts.items() if part}

    def field(self, name: str) -> str:
        return ask("--field", self.path, name).decode().strip()

    def words(self, name: str) -> set[str]:
        return {each.strip() for each in self.field(name).split(",") if each.strip()}


def ask(question: str, path: Path, *more: str) -> bytes:
    command = ["dpkg-deb", question, str(path), *more]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, with folders that a checkout may have besides."""
    top = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        copy = shutil.copytree if (TOP / name).is_dir() else shutil.copy
        copy(TOP / name, top / name)
    (top / "snapd/__pycache__").mkdir(exist_ok=True)
    (top / "snapd/__pycache__/old.cpython-311.pyc").write_bytes(b"old")
    (top / "tests").mkdir()
    return top


@pytest.fixture(scope="module")
def debs(checkout: Path) -> dict[str, Deb]:
    return {path.name.partition("_")[0]: Deb(path) for path in build(checkout)}


def build(checkout: Path, *options: str) -> list[Path]:
    # whoever builds may have closed his files to others
    command = ["sh", "-c", 'umask 077; exec packaging/deb "$@"', "sh", *options]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return [Path(line) for line in done.stdout.splitlines()]


def test_files_and_their_modes_are_those_of_the_list(debs: dict[str, Deb]) -> None:
    found = {
        f"{name:16} {file.mode:o} {path}"
        for name, deb in debs.items()
        for path, file in deb.files.items()
        if not file.isdir() and not path.startswith(MODULES)
    }
    version = subprocess.run(["systemctl", "--version"], check=True, capture_output=True, text=True)
    has_back_off = int(version.stdout.split()[1]) >= 254
    debian = int(Path("/etc/debian_version").read_text().partition(".")[0])
    units = "/lib/systemd/system" if debian == 12 else "/usr/lib/systemd/system"
    lines = FILES + (BACK_OFF if has_back_off else "")
    assert sorted(found) == sorted(line for line in lines.format(units=units).splitlines() if line)


def test_all_is_roots_and_no_file_is_in_two_packages(debs: dict[str, Deb]) -> None:
    parts = [part for deb in debs.values() for part in deb.files.values()]
    assert {(part.uid, part.gid) for part in parts} == {(0, 0)}
    assert {part.mode for part in parts if part.isdir()} == {0o755}
    paths = [part.name for part in parts if not part.isdir()]
    assert len(paths) == len(set(paths))


def test_modules_are_all_of_snapd_and_nothing_else(checkout: Path, debs: dict[str, Deb]) -> None:
    """Compiled ones are made at install, for the Python that is there."""
    files = {path: part for path, part in debs["virtsnap-common"].files.items() if part.isfile()}
    found = {path for path in files if path.startswith(MODULES)}
    sources = {path.relative_to(checkout) for path in (checkout / "snapd").rglob("*.py")}
    assert found == {f"/usr/share/virtsnapd/{path}" for path in sources}
    assert {files[path].mode for path in found} == {0o644}


def test_packages_ask_for_what_they_need(debs: dict[str, Deb]) -> None:
    assert set(debs) == set(DEPENDS)
    for name, deb in debs.items():
        found = {each for each in deb.words("Depends") if not OF_DEBHELPER.match(each)}
        assert found == {each.format(version=__version__) for each in DEPENDS[name]}
        assert deb.words("Recommends") == RECOMMENDS[name]
        assert (deb.field("Version"), deb.field("Architecture")) == (__version__, "all")


def test_scripts_run_only_where_something_is_to_be_done(debs: dict[str, Deb]) -> None:
    for name, deb in debs.items():
        assert set(deb.control) - {"control", "md5sums"} == SCRIPTS[name]
        assert "#DEBHELPER#" not in "".join(deb.control.values())


def test_user_and_the_buss_second_look_come_before_the_start(debs: dict[str, Deb]) -> None:
    script = debs["virtsnapd"].control["postinst"]
    user = script.index("systemd-sysusers virtsnapd.conf")
    look = script.index("ReloadConfig")
    start = script.index("deb-systemd-invoke $_dh_action 'virtsnapd.service'")
    assert user < look < start


def test_only_the_systems_service_is_enabled_and_started(debs: dict[str, Deb]) -> None:
    script = debs["virtsnapd"].control["postinst"]
    lines = [line.strip().removesuffix(" >/dev/null || true") for line in script.splitlines()]
    asked = [line for line in lines if re.match("if .*(was-enabled|debian-installed)", line)]
    assert asked == [
        # new: none is enabled; later: those that were. `was-enabled` says yes of what is new.
        "if deb-systemd-helper --user debian-installed 'virtsnapd.service' ; then",
        "if deb-systemd-helper --quiet --user was-enabled 'virtsnapd.service' ; then",
        "if deb-systemd-helper --quiet was-enabled 'virtsnapd.service'; then",
        "if deb-systemd-helper debian-installed 'virtsnap-check.timer'; then",
        "if deb-systemd-helper --quiet was-enabled 'virtsnap-check.timer'; then",
    ]
    assert [line for line in lines if line.startswith("deb-systemd-invoke")] == [
        "deb-systemd-invoke $_dh_action 'virtsnapd.service'",
        # only what runs
        "deb-systemd-invoke try-restart 'virtsnap-check.service' 'virtsnap-check.timer'",
    ]


def test_notifications_are_on_for_nobody(debs: dict[str, Deb]) -> None:
    lines = [line.strip() for line in debs["virtsnap"].control["postinst"].splitlines()]
    # enabled again where somebody had enabled it before
    assert [line for line in lines if line.startswith("if deb-systemd-helper")] == [
        "if deb-systemd-helper --user debian-installed 'virtsnap-notify.service' ; then",
        "if deb-systemd-helper --quiet --user was-enabled 'virtsnap-notify.service' ; then",
    ]
    assert not [line for line in lines if line.startswith("deb-systemd-invoke")]


def test_upgrade_stops_nothing_before_the_restart(debs: dict[str, Deb]) -> None:
    assert "preinst" not in debs["virtsnapd"].control
    script = debs["virtsnapd"].control["prerm"]
    stops = [each.start() for each in re.finditer("deb-systemd-invoke stop", script)]
    assert len(stops) == 2  # the service, and the check with its timer
    for stop in stops:
        assert '[ "$1" = remove ]' in script[script.rindex("if ", 0, stop) : stop]


def test_lintian_finds_no_error_and_nothing_to_warn_of(
    checkout: Path, debs: dict[str, Deb]
) -> None:
    assert len(build(checkout, "--lint")) == len(debs)


def test_build_is_done_again_only_where_something_has_changed(checkout: Path) -> None:
    def numbers(paths: list[Path]) -> list[int]:
        return [path.stat().st_ino for path in paths]

    before = numbers(build(checkout))
    assert numbers(build(checkout)) == before
    with (checkout / "README.md").open("a") as file:
        file.write("One more line.\n")
    assert not set(numbers(build(checkout))) & set(before)
