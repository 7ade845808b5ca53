"""Everything against making an internal snapshot."""

from __future__ import annotations

from ...errors import AgentUnavailable, AlreadyExists
from ...hypervisor import DomainFacts
from ...model import NO_FLOOR, Floor, State
from .blocker import Blocker
from .disks import backing_blockers, disk_blockers, image_blockers, monitor_blockers
from .domain import holder_blockers, memory_blockers, state_blockers
from .space import create_needs, space_blockers, unmeasured_blockers


def create_blockers(
    facts: DomainFacts,
    name: str,
    *,
    memory: bool,
    quiesce: str = "no",
    over_saved_state: bool = False,
    min_free: Floor = NO_FLOOR,
) -> list[Blocker]:
    """Everything against making one of that name now, the gravest first.

    name: "" = one that is free is found. quiesce: no, try, require. min_free: what has to stay
    free beside the images.
    """
    info = facts.info
    found = [*holder_blockers(facts)]
    if name and any(s.name == name for s in facts.snapshots):
        why = f"it has a snapshot {name!r} already; take another name"
        found.append(Blocker(AlreadyExists, "name-taken", name, why, ("other-name",)))
    found += [
        *state_blockers(info, facts.snapshots, over_saved_state=over_saved_state),
        *disk_blockers(info.disks, has_images=facts.has_images),
    ]
    if info.state.active and not memory:
        found += monitor_blockers(facts)
    else:
        found += memory_blockers(info, with_memory=info.state.active)
    found += image_blockers(facts, name)
    if not info.state.active:
        found += backing_blockers(facts)
    if quiesce == "require":
        found += agent_blockers(facts)
    if memory:
        found += unmeasured_blockers(facts)
    return [*found, *space_blockers(facts, create_needs(facts, memory=memory), min_free)]


def agent_blockers(facts: DomainFacts) -> list[Blocker]:
    """What keeps the guest from being quiesced."""
    why, ways = "", ("quiesce-try",)
    if facts.info.state is not State.RUNNING:
        why = "it cannot be quiesced: only a running guest can"
    elif not facts.info.agent and facts.has_images:
        why = "it cannot be quiesced: no guest agent is connected"
        return [Blocker(AgentUnavailable, "agent-unavailable", "", why, ("install-agent", *ways))]
    return [Blocker(AgentUnavailable, "agent-unavailable", "", why, ways)] if why else []
