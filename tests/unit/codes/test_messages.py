"""``consumer.codes.messages`` and ``client``: what the commands for PAM and ``deliver`` say; a ``deliver`` that misbehaves."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from consumer.codes.client import MARGIN_S, send_code
from consumer.codes.messages import ANSWER_LIMIT, CodeAnswer, CodeRequest, code_answer_of, line_of
from consumer.deliver.code_socket import request_of
from consumer.state_dir import DELIVER_SOCKET

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT_DIR = Path(__file__).parents[3]
REQUEST = CodeRequest("482913", "83120975", "alice", "web1", "203.0.113.7", channels=("ops",), new=("address",))


def test_a_request_survives_the_way() -> None:
    """A request is one line, and comes back as it was; what is no UTF-8 does not stop it."""
    for request in (REQUEST, REQUEST._replace(user='a"\n\x1b\u2028é', code="", prompts=6, timeout_s=1.5)):
        line = line_of(request)
        assert line.count(b"\n") == 1
        assert request_of(line) == request
    assert request_of(line_of(REQUEST._replace(user="a\udcff"))).user == "a?"


def test_other_versions() -> None:
    """Missing fields of a request have their defaults, and unknown ones do not matter."""
    known = {"session": "1", "code": "2", "user": "u", "host": "h", "channels": ["c"]}
    assert request_of(json.dumps(known | {"more": {}}).encode()) == CodeRequest("1", "2", "u", "h", channels=("c",))
    with pytest.raises(ValueError, match="not a request"):
        request_of(json.dumps({"session": "1"}).encode())
    # What deliver does not know would never be new, so that nobody needed a code.
    with pytest.raises(ValueError, match="new is beyond its bound"):
        request_of(json.dumps(known | {"new": ["continent"]}).encode())


def test_answers() -> None:
    """Exactly one field of an answer is set."""
    for answer in (CodeAnswer("ops"), CodeAnswer(not_needed=True), CodeAnswer(fault="x")):
        assert code_answer_of(line_of(answer)) == answer
    for wrong in (
        b"", b"x", b"[]", b"{}", b"null", line_of(CodeAnswer()), line_of(CodeAnswer("ops", fault="x")),
        b'{"channel": "", "not_needed": 1, "fault": ""}', b'{"channel": 1, "not_needed": false, "fault": ""}', b"\xff",
    ):  # fmt: skip
        with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
            code_answer_of(wrong)


def asked(folder: Path, answer: Callable[[socket.socket], object], request: CodeRequest = REQUEST) -> CodeAnswer:
    """Return what a command gets from a ``deliver`` that does this with the connection."""
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(str(folder / DELIVER_SOCKET))
        server.listen()

        def serve() -> None:
            with closing(server.accept()[0]) as client:
                client.makefile("rb").readline()
                answer(client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return send_code(str(folder), request)
        finally:
            thread.join()


def test_the_client(tmp_path: Path) -> None:
    """An answer in pieces is one answer."""

    def answer(client: socket.socket) -> None:
        for byte in line_of(CodeAnswer("ops")):
            client.sendall(bytes([byte]))

    assert asked(tmp_path, answer) == CodeAnswer("ops")


@pytest.mark.parametrize("said", [b"", b"{}\n", b"x" * 3 * ANSWER_LIMIT, line_of(CodeAnswer("ops"))[:-2]], ids=range(4))
def test_a_deliver_that_misbehaves(tmp_path: Path, said: bytes) -> None:
    """No answer, a wrong, an endless or a torn one is a fault."""

    def answer(client: socket.socket) -> None:
        with suppress(BrokenPipeError):
            client.sendall(said)

    assert asked(tmp_path, answer).fault.startswith("sshbell deliver does not run, or does not answer")


def test_a_deliver_that_hangs(tmp_path: Path) -> None:
    """The client waits no longer than the channels may take, and its margin, even for one byte after another."""
    over = threading.Event()

    def drip(client: socket.socket) -> None:
        while not over.wait(0.05):
            try:
                client.sendall(b" ")
            except OSError:
                return

    before_s = time.monotonic()
    assert (
        asked(tmp_path, drip, REQUEST._replace(timeout_s=0.2)).fault
        == "sshbell deliver does not run, or does not answer: timed out"
    )
    assert time.monotonic() - before_s >= 0.2 + MARGIN_S
    over.set()


def test_no_deliver(tmp_path: Path) -> None:
    """Without a socket, or with a path that is none, the answer is a fault, at once."""
    for folder in (str(tmp_path), "/" + "x" * 200, "a\0b"):
        assert send_code(folder, REQUEST).fault.startswith("sshbell deliver does not run")


def test_it_loads_little() -> None:
    """The client loads no library of channels, nor any that takes long."""
    text = f"import sys; sys.path.insert(0, {str(PROJECT_DIR)!r})\nimport consumer.codes.client\n"
    text += "print(*(set(sys.modules) & set(sys.argv[1:])))"
    slow = ["msgspec", "aiohttp", "asyncio", "click", "jinja2", "pyparsing", "structlog", "sqlite3", "dataclasses", "ctypes"]
    done = subprocess.run([sys.executable, "-I", "-S", "-c", text, *slow], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
