"""Summarizes the messages of a digest: the number of each kind, and the account, host and address of each one."""

from collections import Counter
from typing import Any

import msgspec

from consumer.actions import EventAction, OwnAction
from consumer.deliver.sentences import Facts, in_a_list, named

# Lines of a digest, and pairs of user and host that it lists with their counts. The rest is counted together.
DIGEST_LINES, _DIGEST_USERS = 50, 20
# The most pairs of user and host that a digest counts, because peers choose the names.
_COUNTED_USERS = 10_000
_UNREADABLE = "unreadable"

# Singular and plural of each kind, in the order of a digest.
_NOUNS = {
    **{str(action): (action.noun, action.nouns) for action in EventAction},
    str(OwnAction.NOTICE): ("notice of sshbell", "notices of sshbell"),
    _UNREADABLE: ("unreadable event", "unreadable events"),
    "": ("event of another kind", "events of other kinds"),
}


class _Entry(msgspec.Struct):
    """Events that differ only in their time. ``time`` and ``last`` are those of the first and the last one."""

    text: str
    time: str
    last: str
    count: int = 0


class _Group:
    """
    Events of one kind.

    Attributes:
        messages: the number of messages.
        count: the number of occurrences: one message may report several failed logins.
        entries: the first ``DIGEST_LINES`` different ones, in the order in which they came.
    """

    def __init__(self) -> None:
        self.messages = 0
        self.count = 0
        self.entries: dict[tuple[Any, ...], _Entry] = {}

    def add(self, facts: Facts) -> None:
        """Count an event."""
        times = int(facts["count"] or 1)
        self.messages += 1
        self.count += times
        key = tuple(facts[name] for name in ("user", "host", "address", "duration", "claim", "claimed_by_uid", "message"))
        entry = self.entries.get(key)
        if entry is None:
            if len(self.entries) >= DIGEST_LINES:
                return
            entry = self.entries[key] = _Entry(in_a_list(facts), facts["local"], facts["local"])
        entry.count += times
        entry.last = facts["local"]


class Digest:
    """Counts events, in the order in which they were queued."""

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}
        self._users: Counter[tuple[str, str]] = Counter()
        self._first = self._last = ""

    def add(self, facts: Facts) -> None:
        """Count an event."""
        self._groups.setdefault(facts["action"] if facts["action"] in _NOUNS else "", _Group()).add(facts)
        self._count_user(facts["user"], facts["host"])
        if facts["local"]:
            self._first = min(self._first or facts["local"], facts["local"])
            self._last = max(self._last, facts["local"])

    def add_unreadable(self) -> None:
        """Count a message that is not an event."""
        group = self._groups.setdefault(_UNREADABLE, _Group())
        group.messages += 1
        group.count += 1
        self._count_user("", "")

    def _count_user(self, user: str, host: str) -> None:
        if (user, host) in self._users or len(self._users) < _COUNTED_USERS:
            self._users[user, host] += 1

    def facts(self) -> dict[str, Any]:
        """Return the values that templates know as ``held``."""
        groups: list[dict[str, Any]] = []
        room = DIGEST_LINES
        present = [(name, self._groups[name]) for name in _NOUNS if name in self._groups]
        for number, (name, group) in enumerate(present):
            # Noise must not hide a login, and one kind of noise must not hide another.
            limit = room if name == EventAction.LOGIN else room // (len(present) - number)
            entries = list(group.entries.values())[:limit]
            room -= len(entries)
            one, several = _NOUNS[name]
            groups.append({
                "name": name, "title": several[0].upper() + several[1:], "count": group.count,
                "words": f"{group.count} {one if group.count == 1 else several}",
                "lines": [msgspec.structs.asdict(entry) for entry in entries],
                "more": group.count - sum(entry.count for entry in entries) if group.entries else 0,
            })  # fmt: skip
        count = sum(group.messages for group in self._groups.values())
        users = [(_at_host(*pair), number) for pair, number in self._users.most_common(_DIGEST_USERS)]
        messages = Counter({name: group.messages for name, group in self._groups.items()})
        return {
            "count": count,
            "summary": _listed([group["words"] for group in groups]),
            "first": self._first,
            "last": self._last,
            "groups": groups,
            "actions": [{"name": name, "count": number} for name, number in messages.most_common()],
            "users": [{"name": name, "count": number} for name, number in users],
            "more_users": count - sum(number for _, number in users),
            "lines": [f"{line['time']}  {line['text']}".strip() for group in groups for line in group["lines"]],
        }


def _at_host(user: str, host: str) -> str:
    return f"{named(user) or 'unknown user'}@{named(host) or 'unknown host'}"


def _listed(texts: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(texts[:-1]), *texts[-1:])))
