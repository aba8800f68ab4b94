"""
The socket on which ``deliver`` takes one-time codes from the commands that PAM runs as root.

One connection is one request and one answer, of the form in ``consumer.codes.messages``. Nobody but root gets an answer, and no
text of a request gets into the log.
"""

import asyncio
import re
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import msgspec

from consumer.code_bounds import DIGITS, SESSION_DIGITS, TIMEOUT_LIMIT_S
from consumer.codes.messages import (
    LIST_LIMIT,
    REQUEST_LIMIT,
    TEXT_LIMIT,
    CodeAnswer,
    CodeRequest,
    line_of,
)
from consumer.codes_settings import CodeNovelty
from consumer.deliver.codes import CodeSender
from consumer.process.log import get_logger

# For the request itself, which a command sends at once.
CODE_REQUEST_LIMIT_S = 5.0
# Connections at a time. The sender has a smaller limit: these may also be from somebody who sends nothing.
CODE_CLIENT_LIMIT = 64
# Numbers that people read. A larger one is a mistake.
_NUMBER_LIMIT = 1_000_000
_PEER = struct.Struct("3i")  # SO_PEERCRED: pid, uid, gid
_DIGITS = re.compile(f"[0-9]{{1,{max(DIGITS[-1], SESSION_DIGITS[-1])}}}")

_log = get_logger()


class CodeSocket:
    """
    Listens for requests.

    Args:
        path: of the socket. The directory belongs to sshbell's user alone.
        sender: sends the codes.
    """

    def __init__(self, path: Path, sender: CodeSender) -> None:
        self._path, self._sender = path, sender
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen. If that fails, messages must go out all the same, so the log has the reason, and nobody gets a code."""
        try:
            self._path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._client, path=str(self._path), limit=REQUEST_LIMIT)
            self._path.chmod(0o600)
        except OSError as error:
            _log.error("codes_not_taken", reason=f"{self._path}: {error.strerror or error}")

    def close(self) -> None:
        """Take no more requests, and drop those that wait for an answer: their logins go on as if deliver were away."""
        if self._server is not None:
            self._server.close()
            with suppress(OSError):
                self._path.unlink()
        for task in self._clients:
            task.cancel()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            if (fault := self._refusal(writer)) is not None:
                _log.error("code_request_refused", **fault)
                return
            async with asyncio.timeout(CODE_REQUEST_LIMIT_S):
                line = await reader.readuntil(b"\n")
            writer.write(line_of(await self._answer(line)))
            async with asyncio.timeout(CODE_REQUEST_LIMIT_S):
                await writer.drain()
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            _log.warning("code_request_broken", reason=type(error).__name__)
        except asyncio.CancelledError:
            pass  # by close
        finally:
            self._clients.discard(task)
            writer.close()

    def _refusal(self, writer: asyncio.StreamWriter) -> dict[str, Any] | None:
        """Return why a client gets no answer, for the log; None if it gets one."""
        peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        _pid, uid, _gid = _PEER.unpack(peer)
        if uid != 0:
            return {"reason": "only root may ask for a code", "uid": uid}
        if len(self._clients) > CODE_CLIENT_LIMIT:
            return {"reason": f"there are {CODE_CLIENT_LIMIT} requests already"}
        return None

    async def _answer(self, line: bytes) -> CodeAnswer:
        try:
            request = request_of(line)
        except ValueError as error:
            _log.error("code_request_refused", reason=str(error))
            return CodeAnswer(fault=f"deliver refuses the request: {error}")
        try:
            return await self._sender.send(request)
        except Exception as error:  # noqa: BLE001 - the outermost loop; its text could show the code
            _log.error("fault", of="a code", reason=type(error).__name__)
            return CodeAnswer(fault=f"a fault of sshbell: {type(error).__name__}")


def request_of(line: bytes) -> CodeRequest:
    """
    Read a request.

    Raises:
        ValueError: it is not one, or a field is beyond its bound. The error names the field, and quotes nothing.
    """
    try:
        found = msgspec.json.decode(line, type=dict[str, Any])
        # The fields of a NamedTuple are those of a list.
        known = {name: found.get(name, default) for name, default in CodeRequest._field_defaults.items()}
        values = [found[name] if name not in known else known[name] for name in CodeRequest._fields]
        request = msgspec.convert(values, CodeRequest)
    except (msgspec.MsgspecError, RecursionError, UnicodeError, KeyError) as error:
        raise ValueError("it is not a request") from error
    for name in _beyond(request):
        raise ValueError(f"{name} is beyond its bound")
    return request


def _beyond(request: CodeRequest) -> list[str]:
    """Return the names of the fields that are beyond their bounds."""
    texts = {
        name: [value] if isinstance(value, str) else value
        for name, value in request._asdict().items()
        if isinstance(value, str | tuple)
    }
    found = [name for name, parts in texts.items() if len(parts) > LIST_LIMIT or any(len(one) > TEXT_LIMIT for one in parts)]
    checks = {
        "session": bool(_DIGITS.fullmatch(request.session)),
        "code": not request.code or bool(_DIGITS.fullmatch(request.code)),
        "to": request.to in {"team", "owner"},
        "channels": bool(request.channels),
        # Something that deliver does not know could never be new, and nobody would need a code.
        "new": set(request.new) <= set(get_args(CodeNovelty)),
        "timeout_s": 0 < request.timeout_s <= TIMEOUT_LIMIT_S,
        "valid_s": 0 < request.valid_s <= _NUMBER_LIMIT,
        "emergency_left": 0 <= request.emergency_left <= _NUMBER_LIMIT,
        "prompts": 0 <= request.prompts <= _NUMBER_LIMIT,
    }
    return [*found, *(name for name, is_right in checks.items() if not is_right)]
