"""Object paths of the contract: built, taken apart, and escaped as sd-bus does.

A path that decodes but is not what we would build ourselves is no path of ours, so every object
has exactly one.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, NamedTuple

NAME = "org.virtsnap.Snapd1"
ROOT = "/org/virtsnap/Snapd1"
DOMAINS = f"{ROOT}/domains"
SNAPSHOTS = f"{ROOT}/snapshots"
POLICIES = f"{ROOT}/policies"
JOBS = f"{ROOT}/jobs"
NONE = "/"

_UUID = re.compile(r"[0-9a-f]{8}(_[0-9a-f]{4}){3}_[0-9a-f]{12}")
_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_PATH = re.compile(r"/|(/[A-Za-z0-9_]+)+")
MAX_LABEL = 2**14
"""Of a name's path: QEMU's driver keeps a snapshot as a file of its name, which has 255 bytes, and
to read 200,000 takes as long as a thousand calls."""
_ESCAPES = {code: f"_{code:02x}" for code in range(128) if not chr(code).isalnum()}


def is_path(text: str) -> bool:
    """Whether D-Bus takes it as an object path (dbus_next lets a trailing newline through)."""
    return _PATH.fullmatch(text) is not None


def encode(text: str) -> str:
    """One label of a path, exactly as sd_bus_path_encode() writes it."""
    if text.isascii():  # nearly all, and quicker so
        label = text.translate(_ESCAPES)
        return f"_{ord(label[0]):02x}{label[1:]}" if label[:1].isdigit() else label or "_"
    data = text.encode("utf-8", "surrogatepass")
    data = re.sub(rb"[^A-Za-z0-9]|\A[0-9]", lambda match: b"_%02x" % match[0][0], data)
    return data.decode()


def decode(label: str) -> str | None:
    """The text of a label; None where encode() would not have written it so, or for no name."""
    if label == "_":
        return ""
    if len(label) > MAX_LABEL:
        return None
    data = re.sub(rb"_([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), label.encode())
    try:
        text = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None
    return text if encode(text) == label else None


def encode_uuid(uuid: str) -> str:
    """A UUID as a label: plain `_` for `-`."""
    return uuid.replace("-", "_")


def decode_uuid(label: str) -> str | None:
    """The UUID of a label, None where it is none (upper case is none)."""
    return label.replace("_", "-") if _UUID.fullmatch(label) else None


@lru_cache(4096)  # each of thousands of rows has it
def domain(uuid: str) -> str:
    return f"{DOMAINS}/{encode_uuid(uuid)}"


def snapshots_of(uuid: str) -> str:
    """The collection of one domain's snapshots."""
    return f"{SNAPSHOTS}/{encode_uuid(uuid)}"


def snapshot(uuid: str, name: str) -> str:
    return f"{snapshots_of(uuid)}/{encode(name)}"


def policy(name: str) -> str:
    return f"{POLICIES}/{encode(name)}"


def job(number: int) -> str:
    return f"{JOBS}/{number}"


def parent(path: str) -> str:
    """The node above; for our objects that is their collection, for the root `/`."""
    return path.rpartition("/")[0] or "/"


Kind = Literal["manager", "collection", "domain", "snapshot", "policy", "job"]


class Place(NamedTuple):
    """What a path names. uuid: of a domain, a snapshot, or a collection of snapshots; name: of
    a snapshot or policy, or a collection's word; number: of a job."""

    kind: Kind
    uuid: str = ""
    name: str = ""
    number: int = 0


def parse(path: str) -> Place | None:
    """The place that a path names, whether or not something is there; None = not one of ours."""
    if path == ROOT:
        return Place("manager")
    if not path.startswith(ROOT + "/"):
        return None
    match path[len(ROOT) + 1 :].split("/"):
        case ["domains" | "policies" | "jobs" as word]:
            return Place("collection", name=word)
        case ["domains", label] if uuid := decode_uuid(label):
            return Place("domain", uuid=uuid)
        case ["snapshots", label] if uuid := decode_uuid(label):
            return Place("collection", uuid=uuid, name="snapshots")
        case ["snapshots", label, last] if uuid := decode_uuid(label):
            name = decode(last)
            return None if name is None else Place("snapshot", uuid=uuid, name=name)
        case ["policies", label]:
            name = decode(label)
            return None if name is None else Place("policy", name=name)
        case ["jobs", label] if _NUMBER.fullmatch(label):
            return Place("job", number=int(label))
    return None
