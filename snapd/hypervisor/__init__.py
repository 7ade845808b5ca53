"""The only room that imports libvirt.

`Hypervisor` (protocol.py) is what others may ask; `LibvirtHypervisor` answers it. The rest of the
daemon names the latter only where it is built.
"""

from .beside import Beside, FoundFile
from .external import ChainFacts, ExternalSnapshot, NewOverlay, Overlays
from .images import ImageCheck, ImageInfo
from .protocol import (
    BareFacts,
    DomainEvent,
    DomainFacts,
    EventKind,
    FileUse,
    Hypervisor,
    Need,
    Space,
)
from .unseen import SILENT, Unseen

__all__ = [
    "SILENT",
    "BareFacts",
    "Beside",
    "ChainFacts",
    "DomainEvent",
    "DomainFacts",
    "EventKind",
    "ExternalSnapshot",
    "FileUse",
    "FoundFile",
    "Hypervisor",
    "ImageCheck",
    "ImageInfo",
    "Need",
    "NewOverlay",
    "Overlays",
    "Space",
    "Unseen",
]
