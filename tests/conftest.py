"""Before any test: the wire room makes dbus_next safe to import, and signals do what they should.

A shell's background job has SIGINT ignored, and after nohup SIGHUP is, and so have all their
children: a test of Ctrl-C, or of a terminal that goes away, would wait for ever there.
"""

import os
import signal

import pytest

import snapd.wire  # noqa: F401

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long is begun first, so that nobody waits for it alone in the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a test that is skipped where it should run is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
