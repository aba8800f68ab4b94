"""The file that sshbell writes, as the real pam_access of this system reads it."""

from __future__ import annotations

import random
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from consumer.block.access_conf import access_conf
from consumer.block.target import network_target, outermost
from tests.integration.pam import CLOSED, OPEN, PamService, pam_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def file(open_folder: Path) -> Path:
    """Return the path of the file."""
    return open_folder / "access.conf"


@pytest.fixture
def service(file: Path) -> Iterator[PamService]:
    """Return a service that asks about the file."""
    with pam_service(file) as found:
        yield found


def test_every_address_of_a_large_list(file: Path, service: PamService) -> None:
    """Of thousands of addresses and networks, the module refuses exactly those, and not their neighbours."""
    dice = random.Random(3)  # noqa: S311 - a test
    texts = [str(ip_address(dice.randrange(1 << 24, 224 << 24))) for _ in range(3000)]
    texts += [str(ip_address(dice.randrange(0x2001 << 112, 0x2003 << 112) >> 64 << 64)) + "/64" for _ in range(2000)]
    texts += ["10.0.0.0/8", "10.1.2.3", "192.0.2.0", "192.0.2.1", "203.0.113.255", "2001:db8::1"]
    blocked = outermost(map(network_target, texts))
    file.write_bytes(access_conf(blocked, {}, []))
    asked = set()
    for target in dice.sample(blocked, 20):
        asked |= {target.first - 1, target.first, target.last, target.last + 1}
    asked |= {dice.randrange(1 << 24, 224 << 24) for _ in range(20)}
    verdicts = {}
    for number in asked:
        address = ip_address(number)
        verdicts[str(address)] = not any(target.covers(network_target(str(address))) for target in blocked)
    assert {address: service.lets_in("root", address) for address in verdicts} == verdicts
    assert {True, False} == set(verdicts.values())


@pytest.mark.parametrize("operation", ["authenticate", "acct_mgmt"])
def test_users_and_what_is_allowed(file: Path, service: PamService, operation: str) -> None:
    """A blocked user comes in from known addresses only; what is allowed comes in always; others are not concerned."""
    known = outermost(map(network_target, ["198.51.100.1", "2001:db8:1::/64"]))
    blocked, allowed = (outermost(map(network_target, texts)) for texts in (["192.0.2.0/24"], ["192.0.2.9", "127.0.0.0/8"]))
    file.write_bytes(access_conf(blocked, {"root": known, "nobody": ()}, allowed))
    asked = {
        ("root", "198.51.100.1"): True, ("root", "198.51.100.2"): False, ("root", "2001:db8:1::77"): True,
        ("root", "2001:db8:2::77"): False, ("root", "127.0.0.1"): True, ("root", "192.0.2.9"): True,
        ("nobody", "198.51.100.1"): False, ("nobody", "192.0.2.9"): True,
        ("daemon", "198.51.100.2"): True, ("daemon", "192.0.2.8"): False, ("daemon", "192.0.2.9"): True,
    }  # fmt: skip
    assert {key: service.lets_in(*key, operation) for key in asked} == asked


@pytest.mark.parametrize(
    ("state", "is_open", "is_closed"),
    [
        ("vanished", True, False), ("a directory", True, True), ("empty", True, True), ("cut in a line", True, True),
        ("other bytes", True, True), ("a good line among bad ones", False, False),
    ],
)  # fmt: skip
def test_a_bad_file(file: Path, state: str, is_open: bool, is_closed: bool) -> None:  # noqa: FBT001 - parameters of a test
    """docs/blocking.md describes this: who comes in with a bad file, with the open and with the closed line."""
    match state:
        case "a directory":
            file.mkdir()
        case "empty":
            file.touch()
        case "cut in a line":
            file.write_bytes(access_conf(outermost([network_target("192.0.2.7")]), {}, [])[:-1])
        case "other bytes":
            file.write_bytes(bytes(range(256)) * 100)
        case "a good line among bad ones":
            file.write_bytes(b"\0\xff: :\n- ALL\n" + b"x" * 20_000 + b"\n- : ALL : 192.0.2.7\n")
    for line, lets_in in ((OPEN, is_open), (CLOSED, is_closed)):
        with pam_service(file, line) as service:
            assert service.lets_in("root", "192.0.2.7") is lets_in
            assert service.lets_in("root", "192.0.2.7", "acct_mgmt") is lets_in
    # With a good line, everybody else comes in.
    if not is_open:
        with pam_service(file, OPEN) as service:
            assert service.lets_in("root", "192.0.2.8")
