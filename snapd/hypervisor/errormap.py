"""libvirt's numbers -> our errors. Decided by number, never by text: that is translated, and one
number still has many meanings, so callers check the condition themselves before the call."""

from __future__ import annotations

import re

import libvirt

from ..errors import (
    AgentUnavailable,
    AlreadyExists,
    Busy,
    LibvirtError,
    NeedsForce,
    NoSuchDomain,
    NoSuchSnapshot,
    OutcomeUnknown,
    PermissionDenied,
    SnapdError,
    Unavailable,
    Unsupported,
)

_PATH = re.compile(r"(?<![\w:/.])/(?:[^\s/'\"(),:;]+/)+([^\s/'\"(),:;]+)")
"""A file's path: whoever may read messages gets to see its last part alone."""

_AGENT_COMMAND_TIMEOUT = 112  # newer than the bindings of libvirt 9.0

_BY_CODE: dict[int, type[SnapdError]] = {
    libvirt.VIR_ERR_NO_DOMAIN: NoSuchDomain,
    libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT: NoSuchSnapshot,
    libvirt.VIR_ERR_OPERATION_TIMEOUT: Busy,
    libvirt.VIR_ERR_BLOCK_COPY_ACTIVE: Busy,
    libvirt.VIR_ERR_SNAPSHOT_REVERT_RISKY: NeedsForce,
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE: AgentUnavailable,
    libvirt.VIR_ERR_AGENT_UNSYNCED: AgentUnavailable,
    _AGENT_COMMAND_TIMEOUT: AgentUnavailable,
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED: AgentUnavailable,
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED: Unsupported,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED: Unsupported,
    libvirt.VIR_ERR_NO_SUPPORT: Unsupported,
    libvirt.VIR_ERR_AUTH_UNAVAILABLE: PermissionDenied,
    libvirt.VIR_ERR_OPERATION_DENIED: PermissionDenied,
    libvirt.VIR_ERR_DOM_EXIST: AlreadyExists,
}


def broken_off(error: libvirt.libvirtError) -> bool:
    """Whether the connection died under the call: then nobody knows what happened.

    A dead connection answers INTERNAL_ERROR or SYSTEM_ERROR from the RPC domain (LIBVIRT.md 5).
    """
    return bool(error.get_error_domain() == libvirt.VIR_FROM_RPC)


def translate(error: libvirt.libvirtError, what: str, *, changing: bool = False) -> SnapdError:
    """What to raise for a libvirt error. what: the act and its VM, `cannot read VM web-1`.

    changing: the call may have been carried out although it broke off.
    """
    text = _line(error)
    if broken_off(error):
        if changing:
            return OutcomeUnknown(f"{what}: the connection to libvirt broke off ({text})")
        return Unavailable(f"{what}: no connection to libvirt ({text})")
    code = error.get_error_code()
    kind = _BY_CODE.get(code, LibvirtError)
    number = f"libvirt error {code} of domain {error.get_error_domain()}"
    return kind(f"{what}: {text} ({number})" if kind is LibvirtError else f"{what}: {text}")


def _line(error: libvirt.libvirtError) -> str:
    text = error.get_error_message() or str(error)
    return _PATH.sub(r"\1", " ".join(text.split()))[:500]
