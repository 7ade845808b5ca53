"""Which of a VM's snapshots are ours to delete, and in which order."""

from __future__ import annotations

from snapd.model import Origin, Record, SnapshotInfo, SnapshotKey, State
from snapd.operations.own import plan_own

VM = "22222222-2222-4222-8222-222222222201"


def snapshot(name: str, created: int, parent: str = "") -> SnapshotInfo:
    return SnapshotInfo(name, created, State.SHUTOFF, parent=parent)


def record(name: str, created: int, origin: Origin, pin: str | None = None) -> Record:
    return Record(SnapshotKey(VM, name, created), origin, pin_reason=pin)


def test_plan_own_takes_what_we_made_by_ourselves_and_says_why_the_rest_stays() -> None:
    names = ["policy", "event", "safety", "trial", "manual", "pinned", "foreign", "other", "anew"]
    listed = [snapshot(name, n) for n, name in enumerate(names)]
    records = [record(name, names.index(name), Origin(name)) for name in names[:5]]
    records += [record("pinned", 5, Origin.POLICY, "keep"), record("foreign", 6, Origin.FOREIGN)]
    records += [record("anew", 99, Origin.POLICY)]
    plan = plan_own(listed, records, manual=False)
    assert {s.name for s in plan.going} == {"policy", "event", "safety", "trial"}
    assert plan.stays == {
        "manual": "manual",
        "pinned": "pinned",
        "foreign": "foreign",
        "other": "foreign",
        "anew": "foreign",
    }
    assert "manual" in {s.name for s in plan_own(listed, records, manual=True).going}


def test_plan_own_order_is_youngest_first_but_no_parent_before_its_child() -> None:
    #   a(1) - b(2) - c(9)      d was made under a clock that stood before a's
    #     \ - d(0)
    listed = [snapshot("a", 1), snapshot("b", 2, "a"), snapshot("c", 9, "b"), snapshot("d", 0, "a")]
    records = [record(s.name, s.created, Origin.POLICY) for s in listed]
    plan = plan_own(listed, records, manual=False)
    assert [s.name for s in plan.going] == ["c", "b", "d", "a"]


def test_plan_own_child_that_stays_holds_up_no_parent() -> None:
    listed = [snapshot("a", 1), snapshot("b", 2, "a")]
    plan = plan_own(listed, [record("a", 1, Origin.POLICY)], manual=False)
    assert ([s.name for s in plan.going], plan.stays) == (["a"], {"b": "foreign"})
