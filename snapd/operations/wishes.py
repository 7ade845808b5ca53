"""What callers may ask of the verbs, as plain data. The words are API.md's."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InvalidArgument
from ..model import NO_FLOOR, Floor, Origin, SnapshotKey, State

AFTER = ("as-snapshot", "running", "paused", "stopped")
THEN = ("continue", "stop", "restart")


@dataclass(frozen=True, slots=True)
class Wish:
    """What to make. name "" = `STEM-TIME`, of `at` (a slot) or of the time of taking.

    memory: auto, yes, no. quiesce: no, try, require. max_pause: seconds. disks: targets, () = all.
    then: what the VM does afterwards: continue, stop (its power is cut), restart (cut and on).
    over_saved_state: take it although the VM has a managed save, which is about to go. min_free:
    what has to stay free beside the images; by hand nothing has to. many: more are to be kept than
    a chain of overlays holds.
    """

    name: str = ""
    stem: str = "manual"
    at: int = 0
    description: str = ""
    kind: str = "auto"
    disks: tuple[str, ...] = ()
    memory: str = "auto"
    quiesce: str = "try"
    max_pause: int = 60
    then: str = "continue"
    origin: Origin = Origin.MANUAL
    policies: tuple[str, ...] = ()
    reason: str = ""
    over_saved_state: bool = False
    min_free: Floor = NO_FLOOR
    many: bool = False

    def check(self) -> None:
        """Raises InvalidArgument for a word that means nothing."""
        one_of(self.kind, ("auto", "internal", "external"), "kind")
        one_of(self.memory, ("auto", "yes", "no"), "memory")
        one_of(self.quiesce, ("try", "require", "no"), "quiesce")
        one_of(self.then, THEN, "then")
        if self.memory == "yes" and self.quiesce == "require":
            raise InvalidArgument(
                "a snapshot with RAM needs no quiescing: ask for memory or for quiesce=require"
            )


@dataclass(frozen=True, slots=True)
class RevertWish:
    """Where to and how. after: as-snapshot, running, paused, stopped. safety: take one first.

    delete_after: delete the target once the revert is verified (a trial is thrown away). force,
    discard_saved_state: what the caller agrees to lose (preflight.RevertTerms).
    """

    key: SnapshotKey
    after: str = "as-snapshot"
    safety: bool = True
    delete_after: bool = False
    force: bool = False
    discard_saved_state: bool = False

    def check(self) -> None:
        """Raises InvalidArgument for a word that means nothing."""
        one_of(self.after, AFTER, "after")


@dataclass(frozen=True, slots=True)
class DeleteWish:
    """What to delete; children: with all that descend from it."""

    key: SnapshotKey
    children: bool = False


def final_state(then: State, after: str) -> State:
    """The state that the VM is to be in after a revert; then: what it did when it was taken."""
    if after == "as-snapshot":
        return then if then in (State.RUNNING, State.PAUSED) else State.SHUTOFF
    return {"running": State.RUNNING, "paused": State.PAUSED, "stopped": State.SHUTOFF}[after]


def one_of(value: str, words: tuple[str, ...], key: str) -> None:
    if value not in words:
        raise InvalidArgument(f"option {key} is {value!r}; it is one of {', '.join(words)}")
