"""Faults of a request to a web service, in our own words: those of aiohttp hold the URL, and may hold a part of the answer."""

import os
from urllib.parse import urlsplit

from aiohttp import (
    ClientConnectionError,
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientError,
    ClientHttpProxyError,
    ClientSSLError,
)

from consumer.text import N_, harmless


def fault_of(error: OSError | ClientError) -> str:
    """Return the fault of a connection or of an answer."""
    match error:
        case ClientConnectorCertificateError():
            fault = N_("its certificate is not trusted: %(fault)s") % {"fault": harmless(str(error.certificate_error))}
        case ClientSSLError():
            fault = N_("TLS with it failed")
        case ClientHttpProxyError():
            fault = N_("the proxy answered %(status)s") % {"status": error.status}
        case OSError() if error.errno and error.errno > 0:
            fault = os.strerror(error.errno)
        case ClientConnectorDNSError():
            fault = N_("no server of this name")
        case ClientConnectionError():
            fault = N_("the connection broke")
        case _:
            fault = N_("its answer is cut, too long or not HTTP")
    return fault


def place_of(url: str) -> str:
    """Return host and port of a URL, without a password."""
    return harmless(urlsplit(url).netloc.rpartition("@")[2])
