"""What a caller agrees to."""

from __future__ import annotations

from dataclasses import dataclass

from ...model import State


@dataclass(frozen=True, slots=True)
class RevertTerms:
    """What the caller agrees to. wanted: the state afterwards; force: what libvirt calls risky, a
    TPM that is newer, and others that could not be asked whether they share a disk;
    discard_saved_state: with force, the loss of a managed save."""

    wanted: State = State.SHUTOFF
    force: bool = False
    discard_saved_state: bool = False
