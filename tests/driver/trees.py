"""A host with a VM whose snapshots branch, one that has none, and one that is one long line."""

from __future__ import annotations

from tests.driver.house import NODE_END, TEST

WEB = "44444444-4444-4444-8444-444444444401"
TREE = {
    "base": "",
    "before-upgrade": "base",
    "tried": "before-upgrade",
    "tried-more": "tried",
    "other": "before-upgrade",
    "upgraded": "before-upgrade",
    "now": "upgraded",
    "apart": "",
}
"""Snapshots of `web`, each with the one that it was made on; an hour lies between two."""
BEGUN = 1790000000
CURRENT = "tried-more"


def host(tree: dict[str, str] | None = None, current: str = CURRENT, line: int = 4) -> str:
    """For House.serve_text: `web` with that tree, `bare`, `line` with so many in a row."""
    row = {f"nightly-{n:04}": f"nightly-{n - 1:04}" if n else "" for n in range(line)}
    return (
        f"<node xmlns:test='{TEST}'>"
        + _vm("web", WEB, TREE if tree is None else tree, current)
        + _vm("bare", WEB[:-1] + "2", {}, "")
        + _vm("line", WEB[:-1] + "3", row, f"nightly-{line - 1:04}")
        + NODE_END
    )


def _vm(name: str, uuid: str, tree: dict[str, str], current: str) -> str:
    head = (
        f"<name>{name}</name><uuid>{uuid}</uuid><memory unit='KiB'>65536</memory>"
        "<os><type>hvm</type></os><devices><disk type='file' device='disk'>"
        "<driver name='qemu' type='qcow2'/><source file='/nonexistent/a.qcow2'/>"
        "<target dev='vda' bus='virtio'/></disk></devices>"
    )
    snapshots = "".join(
        f"<test:domainsnapshot><name>{one}</name><description>why {one}</description>"
        + (f"<parent><name>{on}</name></parent>" if on else "")
        + f"<state>running</state><creationTime>{BEGUN + 3600 * n}</creationTime>"
        f"<active>{int(one == current)}</active>"
        f"<domain type='test'>{head}</domain></test:domainsnapshot>"
        for n, (one, on) in enumerate(tree.items())
    )
    return (
        f"<domain type='test' xmlns:test='{TEST}'>{head}"
        f"<test:runstate>1</test:runstate>{snapshots}</domain>"
    )
