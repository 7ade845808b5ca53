"""Folders that count as file systems of their own, where a test may mount none."""

from __future__ import annotations

from pathlib import Path

from snapd.hypervisor.mounts import Mounts


class Apart(Mounts):
    """Each of the paths, and what is below it, is one; everything else is another."""

    def __init__(self, *paths: Path) -> None:
        super().__init__()
        self._apart = [str(path) for path in paths]

    def of(self, path: str) -> str:
        return next((p for p in self._apart if path == p or path.startswith(f"{p}/")), "/")
