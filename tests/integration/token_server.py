"""A server on loopback that answers whatever it is asked with the same bytes, and may go on byte by byte without an end."""

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
    What ``answering`` yields.

    Attributes:
        url: of it.
        asked: what was sent to it; one connection each.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[bytes] = []


@contextmanager
def answering(answer: bytes, *, drip: bytes = b"") -> Iterator[TokenServer]:
    """
    Serve.

    Args:
        answer: to each connection, which is closed then.
        drip: sent again and again instead of closing it.
    """
    is_over = threading.Event()

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            said = b""
            while b"\r\n\r\n" not in said:
                said += self.request.recv(65536)
            found.asked.append(said)
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
