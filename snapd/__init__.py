"""virtsnapd: scheduled, retained, safe snapshots of libvirt virtual machines, with a D-Bus API."""

__version__ = "0.1.0"
