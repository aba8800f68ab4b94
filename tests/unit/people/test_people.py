"""``people.toml``: who owns what, and what is refused."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from consumer.errors import ConfigError
from consumer.people import people as module
from consumer.people.people import People
from tests.ecs_events import ecs

if TYPE_CHECKING:
    from consumer.ecs import EcsEvent

SAMPLE = Path(__file__).parents[3] / "consumer/people.toml"
PRINT = "SHA256:" + "x" * 43
MD5 = "MD5:" + ":".join(["0a"] * 16)


def people_of(folder: Path, text: str) -> People:
    """Write a file, and read it."""
    path = folder / "people.toml"
    path.write_text(text, encoding="utf-8")
    return People.load(path)


def event(action: str = "ssh_login", **known: Any) -> EcsEvent:
    """Return an event of which this is known."""
    fields = {
        "event": {"action": action},
        "user": {"name": known.get("user", "alice")},
        "host": {"name": known.get("host", "web1")},
        "ssh": {"key": {"fingerprint": known.get("key")}, "certificate": {"id": known.get("certificate")}},
    }
    return ecs(fields)


def name_of(people: People, found: EcsEvent) -> str | None:
    """Return whose event it is."""
    person = people.person_of(found)
    return None if person is None else person.name


THREE = f"""
[[person]]
name = "Alice"
keys = ["{PRINT}"]
accounts = ["alice", "root@web*"]
contacts = {{ email = ["alice@example.org"] }}
[[person]]
name = "Bob"
keys = ["{MD5}"]
certificates = ["bob-?", "b*b@corp", "[x]"]
accounts = ["bob", "root@DB1"]
[[person]]
name = "Carol"
keys = ["{PRINT[:-1]}y"]
accounts = ["carol@corp@*", "deploy-*"]
"""


@pytest.mark.parametrize(
    ("known", "name"),
    [
        ({}, "Alice"),
        ({"user": "nobody"}, None),
        ({"user": "Alice"}, None),
        ({"user": "alice2"}, None),
        ({"user": "root"}, "Alice"),
        ({"user": "root", "host": "WEB9"}, "Alice"),
        ({"user": "root", "host": "db1"}, "Bob"),
        ({"user": "root", "host": "db2"}, None),
        ({"user": "carol@corp"}, "Carol"),
        ({"user": "deploy-x\n"}, "Carol"),
        # What is more certain goes first: the certificate's id, the key, the account.
        ({"user": "bob", "key": PRINT}, "Alice"),
        ({"user": "alice", "key": MD5}, "Bob"),
        ({"user": "alice", "key": MD5[4:].upper()}, "Bob"),
        ({"user": "alice", "key": PRINT, "certificate": "bob-1"}, "Bob"),
        ({"user": "alice", "key": PRINT, "certificate": "bob-12"}, "Alice"),
        ({"user": "nobody", "certificate": "bxb@corp"}, "Bob"),
        ({"user": "nobody", "certificate": "x"}, None),
        ({"user": "nobody", "certificate": "[x]"}, "Bob"),
        # A key that nobody has does not hide whose account it is.
        ({"user": "bob", "key": "SHA256:" + "z" * 43}, "Bob"),
        ({"user": "nobody", "key": "*"}, None),
    ],
)
def test_person_of(tmp_path: Path, known: dict[str, str], name: str | None) -> None:
    """A person is found by certificate, key or account, in this order; users have cases, hosts have none."""
    assert name_of(people_of(tmp_path, THREE), event(**known)) == name


@pytest.mark.parametrize("found", [{}, {"user": {}}, {"user": {"name": ""}}, {"ssh": {"certificate": {"id": ""}}}])
def test_events_that_say_nothing(tmp_path: Path, found: dict[str, Any]) -> None:
    """What is not known, or empty, is nobody's, whatever pattern would take it."""
    anybody = '[[person]]\nname = "Any"\naccounts = ["*"]\ncertificates = ["*"]\n'
    assert people_of(tmp_path, anybody).person_of(ecs(found)) is None


def test_forged_lines_are_nobodys(tmp_path: Path) -> None:
    """Whoever forges a line chooses what it says."""
    assert people_of(tmp_path, THREE).person_of(event("ssh_forged", key=PRINT)) is None


def test_several_people(tmp_path: Path) -> None:
    """Where several claim the same, all are named, and nobody is chosen; many are counted."""
    contacts = '{{ email = ["p{0}@example.org"], xmpp = ["p{0}@chat.example.org", "all@chat.example.org"] }}'
    table = f'[[person]]\nname = "P{{0}}"\naccounts = ["root"]\ncontacts = {contacts}\n'
    two = people_of(tmp_path, table.format(1) + table.format(2)).person_of(event(user="root"))
    assert two is not None
    assert two.name == "P1 or P2"
    assert two.contacts.email == ("p1@example.org", "p2@example.org")
    assert two.contacts.xmpp == ("p1@chat.example.org", "all@chat.example.org", "p2@chat.example.org")
    many = people_of(tmp_path, "".join(map(table.format, range(9)))).person_of(event(user="root"))
    assert many is not None
    assert many.name == "P0 or P1 or P2 or P3 or 5 others"


def test_lines_of_public_keys(tmp_path: Path) -> None:
    """The line of a public key is known by both its fingerprints, as ssh-keygen has them."""
    key = tmp_path / "key"
    subprocess.run(["/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", 'of "alice"', "-f", str(key)], check=True)
    line = key.with_suffix(".pub").read_text().strip()
    people = people_of(tmp_path, f"[[person]]\nname = 'Alice'\nkeys = ['{line}']\n")
    for kind in ("sha256", "md5"):
        listed = subprocess.run(
            ["/usr/bin/ssh-keygen", "-lf", str(key), "-E", kind], check=True, capture_output=True, text=True
        ).stdout
        assert name_of(people, event(user="x", key=listed.split()[1])) == "Alice"


def test_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the default place there need be none; a file that was named has to be there."""
    with pytest.raises(ConfigError, match=r"none\.toml: No such file"):
        People.load(tmp_path / "none.toml")
    monkeypatch.setattr(module, "PEOPLE_PATH", str(tmp_path / "none.toml"))
    assert People.load(tmp_path / "none.toml").persons == ()


FAULTS = [
    ("\nx = =", "people.toml:2: Invalid value (column 5); put text in straight quotes"),
    ('persn = "x"', "did you mean 'person'?"),
    ('person = "x"', "begin each with [[person]]"),
    ('[person]\nname = "x"', "begin each with [[person]]"),
    ("[[person]]", "people.toml:1: person 1: name is missing"),
    ('\n[[person]]\nname = "a"\nkey = []', "people.toml:4: person 'a': there is no key 'key'; did you mean 'keys'?"),
    ('[[person]]\nname = "a\\nb"', "name has to be a text of one line"),
    ('[[person]]\nname = ""', "name has to be a text of one line"),
    ('[[person]]\nname = "a"\n[[person]]\nname = "a"', "people.toml:4: two people are called 'a'"),
    ('[[person]]\nname = "a"\nkeys = "x"', 'keys has to be a list: keys = ["..."]'),
    ('[[person]]\nname = "a"\nkeys = [\n"x",\n3]', "people.toml:5: person 'a': keys: number 2 has to be a text"),
    ('[[person]]\nname = "a"\nkeys = ["SHA256:x"]', "keys: 'SHA256:x' is neither a fingerprint"),
    ('[[person]]\nname = "a"\nkeys = ["ssh-rsa AAAA"]', "keys: 'ssh-rsa AAAA' is neither a fingerprint"),
    ('[[person]]\nname = "a"\naccounts = ["a b"]', "accounts: 'a b' is neither a user"),
    ('[[person]]\nname = "a"\naccounts = ["@web1"]', "accounts: '@web1' is neither a user"),
    ('[[person]]\nname = "a"\naccounts = ["a@"]', "accounts: 'a@' is neither a user"),
    (
        '[[person]]\nname = "a"\ncountries = ["FR"]',
        "there is no key 'countries'; remove it; the keys here are name, keys, certificates, accounts, groups, contacts, lang",
    ),
    ('[[person]]\nname = "a"\nlanguage = "fr"', 'language has to be "en" or "de"'),
    ('[[person]]\nname = "a"\nlanguage = ["de"]', 'language has to be "en" or "de"'),
    ('[[person]]\nname = "a"\ncontacts = ["a@example.org"]', "contacts has to be a table"),
    (
        '[[person]]\nname = "a"\ncontacts = { mail = ["a@example.org"] }',
        "contacts: there is no key 'mail'; did you mean 'email'?",
    ),
    ('[[person]]\nname = "a"\ncontacts = { email = "a@example.org" }', "contacts.email has to be a list"),
]


@pytest.mark.parametrize(("text", "says"), FAULTS)
def test_faults(tmp_path: Path, text: str, says: str) -> None:
    """What cannot be meant is refused; the file, the place and the fix are named."""
    with pytest.raises(ConfigError) as raised:
        people_of(tmp_path, text)
    assert says in str(raised.value)
    assert str(tmp_path / "people.toml") in str(raised.value)


def test_all_faults_are_named(tmp_path: Path) -> None:
    """One reading shows all that is wrong."""
    with pytest.raises(ConfigError) as raised:
        people_of(
            tmp_path, 'x = 1\n[[person]]\nkeys = ["a"]\naccounts = ["@", "b"]\n[[person]]\nname = "b"\naccounts = ["a b", ""]'
        )
    assert str(raised.value).count("people.toml") == 6


def test_sample(tmp_path: Path) -> None:
    """As shipped it names nobody; with every key in use it is right, and no key is missing."""
    assert People.load(SAMPLE).persons == ()
    text = re.sub(r"^#(?=[a-z\[])", "", SAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (person,) = people_of(tmp_path, text).persons
    assert all(getattr(person, field) for field in person.__struct_fields__)
