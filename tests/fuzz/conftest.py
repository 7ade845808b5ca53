"""The daemon in front of libvirt's test driver, as in tests/driver."""

from tests.driver.conftest import bus, house

__all__ = ["bus", "house"]
