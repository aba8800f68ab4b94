"""A file system whose daemon never answers: a process that looks into it cannot even be killed. Only root can mount it."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_INIT, _HEADER, _ANSWER = 26, struct.Struct("<IIQQIIII"), struct.Struct("<IiQ")
_INTERRUPT = 36
# linux/fuse.h: fuse_init_out of version 7.19: version, read-ahead, flags, requests in the background, longest write.
_INIT_ANSWER = struct.pack("<IIIIHHI", 7, 19, 65536, 0, 0, 0, 4096)
_MNT_DETACH = 2


class HungHome:
    """Has the requests of the hanging processes, as numbers of operations."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._over, self._end = os.pipe()
        self.requests: list[int] = []
        self._server = threading.Thread(target=self._serve)
        self._server.start()

    def _serve(self) -> None:
        """Receive requests until the end. It answers only the first one, without which the kernel would send no other."""
        while self._over not in select.select([self._descriptor, self._over], [], [])[0]:
            request = os.read(self._descriptor, 1 << 17)
            _, operation, unique, *_rest = _HEADER.unpack_from(request)
            if operation == _INIT:
                os.write(self._descriptor, _ANSWER.pack(_ANSWER.size + len(_INIT_ANSWER), 0, unique) + _INIT_ANSWER)
            elif operation != _INTERRUPT:  # a hanging process gets a signal
                self.requests.append(operation)

    def release(self) -> None:
        """End like a daemon that dies: the kernel answers all hanging processes with an error."""
        if self._end >= 0:
            os.close(self._end)
            self._server.join()
            os.close(self._over)
            os.close(self._descriptor)
            self._end = -1


@contextmanager
def hung(place: Path) -> Iterator[HungHome]:
    """Make all processes that look into a directory hang until the end."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        pytest.skip(f"/dev/fuse: {error.strerror}")
    options = f"fd={descriptor},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    if libc.mount(b"hung", os.fsencode(place), b"fuse", 0, options) != 0:
        os.close(descriptor)
        pytest.skip(f"FUSE cannot be mounted: {os.strerror(ctypes.get_errno())}")
    home = HungHome(descriptor)
    try:
        yield home
    finally:
        home.release()
        libc.umount2(os.fsencode(place), _MNT_DETACH)
