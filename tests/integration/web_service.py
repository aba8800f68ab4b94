"""A web service on loopback that answers like MaxMind's, and misbehaves if a test wants that."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING

from aiohttp import web

from tests.databases import LYON, ORANGE
from tests.integration.http_server import HttpServer

if TYPE_CHECKING:
    from pathlib import Path

ACCOUNT, KEY = 123456, "s3cret-licence-key"
ANSWER = LYON | {"traits": ORANGE | {"ip_address": "8.8.8.8", "network": "8.8.8.0/24"}}


def said(record: object, status: int = 200, kind: str = "city") -> web.Response:
    """Return an answer in the service's form."""
    content_type = f"application/vnd.maxmind.com-{kind}+json; charset=UTF-8; version=2.1"
    return web.Response(body=json.dumps(record).encode(), status=status, headers={"Content-Type": content_type})


def refused(status: int, code: str, text: str = "Read the manual.") -> web.Response:
    """Return an error in the service's form."""
    return said({"code": code, "error": text}, status, "error")


async def answers(_request: web.BaseRequest) -> web.StreamResponse:
    """Answer with Lyon."""
    return said(ANSWER)


class Service(HttpServer):
    """
    The service.

    Attributes:
        asked: the paths of the questions.
        authorizations: the account and key of each question.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked: list[str] = []
        self.authorizations: list[str | None] = []
        self.handler = answers

    @property
    def host(self) -> str:
        """The value of ``geoip_host``."""
        return f"127.0.0.1:{self.port}"

    @property
    def client_tls(self) -> ssl.SSLContext:
        """A context that trusts the service."""
        return ssl.create_default_context(cafile=self.ca_file)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.path)
        self.authorizations.append(request.headers.get("Authorization"))
        return await self.handler(request)
