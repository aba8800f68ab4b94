"""To whom a message of a channel goes: to those of the channel, or to the people it is about."""

from collections.abc import Iterable

from consumer.config import ChannelSettings
from consumer.deliver.routing import Router
from consumer.ecs import EcsEvent
from consumer.people.people import People


class Recipients:
    """
    Says to whom messages go.

    Addresses are those of the configuration and of ``people.toml``, never a text of an event.

    Args:
        router: knows which routes take an event, and lead to its owner.
        people: who owns what.
        channels: as they are configured, with their own recipients.
    """

    def __init__(self, router: Router, people: People, channels: Iterable[ChannelSettings]) -> None:
        self._router = router
        self._people = people
        self._channels = {settings.name: settings for settings in channels}

    def are_mixed(self, channel: str) -> bool:
        """Tell whether messages of a channel may go to different people."""
        return self._router.leads_to_owners(channel)

    def of(self, channel: str, event: EcsEvent) -> tuple[str, ...]:
        """Return the recipients of an event on a channel; () for the channel's own."""
        if not self.are_mixed(channel):
            return ()
        to_own, to_owner = self._router.sides(channel, event)
        person = self._people.person_of(event) if to_owner else None
        settings = self._channels[channel]
        # Contacts are named like the types of channels.
        found: tuple[str, ...] = getattr(person.contacts, str(settings.__struct_config__.tag)) if person is not None else ()
        if not found:
            return ()
        return tuple(dict.fromkeys((*settings.to, *found))) if to_own else found
