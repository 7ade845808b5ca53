"""A bed for real guests: a tiny guest, and a libvirt of our own that it lives in.

Used by tests/qemu and by the demo; on the command line as ``python3 -m tests.bed`` from the top
of the checkout. Nothing in it knows the daemon.
"""
