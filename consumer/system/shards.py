"""The drop-in for rsyslog with several shards: made of the shipped one, so that filters and parameters have one source."""

import re
from pathlib import Path

from consumer.state_dir import SHARD_LIMIT

_RUN = "/usr/libexec/rsyslog/sshbell"
_SHARD = re.compile(r'"/usr/libexec/rsyslog/sshbell --shard (\d{1,2})"')
# rsyslogd takes the first of several main_queue() statements.
MAIN_QUEUE_REMEDY = 'set queue.workerThreads="1" there, to keep the lines in order'

_HEAD = """\
# /etc/rsyslog.d/30-sshbell.conf: passes every line of sshd to one of {shards} shards of sshbell, which run as long as
# rsyslogd does.
#
# "sshbell install --shards {shards}" has written this file. All lines of a host go to the same shard, in the order in which
# rsyslogd received them. Before you change the number, read docs/fleet.md: a shard knows the open sessions of its own hosts only.
#
# The other rules still get all lines: there is no "stop" here, so rsyslogd writes auth.log as before.

# For hash64mod.
module(load="fmhash")

# The queue before all rules. By default, two workers empty it, and pass lines of the same host to its shard out of order.
main_queue(
    queue.type="LinkedList"
    # Lines in memory; beyond it, rsyslogd takes no further lines from TCP and RELP.
    queue.size="200000"
    # One worker keeps the order.
    queue.workerThreads="1"
)
"""
_SPLIT = """\
# The shard of a host. A host's name is the sender's claim: with RELP or TLS, let the relay set it.
ruleset(name="sshbell_shards") {{
    set $.sshbell_shard = hash64mod($hostname, {shards});
{choices}
}}

# rsyslogd's own messages start the shards.
ruleset(name="sshbell_all") {{
{all}
}}
"""
# What a shard has in place of the parameters of the shipped queue.
_QUEUE = re.compile(r"( *# Lines in memory\.[^\n]*\n(?: *#[^\n]*\n)*) *queue\.size=\"\d+\"\n")
_QUEUE_OF_SHARD = """\
        # Lines in memory. Above 90 %, further lines spill to disk, and from then on lines are out of order. So this is larger
        # than for one sshbell: 200,000 lines take some 200 MB, but only while the shard is behind.
        queue.size="200000"
"""


def shards_of(drop_in: str) -> int:
    """Return the number of shards of a drop-in; 1 for the shipped one."""
    return max([1, *(int(number) + 1 for number in _SHARD.findall(drop_in))])


def installed_shards(drop_in: Path) -> int:
    """Return the number of shards of the installed drop-in; 1 if there is none, or it cannot be read."""
    try:
        return shards_of(drop_in.read_text("utf-8", "replace"))
    except OSError:
        return 1


def with_shards(drop_in: str, shards: int) -> str:
    """
    Return the shipped drop-in with several shards in place of one sshbell.

    There is no queue for lines that decide no login here: it would break the order of the lines of a host.

    Args:
        drop_in: the shipped one.
        shards: how many.
    """
    assert 2 <= shards <= SHARD_LIMIT
    head, rest = _cut(drop_in, "# The lines that decide no login")
    _comment, head = _cut(head, "# This file works with")
    _others, rest = _cut(rest, 'ruleset(name="sshbell") {')
    ruleset, rest = _cut(rest, 'ruleset(name="sshbell_sorted") {')
    _sorted, filters = _cut(rest, "# This does not test the facility")
    filters, own = _cut(filters, '} else if ($programname == "rsyslogd"')
    ruleset, count = _QUEUE.subn(_QUEUE_OF_SHARD, ruleset)
    assert count == 1
    short = "\n".join(line for line in ruleset.splitlines() if line.strip() and not line.lstrip().startswith("#")) + "\n"
    numbers = range(shards)
    choices = [f"    {'if' if n == 0 else '} else if'} $.sshbell_shard == {n} then {{\n        call sshbell_{n}" for n in numbers]
    split = _SPLIT.format(
        shards=shards, choices="\n".join([*choices, "    }"]), all="\n".join(f"    call sshbell_{number}" for number in numbers)
    )
    return "".join((
        _HEAD.format(shards=shards), "\n", head,
        _ruleset(ruleset.rstrip() + "\n", 0), "\n# The other shards have the same parameters.\n",
        *(_ruleset(short, number) for number in numbers if number), "\n",
        split, "\n", filters.replace("call sshbell_sorted", "call sshbell_shards"),
        own.replace("call sshbell_sorted", "call sshbell_all"),
    ))  # fmt: skip


def _cut(text: str, begin: str) -> tuple[str, str]:
    before, found, after = text.partition(begin)
    assert found, begin
    return before, found + after


def _ruleset(text: str, number: int) -> str:
    """Return the ruleset of a shard, with a queue and a worker of its own."""
    for was, now in (
        ('ruleset(name="sshbell")', f'ruleset(name="sshbell_{number}")'),
        ('\n        name="sshbell"\n', f'\n        name="sshbell_{number}"\n'),
        (f'binary="{_RUN}"', f'binary="{_RUN} --shard {number}"'),
        ('queue.filename="sshbell"', f'queue.filename="sshbell_{number}"'),
    ):
        assert text.count(was) == 1, was
        text = text.replace(was, now)
    return text
