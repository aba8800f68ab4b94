"""Keeps what a process has in its memory out of files: no core file, and no debugger of the same user."""

import ctypes
import resource

_PR_SET_DUMPABLE = 4  # linux/prctl.h


def forbid_core() -> None:
    """Write no core file if this process dies. Programs that it runs inherit the limit of 0 bytes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A program in core_pattern gets a core file in spite of the limit. This is also the end of ptrace for the same user.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
