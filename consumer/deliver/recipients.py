"""Chooses the recipients of a channel's message: the channel's own, or the people that the message is about."""

from collections.abc import Iterable

from consumer.channel_settings import ChannelSettings
from consumer.deliver.routing import Router
from consumer.ecs import EcsEvent
from consumer.people.people import People


class Recipients:
    """
    Chooses the recipients of messages.

    Addresses come from the configuration and ``people.toml``, never from an event.

    Args:
        router: knows the routes that take an event, and those that lead to its owner.
        people: the owners of keys and accounts.
        channels: the configured channels, with their own recipients.
    """

    def __init__(self, router: Router, people: People, channels: Iterable[ChannelSettings]) -> None:
        self._router = router
        self._people = people
        self._channels = {settings.name: settings for settings in channels}

    def are_mixed(self, channel: str) -> bool:
        """Return whether messages of a channel may go to different people."""
        return self._router.leads_to_owners(channel)

    def of(self, channel: str, event: EcsEvent) -> tuple[str, ...]:
        """Return the recipients of an event on a channel; () for the channel's own."""
        return self._readers(channel, event)[0]

    def language_of(self, channel: str, event: EcsEvent) -> str:
        """Return the language of a message: that of a person, if it goes to nobody else, or else the channel's."""
        return self._readers(channel, event)[1]

    def _readers(self, channel: str, event: EcsEvent) -> tuple[tuple[str, ...], str]:
        settings = self._channels[channel]
        if not self.are_mixed(channel):
            return (), settings.language
        to_own, to_owner = self._router.sides(channel, event)
        person = self._people.person_of(event) if to_owner else None
        # The fields of contacts have the names of the types of channels; of some types, people have no addresses.
        found: tuple[str, ...] = () if person is None else getattr(person.contacts, str(settings.__struct_config__.tag), ())
        if person is None or not found:
            return (), settings.language
        if to_own:
            return tuple(dict.fromkeys((*settings.recipients, *found))), settings.language
        return found, person.language or settings.language
