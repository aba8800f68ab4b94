"""A server on loopback that gives every request the same answer, and may go on byte by byte without an end."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERVAL_S = 0.05


class _Server(ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128


class TokenServer:
    """
    The server that ``answering`` yields.

    Attributes:
        url: its URL.
        asked: the received requests, one for each connection.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[bytes] = []


@contextmanager
def answering(answer: bytes, *, drip: bytes = b"") -> Iterator[TokenServer]:
    """
    Serve on a free port; yield the server.

    Args:
        answer: sent on each connection, which is closed then.
        drip: sent again and again instead of closing the connection.
    """
    is_over = threading.Event()

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            received = b""
            while b"\r\n\r\n" not in received:
                received += self.request.recv(65536)
            found.asked.append(received)
            with suppress(OSError):
                self.request.sendall(answer)
                while drip and not is_over.wait(INTERVAL_S):
                    self.request.sendall(drip)

    with _Server(("127.0.0.1", 0), Handler) as server:
        found = TokenServer(f"http://127.0.0.1:{server.server_address[1]}/token")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield found
        finally:
            is_over.set()
            server.shutdown()
            thread.join()
