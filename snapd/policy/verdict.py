"""Whether a policy can work on a VM at all, by what libvirt tells of it; nothing is measured."""

from __future__ import annotations

from ..inventory import DomainPicture
from ..model import Policy
from ..operations import support

YES = "yes"


def verdict(policy: Policy, picture: DomainPicture, *, monitor: bool, has_images: bool) -> str:
    """`yes`, or the reason word of what is in the way. monitor, has_images: as Hypervisor's.

    The RAM of a VM that is off isn't saved by a policy that asks for RAM, and that is no fault.
    """
    info = picture.info
    found = support(info, tuple(picture.snapshots.values()), monitor=monitor, has_images=has_images)
    return found["internal-memory" if policy.memory and info.state.active else "internal"]
