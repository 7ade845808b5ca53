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
