"""Targets have one form each, and know what belongs to them."""

from __future__ import annotations

import pytest

from consumer.block.target import covering, is_too_wide, network_target, outermost, target_of


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("192.0.2.7", "192.0.2.7"), ("192.0.2.7/32", "192.0.2.7"), ("192.0.2.7/24", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.0/120", "192.0.2.0/24"), ("2001:DB8:0::1", "2001:db8::1"),
        ("2001:db8::1/128", "2001:db8::1"), ("2001:db8::1/64", "2001:db8::/64"), ("fe80::1%eth0", "fe80::1"),
        ("user:alice", "user:alice"), ("user:user:x", "user:user:x"), ("user:192.0.2.7", "user:192.0.2.7"),
    ],
)  # fmt: skip
def test_one_form(text: str, known: str) -> None:
    """However somebody writes a target, it is the same target."""
    target = target_of(text)
    assert target.text == known
    assert target_of(target.text) == target


@pytest.mark.parametrize(
    "text",
    ["", "alice", "user:", "192.0.2", "192.0.2.7/", "192.0.2.7/33", "192.0.2.7/255.255.255.0", "192.0.2.7 ", "10.0.0.1\n",
     "192.0.2.07", "0x7f.0.0.1", "::1/129", "192.0.2.7/+8", "user:" + "x" * 401],
)  # fmt: skip
def test_nonsense(text: str) -> None:
    """What is no address, network or user is refused."""
    with pytest.raises(ValueError, match=r"address|network|name|permitted"):
        target_of(text)


def test_what_belongs_to_a_target() -> None:
    """A network covers its addresses and smaller networks; users are only themselves."""
    network = target_of("192.0.2.0/24")
    assert network.covers(target_of("192.0.2.255"))
    assert network.covers(network)
    assert network.covers(target_of("192.0.2.128/25"))
    assert not network.covers(target_of("192.0.0.0/16"))
    assert not network.covers(target_of("192.0.3.0"))
    assert not target_of("::/0").covers(network)
    assert not target_of("user:alice").covers(target_of("user:bob"))
    assert target_of("user:alice").covers(target_of("user:alice"))


def test_outermost() -> None:
    """Of networks within each other, the widest stays; each address finds it."""
    texts = ["10.1.2.3", "10.1.0.0/16", "10.0.0.0/8", "11.0.0.1", "2001:db8::/32", "2001:db8:1::/48", "9.255.255.255"]
    outer = outermost(map(network_target, texts))
    assert [target.text for target in outer] == ["9.255.255.255", "10.0.0.0/8", "11.0.0.1", "2001:db8::/32"]
    for text, expected in (("10.200.0.1", "10.0.0.0/8"), ("11.0.0.1", "11.0.0.1"), ("2001:db8::9", "2001:db8::/32")):
        found = covering(network_target(text), outer)
        assert found is not None
        assert found.text == expected
    assert covering(network_target("12.0.0.1"), outer) is None
    assert covering(network_target("9.0.0.1"), outer) is None
    assert covering(network_target("::1"), outer) is None


def test_too_wide() -> None:
    """Nobody blocks half of the world by a slip."""
    assert all(is_too_wide(target_of(text)) for text in ("0.0.0.0/0", "10.0.0.0/7", "::/0", "2000::/15"))
    assert not any(is_too_wide(target_of(text)) for text in ("10.0.0.0/8", "10.0.0.1", "2001::/16", "::1"))
    assert not is_too_wide(target_of("user:alice"))
