"""Whether the images of a VM that is off are sound, and what to do where they are not.

A QEMU that ends in the middle of a snapshot leaves clusters that nobody counts right; what earlier
snapshots hold is unharmed (LIBVIRT.md 10). It is said with the repair, and never repaired by us.
"""

from __future__ import annotations

from pathlib import PurePath

from ..errors import SnapdError, TimedOut
from ..hypervisor import BareFacts, DomainFacts, ImageCheck
from ..model import Warned
from .audit import complaint
from .context import Context
from .job import Job


async def check_images(
    ctx: Context, facts: DomainFacts, unchecked: dict[str, str]
) -> dict[str, ImageCheck]:
    """target -> `qemu-img check` of the images of a VM that is off; into unchecked: target -> why
    not. What was said of a VM that has been started meanwhile counts for nothing."""
    found: dict[str, ImageCheck] = {}
    for disk in facts.info.disks:
        image = facts.images.get(disk.target)
        if image is None or disk.format != "qcow2":
            continue
        if image.backing and not image.backing_format:  # a check opens it, and would probe
            unchecked[disk.target] = "the format of its backing file is not declared"
            continue
        try:
            found[disk.target] = await ctx.hypervisor.check_image(disk)
        except SnapdError as e:
            unchecked[disk.target] = e.message
    if any(c != ImageCheck() for c in found.values()):
        info = await ctx.hypervisor.domain(facts.info.uuid)
        if info.state.active:
            unchecked[info.name] = "it was started while its images were checked"
            return {}
    return found


async def facts_after(ctx: Context, job: Job, *, ran: bool) -> BareFacts:
    """A look at the VM after an act that came to its end, for which files and images tell nothing,
    and before the inventory's: what that finds is of a VM that nobody was at work on any more.
    ran: the VM was at work before it; where it is off now, what that did to its images is said.
    Raises TimedOut while libvirt is still at it."""
    facts = await ctx.hypervisor.bare_facts(job.row.domain)
    if facts.holder:
        raise TimedOut(f"VM {facts.info.name}: {facts.holder} is not done yet")
    if ran and not facts.info.state.active:
        await warn_of_damage(ctx, job, await ctx.hypervisor.facts(job.row.domain))
    return facts


async def warn_of_damage(ctx: Context, job: Job, facts: DomainFacts) -> None:
    """Say what is wrong with the images of a VM whose QEMU ended while the job was at work."""
    if facts.info.state.active or not ctx.hypervisor.has_images:
        return
    unchecked: dict[str, str] = {}
    checks = await check_images(ctx, facts, unchecked)
    vm = facts.info.name
    files = {d.target: PurePath(d.source).name for d in facts.info.disks}
    told = {w.item for w in job.row.warnings}
    for target, check in checks.items():
        if (said := complaint(check, files[target])) and target not in told:
            text = f"VM {vm} ended in the middle, which left disk {target} unsound: {said}"
            job.warn(Warned("image-check", target, text))
    for item, why in unchecked.items():
        if item not in told:
            text = f"VM {vm} ended in the middle, and {item} could not be checked: {why}"
            job.warn(Warned("unchecked", item, text))
