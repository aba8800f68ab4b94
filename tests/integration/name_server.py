"""A real name server on loopback, from another library than sshbell's resolver. It can lie, refuse, or never answer."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import dns.asyncresolver
from dnslib import AAAA, PTR, QTYPE, RCODE, RR, SRV, A, DNSLabel, DNSRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HANG, SERVFAIL = "hang", "servfail"


class NameServer(asyncio.DatagramProtocol):
    """
    Answers as the test has prepared it.

    Attributes:
        pointers: names by address, each as its labels; or HANG, SERVFAIL.
        addresses: addresses by name; or HANG, SERVFAIL.
        services: hosts with their ports by name, such as ``_xmpp-client._tcp.example.org``.
        asked: the questions so far, as type and name.
    """

    def __init__(self) -> None:
        self.pointers: dict[str, list[tuple[bytes, ...]] | str] = {}
        self.addresses: dict[str, list[str] | str] = {}
        self.services: dict[str, tuple[str, int]] = {}
        self.asked: list[tuple[str, str]] = []
        self.is_silent = False
        self._was_asked = asyncio.Event()
        self._transport: Any = None

    def knows(self, address: str, name: str, *forward: str) -> None:
        """Give an address a name, and the name its addresses, by default that one."""
        self.pointers[address] = [tuple(label.encode() for label in name.split("."))]
        self.addresses[name] = list(forward or (address,))

    def connection_made(self, transport: Any) -> None:
        """Keep the transport for the answers."""
        self._transport = transport

    async def until_asked(self, names: int) -> None:
        """Wait for questions about ``names`` different names."""
        while len({name for _, name in self.asked}) < names:
            self._was_asked.clear()
            await self._was_asked.wait()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer a question."""
        request = DNSRecord.parse(data)
        name, kind = str(request.q.qname).rstrip("."), QTYPE[request.q.qtype]
        self.asked.append((kind, name))
        self._was_asked.set()
        reply = request.reply()
        found = self._pointers_of(name) if kind == "PTR" else self.addresses.get(name)
        if self.is_silent or found == HANG:
            return
        if found == SERVFAIL:
            reply.header.rcode = RCODE.SERVFAIL
        elif kind == "SRV" and name in self.services:
            host, port = self.services[name]
            reply.add_answer(RR(request.q.qname, QTYPE.SRV, ttl=300, rdata=SRV(0, 0, port, DNSLabel(host))))
        elif found is None:
            reply.header.rcode = RCODE.NXDOMAIN
        else:
            for each in found:
                if isinstance(each, tuple):
                    reply.add_answer(RR(request.q.qname, QTYPE.PTR, ttl=300, rdata=PTR(DNSLabel(each))))
                elif kind == ("A" if ip_address(each).version == 4 else "AAAA"):
                    data_of = A if kind == "A" else AAAA
                    reply.add_answer(RR(request.q.qname, request.q.qtype, ttl=300, rdata=data_of(each)))
        self._transport.sendto(reply.pack(), addr)

    def _pointers_of(self, name: str) -> list[tuple[bytes, ...]] | str | None:
        return next((found for address, found in self.pointers.items() if ip_address(address).reverse_pointer == name), None)


@asynccontextmanager
async def name_server() -> AsyncIterator[tuple[NameServer, dns.asyncresolver.Resolver]]:
    """Serve on a free port; yield the server, and a resolver that asks only this server."""
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    resolver.port = transport.get_extra_info("sockname")[1]
    try:
        yield server, resolver
    finally:
        transport.close()
