"""Routes that lead to the owner of what they tell: over the real process, to a real mail server."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import msgspec

from tests.integration.mail_server import content_of
from tests.integration.test_deliver import login, record
from tests.waiting import wait_for

if TYPE_CHECKING:
    from consumer.events import Login
    from tests.integration.mail_server import Post
    from tests.integration.site import Site

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


def configure(site: Site, people: str, *routes: dict[str, Any]) -> None:
    """Write a configuration whose channel leads to owners, and more routes."""
    site.people.write_text(people)
    to_owners = {"channels": ["ops"], "to_owner": True}
    site.configure(people=str(site.people), channel=site.channels(), route=[to_owners, *routes])


def told(post: Post) -> list[tuple[str, list[str]]]:
    """Return the subject's beginning of each mail, and whom the server was told to give it."""
    mails = post.inbox.mails
    pairs = zip(mails, post.inbox.envelopes[: len(mails)], strict=True)  # more may come meanwhile
    return [(str(mail["Subject"]).partition(" ")[0], envelope.rcpt_tos) for mail, envelope in pairs]


def test_owners_are_told(site: Site, post: Post) -> None:
    """Each person is told at their own addresses; where nobody, or no address, is known, the channel's own are."""
    configure(site, PEOPLE, {"channels": ["ops"], "include": {"user": ["root"]}})
    _, wake = site.start_deliver()
    users = [("alice", None), ("bob", None), ("carol", None), ("dave", None), ("dave", PRINT), ("root", PRINT), ("root", None)]
    users += [("victim@example.org", None), ("Bob", None), ("Alice <eve@example.com>", None), ("alice\r\nBcc: eve", None)]
    with wake, site.state() as state:
        record(state, *(login_of(number, user, key) for number, (user, key) in enumerate(users)))
        wake.send(b"x")
        wait_for(lambda: len(post.inbox.mails) == len(users), "all logins")
    recipients = [found for _, found in told(post)]
    assert recipients[:7] == [ALICE, BOB, OWN, OWN, ALICE, [*OWN, *ALICE], OWN]
    # A name that somebody chose is no address.
    assert recipients[7:] == [OWN] * 4
    assert [str(mail["To"]) for mail in post.inbox.mails][:3] == [
        "Alice <alice@example.org>, alice@home.example", "bob@example.org", "ops@example.org",
    ]  # fmt: skip
    assert all("ops@example.org" not in content_of(envelope).decode() for envelope in post.inbox.envelopes[:2])


def test_file_is_read_again(site: Site, post: Post) -> None:
    """HUP reads it again; a broken one is refused, and who was known before is still told. What waits goes by the new one."""
    configure(site, PEOPLE.replace("alice@home.example", "alice@old.example"))
    post.inbox.refused = {"alice@example.org": "451 later", "alice@old.example": "451 later"}
    process, wake = site.start_deliver()
    with wake, site.state() as state:
        record(state, login_of(1, "alice"), login_of(2, "bob"))
        wake.send(b"x")
        # Who has to wait is no reason to let others wait.
        wait_for(lambda: [name for name, _ in told(post)] == ["Bob"], "the other one's")
        site.people.write_text(PEOPLE.replace("keys", "key"))
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: site.said("people_refused"), "the broken file")
        wait_for(lambda: site.said("configured"), "the configuration beside it")
        assert "people.toml:4: person 'Alice': there is no key 'key'" in site.said("people_refused")[0]["reason"]
        record(state, login_of(3, "bob"))
        wake.send(b"x")
        wait_for(lambda: len(told(post)) == 2, "who was known before")
        configure(site, PEOPLE)
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(site.said("configured")) == 2, "the new file")
        post.inbox.refused = {}
        site.ask("outbox", "retry", "--all")
        wait_for(lambda: len(told(post)) == 3, "what had to wait")
    assert told(post) == [("Bob", BOB), ("Bob", BOB), ("Alice", ALICE)]


def test_without_a_good_file(site: Site, post: Post) -> None:
    """A file that is broken at the start costs names, and no message."""
    configure(site, "[[persons]]\n")
    _, wake = site.start_deliver()
    with wake, site.state() as state:
        record(state, login_of(1, "alice"))
        wake.send(b"x")
        wait_for(lambda: told(post) == [("alice", OWN)], "the login")
    assert "did you mean 'person'?" in site.said("people_refused")[0]["reason"]


def test_ring_goes_to_the_channel(site: Site, post: Post) -> None:
    """A test has a made-up user, who may be somebody here: it goes to the channel's own."""
    configure(site, PEOPLE)
    site.ask("ring")
    assert [found for _, found in told(post)] == [OWN]
