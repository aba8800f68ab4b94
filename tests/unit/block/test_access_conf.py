"""The text of the file for pam_access. ``tests/integration/test_pam_access.py`` asks the real module about it."""

from __future__ import annotations

import random
from ipaddress import ip_address

import pytest

from consumer.block.access_conf import GROUP_LIMIT, Groups, access_conf, can_name
from consumer.block.hosts_deny import patterns
from consumer.block.target import Target, network_target, outermost

# pam_access up to 1.5 skips a longer line.
LINE_LIMIT = 8190


def targets(*texts: str) -> list[Target]:
    """Return networks as ``access_conf`` takes them."""
    return outermost(map(network_target, texts))


def test_whole_file() -> None:
    """What is allowed comes first, then users, then addresses, each kind in order."""
    text = access_conf(
        targets("2001:db8::/64", "192.0.2.7", "192.0.2.6"),
        {"bob": (), "alice": targets("198.51.100.1", "2001:db8:1::1")},
        targets("127.0.0.0/8", "::1"),
    ).decode()
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        "+ : ALL : 127.0.0.0/8",
        "+ : ALL : ::1",
        "- : alice : ALL EXCEPT 198.51.100.1 2001:db8:1::1",
        "- : bob : ALL",
        "- : ALL : 192.0.2.6 192.0.2.7",
        "- : ALL : 2001:db8::/64",
    ]


def test_the_same_arguments_give_the_same_file() -> None:
    """The order in which blocks came leaves no trace."""
    texts = [f"192.0.{number // 256}.{number % 256}" for number in range(1000)]
    first = access_conf(targets(*texts), {"a": targets("10.0.0.1", "10.0.0.2"), "b": ()}, [])
    random.Random(1).shuffle(texts)  # noqa: S311 - a test
    assert access_conf(targets(*texts), {"b": (), "a": targets("10.0.0.2", "10.0.0.1")}, []) == first


def test_groups() -> None:
    """Many addresses stand in groups behind their network; each address stands once, and no line is too long."""
    dice = random.Random(2)  # noqa: S311 - a test
    some = targets(
        *(f"{dice.randrange(1, 224)}.{dice.randrange(256)}.{dice.randrange(256)}.{dice.randrange(256)}" for _ in range(5000)),
        *(f"2001:db8:{dice.randrange(65536):x}:{dice.randrange(65536):x}::/64" for _ in range(5000)),
    )
    lines = access_conf(some, {}, []).decode().splitlines()
    assert max(map(len, lines)) < LINE_LIMIT
    found = []
    for line in lines:
        if line.startswith("#"):
            continue
        froms = line.removeprefix("- : ALL : ").split(" EXCEPT ALL EXCEPT ")
        group = froms[-1].split()
        assert len(group) <= GROUP_LIMIT
        if len(froms) == 2:
            assert all(network_target(froms[0]).covers(network_target(each)) for each in group)
        found += group
    assert sorted(found) == sorted(target.text for target in some)
    assert len(lines) < 300


def test_the_longest_line_is_read() -> None:
    """A group of the longest addresses, and a user with all exceptions, fit a line."""
    longest = [f"2001:db8:ffff:ffff:ffff:ffff:ffff:{number:x}" for number in range(0xF000, 0xF000 + GROUP_LIMIT)]
    text = access_conf(targets(*longest), {"u" * 101: targets(*longest)}, targets(*longest)).decode()
    assert max(map(len, text.splitlines())) < LINE_LIMIT


@pytest.mark.parametrize(
    "name",
    ["", "ALL", "all", "except", "none", "local", "Root", "ROOT", "0", "1000", "-", "a b", "a:b", "a,b", "a\tb", "a\nb",
     "(wheel)", "@netgroup", "a@b", "#a", "a#b", "+", "ä", "a\0", "a" * 200, "root\n- ", "$a", "a$b"],
)  # fmt: skip
def test_names_that_would_mean_something_else(name: str) -> None:
    """A name that pam_access takes for a word, a group, a uid or several names is never written."""
    assert not can_name(name)


@pytest.mark.parametrize("name", ["root", "alice", "www-data", "_apt", "host$", "a.b", "corp\\alice", "a+b", "u1"])
def test_names_of_users(name: str) -> None:
    """Names of real accounts are."""
    assert can_name(name)


def test_lists_for_tcp_wrappers() -> None:
    """IPv6 stands in brackets, with the length outside."""
    assert patterns(targets("192.0.2.7", "198.51.100.0/24", "2001:db8::1", "2001:db8:1::/48")) == (
        b"192.0.2.7\n198.51.100.0/24\n[2001:db8::1]\n[2001:db8:1::]/48\n"
    )


def test_a_text_from_earlier_groups_is_the_same() -> None:
    """Whatever has come and gone since, the groups of the text before change nothing."""
    dice = random.Random(7)  # noqa: S311 - it chooses test data
    groups, blocked = Groups(), set[Target]()
    for _ in range(60):
        blocked.update(targets(*(str(ip_address(dice.choice((10 << 24, 192 << 24)) + dice.randrange(4000))) for _ in range(40))))
        blocked.difference_update(dice.sample(sorted(blocked), 10))
        wanted = outermost([*blocked, *targets("2001:db8::/64", "2001:db8::7")])
        assert access_conf(wanted, {}, [], groups) == access_conf(wanted, {}, [])
    assert len(blocked) > 2 * GROUP_LIMIT
