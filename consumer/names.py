"""Who logins belong to, for ``who`` and ``history``: by ``people.toml``, and by the keys that hosts have exported."""

from pathlib import Path

from consumer.config import Config
from consumer.ecs import Object, of_event
from consumer.enrich.fields import joined
from consumer.enrich.key_index import NAME, KeyIndex
from consumer.errors import ConfigError, InputError, complain
from consumer.events import Event
from consumer.people import People


class Names:
    """Adds names. What is wrong with their sources is said once on standard error, and costs names only."""

    def __init__(self, config: Config) -> None:
        state_dir = Path(config.state_dir)
        self._index = KeyIndex(state_dir, lambda fault: complain(InputError(fault)))
        try:
            self._people = People.load(config.people)
        except ConfigError as error:
            complain(error)
            self._people = People()
        self._knows_any = bool(self._people.persons) or (state_dir / NAME).exists()

    def added(self, found: Object) -> Object:
        """Return an ECS object with ``user.full_name`` and what is known of its key, where anything is."""
        named = joined(found, {"ssh": known}) if (known := self._index.of(found)) else found
        if (person := self._people.person_of(found)) is not None:
            named = joined(named, {"user": {"full_name": person.name}})
        return named

    def text(self, event: Event) -> str:
        """Return what a row of a table says of it: person and owner of the key, or ""."""
        if not self._knows_any:
            return ""
        named = self.added(of_event(event, []))
        person = named.get("user", {}).get("full_name")
        owners = named.get("ssh", {}).get("key", {}).get("owner", [])
        return ", ".join([*([person] if person else []), *(f"key of {owner}" for owner in owners)])
