"""
Who logins belong to, for ``who`` and ``history``: by ``people.toml``, and by keys, of this host and of those that have exported
theirs.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from consumer.config import KEYS_SOCKET, Config
from consumer.ecs import NOTHING, EcsEvent, joined
from consumer.errors import ConfigError, InputError, complain
from consumer.events import Event, Login
from consumer.events_as_ecs import of_event
from consumer.keys.index import NAME, KeyIndex
from consumer.people.people import People

if TYPE_CHECKING:
    from consumer.keys.table import TableOwners

# Of a row of a table, which JSON and CSV have in full: owners of one key, and characters of one.
_OWNERS_LIMIT, _OWNER_LIMIT = 5, 100


class Names:
    """
    Adds names. What is wrong with their sources is said once on standard error, and costs names only.

    Args:
        keys_used: logins with the keys that will be asked for, each user's newest first. None is taken where ``keys``
            cannot answer.
    """

    def __init__(self, config: Config, keys_used: Iterable[Login]) -> None:
        state_dir = Path(config.state_dir)
        self._index = KeyIndex(state_dir, lambda fault: complain(InputError(fault)))
        try:
            self._people = People.load(config.people)
        except ConfigError as error:
            complain(error)
            self._people = People()
        self._owners: TableOwners | None = None
        if _is_there(state_dir / KEYS_SOCKET):
            # Not before: it brings asyncio, which is much for a short table.
            from consumer.keys import table as table_owners  # noqa: PLC0415

            self._owners = table_owners.TableOwners(state_dir, (of_event(login, []) for login in keys_used))
        self._knows_any = bool(self._people.persons) or bool(self._owners) or _is_there(state_dir / NAME)

    def added(self, found: EcsEvent) -> EcsEvent:
        """Return an event with ``user.full_name`` and what is known of its key, where anything is."""
        named = found
        # In the order of enricher.parts_of: where both know the same field, this host's own files count.
        for known in (self._owners.of(found) if self._owners else NOTHING, self._index.of(found), self._people.of(found)):
            named = joined(named, known)
        return named

    def text(self, event: Event) -> str:
        """Return what a row of a table says of it: person, owners of the key, and whose authority signed it; or ""."""
        if not self._knows_any:
            return ""
        named = self.added(of_event(event, []))
        person, owners, authority = named.user.full_name, named.ssh.key.owner, named.ssh.certificate.ca_owner
        texts = [person] if person else []
        texts += [f"key of {_shown(owner)}" for owner in owners[:_OWNERS_LIMIT]]
        texts += [f"and {len(owners) - _OWNERS_LIMIT} others"] if len(owners) > _OWNERS_LIMIT else []
        texts += [f"signed by {_shown(authority)}"] if authority else []
        return ", ".join(texts)


def _is_there(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises where we may not look


def _shown(owner: str) -> str:
    """Return a comment, in quotes where it has what stands between two parts of a row: it may hold anything."""
    cut = owner if len(owner) <= _OWNER_LIMIT else f"{owner[: _OWNER_LIMIT - 1]}…"
    return repr(cut) if "," in cut else cut
