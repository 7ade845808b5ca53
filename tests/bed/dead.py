"""A file system that never answers, as a network mount whose server is gone: real look-ups in it
hang in the kernel, and no signal ends them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_IN = struct.Struct("<IIQQIIII")  # struct fuse_in_header
_OUT = struct.Struct("<IiQ")
_INIT = 26
_INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")
_REQUEST_BYTES = 1 << 20


@contextmanager
def dead_storage(place: Path) -> Iterator[None]:
    """Mount it there, for as long as the block runs; then what hangs in it ends with an error.

    FUSE without a library: the one question of the kernel that is answered is what we can do.
    """
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    how = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"dead", bytes(place), b"fuse.dead", 0, how.encode()) != 0:
        number = ctypes.get_errno()
        os.close(device)
        raise OSError(number, f"mount of FUSE: {os.strerror(number)}")

    def read() -> None:
        with contextlib.suppress(OSError):  # unmounted
            while request := os.read(device, _REQUEST_BYTES):
                _size, kind, number, *_rest = _IN.unpack_from(request)
                if kind == _INIT:
                    told = _INIT_OUT.pack(7, 31, 0, 0, 16, 16, 4096, 1, 1, 0, 0)
                    os.write(device, _OUT.pack(_OUT.size + len(told), 0, number) + told)

    reader = threading.Thread(target=read, name="dead storage", daemon=True)
    reader.start()
    try:
        yield
    finally:
        subprocess.run(["umount", "--force", "--lazy", place], check=True, timeout=60)
        reader.join(60)
        os.close(device)
