"""One-time codes with the real sshd, PAM, ssh and ``deliver``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import needs
from tests.integration.code_host import code_host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.code_host import CodeHost

pytestmark = needs.CHANGES_THE_MACHINE


@pytest.fixture
def host(open_folder: Path) -> Iterator[CodeHost]:
    """Return a host that asks for codes, with ``deliver``."""
    with code_host(open_folder) as found:
        found.start_deliver()
        yield found


@pytest.mark.parametrize("method", ["publickey", "password"])
def test_right_and_wrong(host: CodeHost, method: str) -> None:
    """After the key or the password, the right code lets in, and a wrong one does not."""
    client = host.asked(method=method)
    assert host.lets_in(client, host.code(client)), (client.said, host.lines)
    client = host.asked(method=method)
    code = host.code(client)
    assert not host.lets_in(client, f"{(int(code) + 1) % 10**8:08}")
    assert [line.partition(":")[0] for line in host.pam_lines()] == [
        "Code sent",
        "Code accepted",
        "Code sent",
        "Code refused (wrong)",
    ]
