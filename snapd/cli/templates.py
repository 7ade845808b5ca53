"""Where policy templates are: beside the checkout's code, or where a package puts them."""

from __future__ import annotations

from pathlib import Path

INSTALLED = Path("/usr/share/virtsnapd/policies")
CHECKOUT = Path(__file__).parents[2] / "packaging" / "policies"


def folder() -> Path:
    return CHECKOUT if CHECKOUT.is_dir() else INSTALLED


def known() -> list[str]:
    """The names of all templates, sorted."""
    return sorted(each.stem for each in folder().glob("*.toml"))
