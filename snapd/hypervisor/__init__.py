"""The only room that imports libvirt.

`Hypervisor` (protocol.py) is what others may ask; `LibvirtHypervisor` answers it. The rest of the
daemon names the latter only where it is built.
"""

from .images import ImageInfo
from .protocol import DomainEvent, DomainFacts, EventKind, Hypervisor

__all__ = ["DomainEvent", "DomainFacts", "EventKind", "Hypervisor", "ImageInfo"]
