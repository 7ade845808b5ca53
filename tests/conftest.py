"""Before any test: the wire room makes dbus_next safe to import."""

import snapd.wire  # noqa: F401
