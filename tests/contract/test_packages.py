"""What the ways to install have to say the same: the version, and what is needed. (What is in the
packages, tests/packaging looks at.)"""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import snapd

TOP = Path(__file__).parents[2]
PACKAGING = TOP / "packaging"
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]

# What PyPI calls it -> what Debian calls it.
DEBIAN = {
    "dbus-next": "python3-dbus-next",
    "libvirt-python": "python3-libvirt",
    "croniter": "python3-croniter",
    "systemd-python": "python3-systemd",
    "tomli-w": "python3-tomli-w",
    "tabulate": "python3-tabulate",
    "wcwidth": "python3-wcwidth",
    "rich": "python3-rich",
    "argcomplete": "python3-argcomplete",
}


def control(kind: str) -> set[str]:
    """The packages that all paragraphs of debian/control have in this field."""
    text = (PACKAGING / "debian/control").read_text()
    fields = re.findall(rf"^{kind}:(.*(?:\n .*)*)", text, re.MULTILINE)
    return set(
        re.findall(r"[a-z][a-z0-9.+-]+[a-z0-9]", re.sub(r"\(.*?\)|\$\{.*?\}", "", " ".join(fields)))
    )


def set_up() -> set[str]:
    """The packages that the set-up scripts install to run it."""
    command = '. packaging/setup-lib.sh && echo "$RUN_PACKAGES $GUEST_PACKAGES $BUILD_PACKAGES"'
    return set(subprocess.check_output(["sh", "-c", command], cwd=TOP, text=True).split())


def test_version_is_the_same_everywhere() -> None:
    changelog = (PACKAGING / "debian/changelog").read_text()
    spec = (PACKAGING / "rpm/virtsnapd.spec").read_text()
    assert PROJECT["version"] == snapd.__version__
    assert re.match(r"virtsnapd \((.*?)\) ", changelog)[1] == snapd.__version__  # type: ignore[index]
    assert re.findall(r"^Version: *(\S+)", spec, re.MULTILINE) == [snapd.__version__]


def test_every_library_is_a_dependency_everywhere() -> None:
    names = {re.split(r"[<>=! ]", each)[0] for each in PROJECT["dependencies"]}
    assert len(names) >= 6
    wanted = {DEBIAN[name] for name in names}
    assert wanted <= control("Depends")
    assert wanted <= set_up()


def test_set_up_has_what_the_debian_build_needs() -> None:
    """`need_packages` is told plain names, and one is in each of these."""
    known = {"debhelper-compat": "debhelper", "dh-sequence-installsysusers": "debhelper",
             "dh-sequence-python3": "dh-python"}  # fmt: skip
    assert {known.get(each, each) for each in control("Build-Depends")} <= set_up()
