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
        if not self.are_mixed(channel):
            return ()
        to_own, to_owner = self._router.sides(channel, event)
        person = self._people.person_of(event) if to_owner else None
        settings = self._channels[channel]
        # The fields of contacts have the names of the types of channels; of some types, people have no addresses.
        found: tuple[str, ...] = () if person is None else getattr(person.contacts, str(settings.__struct_config__.tag), ())
        if not found:
            return ()
        return tuple(dict.fromkeys((*settings.recipients, *found))) if to_own else found
