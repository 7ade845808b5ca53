"""What has to hold after a merge, beside the chains: the tree, no file left, sound images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import Inconsistent, Partial, SnapdError
from ..hypervisor import Beside, DomainFacts, ImageCheck
from ..model import Disk, Warned
from .audit import complaint
from .context import Context
from .job import Job
from .merge_plan import DiskMerge, MergePlan


def verify_tree(facts: DomainFacts, intent: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with libvirt's records of the other snapshots: links and files. Pure."""
    gone = {d["goes"] for d in intent["disks"].values() if d["into"]}
    for other in facts.snapshots:
        if other.name in intent["children"] and other.parent != intent["parent"]:
            now, wanted = other.parent or "none", intent["parent"] or "none"
            yield f"the parent of snapshot {other.name} is {now}, not {wanted}"
        for target, file in other.bases:
            if file in gone:
                yield f"snapshot {other.name} needs {Path(file).name} for disk {target}"


async def verify_files(ctx: Context, job: Job, facts: DomainFacts, plan: MergePlan) -> None:
    """No file of it is left. One that libvirt forgot is removed where nothing names it. Raises
    Partial where one stays."""
    folders = {str(Path(file).parent) for file in plan.going}
    beside = await ctx.hypervisor.beside(folders, plan.going)
    for where, why in beside.unread.items():
        text = f"whether files are left beside {Path(where).name} could not be told: {why}"
        job.warn(Warned("unchecked", Path(where).name, text))
    there = {f.path for f in beside.files}
    left = [file for file in plan.going if beside.real.get(file, file) in there]
    ours = [file for file in left if _forgotten(facts, beside, plan, file)]
    stays = set(left) - set(ours)
    if ours:
        stays |= set(await ctx.hypervisor.overlays.remove(facts.info.uuid, ours))
    if stays:
        names = ", ".join(sorted(Path(file).name for file in stays))
        raise Partial(
            f"VM {facts.info.name}: the snapshot is gone, but {names} stays; an audit shows it",
            reason="half-made",
            item=job.row.snapshot,
            ways=("audit",),
        )


def _forgotten(facts: DomainFacts, beside: Beside, plan: MergePlan, file: str) -> bool:
    """Whether a file that was merged is named by nothing any more: no disk, no snapshot, no image
    beside it."""
    chains = (facts.chains.live, facts.chains.stored)
    named = {path for views in chains for chain in views.values() for path in chain}
    named |= {path for layers in facts.chains.layers.values() for path, _format in layers}
    named |= {d.source for d in (*facts.info.disks, *facts.inactive)}
    named |= {path for s in facts.snapshots for path in s.files}
    backing = {f.backing for f in beside.files}
    held = {d.goes for d in plan.disks if not d.into}  # libvirt removes what a branch stood on
    return file not in named | held and beside.real.get(file, file) not in backing


async def verify_images(ctx: Context, job: Job, facts: DomainFacts, plan: MergePlan) -> None:
    """The files that took something in are sound, where the VM is off: else QEMU has them open.
    Raises Inconsistent where one isn't; what could not be checked is a warning."""
    if facts.info.state.active:
        return
    for disk in plan.disks:
        if disk.into and disk.format == "qcow2":
            await _verify_image(ctx, job, facts, disk)


async def _verify_image(ctx: Context, job: Job, facts: DomainFacts, disk: DiskMerge) -> None:
    name = Path(disk.into).name
    image = facts.chains.images.get(disk.into)
    if image is None and disk.left[0] == disk.into:
        image = facts.images.get(disk.target)
    if image and image.backing and not image.backing_format:  # a check opens it, and would probe
        why = "the format of its backing file is not declared"
        job.warn(Warned("unchecked", disk.target, f"{name} could not be checked: {why}"))
        return
    try:
        check = await ctx.hypervisor.check_image(Disk(disk.target, disk.into, disk.format))
    except SnapdError as e:
        job.warn(Warned("unchecked", disk.target, f"{name} could not be checked: {e.message}"))
        return
    said = complaint(check, name)
    if said and (check.errors or check.corruptions):
        info = await ctx.hypervisor.domain(facts.info.uuid)
        if not info.state.active:  # or it was started while it was checked
            raise Inconsistent(
                f"VM {info.name}: the snapshot is merged and gone, but {said}",
                disk=disk.target,
                item=job.row.snapshot,
            )
    elif check != ImageCheck():
        job.warn(Warned("image-check", disk.target, said))
