"""
Names of people and key owners for commands: from ``people.toml``, this host's keys, and the keys exported by other hosts.

The sources are those of ``enrich``; ``tests/integration/test_names.py`` compares the answers. ``Enricher`` asks them about one
event at a time, each with a deadline, and needs asyncio for that. A table asks ``keys`` once, about many logins of few users, and
remembers the answers. So it starts without asyncio where ``keys`` is not running, and names hardly slow down ``replay``.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from consumer.actions import SESSION_ACTIONS
from consumer.config import KEYS_SOCKET, Config
from consumer.ecs import NOTHING, EcsEvent, joined
from consumer.errors import ConfigError, InputError, complain
from consumer.events import Event, Login, Logout
from consumer.events_as_ecs import of_event
from consumer.keys.index import KeyIndex
from consumer.people.people import People
from consumer.store.keys import NAME
from consumer.text import quoted

if TYPE_CHECKING:
    from collections.abc import Hashable

# Limits for a row of a table: owners of one key, and characters of one owner. JSON and CSV have all of them.
_OWNERS_LIMIT, _OWNER_LIMIT = 5, 100
# Remembered answers, by action, host, user and key. A replay has few different ones.
_CACHE_LIMIT = 10_000

_Answer = TypeVar("_Answer")


class Owners(Protocol):
    """Knows the owners of this host's keys."""

    def of(self, event: EcsEvent, /) -> EcsEvent:
        """Return the fields about the key of a login, to add to its event."""

    def __bool__(self) -> bool:
        """Return whether it knows any owners."""


def asked_owners(config: Config, keys_used: Iterable[Login]) -> Owners | None:
    """
    Return the owners of keys, which the process ``keys`` looks up; None if it is not running.

    Args:
        config: has the state directory, where ``keys`` listens.
        keys_used: logins whose keys the table will show, each user's newest first. Not read if ``keys`` is not running.
    """
    state_dir = Path(config.state_dir)
    if not _is_there(state_dir / KEYS_SOCKET):
        return None
    # Here, because it imports asyncio, which takes longer than a short table.
    from consumer.keys.table import TableOwners  # noqa: PLC0415

    return TableOwners(state_dir, (of_event(login, []) for login in keys_used))


class Names:
    """
    Adds names to events. It reports a fault of one of its sources once, on standard error, and goes on without that source.

    Args:
        config: has the state directory, and the path of ``people.toml``.
        owners: of this host's keys; None if nothing knows them.
    """

    def __init__(self, config: Config, owners: Owners | None) -> None:
        state_dir = Path(config.state_dir)
        index = KeyIndex(state_dir, lambda fault: complain(InputError(fault)))
        people = _people(config.people)
        # In the order of enricher.parts_of: if two know the same field, this host's own files count.
        self._sources = [*([] if owners is None else [owners.of]), index.of, people.of]
        self._knows_any = bool(people.persons) or bool(owners) or _is_there(state_dir / NAME)
        self._fields: dict[Hashable, EcsEvent] = {}
        self._rows: dict[Hashable, tuple[str, ...]] = {}

    def add(self, event: EcsEvent) -> EcsEvent:
        """Return an event with ``user.full_name`` and the owners of its key, as far as they are known."""
        if not self._knows_any:
            return event
        ssh = event.ssh
        question = (
            event.event.action, event.host.name, event.user.name, ssh.key.fingerprint, ssh.certificate.id,
            ssh.certificate.ca_fingerprint,
        )  # fmt: skip
        fields = self._fields.get(question)
        if fields is None:
            fields = NOTHING
            for source in self._sources:
                fields = joined(fields, source(event))
            _remember(self._fields, question, fields)
        return event if fields is NOTHING else joined(event, fields)

    def for_row(self, event: Event) -> tuple[str, ...]:
        """Return the names for a row of a table: the person, the owners of the key, and the authority that signed it."""
        if not self._knows_any:
            return ()
        login = event.login if isinstance(event, Logout) else event
        question = (event.action, event.host, event.user, login.info if isinstance(login, Login) else None)
        names = self._rows.get(question)
        if names is None:
            names = _row_names(self.add(of_event(event, [])))
            _remember(self._rows, question, names)
        return names


def _people(path: str) -> People:
    try:
        return People.load(path)
    except ConfigError as error:
        complain(error)
        return People()


def _remember(answers: "dict[Hashable, _Answer]", question: "Hashable", answer: "_Answer") -> None:
    if len(answers) >= _CACHE_LIMIT:
        answers.clear()
    answers[question] = answer


def _row_names(event: EcsEvent) -> tuple[str, ...]:
    person, owners, authority = event.user.full_name, event.ssh.key.owner, event.ssh.certificate.ca_owner
    names = []
    if person:
        # The account of an attempt has an owner, but somebody else may have made the attempt.
        names.append(person if event.event.action in SESSION_ACTIONS else f"account of {person}")
    names += [f"key of {_shown(owner)}" for owner in owners[:_OWNERS_LIMIT]]
    if len(owners) > _OWNERS_LIMIT:
        names.append(f"and {len(owners) - _OWNERS_LIMIT} others")
    if authority:
        names.append(f"signed by {_shown(authority)}")
    return tuple(names)


def _is_there(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises if the user has no right to look


def _shown(owner: str) -> str:
    """Return a comment of ``authorized_keys``, which may contain anything."""
    return quoted(owner if len(owner) <= _OWNER_LIMIT else f"{owner[: _OWNER_LIMIT - 1]}…")
