"""``people.toml``: the people that keys, certificates and accounts belong to, and how to reach them."""

import re
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from fnmatch import translate
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from consumer.actions import EventAction
from consumer.config import PEOPLE_PATH
from consumer.config_values import LANGUAGES, LanguageCode
from consumer.ecs import NOTHING, EcsEvent, UserFields
from consumer.errors import ConfigError, ConfigRightsError
from consumer.jid import jid_of
from consumer.keys.authorized_keys import parsed
from consumer.keys.fingerprints import Fingerprints, canonical
from consumer.mailbox import mailbox_of
from consumer.toml import KeyPath, TomlDocument

# If a login may belong to several people, name this many and count the rest.
_NAMED = 4

_Matches = Callable[[str], object]


class Contacts(msgspec.Struct, frozen=True):
    """The addresses of a person, by type of channel."""

    email: tuple[str, ...] = ()
    xmpp: tuple[str, ...] = ()


class Person(msgspec.Struct, frozen=True):
    """
    A person who logs in. ``People.person_of`` also returns one Person for several people to whom a login may belong.

    Attributes:
        certificates: ids of certificates, with ``*`` and ``?``.
        accounts: ``alice`` for every host, ``alice@web*`` for some.
        groups: names of your choice, for routes.
        language: of messages to this person alone; "" for the channel's.
    """

    name: str
    keys: tuple[Fingerprints, ...] = ()
    certificates: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    contacts: Contacts = Contacts()
    language: LanguageCode | Literal[""] = ""


class People:
    """Finds people by their keys, certificates and accounts."""

    def __init__(self, persons: Iterable[Person] = ()) -> None:
        self.persons = tuple(persons)
        self._keys: dict[str, list[Person]] = {}
        self._certificates = _Patterns()
        self._accounts = _Patterns()
        for person in self.persons:
            for key in person.keys:
                for fingerprint in filter(None, key):
                    self._keys.setdefault(fingerprint, []).append(person)
            for pattern in person.certificates:
                self._certificates.add(pattern, person)
            for account in person.accounts:
                user, host = split_account(account)
                self._accounts.add(user, person, host)

    @classmethod
    def load(cls, path: str | Path) -> "People":
        """
        Read a file. The default file is optional: without it there are no people.

        Raises:
            ConfigError: it cannot be read, or it has faults, such as unknown keys. The error lists all of them.
        """
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            if str(path) == PEOPLE_PATH and isinstance(error, FileNotFoundError):
                return cls()
            if isinstance(error, PermissionError):
                raise ConfigRightsError(f"{path}: {error.strerror}; only root and sshbell's user may read it") from error
            raise ConfigError(f"{path}: {error.strerror}") from error
        return cls(_persons_of(text, str(path)))

    def of(self, event: EcsEvent) -> EcsEvent:
        """Return a field to add to an event: the name of the person it is about."""
        person = self.person_of(event)
        return NOTHING if person is None else EcsEvent(user=UserFields(full_name=person.name))

    def person_of(self, event: EcsEvent) -> Person | None:
        """
        Return the person that an event is about: by its certificate's id, else by its key, else by its account.

        If it fits several people, sshbell does not guess: it returns one Person with all names and all contacts. A forged line is
        about no one, because the forger chose its contents.
        """
        found = self.persons_of(event)
        return _together(found) if found else None

    def persons_of(self, event: EcsEvent) -> list[Person]:
        """Return the people that an event may be about, as ``person_of`` finds them."""
        if event.event.action == EventAction.FORGED:
            return []
        return (
            self._certificates.of(event.ssh.certificate.id or None)
            or self.owners_of(event.ssh.key.fingerprint)
            or self.holders_of(event.user.name or None, event.host.name)
        )

    def owners_of(self, fingerprint: str | None) -> list[Person]:
        """Return the owners of a key, by its fingerprint as sshd logs it."""
        return _single(self._keys.get(canonical(fingerprint), ())) if fingerprint else []

    def holders_of(self, user: str | None, host: str | None) -> list[Person]:
        """Return the people that an account on a host belongs to."""
        return self._accounts.of(user, host)


class _Patterns:
    """People by a pattern for the name, and one for the host. Most are plain names, which a dict finds at once."""

    def __init__(self) -> None:
        self._plain: dict[str, list[tuple[_Matches, Person]]] = {}
        self._others: list[tuple[_Matches, _Matches, Person]] = []

    def add(self, pattern: str, person: Person, host: str = "*") -> None:
        on_host = host_matching(host)
        if any(char in pattern for char in "*?"):
            self._others.append((_matching(pattern), on_host, person))
        else:
            self._plain.setdefault(pattern, []).append((on_host, person))

    def of(self, text: str | None, host: str | None = None) -> list[Person]:
        if text is None:
            return []
        where = (host or "").casefold()
        plain = (person for on_host, person in self._plain.get(text, ()) if on_host(where))
        others = (person for fits, on_host, person in self._others if fits(text) and on_host(where))
        return _single((*plain, *others))


def _matching(pattern: str) -> _Matches:
    """Return a function that tests whether a text fits a pattern, in which only ``*`` and ``?`` are wildcards."""
    return re.compile(translate(pattern.replace("[", "[[]"))).match


def host_matching(pattern: str) -> _Matches:
    """Return a function that tests whether a host name, in lower case, fits a pattern."""
    return _matching(pattern.casefold())


def split_account(account: str) -> tuple[str, str]:
    """Return user and host of ``alice@web*``. The last @ counts; without one, the host is ``*``."""
    user, _, host = account.rpartition("@")
    return (user, host) if user else (account, "*")


def _single(found: Iterable[Person]) -> list[Person]:
    """Return each person once, in the order of the file."""
    return list({id(person): person for person in found}.values())


def _together(found: list[Person]) -> Person:
    if len(found) == 1:
        return found[0]
    names = [person.name for person in found[:_NAMED]]
    if len(found) > _NAMED:
        names.append(f"{len(found) - _NAMED} others")
    contacts = {
        kind: tuple(dict.fromkeys(address for person in found for address in getattr(person.contacts, kind)))
        for kind in Contacts.__struct_fields__
    }
    languages = {person.language for person in found}
    return Person(" or ".join(names), contacts=Contacts(**contacts), language=languages.pop() if len(languages) == 1 else "")


# ------------------------------------------------------------ the file

# Limits for texts in this file, in characters; an RSA key of 16,384 bits is shorter.
_TEXT_LIMIT, _NAME_LIMIT = 4096, 200


# Parses the addresses of each type of channel. It raises ValueError with the reason.
_CONTACTS: dict[str, Callable[[str], object]] = {"email": mailbox_of, "xmpp": jid_of}
# Records a fault of a person's key, or of one of its elements.
_Fault = Callable[[KeyPath, str], None]


def _persons_of(text: bytes, place: str) -> list[Person]:
    document = TomlDocument(text, place)
    for key in document.tables:
        if key != "person":
            document.fault((key,), _unknown(key, ("person",)))
    tables = document.tables.get("person", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        document.fault(("person",), "person has to be a list of tables: begin each with [[person]]")
        tables = []
    persons: list[Person] = []
    names: set[str] = set()
    for number, table in enumerate(tables):
        who = f"person {table['name']!r}" if isinstance(table.get("name"), str) else f"person {number + 1}"
        wrong: list[tuple[KeyPath, str]] = []
        person = _person(table, lambda path, text: wrong.append((path, text)))  # noqa: B023 - called in this turn alone
        for path, fault in wrong:
            document.fault(("person", number, *path), f"{who}: {fault}")
        if person.name in names:
            document.fault(("person", number, "name"), f"two people are called {person.name!r}")
        names |= {person.name} - {""}
        persons.append(person)
    document.end()
    return persons


def _unknown(key: str, known: Iterable[str]) -> str:
    # "nane" is closer to "name" than this, "countries" to "accounts" is not.
    close = get_close_matches(key, known, 1, 0.72)
    text = f"there is no key {key!r}; "
    return text + (f"did you mean {close[0]!r}?" if close else f"remove it; the keys here are {', '.join(known)}")


def _person(table: dict[str, Any], fault: _Fault) -> Person:
    """Return a person from the valid values, and record the faults."""
    for key in table:
        if key not in Person.__struct_fields__:
            fault((key,), _unknown(key, Person.__struct_fields__))
    name = table.get("name", "")
    if not isinstance(name, str) or not name.isprintable() or name != name.strip() or not 0 < len(name) <= _NAME_LIMIT:
        text = f"name has to be a text of one line, of up to {_NAME_LIMIT} characters" if "name" in table else "name is missing"
        fault(("name",), text)
        name = ""
    return Person(
        name,
        tuple(_keys(_texts(table, ("keys",), fault), fault)),
        tuple(text for _, text in _texts(table, ("certificates",), fault)),
        tuple(_accounts(_texts(table, ("accounts",), fault), fault)),
        tuple(text for _, text in _texts(table, ("groups",), fault)),
        _contacts(table.get("contacts", {}), fault),
        _language(table.get("language", ""), fault),
    )


# A text of a list, and the path to it.
_Text = tuple[KeyPath, str]


def _texts(table: dict[str, Any], path: KeyPath, fault: _Fault) -> Iterator[_Text]:
    """Yield the texts of a list, each with its path; ``path`` leads to the list, and its last part is the list's key."""
    key, name = str(path[-1]), ".".join(map(str, path))
    values = table.get(key, [])
    if not isinstance(values, list):
        fault(path, f'{name} has to be a list: {key} = ["..."]')
        return
    for number, value in enumerate(values):
        if isinstance(value, str) and 0 < len(value) <= _TEXT_LIMIT:
            yield (*path, number), value
        else:
            fault((*path, number), f"{name}: number {number + 1} has to be a text, of up to {_TEXT_LIMIT} characters")


def _keys(texts: Iterable[_Text], fault: _Fault) -> Iterator[Fingerprints]:
    for path, text in texts:
        if fingerprint := canonical(text):
            yield Fingerprints("", fingerprint) if fingerprint.startswith("MD5:") else Fingerprints(fingerprint, "")
            continue
        found = list(parsed(text.encode()))
        shown = text if len(text) <= 60 else f"{text[:59]}…"
        if len(found) != 1 or "\n" in text.strip():
            fault(path, f"keys: {shown!r} is neither a fingerprint, as ssh-keygen -lf FILE shows it, nor a public key's line")
        elif found[0].is_authority:
            fault(path, f"keys: {shown!r} is the key of an authority; put the ids of a person's certificates under certificates")
        else:
            yield Fingerprints(found[0].sha256, found[0].md5)


def _accounts(texts: Iterable[_Text], fault: _Fault) -> Iterator[str]:
    for path, text in texts:
        if all(split_account(text)) and not text.startswith("@") and not any(map(str.isspace, text)):
            yield text
        else:
            fault(path, f"accounts: {text!r} is neither a user, such as alice, nor a user at a host, such as alice@web*")


def _language(found: Any, fault: _Fault) -> LanguageCode | Literal[""]:
    if found in LANGUAGES or found == "":
        return cast("LanguageCode", found)
    codes = [f'"{code}"' for code in LANGUAGES]
    fault(("language",), f"language has to be {' or '.join(codes)}")
    return ""


def _contacts(found: Any, fault: _Fault) -> Contacts:
    if not isinstance(found, dict):
        fault(("contacts",), 'contacts has to be a table: contacts = { email = ["..."] }')
        return Contacts()
    for key in found:
        if key not in Contacts.__struct_fields__:
            fault(("contacts", key), f"contacts: {_unknown(key, Contacts.__struct_fields__)}")
    contacts = {}
    for kind, parse in _CONTACTS.items():
        texts = list(_texts(found, ("contacts", kind), fault))
        for path, address in texts:
            try:
                parse(address)
            except ValueError as error:
                fault(path, f"contacts.{kind}: {address!r} {error}")
        contacts[kind] = tuple(address for _, address in texts)
    return Contacts(**contacts)
