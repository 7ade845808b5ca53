"""What the service says of its policies, and how one is given to it."""

from __future__ import annotations

from typing import Any

from snapd.wire import paths
from snapd.wire.values import unwrap
from tests.client import Client, Row, options

DEFINITION = {"domains": ["web-*"], "schedule": "0 * * * *", "keep": {"last": 2}}


def with_definition(
    client: Client, member: str, name: str, definition: dict[str, Any], **opts: Any
) -> Any:
    call: Any = (paths.NAME, paths.ROOT, "org.virtsnap.Snapd1.Manager", member, "sa{sv}a{sv}")
    (answer,) = client.run(client.bus.call(*call, name, options(definition), options(opts)))
    return unwrap(answer)


def in_force(client: Client) -> list[str]:
    return [row["Name"] for row in client.rows("ListPolicies")]


def about(client: Client, word: str) -> list[Row]:
    return [row for row in client.rows("ListProblems") if row["Problem"] == word]
