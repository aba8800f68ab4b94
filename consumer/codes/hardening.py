"""What a command for PAM does to itself before it gets a code: no core file, no other environment, no other process's help."""

import ctypes
import os
import resource
import signal

_PR_SET_DUMPABLE = 4  # linux/prctl.h
# Nothing is started; if a library ever does, it finds the system's own programs.
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def harden() -> None:
    """
    Keep the memory of this process from core files and from other processes, and forget the environment but PAM's.

    Raises:
        OSError: the kernel refuses.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    os.umask(0o077)
    os.chdir("/")
    # sshd ends its child if the client goes away; a half-written row would not be one, but a challenge without an end would.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    for name in list(os.environ):
        if not name.startswith("PAM_") and name != "SSH_AUTH_INFO_0":
            del os.environ[name]
    os.environ["PATH"] = _PATH
