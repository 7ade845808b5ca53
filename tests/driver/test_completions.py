"""What bash, zsh and fish complete, with names that would do harm in a careless shell script."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from tests.bus import private_bus
from tests.driver.house import HOURLY, House
from tests.driver.shells import Shell, environment, fish, shell
from tests.driver.test_odd_names import host_of_domains, host_of_snapshots
from tests.driver.virtsnap import virtsnap

HARM = "touch harm"
# each begins with a letter of its own, which is what is typed
VMS = [
    "a b",
    f"c$({HARM})",
    f"D`{HARM}`",
    "e'f",
    'g"h',
    f"i;{HARM}",
    "j*",
    "k?l",
    "m!!n",
    "o\\p",
    "q:r=s",
    "t{u,v}",
    "W[a-z]",
    f"x&{HARM} #",
    "y$HOME",
    "ünïcødé-试验",
    "~z",
]
SNAPSHOTS = ["a\nb", f"c\n{HARM}\n", "d\te", "f\x7fg", "h  i ", "before-upgrade", "-rf"]
SHELLS = ["bash", "zsh"]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A daemon in front of VMs of such names, web-1 with snapshots of such names among them."""
    with private_bus() as bus:
        made = House(bus.address, tmp_path_factory.mktemp("host"))
        web = host_of_snapshots(SNAPSHOTS).removesuffix("</node>")
        made.serve_text(web + host_of_domains(VMS).removeprefix("<node>"))
        made.policy("hourly", HOURLY)
        try:
            made.start().rows("ListDomains")
            yield made
        finally:
            print(made.daemon.log)
            made.close()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A shell's home and working folder, where nothing may be done."""
    yield tmp_path
    assert not (tmp_path / "harm").exists()


@pytest.fixture(params=SHELLS)
def at(request: pytest.FixtureRequest, home: Path) -> Iterator[Shell]:
    with shell(request.param, home) as made:
        yield made


def test_commands_and_options_are_completed(at: Shell) -> None:
    assert at.gets("virtsnap hist\t") == ["history"]
    assert at.gets("nice virtsnap hist\t") == ["history"]
    assert at.gets("virtsnap policy cov\t") == ["policy", "coverage"]
    assert at.gets("virtsnap create --desc\tx") == ["create", "--description", "x"]
    assert at.gets("virtsnap create --no-mem\t") == ["create", "--no-memory"]
    assert at.gets("virtsnap revert --after run\t") == ["revert", "--after", "running"]
    assert at.gets("virtsnap policy enable nigh\t") == ["policy", "enable", "nightly"]


def test_files_are_completed_where_a_file_is_meant(at: Shell, home: Path) -> None:
    (home / "my policy.toml").touch()
    assert at.gets("virtsnap policy validate my\t") == ["policy", "validate", "my policy.toml"]
    assert at.gets("virtsnap policy enable ./my\t") == ["policy", "enable", "./my policy.toml"]


def test_vm_names_of_any_kind_come_whole_and_run_nothing(at: Shell, host: House) -> None:
    bus = f"virtsnap --bus-address {host.address}"
    for name in VMS:
        typed = "\\~" if name[0] == "~" else name[0]
        words = ["--bus-address", host.address, "list", name]
        assert at.gets(f"{bus} list {typed}\t") == words
        if name[0] != "~":
            assert at.gets(f'{bus} list "{name[0]}\t') == words
            assert at.gets(f"{bus} list '{name[0]}\t") == words


def test_snapshot_names_of_the_vm_come_whole_and_run_nothing(at: Shell, host: House) -> None:
    for name in SNAPSHOTS[:-1]:
        got = at.gets(f"virtsnap revert --bus-address={host.address} web-1 {name[0]}\t")
        assert got == ["revert", f"--bus-address={host.address}", "web-1", name]
    got = at.gets(f"virtsnap revert --bus-address={host.address} -- web-1 -r\t")
    assert got[2:] == ["--", "web-1", "-rf"]


def test_policy_names_are_completed_also_after_an_equals_sign(at: Shell, host: House) -> None:
    bus = f"virtsnap --bus-address {host.address}"
    assert at.gets(f"{bus} policy show ho\t")[2:] == ["policy", "show", "hourly"]
    assert at.gets(f"{bus} check --policy ho\t")[2:] == ["check", "--policy", "hourly"]
    assert at.gets(f"{bus} hold --policy ho\t")[2:] == ["hold", "--policy", "hourly"]
    assert at.gets(f"{bus} hold --policy=ho\t")[2:] == ["hold", "--policy=hourly"]


def test_keys_of_a_policy_are_completed_up_to_their_value(at: Shell, host: House) -> None:
    set_ = f"virtsnap --bus-address {host.address} policy set hourly"
    words = ["policy", "set", "hourly"]
    assert at.gets(f"{set_} keep.da\t14")[2:] == [*words, "keep.daily=14"]
    assert at.gets(f"{set_} keep.last=5 limits.max_a\t30d --ye\t")[5:] == [
        "keep.last=5",
        "limits.max_age=30d",
        "--yes",
    ]
    assert at.gets(f"{set_} sch\t'30 3 * * *'")[5:] == ["schedule=30 3 * * *"]
    for whole in ("keep.daily=", "keep.daily=1", "safety.la"):  # nothing more is known of these
        assert at.gets(f"{set_} {whole}\t4")[5:] == [f"{whole}4"]
    assert at.gets(f"virtsnap --bus-address {host.address} policy set ho\t x=")[4:] == [
        "hourly",
        "x=",
    ]


def test_vm_after_a_bare_option_is_completed(at: Shell, host: House) -> None:
    words = at.gets(f"virtsnap --bus-address {host.address} create --memory web-\t1")
    assert words[2:] == ["create", "--memory", "web-1"]


def test_new_commands_and_options_are_completed(at: Shell) -> None:
    for typed, command in (
        ("und", "undo"),
        ("tr", "try"),
        ("acc", "accept"),
        ("disc", "discard"),
        ("wi", "with"),
        ("wat", "watch"),
        ("dom", "domains"),
        ("desc", "describe"),
        ("prev", "preview"),
    ):
        assert at.gets(f"virtsnap {typed}\t") == [command]
    assert at.gets("virtsnap policy conf\t") == ["policy", "confirm"]
    assert at.gets("virtsnap list --tr\t") == ["list", "--tree"]
    assert at.gets("virtsnap list --origin saf\t") == ["list", "--origin", "safety"]
    assert at.gets("virtsnap revert --lat\t") == ["revert", "--latest"]
    assert at.gets("virtsnap domains --unpr\t") == ["domains", "--unprotected"]
    assert at.gets("virtsnap jobs --state fai\t") == ["jobs", "--state", "failed"]
    assert at.gets("virtsnap history --verb rev\t") == ["history", "--verb", "revert"]
    assert at.gets("virtsnap watch --noti\t") == ["watch", "--notify"]
    assert at.gets("virtsnap undo --no-ask\t") == ["undo", "--no-ask-password"]


def test_names_are_completed_for_the_new_commands(at: Shell, host: House, home: Path) -> None:
    bus = f"virtsnap --bus-address {host.address}"
    for command in ("undo", "try", "accept", "watch", "with", "preview", "jobs --vm"):
        assert at.gets(f"{bus} {command} db\t")[2:] == [*command.split(), "db-1"]
    for command in ("show", "describe", "history", "delete web-1 a"):
        words = command.split() if " " in command else [command, "web-1"]
        assert at.gets(f"{bus} {' '.join(words)} bef\t")[2:] == [*words, "before-upgrade"]
    for command in ("policy edit", "policy set", "policy confirm", "list --policy"):
        assert at.gets(f"{bus} {command} ho\t")[2:] == [*command.split(), "hourly"]
    latest = "revert web-1 --latest --policy"
    assert at.gets(f"{bus} {latest} ho\t")[2:] == [*latest.split(), "hourly"]
    (home / "upgrade.sh").touch()
    with_ = at.gets(f"{bus} with web-1 -- ./upg\t")
    assert with_[2:] == ["with", "web-1", "--", "./upgrade.sh"]


def test_jobs_and_trials_that_there_are_are_completed(at: Shell, host: House) -> None:
    vm, bus = VMS[-1], f"virtsnap --bus-address {host.address}"
    host.client.create(vm, f"tried-{time.monotonic_ns()}", trial=True)
    tried = [n for n, r in host.client.snapshots(vm).items() if r["Origin"] == "trial"]
    number = host.client.rows("ListJobs")[0]["Path"].rpartition("/")[2]
    for verb in ("accept", "discard"):
        got = at.gets(f"{bus} {verb} '~z' tried-\t")
        assert got[2:4] == [verb, vm] and any(one.startswith(got[4]) for one in tried)
        assert len(got[4]) > len("tried-")
    assert at.gets(f"{bus} jobs {number}\t --wait")[2:4] == ["jobs", number]


def startable(folder: Path) -> tuple[Path, Path]:
    """A folder of activation files by which a bus starts a program in virtsnapd's place, and the
    file that this program makes."""
    services, started = folder / "services", folder / "started"
    services.mkdir()
    do = f"/bin/sh -c 'touch {started}; exit 1'"  # 1: at once known not to come
    text = f"[D-BUS Service]\nName=org.virtsnap.Snapd1\nExec={do}\n"
    (services / "org.virtsnap.Snapd1.service").write_text(text)
    return services, started


def test_without_a_daemon_nothing_is_offered_said_or_started(at: Shell, home: Path) -> None:
    services, started = startable(home)
    with private_bus(services=services) as bus:
        assert at.gets(f"virtsnap --bus-address {bus.address} list we\t")[2:] == ["list", "we"]
        assert not started.exists()
        assert "rror" not in at.screen
        virtsnap(bus.address, "list")
        assert started.exists()
    assert at.gets("virtsnap --bus-address unix:path=/nowhere list we\t")[2:] == ["list", "we"]
    assert "rror" not in at.screen


@pytest.mark.parametrize("who", ["daemon", "bus"])
def test_who_hangs_holds_the_line_up_for_a_moment_only(who: str, home: Path) -> None:
    with private_bus() as bus, closing(House(bus.address, home / "house")) as house:
        house.start().rows("ListDomains")
        pid = house.daemon.pid if who == "daemon" else bus.process.pid
        env = {**environment(home), "_ARGCOMPLETE": "zsh"}
        words = ["virtsnap", "--bus-address", bus.address, "list", ""]
        complete = partial(subprocess.run, words, env=env, capture_output=True, text=True)
        assert "web-1" in complete(check=True).stdout
        os.kill(pid, signal.SIGSTOP)
        try:
            begun = time.monotonic()
            done = complete(check=True)
            took = time.monotonic() - begun
        finally:
            os.kill(pid, signal.SIGCONT)
    assert (done.stdout, done.stderr) == ("", "")
    assert took < 3  # a second and Python's start; 25 s are what a call of D-Bus may take


def test_fish_offers_every_name_as_it_is(host: House, home: Path) -> None:
    bus = f"virtsnap --bus-address {host.address}"
    offered, said = fish(home, f"{bus} list ")
    assert said == ""
    assert set(VMS) < set(offered)
    offered, said = fish(home, f"{bus} revert web-1 ")
    # a tab ends a candidate of fish, and a dash begins an option
    assert said == ""
    assert set(offered) == {one for one in SNAPSHOTS if "\t" not in one and one != "-rf"}
    assert "-rf" in fish(home, f"{bus} revert -- web-1 ")[0]
    assert fish(home, f"{bus} policy show ") == (["hourly"], "")


def test_fish_offers_the_keys_of_a_policy(home: Path) -> None:
    offered = fish(home, "virtsnap policy set hourly keep.")
    last = ["within", "last", "hourly", "daily", "weekly", "monthly", "yearly"]
    assert (set(offered[0]), offered[1]) == ({f"keep.{each}=" for each in last}, "")
    everything = set(fish(home, "virtsnap policy set hourly keep.last=5 ")[0])
    assert {"domains=", "exclude=", "schedule=", "on=", "limits.min_free="} < everything
    assert fish(home, "virtsnap policy set hourly keep.last=") == ([], "")


def test_fish_offers_the_jobs_that_there_are(host: House, home: Path) -> None:
    host.client.create("a b")
    numbers = [row["Path"].rpartition("/")[2] for row in host.client.rows("ListJobs")]
    offered = fish(home, f"virtsnap --bus-address {host.address} jobs ")
    assert numbers and offered == (numbers, "")


def test_fish_offers_only_trials_to_accept_or_discard(host: House, home: Path) -> None:
    host.client.create("a b", "mine")
    host.client.create("a b", "tried", trial=True)
    for verb in ("accept", "discard"):
        offered = fish(home, f"virtsnap --bus-address {host.address} {verb} 'a b' ")
        assert offered == (["tried"], "")


def test_fish_offers_commands_options_values_and_files(home: Path) -> None:
    (home / "my policy.toml").touch()
    assert {"history", "policy", "list"} < set(fish(home, "virtsnap ")[0])
    assert fish(home, "virtsnap create --no-") == (
        ["--no-ask-password", "--no-memory", "--no-quiesce", "--no-wait"],
        "",
    )
    assert fish(home, "virtsnap revert --after ru") == (["running"], "")
    assert fish(home, "virtsnap policy validate my") == (["my policy.toml"], "")
    assert fish(home, "virtsnap --bus-address unix:path=/nowhere list ") == ([], "")
