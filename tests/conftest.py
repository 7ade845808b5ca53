"""Before any test: the wire room makes dbus_next safe to import, and signals do what they should.

A shell's background job has SIGINT ignored, and so have all its children: a test of Ctrl-C would
wait for ever there.
"""

import os
import signal

import pytest

import snapd.wire  # noqa: F401

signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a test that is skipped where it should run is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
