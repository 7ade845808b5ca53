"""virtsnap domains and jobs: lists, one job, following it, cancelling it."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from snapd.wire.messages import Incoming
from snapd.wire.values import Variant
from tests.bus import PrivateBus
from tests.client import TOP
from tests.driver.house import HOURLY, NODE, House
from tests.driver.test_cli_jobs import JOB, Play, until
from tests.driver.test_cli_looking import PAINT, screen
from tests.driver.virtsnap import cli, command, terminal, virtsnap
from tests.schema import documents


def table(text: str) -> list[dict[str, str]]:
    """The rows of a table by their titles, a cell where its title begins."""
    heading, *lines = text.splitlines()
    starts = [(found[0], found.start()) for found in re.finditer(r"\S+(?: \S+)*", heading)]
    ends = [start for _, start in starts[1:]] + [None]
    return [
        {title: line[start:end].strip() for (title, start), end in zip(starts, ends, strict=True)}
        for line in lines
    ]


# --- domains


def test_domains_says_state_support_policies_and_count(house: House) -> None:
    house.policy("hourly", HOURLY)
    client = house.start()
    client.wait(client.call("RunPolicy", "hourly"))
    done = cli(house, "domains")
    assert (done.code, done.err) == (0, "")
    rows = {row["VM"]: row for row in table(done.out)}
    states = {row["Name"]: row["State"] for row in client.rows("ListDomains")}
    assert {vm: row["STATE"] for vm, row in rows.items()} == states
    assert [rows[vm]["POLICIES"] for vm in ("db-1", "web-1", "web-2")] == [
        "none",
        "hourly",
        "hourly",
    ]
    assert rows["web-1"]["SNAPSHOTS"] == str(len(client.snapshots("web-1"))) == "2"
    assert rows["web-1"]["CAN BE MADE"] == "internal, with RAM"
    assert rows["db-1"]["LAST SUCCESS"] == "never"
    assert re.match(r"20\d\d-", rows["web-1"]["LAST SUCCESS"])
    answer = cli(house, "domains", "--json").json
    assert [{**row, "Snapshots": 0} for row in answer["rows"]] == [
        {**row, "Snapshots": 0} for row in client.rows("ListDomains")
    ]
    assert {row["Name"]: row["Snapshots"] for row in answer["rows"]}["web-1"] == 2


def test_domains_that_cannot_be_snapshotted_are_said_why(house: House) -> None:
    house.serve(f"test://{NODE}")
    house.policy("all", HOURLY.replace("web-*", "td*"))
    client = house.start()
    client.wait(client.call("RunPolicy", "all"))
    done = cli(house, "domains", "--unsupported")
    (row,) = [row for row in table(done.out) if row["VM"] == "tdtransient"]
    assert row["CAN BE MADE"].startswith("no: transient")
    assert row["LAST RUN"] == "failed"
    assert "transient: the VM is transient" in done.err.splitlines()
    failed = client.domain("tdtransient")
    assert failed is not None
    assert f"VM tdtransient failed last: {failed['LastErrorMessage']}" in done.err.splitlines()
    names = {row["Name"] for row in client.rows("ListDomains") if row["LastErrorName"]}
    assert set(cli(house, "domains", "--failed", "-q").out.splitlines()) == names


def test_domains_picked_are_named_only_with_quiet(house: House) -> None:
    house.policy("hourly", HOURLY)
    house.start().rows("ListDomains")
    assert cli(house, "domains", "-q").out == "db-1\nweb-1\nweb-2\n"
    assert cli(house, "domains", "--unprotected", "-q").out == "db-1\n"
    assert cli(house, "domains", "--running", "-q").out == "web-1\n"
    assert cli(house, "domains", "--state", "shutoff", "-0").out == "web-2\0"
    none = cli(house, "domains", "--unprotected", "--running")
    assert (none.code, none.out, none.err) == (0, "", "no VM is like that\n")


# --- jobs


def test_jobs_lists_what_has_just_been_done(running: House) -> None:
    running.client.create("web-1", "one")
    running.client.wait(running.client.call("DeleteSnapshot", "web-1", "one"))
    cli(running, "create", "web-1", "by-hand")
    done = cli(running, "jobs")
    assert (done.code, done.err) == (0, "")
    first, second, third = table(done.out)
    assert (first["JOB"], first["VERB"], first["VM"], first["SNAPSHOT"], first["STATE"]) == (
        "1",
        "create",
        "web-1",
        "one",
        "done",
    )
    assert (second["VERB"], second["STATE"]) == ("delete", "done")
    assert third["STATE"] == "failed" and "by-hand" in third["ERROR"]
    assert cli(running, "jobs", "--json").json["rows"] == running.client.rows("ListJobs")
    assert cli(running, "jobs", "-q").out == "1\n2\n3\n"
    assert cli(running, "jobs", "--state", "failed", "-q").out == "3\n"
    assert cli(running, "jobs", "--vm", "web-2", "-q").out == ""
    assert cli(running, "jobs", "--vm", "web-2").err.startswith("there is no such job now;")
    assert cli(running, "jobs", "--vm", "nope").code == 3


def test_jobs_one_says_what_came_of_it(running: House) -> None:
    running.client.create("web-1", "one", memory="no", quiesce="no")
    done = cli(running, "jobs", "1")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0] == "job 1: create of VM web-1, done"
    assert re.search("^  asked for by  root$", done.out, re.MULTILINE)
    assert re.search(
        "^  result        snapshot one is made, crash-consistent$", done.out, re.MULTILINE
    )
    path = "/org/virtsnap/Snapd1/jobs/1"
    assert cli(running, "jobs", path, "--json").json == {
        "Path": path,
        **running.client.job(path),
        "Parts": [],
    }
    assert cli(running, "jobs", path, "-q").out == "1\n"


def test_jobs_of_a_run_shows_its_parts(house: House) -> None:
    house.policy("hourly", HOURLY)
    client = house.start()
    run = client.call("RunPolicy", "hourly")
    client.wait(run)
    out = cli(house, "jobs", run).out
    head, _, parts = out.partition("\n\n")
    assert "made on 2 VMs" in head
    made = {(row["VERB"], row["VM"]) for row in table(parts)}
    assert {("create", "web-1"), ("create", "web-2")} <= made


def test_jobs_where_there_are_none_is_no_word_of_what_was_not_asked(running: House) -> None:
    assert cli(running, "jobs").err.startswith("there is no job now;")


def test_jobs_that_there_is_not_is_not_found(running: House) -> None:
    for typed in (["jobs", "99"], ["jobs", "99", "--wait"], ["jobs", "99", "--cancel"]):
        done = cli(running, *typed)
        assert (done.code, done.out) == (3, "")
        assert "there is no job 99" in done.err and "history" in done.err
    error = cli(running, "jobs", "99", "--json").error["error"]
    assert error == "org.freedesktop.DBus.Error.UnknownObject"


def test_jobs_wait_has_the_exit_code_of_the_job(running: House) -> None:
    cli(running, "create", "web-1", "one")
    cli(running, "create", "web-1", "one")
    assert cli(running, "jobs", "1", "--wait").code == 0
    taken = cli(running, "jobs", "2", "--wait")
    assert (taken.code, taken.out) == (4, "")
    assert taken.err.startswith("virtsnap: ") and "(job 2)" in taken.err
    assert cli(running, "jobs", "2").code == 0, "that it is shown is no failure"


def test_jobs_wait_for_a_run_that_failed_somewhere_is_1(house: House) -> None:
    house.serve(f"test://{NODE}")
    house.policy("all", HOURLY.replace("web-*", "td*"))
    client = house.start()
    run = client.call("RunPolicy", "all")
    done = cli(house, "jobs", run, "--wait")
    assert done.code == 1
    assert re.search(r"failed on \d+ VM", done.out)


def test_jobs_cancel_what_has_begun_is_refused(running: House) -> None:
    running.client.create("web-1", "one")
    done = cli(running, "jobs", "1", "--cancel")
    assert (done.code, done.out) == (4, "")
    assert "cannot be cancelled" in done.err


@pytest.mark.parametrize(
    "typed", ["--wait", "--cancel", "1 --wait --cancel", "1 --vm web-1", "1 --state done", "one"]
)
def test_jobs_typed_wrong_is_wrong_usage(typed: str, running: House) -> None:
    assert cli(running, "jobs", *typed.split()).code == 2


# --- one that takes its time


class Slow(Play):
    """Its only job can be cancelled."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.change(
            Parent=Variant("o", "/"),
            OwnerUID=Variant("x", -1),
            Started=Variant("x", 1790000000),
            Finished=Variant("x", 0),
            Cancellable=Variant("b", True),
        )

    async def _answer(self, call: Incoming) -> None:
        if call.member != "Cancel":
            await super()._answer(call)
            return
        self.asked.append(("Cancel", call.path))
        self._job.update(
            State=Variant("s", "cancelled"),
            ErrorName=Variant("s", "org.virtsnap.Error.Cancelled"),
            ErrorMessage=Variant("s", "cancelled: it had not begun"),
        )
        self._done.set()
        await self.client.bus.reply(call, "", list)


@pytest.fixture
def slow(bus: PrivateBus) -> Iterator[Slow]:
    made = Slow(bus.address)
    try:
        yield made
    finally:
        made.close()


def test_jobs_wait_shows_that_it_works_until_it_has_ended(bus: PrivateBus, slow: Slow) -> None:
    with terminal(bus.address, "jobs", "7", "--wait") as seen:
        seen.until("taking")
        slow.finish(Finished=Variant("x", 1790000065))
        assert seen.end() == 0
    assert "job 7: create of VM web-1, done" in seen.screen
    assert re.search(r"took +1:05", seen.screen)


def test_jobs_one_at_work_says_its_phase_and_how_to_cancel_it(bus: PrivateBus, slow: Slow) -> None:
    slow.change(Phase=Variant("s", "waiting"), Progress=Variant("d", 0.25))
    done = virtsnap(bus.address, "jobs", "7")
    assert (done.code, slow.count("Wait")) == (0, 0)
    assert re.search(r"^  phase +waiting 25%$", done.out, re.MULTILINE)
    assert re.search(r"^  to cancel it +virtsnap .* jobs --cancel 7$", done.out, re.MULTILINE)
    assert re.search(r"^  asked for by +virtsnapd$", done.out, re.MULTILINE)


def test_jobs_wait_left_by_ctrl_c_goes_on(bus: PrivateBus, slow: Slow) -> None:
    process = subprocess.Popen(
        command(bus.address, "jobs", "7", "--wait", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=TOP,
    )
    with process:
        until(lambda: slow.count("Wait") > 0)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, b"")
    assert documents(err)[0]["detail"] == {"Job": JOB}
    assert slow.count("Cancel") == 0


def test_jobs_cancel_says_that_it_is(bus: PrivateBus, slow: Slow) -> None:
    done = virtsnap(bus.address, "jobs", "7", "--cancel")
    assert (done.code, done.out) == (0, "job 7 is cancelled: nothing was changed\n")
    assert slow.asked.count(("Cancel", JOB)) == 1
    assert virtsnap(bus.address, "jobs", "7", "--wait").code == 1


# --- terminals


@pytest.mark.parametrize("wide", [80, 200])
def test_domains_and_jobs_fit_the_terminal(
    wide: int, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.policy("hourly", HOURLY)
    client = house.start()
    client.wait(client.call("RunPolicy", "hourly"))
    cli(house, "create", "web-1", "by-hand")
    monkeypatch.setenv("COLUMNS", str(wide))
    monkeypatch.setenv("TERM", "xterm")
    for typed, painted in (("domains", "\x1b[33mnone\x1b[0m"), ("jobs", "\x1b[31mfailed\x1b[0m")):
        shown = screen(house, typed)
        assert painted in shown
        assert max(map(len, PAINT.sub("", shown).splitlines())) <= wide
        if wide == 200:
            assert "too narrow" not in shown
