"""Who did something, as people are called."""

from __future__ import annotations

from typing import Any

DAEMON = -1


def who(row: dict[str, Any]) -> str:
    """Of an act in history: the user's name, or the daemon, and for which policy."""
    uid: int = row["OwnerUID"]
    one = "others" if row["NotBefore"] else user(uid)
    return f"{one}, policy {row['Policy']}" if row["Policy"] else one


def by(row: dict[str, Any]) -> str:
    """As who(), shortly: the policy alone where the daemon did it for that one."""
    policy = row["Policy"]
    if policy and row["OwnerUID"] == DAEMON and not row["NotBefore"]:
        return str(policy)
    return who(row)


def user(uid: int) -> str:
    """A user's name, or virtsnapd for what the daemon does by itself."""
    if uid == DAEMON:
        return "virtsnapd"
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return f"uid {uid}"
