"""Commands in pam_abl's brackets become lists of arguments, and nothing that a name holds changes them."""

from __future__ import annotations

import pytest

from consumer.block.commands import ARGUMENT_LIMIT, ARGUMENTS_LIMIT, filled_command, split_command

VALUES = {"%u": "alice", "%h": "192.0.2.7", "%s": "sshd"}


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("[/sbin/iptables] [-s] [%h]", ["/sbin/iptables", "-s", "192.0.2.7"]),
        ("run [/bin/x] with [%u@%h] please", ["/bin/x", "alice@192.0.2.7"]),
        ("[/bin/x][%s]", ["/bin/x", "sshd"]),
        ("[/bin/x] []", ["/bin/x", ""]),
        (r"[/bin/x] [\[%u\]] [a\\b] [\%h]", ["/bin/x", "[alice]", r"a\b", "%h"]),
        ("[/bin/x] [100%%] [%%u]", ["/bin/x", "100%", "%u"]),
        (r"\[not an argument\] [/bin/x]", ["/bin/x"]),
        ("[/bin/x] [two words; $HOME `id` \n]", ["/bin/x", "two words; $HOME `id` \n"]),
    ],
)
def test_arguments(text: str, arguments: list[str]) -> None:
    """Each pair of brackets is an argument; what stands outside means nothing."""
    assert filled_command(split_command(text), VALUES) == arguments


@pytest.mark.parametrize(
    "text", ["", "/bin/x", "[", "[/bin/x", "]", "[/bin/x] ]", "[]", "[/bin/x] [%q]", "[/bin/x] [%]", "[a[b]", "[/bin/x]\\"]
)
def test_refused(text: str) -> None:
    """A command that pam_abl would read in another way than its author is refused."""
    with pytest.raises(ValueError, match=r"command|brackets|there is no"):
        split_command(text)


def test_a_name_stays_in_its_argument() -> None:
    """A name with brackets, places, quotes and a NUL is one argument, as it is."""
    hostile = "x] [/bin/sh] [-c] [%h; $(id) \"' \\ \n%u"
    filled = filled_command(split_command("[/bin/x] [%u] [%h]"), VALUES | {"%u": hostile + "\0end"})
    assert filled == ["/bin/x", hostile + "?end", "192.0.2.7"]


def test_bounds() -> None:
    """An argument is cut where pam_abl cuts it; more arguments than fit are refused."""
    assert filled_command(split_command("[/bin/x] [%u]"), {"%u": "x" * 5000})[1] == "x" * ARGUMENT_LIMIT
    with pytest.raises(ValueError, match="64"):
        split_command("[x]" * (ARGUMENTS_LIMIT + 1))
