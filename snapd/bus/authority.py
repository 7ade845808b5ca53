"""Who may: asked for every call that changes something. Fails closed."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..errors import NotAuthorized
from .router import Call


async def root_only(call: Call, action: str, _details: Mapping[str, str]) -> None:
    """The system bus, until polkit decides there: what changes something is for uid 0."""
    if await call.uid() != 0:
        raise NotAuthorized(f"{action} is for root only in this version")


async def same_user(call: Call, action: str, _details: Mapping[str, str]) -> None:
    """Session and private buses: whoever runs the daemon, and nobody else."""
    if await call.uid() != os.getuid():
        raise NotAuthorized(f"{action} is only for the user who runs this virtsnapd")
