"""Safety snapshots' own retention: without a policy, after reverts, never what was reverted to."""

from __future__ import annotations

import time

from tests.driver.house import House


def test_reverts_without_policy_keep_the_newest_three_safety_snapshots(running: House) -> None:
    client = running.client
    client.create("web-1", "base")
    made = []
    for pause in (0, 0, 1.1, 1.1, 1.1):  # all of the last one's second stay
        time.sleep(pause)
        result = client.revert("web-1", "base")
        made.append(result["SafetySnapshot"].rpartition("/")[2].replace("_2d", "-"))

    def safety() -> set[str]:
        rows = client.snapshots("web-1").items()
        return {name for name, row in rows if row["Origin"] == "safety"}

    client.until("the oldest are gone", lambda: len(safety()) == 3)
    assert safety() == set(made[2:]) and "base" in client.snapshots("web-1")
    rows = client.rows("ListHistory", "web-1")
    reasons = {r["Reason"] for r in rows if r["Verb"] == "delete" and r["OwnerUID"] == -1}
    assert reasons == {"retention: safety-last"}


def test_revert_to_a_safety_snapshot_leaves_that_one(running: House) -> None:
    client = running.client
    client.create("web-1", "base")
    first = client.revert("web-1", "base")["SafetySnapshot"].rpartition("/")[2].replace("_2d", "-")
    for _ in range(3):
        client.revert("web-1", first)
    client.until(
        "the plan is carried out",
        lambda: all(job["Finished"] for job in client.rows("ListJobs", domain="web-1")),
    )
    assert client.snapshots("web-1")[first]["Current"]
