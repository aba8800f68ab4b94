"""
Looks up what the routes ask about an event and its lines do not say: its place, the owner of its key, and what is new about it.

sshbell chooses the routes once for all channels, in order, so nothing here waits for another process: all of it comes from local
files. It is looked up only if a route asks for it, and stays in the message. So a later retry chooses the same recipients.
"""

from collections.abc import Callable, Collection
from pathlib import Path

from consumer.actions import SESSION_ACTIONS, EventAction
from consumer.addresses import ip_text
from consumer.config import Config
from consumer.ecs import (
    CertificateFields,
    EcsEvent,
    HostFields,
    KeyFields,
    NoticeFields,
    SourceFields,
    SshFields,
    UserFields,
    joined,
)
from consumer.enrich.jump_hosts import login_us
from consumer.keys.index import KeyIndex
from consumer.matching.messages import method_info, sshd_name
from consumer.people.people import People, Person, split_account
from consumer.places.geoip import Places
from consumer.spans import micros_of
from consumer.store.earlier_logins import EarlierLogin, EarlierLogins
from consumer.text import text_of_bytes

# Nothing is new to sshbell in its first days, or every login would be.
LEARNING_DAYS = 7
# The detector of first_seen knows accounts, so a route may ask whether its finding is new for the person, too.
_CAN_BE_NEW = (*SESSION_ACTIONS, EventAction.FIRST_SEEN)
_DAY_US = 86400 * 1_000_000
# The most accounts of one person whose logins sshbell compares.
ACCOUNTS_LIMIT = 20


class RouteFacts:
    """
    Adds fields to events, for ``Router``.

    Args:
        config: the current configuration.
        people: the owners of keys and accounts.
        keys: the keys of ``include`` and ``exclude`` that the routes use.
        report: gets one line about each fault of a file.
    """

    def __init__(self, config: Config, people: People, keys: frozenset[str], report: Callable[[str], None]) -> None:
        state_dir = Path(config.state_dir)
        self._keys = keys
        self._people = people
        self._keep_us = micros_of(config.keep)
        self._learning_us = min(LEARNING_DAYS * _DAY_US, self._keep_us // 2)
        self._index = KeyIndex(state_dir, report) if "key" in keys else None
        self._places = Places(config.geoip, report) if keys & {"country", "asn", "new"} else None
        self._earlier = EarlierLogins(config.store) if "new" in keys else None

    def close(self) -> None:
        """Close the files."""
        if self._places is not None:
            self._places.close()
        if self._earlier is not None:
            self._earlier.close()

    def added(self, event: EcsEvent) -> EcsEvent:
        """
        Return an event with the fields that the routes use.

        Raises:
            StoreError: ``state.db`` cannot be read now.
        """
        event = self.with_places(event)
        if self._index is not None:
            event = joined(event, self._index.of(event))
        if self._earlier is not None and event.event.action in _CAN_BE_NEW:
            event = joined(event, EcsEvent(sshbell=NoticeFields(new=self._new(event, self._earlier))))
        return event

    def with_places(self, event: EcsEvent) -> EcsEvent:
        """Return an event with the place of its address, if a question about places was asked for."""
        return event if self._places is None else joined(event, EcsEvent(source=self._places.of(event.source.ip)))

    def _new(self, event: EcsEvent, earlier: EarlierLogins) -> tuple[str, ...]:
        """
        Return what is new about a login, or about the login that a logout ends.

        Only earlier logins count, so the answer stays the same whenever sshbell asks.
        """
        at_us, created_us = login_us(event), earlier.created_us()
        if not event.user.name or at_us is None or created_us is None or at_us < created_us + self._learning_us:
            return ()
        # A forged login must not make a real one known.
        known = self._known(event, earlier, at_us, is_verified=event.ssh.origin == "verified")
        return tuple(self._novelties(event, known))

    def is_new(self, event: EcsEvent, respects: Collection[str]) -> bool:
        """
        Return whether a login that wants a one-time code is new in one of some respects: address, network, country.

        In doubt, it is: if sshbell does not know the address, its network or its country, and in the first days of the store.
        Only logins count that no local user can have forged.

        Args:
            event: has user, host, address and time.
            respects: as in ``new`` of a rule of ``[codes]``.

        Raises:
            StoreError: ``state.db`` cannot be read now.
        """
        at_us, source = login_us(event), event.source
        if self._earlier is None or not event.user.name or at_us is None:
            return True
        found = set(self._novelties(event, self._known(event, self._earlier, at_us, is_verified=True)))
        if "address" in found or not (source.ip or source.address):
            found |= {"address"} | {
                name
                for name, known in (("network", source.as_.number), ("country", source.geo.country_iso_code))
                if known is None
            }
        return not found.isdisjoint(respects)

    def _known(self, event: EcsEvent, earlier: EarlierLogins, at_us: int, *, is_verified: bool) -> list[EarlierLogin]:
        """Return the earlier logins of the person of an event or, if sshbell cannot tell the person, of its account."""
        name = event.user.name or ""
        persons = self._people.persons_of(event)
        person = persons[0] if len(persons) == 1 else None
        return [
            login
            for user in _accounts_of(name, person)
            for login in earlier.of(user, at_us - self._keep_us, at_us, is_verified=is_verified)
            if self._is_of(login, name, person)
        ]

    def _is_of(self, login: EarlierLogin, user: str, person: Person | None) -> bool:
        """Return whether an earlier login was by the same person or, if sshbell cannot tell the person, of the same account."""
        if person is None:
            return True
        persons = self._people.persons_of(_event_of(login))
        return persons == [person] if persons else login.user == user

    def _novelties(self, event: EcsEvent, known: list[EarlierLogin]) -> list[str]:
        found = []
        source = event.source
        address = source.ip or source.address
        addresses = {ip_text(login.address) or login.address for login in known}
        if address and address not in addresses:
            found.append("address")
            # Only a new address can be in a new network or country.
            before = [self._source_of(one) for one in addresses]
            if source.as_.number is not None and source.as_.number not in {one.as_.number for one in before}:
                found.append("network")
            country = source.geo.country_iso_code
            if country is not None and country not in {one.geo.country_iso_code for one in before}:
                found.append("country")
        fingerprint = event.ssh.key.fingerprint
        if fingerprint and fingerprint not in {_event_of(login).ssh.key.fingerprint for login in known}:
            found.append("key")
        if event.host.name and event.host.name not in {login.host for login in known}:
            found.append("host")
        return found

    def _source_of(self, address: str | None) -> SourceFields:
        return SourceFields() if self._places is None else self._places.of(address)


def _accounts_of(user: str, person: Person | None) -> list[str]:
    """Return an account, and the others of its person that ``people.toml`` names without a wildcard."""
    names = [split_account(account)[0] for account in person.accounts] if person is not None else []
    return list(dict.fromkeys((user, *(name for name in names if not set("*?") & set(name)))))[:ACCOUNTS_LIMIT]


def _event_of(login: EarlierLogin) -> EcsEvent:
    """Return the fields of a login that identify its person."""
    info = method_info(text_of_bytes(login.info.encode())) if login.info is not None else {}
    certificate = CertificateFields(id=sshd_name(info["certificate_id"]) if "certificate_id" in info else None)
    return EcsEvent(
        host=HostFields(name=login.host),
        user=UserFields(name=login.user),
        ssh=SshFields(key=KeyFields(fingerprint=info.get("key_fingerprint")), certificate=certificate),
    )
