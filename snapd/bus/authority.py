"""Who may on a bus without polkit: asked for every call that changes something."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..errors import NotAuthorized
from .router import Call


async def same_user(call: Call, action: str, _details: Mapping[str, str]) -> None:
    """Session and private buses: whoever runs the daemon, and nobody else."""
    if await call.uid() != os.getuid():
        raise NotAuthorized(f"{action} is only for the user who runs this virtsnapd")
