"""Clients that app authors have, each against a daemon as in tests/driver."""

from tests.driver.conftest import bus, house, running

__all__ = ["bus", "house", "running"]
