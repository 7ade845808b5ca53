"""Files and folders: the daemon's settings, policy folders, the host's time zone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from snapd.errors import InvalidArgument
from snapd.settings import (
    Settings,
    load_daemon,
    load_policies,
    load_zone,
    system_timezone,
)


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)
    return folder


GOOD = 'domains = ["*"]\nschedule = "@daily"\nkeep.last = 3\n'


def test_load_policies_bad_file_disables_only_itself(tmp_path: Path) -> None:
    folder = write(tmp_path / "d", good=GOOD, bad=GOOD + "keep.lsat = 1\n", torn="domains = [")
    loaded = load_policies([(folder, "admin")], "UTC")
    assert list(loaded.policies) == ["good"]
    assert [(e.name, e.source) for e in loaded.errors] == [("bad", "admin"), ("torn", "admin")]
    assert loaded.errors[0].message.startswith("bad.toml: keep.lsat: ")
    assert str(tmp_path) not in loaded.errors[0].message


def test_load_policies_admins_file_wins_even_when_it_is_bad(tmp_path: Path) -> None:
    admin = write(tmp_path / "etc", one=GOOD, two="nonsense")
    api = write(tmp_path / "var", one=GOOD, two=GOOD, three=GOOD)
    loaded = load_policies([(admin, "admin"), (api, "api")], "UTC")
    assert {n: p.source for n, p in loaded.policies.items()} == {"one": "admin", "three": "api"}
    assert [(s.name, s.source) for s in loaded.shadowed] == [("one", "api"), ("two", "api")]
    assert [e.name for e in loaded.errors] == ["two"]


def test_load_policies_other_files_are_left_alone(tmp_path: Path) -> None:
    folder = write(tmp_path / "d", good=GOOD)
    for name in (".hidden.toml", "good.toml~", "good.toml.dpkg-new", "README"):
        (folder / name).write_text("nonsense")
    loaded = load_policies([(folder, "admin"), (tmp_path / "missing", "api")], "UTC")
    assert (list(loaded.policies), loaded.errors) == (["good"], [])


def test_load_policies_odd_files_are_errors_and_nobody_waits(tmp_path: Path) -> None:
    folder = write(tmp_path / "d", Upper=GOOD, big=GOOD + "#" * 65536)
    os.mkfifo(folder / "pipe.toml")
    (folder / "folder.toml").mkdir()
    (folder / "dangling.toml").symlink_to("nowhere")
    loaded = load_policies([(folder, "admin")], "UTC")
    assert loaded.policies == {}
    assert {e.name for e in loaded.errors} == {"Upper", "big", "pipe", "folder", "dangling"}


BAD_FILES = {
    "empty": (b"", "domains: is required"),
    "twice": (GOOD.encode() + b"keep.last = 4\n", "is not valid TOML: "),
    "again": (b"[keep]\nlast = 1\n[keep]\ndaily = 2\n", "is not valid TOML: "),
    "zero": (GOOD.replace("3", "0").encode(), "keep.last: "),
    "nul": (GOOD.encode() + b"# \0\n", "is not valid TOML: "),
    "cr": (GOOD.replace("\n", "\r").encode(), "is not valid TOML: "),
    "utf16": (GOOD.encode("utf-16"), "is not UTF-8 (byte 0)"),
    "latin1": (GOOD.encode() + b"# \xe4\n", "is not UTF-8 (byte "),
    "boms": (b"\xef\xbb\xbf" * 2 + GOOD.encode(), "is not valid TOML: "),
    "long": (GOOD.encode().ljust(65537, b"#"), "has over 65536 bytes"),
    "deep": (b"domains = " + b"[" * 30000, "is not valid TOML: nested too deeply"),
    "digits": (b"keep.last = " + b"9" * 5000, "is not valid TOML: "),
    "zone": (GOOD.encode() + b'timezone = "Mars/Olympus"\n', "timezone: "),
    "cron": (GOOD.replace("@daily", "0," * 127 + "0 0 * * *").encode(), "schedule: "),
    "template": (GOOD.encode() + b'name = "{policy.__class__}"\n', "name: unknown key"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_load_policies_bad_file_is_named_with_the_reason(tmp_path: Path, name: str) -> None:
    content, reason = BAD_FILES[name]
    folder = write(tmp_path / "d", good=GOOD)
    (folder / f"{name}.toml").write_bytes(content)
    loaded = load_policies([(folder, "admin")], "UTC")
    assert list(loaded.policies) == ["good"]
    (error,) = loaded.errors
    assert (error.name, error.source) == (name, "admin")
    assert error.message.startswith(f"{name}.toml: {reason}")
    assert error.message.isprintable()
    assert len(error.message) < 1024


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\r\n").encode(),
        GOOD.encode().ljust(65536, b"#"),
    ],
    ids=["bom", "crlf", "64 KiB"],
)
def test_load_policies_what_other_editors_write_is_the_same_policy(
    tmp_path: Path, content: bytes
) -> None:
    folder = write(tmp_path / "d", plain=GOOD)
    (folder / "other.toml").write_bytes(content)
    loaded = load_policies([(folder, "admin")], "UTC")
    assert loaded.errors == []
    plain, other = loaded.policies["plain"], loaded.policies["other"]
    assert (other.revision, other.definition) == (plain.revision, plain.definition)


def test_load_policies_links_are_followed_and_loops_are_errors(tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "store", real=GOOD) / "real.toml"
    folder = write(tmp_path / "d")
    for name, target in {
        "linked": str(elsewhere),
        "self": "self.toml",
        "one": "two.toml",
        "two": "one.toml",
        "endless": "/dev/zero",
        "tree": str(tmp_path),
    }.items():
        (folder / f"{name}.toml").symlink_to(target)
    loaded = load_policies([(folder, "admin")], "UTC")
    assert list(loaded.policies) == ["linked"]
    assert {e.name for e in loaded.errors} == {"self", "one", "two", "endless", "tree"}
    assert all(e.message.startswith(f"{e.name}.toml: ") for e in loaded.errors)


@pytest.mark.parametrize(
    ("file", "shown"),
    [
        (b"Nightly.toml", "Nightly"),
        (b"9lives.toml", "9lives"),
        (b"night.ly.toml", "night.ly"),
        (b"x" * 65 + b".toml", "x" * 65),
        (b"a b.toml", "a b"),
        (b"{policy}%s.toml", "{policy}%s"),
        (b"n\xc3\xa4chtlich.toml", "n\u00e4chtlich"),
        (b"new\nline.toml", "new\\nline"),
        (b"not-utf8-\xff.toml", "not-utf8-\\udcff"),
        (b"esc\x1b[2J.toml", "esc\\x1b[2J"),
    ],
)
def test_load_policies_file_that_no_policy_can_be_called_after(
    tmp_path: Path, file: bytes, shown: str
) -> None:
    folder = write(tmp_path / "d", good=GOOD)
    Path(os.fsdecode(os.fsencode(folder) + b"/" + file)).write_text(GOOD)
    loaded = load_policies([(folder, "admin")], "UTC")
    assert list(loaded.policies) == ["good"]
    (error,) = loaded.errors
    assert error.name == shown
    assert error.message.startswith(f"{shown}.toml: policy name ")
    assert error.message.isprintable()


def test_load_policies_unreadable_folder_is_an_error_without_name(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("a file where the folder should be")
    loaded = load_policies([(tmp_path / "d", "admin")], "UTC")
    assert [(e.name, e.source) for e in loaded.errors] == [("", "admin")]


def test_load_daemon_missing_or_empty_file_is_defaults(tmp_path: Path) -> None:
    defaults = Settings(None, True, 3, 14 * 86400, 4)
    assert load_daemon(tmp_path / "virtsnapd.toml") == defaults
    (tmp_path / "virtsnapd.toml").write_text("")
    assert load_daemon(tmp_path / "virtsnapd.toml") == defaults


def test_load_daemon_all_keys_are_read(tmp_path: Path) -> None:
    path = tmp_path / "virtsnapd.toml"
    path.write_text(
        '[libvirt]\nuri = "test:///default"\nmonitor = false\n'
        '[safety]\nlast = 5\nmax_age = "30d"\n[limits]\nparallel = 2\n'
    )
    assert load_daemon(path) == Settings("test:///default", False, 5, 30 * 86400, 2)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("libvirt = 1", "libvirt"),
        ("[libvirt]\nurl = 'x'", "libvirt.url"),
        ("[libvirt]\nuri = ''", "libvirt.uri"),
        ("[libvirt]\nmonitor = 'no'", "libvirt.monitor"),
        ("[safety]\nlast = 0", "safety.last"),
        ("[safety]\nmax_age = 14", "safety.max_age"),
        ("[limits]\nparallel = true", "limits.parallel"),
        ("[log]\nlevel = 'debug'", "log"),
        ("[limits\n", ""),
    ],
)
def test_load_daemon_wrong_value_names_file_and_key(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "virtsnapd.toml"
    path.write_text(text)
    with pytest.raises(InvalidArgument) as caught:
        load_daemon(path)
    assert caught.value.item == key
    assert caught.value.message.startswith(f"virtsnapd.toml: {key}")


def test_load_daemon_folder_in_its_place_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"^virtsnapd\.toml: "):
        (tmp_path / "virtsnapd.toml").mkdir()
        load_daemon(tmp_path / "virtsnapd.toml")


def test_system_timezone_is_tz_then_localtime_then_file_then_utc(tmp_path: Path) -> None:
    link, file = tmp_path / "localtime", tmp_path / "timezone"
    assert system_timezone({}, link, file) == "UTC"
    file.write_text("Asia/Tokyo\n")
    assert system_timezone({}, link, file) == "Asia/Tokyo"
    link.symlink_to("/usr/share/zoneinfo/Europe/Berlin")
    assert system_timezone({}, link, file) == "Europe/Berlin"
    assert system_timezone({"TZ": ":America/New_York"}, link, file) == "America/New_York"
    for odd in ("CET-1CEST,M3.5.0,M10.5.0/3", "/etc/localtime", "", "\udcff"):
        assert system_timezone({"TZ": odd}, link, file) == "Europe/Berlin"


def test_load_zone_known_name_is_that_zone() -> None:
    assert load_zone("Europe/Berlin").key == "Europe/Berlin"


@pytest.mark.parametrize("name", ["localtime", "posixrules", "Factory", "right/Europe/Berlin"])
def test_load_zone_file_that_is_no_place_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="not known here"):
        load_zone(name)
