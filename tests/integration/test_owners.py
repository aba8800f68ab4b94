"""Routes that lead to the owner of what they tell: over the real process, to a real mail server."""

from __future__ import annotations

import signal
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec
import pytest

from consumer.store.state import State
from tests.integration.test_deliver import Place, Post, login, place, post, record, until

if TYPE_CHECKING:
    from consumer.events import Login

__all__ = ["place", "post"]

PRINT = "SHA256:" + "k" * 43
PEOPLE = f"""
[[person]]
name = "Alice"
keys = ["{PRINT}"]
accounts = ["alice"]
contacts = {{ email = ["Alice <alice@example.org>", "alice@home.example"] }}
[[person]]
name = "Bob"
accounts = ["bob@web*"]
contacts = {{ email = ["bob@example.org"] }}
[[person]]
name = "Carol"
accounts = ["carol"]
"""
OWN = ["ops@example.org"]
ALICE, BOB = ["alice@example.org", "alice@home.example"], ["bob@example.org"]


def login_of(number: int, user: str, key: str | None = None) -> Login:
    """Return a login of its own."""
    info = None if key is None else f"ED25519 {key}"
    return msgspec.structs.replace(login(number), user=user, info=info)


def configure(place: Place, post: Post, people: str, *, routes: str = "") -> None:
    """Write a configuration whose channel leads to owners."""
    (place.folder / "people.toml").write_text(people)
    place.config.write_text(
        f'state_dir = "{place.state_dir}"\nuser = ""\npeople = "{place.folder}/people.toml"\n'
        f'[[channel]]\nname = "ops"\ntype = "email"\nserver = "127.0.0.1"\nport = {post.port}\nsecurity = "none"\n'
        'from = "bell@example.org"\nto = ["ops@example.org"]\nmax_per_hour = 100000\n'
        f'[[route]]\nchannels = ["ops"]\nto_owner = true\n{routes}'
    )


def told(post: Post) -> list[tuple[str, list[str]]]:
    """Return the subject's beginning of each mail, and whom the server was told to give it."""
    mails = post.inbox.mails
    pairs = zip(mails, post.inbox.envelopes[: len(mails)], strict=True)  # more may come meanwhile
    return [(str(mail["Subject"]).partition(" ")[0], envelope.rcpt_tos) for mail, envelope in pairs]


def test_owners_are_told(place: Place, post: Post) -> None:
    """Each person is told at their own addresses; where nobody, or no address, is known, the channel's own are."""
    also_ops = '[[route]]\nchannels = ["ops"]\ninclude = { user = ["root"] }\n'
    configure(place, post, PEOPLE, routes=also_ops)
    _, wake = place.start()
    users = [("alice", None), ("bob", None), ("carol", None), ("dave", None), ("dave", PRINT), ("root", PRINT), ("root", None)]
    users += [("victim@example.org", None), ("bob@web1", None), ("Alice <eve@example.com>", None), ("alice\r\nBcc: eve", None)]
    with wake, closing(State(place.state_dir, pytest.fail)) as state:
        record(state, *(login_of(number, user, key) for number, (user, key) in enumerate(users)))
        wake.send(b"x")
        until(lambda: len(post.inbox.mails) == len(users), "all logins")
    recipients = [found for _, found in told(post)]
    assert recipients[:7] == [ALICE, BOB, OWN, OWN, ALICE, [*OWN, *ALICE], OWN]
    # A name that somebody chose is no address.
    assert recipients[7:] == [OWN] * 4
    assert [str(mail["To"]) for mail in post.inbox.mails][:3] == [
        "Alice <alice@example.org>, alice@home.example", "bob@example.org", "ops@example.org",
    ]  # fmt: skip
    assert all("ops@example.org" not in bytes(envelope.content or b"").decode() for envelope in post.inbox.envelopes[:2])


def test_file_is_read_again(place: Place, post: Post) -> None:
    """HUP reads it again; a broken one is refused, and who was known before is still told. What waits goes by the new one."""
    configure(place, post, PEOPLE.replace("alice@home.example", "alice@old.example"))
    post.inbox.refused = {"alice@example.org": "451 later", "alice@old.example": "451 later"}
    process, wake = place.start()
    with wake, closing(State(place.state_dir, pytest.fail)) as state:
        record(state, login_of(1, "alice"), login_of(2, "bob"))
        wake.send(b"x")
        # Who has to wait is no reason to let others wait.
        until(lambda: [name for name, _ in told(post)] == ["Bob"], "the other one's")
        (place.folder / "people.toml").write_text(PEOPLE.replace("keys", "key"))
        process.send_signal(signal.SIGHUP)
        until(lambda: place.said("people_refused"), "the broken file")
        until(lambda: place.said("configured"), "the configuration beside it")
        assert "people.toml:4: person 'Alice': there is no key 'key'" in place.said("people_refused")[0]["reason"]
        record(state, login_of(3, "bob"))
        wake.send(b"x")
        until(lambda: len(told(post)) == 2, "who was known before")
        configure(place, post, PEOPLE)
        process.send_signal(signal.SIGHUP)
        until(lambda: len(place.said("configured")) == 2, "the new file")
        post.inbox.refused = {}
        assert place.run("outbox", "retry", "--all").returncode == 0
        until(lambda: len(told(post)) == 3, "what had to wait")
    assert told(post) == [("Bob", BOB), ("Bob", BOB), ("Alice", ALICE)]


def test_without_a_good_file(place: Place, post: Post) -> None:
    """A file that is broken at the start costs names, and no message."""
    configure(place, post, "[[persons]]\n")
    _, wake = place.start()
    with wake, closing(State(place.state_dir, pytest.fail)) as state:
        record(state, login_of(1, "alice"))
        wake.send(b"x")
        until(lambda: told(post) == [("alice", OWN)], "the login")
    assert "did you mean 'person'?" in place.said("people_refused")[0]["reason"]


def test_ring_goes_to_the_channel(place: Place, post: Post) -> None:
    """A test has a made-up user, who may be somebody here: it goes to the channel's own."""
    configure(place, post, PEOPLE)
    done = place.run("ring")
    assert done.returncode == 0, done.stderr
    assert [found for _, found in told(post)] == [OWN]
