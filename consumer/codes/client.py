"""Asks ``deliver`` to send a code, and waits for the answer."""

import socket
import time
from contextlib import suppress

from consumer.codes.messages import ANSWER_LIMIT, CodeAnswer, CodeRequest, code_answer_of, line_of
from consumer.state_dir import DELIVER_SOCKET

# What deliver may take beyond ``timeout_s``, to choose the channels and to answer.
MARGIN_S = 2.0
_AWAY = "sshbell deliver does not run, or does not answer"


def send_code(state_dir: str, request: CodeRequest) -> CodeAnswer:
    """
    Have a code sent; never raises.

    Args:
        state_dir: as configured.
        request: the code, and for whom it is.

    Returns:
        The answer, within ``timeout_s`` and ``MARGIN_S``. If deliver is away, that is the fault.
    """
    end_s = time.monotonic() + request.timeout_s + MARGIN_S
    said = b""
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(request.timeout_s + MARGIN_S)
            asking.connect(f"{state_dir}/{DELIVER_SOCKET}")
            asking.sendall(line_of(request))
            while not said.endswith(b"\n") and len(said) <= ANSWER_LIMIT:
                asking.settimeout(max(0.001, end_s - time.monotonic()))
                block = asking.recv(ANSWER_LIMIT)
                if not block:
                    break
                said += block
    except (OSError, ValueError) as error:
        # A ValueError is an embedded NUL in the path, or a request that is no JSON.
        return CodeAnswer(fault=f"{_AWAY}: {getattr(error, 'strerror', None) or error}")
    with suppress(ValueError, RecursionError):
        return code_answer_of(said)
    return CodeAnswer(fault=_AWAY)
