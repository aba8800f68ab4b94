"""From the key to the chat: real ssh client, sshd, rsyslogd, ``sshbell run`` and ``deliver``, and prosody with people."""

from __future__ import annotations

import asyncio
import re
import socket
import sqlite3
import subprocess
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from consumer.system.check import run_checks
from tests import needs
from tests.integration.chat_server import ALICE, DOMAIN, ROOM, Prosody, chat_channel, person
from tests.integration.rsyslogd import Rsyslogd, child
from tests.integration.sshd import key, sshd
from tests.integration.test_deliver import event_id, login
from tests.waiting import wait_for, wait_for_async

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.mail_server import Post
    from tests.integration.site import Site

HOUR_US = 3600 * 1_000_000


@pytest.fixture
def prosody(tmp_path: Path) -> Iterator[Prosody]:
    """Return a running server."""
    with Prosody(tmp_path / "prosody") as made:
        yield made


def age(site: Site, hours: int) -> None:
    """Make the waiting messages older, as if the outage had lasted that long."""
    with closing(sqlite3.connect(site.state_dir / "delivery.db", timeout=30)) as database, database:
        database.execute("UPDATE delivery SET queued_us = queued_us - ?", (hours * HOUR_US,))


def checked(site: Site) -> list[tuple[str, str]]:
    """Return what ``sshbell check --connect`` reports about channels."""
    return [(found.state, found.text) for found in run_checks(str(site.config), connect=True) if found.name == "channels"]


def waiting(site: Site) -> list[str]:
    """Return why messages wait; "" for one that sshbell has not tried yet."""
    return [str(entry.get("reason") or "") for entry in site.objects("outbox")]


def test_logins_reach_a_person_and_a_room(site: Site, prosody: Prosody, tmp_path: Path) -> None:
    """A login and a logout arrive at once. After an outage, all that happened meanwhile arrives late, in order and once."""
    needs.root("run an sshd that logs in")
    fingerprint = key(tmp_path / "user_key")
    site.configure(catch_up=f"{tmp_path}/all.log", channel=[chat_channel(prosody)])
    host = socket.gethostname().partition(".")[0]

    async def body() -> None:
        async with person(prosody, ALICE, ROOM) as alice:
            with Rsyslogd(tmp_path, child=child(site)), sshd(tmp_path, tmp_path / "log") as ssh:

                def come_and_go(command: str = "true") -> str:
                    done = subprocess.run([*ssh, command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
                    return done.stdout

                address, *_ = come_and_go("echo $SSH_CONNECTION").split()
                await wait_for_async(lambda: len(alice.received) == 4, "a login and a logout arrive, in person and in the room")
                wait_for(lambda: not waiting(site), "sshbell knows that they have arrived")
                alice.here.clear()
                prosody.stop()
                for _ in range(3):
                    come_and_go()
                wait_for(lambda: len(waiting(site)) == 6 and any(waiting(site)), "the messages wait")
                assert all(reason == "" or reason.startswith(f"{DOMAIN}: ") for reason in waiting(site))
                age(site, 5)
                prosody.start()
                await wait_for_async(lambda: alice.here >= {ALICE, ROOM}, "Alice is back")
                site.ask("outbox", "retry", "--all")
                await wait_for_async(lambda: len(alice.received) >= 16, "the others arrive")
                assert site.ask("outbox").stdout == "no messages wait\n"
        assert alice.chats == alice.talk
        assert len({each.id for each in alice.received}) == 8
        told, left, *late = alice.chats
        assert told.splitlines()[0] == f"root logged in to {host} from the host itself (127.0.0.1)."
        for part in (f"From {address}.", "publickey", fingerprint):
            assert part in told
        assert re.match(rf"root logged out of {host} after ", left)
        assert "late" not in told + left
        for number, text in enumerate(late):
            assert text.startswith(f"root logged {'out of' if number % 2 else 'in to'} {host} ")
            assert "This message is 5 h" in text

    asyncio.run(body())


def test_five_hundred_waiting_messages(site: Site, post: Post, prosody: Prosody) -> None:
    """An outage with 500 waiting messages delays no other channel; afterwards all of them arrive, in order and once."""
    site.configure(channel=[chat_channel(prosody), *site.channels()])
    count = 500

    async def body() -> None:
        async with person(prosody, ALICE, ROOM) as alice:
            alice.here.clear()
            prosody.stop()
            _process, wake = site.start_deliver()
            with wake, site.state() as state:
                now_us = time.time_ns() // 1000
                state.record([login(number) for number in range(count)], frozenset({"ssh_login"}), now_us - 5 * HOUR_US)
                wake.send(b"x")
                wait_for(lambda: site.said("retry_later"), "the outage is noticed")
                wait_for(lambda: len(post.ids) == count, "the other channel has all of them")
                assert len(site.objects("outbox", "--channel", "chat")) == count
                prosody.start()
                await wait_for_async(lambda: alice.here >= {ALICE, ROOM}, "Alice is back")
                site.ask("outbox", "retry", "--all")
                await wait_for_async(lambda: len(alice.received) >= 2 * count, "all arrive")
                await wait_for_async(lambda: not site.objects("outbox"), "none is left")
            expected = [f"{event_id(number)}.chat" for number in range(count)]
            for kind in ("chat", "groupchat"):
                assert [each.id for each in alice.received if each.kind == kind] == expected
            assert all("This message is 5 h" in each.body for each in alice.received)

    asyncio.run(body())


def test_killed_server(site: Site, prosody: Prosody) -> None:
    """While prosody is killed again and again, nothing is lost, and only what it may have had comes twice, with the same id."""
    site.configure(channel=[chat_channel(prosody, rooms=[])])
    count, kills = 60, 3

    async def body() -> None:
        async with person(prosody, ALICE) as alice:
            _process, wake = site.start_deliver()
            with wake, site.state() as state:
                for number in range(count):
                    state.record([login(number)], frozenset({"ssh_login"}), time.time_ns() // 1000)
                    wake.send(b"x")
                    if number % (count // kills) == count // kills - 1:
                        await wait_for_async(lambda: len(alice.received) > 3, "some arrive")
                        alice.here.clear()
                        prosody.kill()
                        prosody.start()
                        await wait_for_async(lambda: ALICE in alice.here, "Alice is back")
                        site.ask("outbox", "retry", "--all")

                def known() -> list[str]:
                    return list(dict.fromkeys(each.id for each in alice.received))

                await wait_for_async(lambda: len(known()) == count, "all arrive")
            assert known() == [f"{event_id(number)}.chat" for number in range(count)]
            assert len(alice.received) <= count + kills

    asyncio.run(body())


def test_ring_and_check(site: Site, prosody: Prosody) -> None:
    """``ring`` sends a test that says so; it and ``check`` name a wrong password."""
    site.configure(channel=[chat_channel(prosody)])

    async def body() -> None:
        async with person(prosody, ALICE, ROOM) as alice:
            assert site.ask("ring").stdout.startswith("chat: delivered after ")
            await wait_for_async(lambda: len(alice.received) == 2, "the test arrives")
            assert alice.chats == alice.talk
            assert alice.chats[0].startswith("This is a test by `sshbell ring`: nobody logged in.")
            assert await asyncio.to_thread(checked, site) == [("ok", "chat answers")]
            (prosody.folder / "password").write_text("wrong")
            wrong = f"chat: {DOMAIN}: the login was refused (not-authorized); are jid and password right?"
            assert site.ask("ring", status=75).stderr == f"sshbell: {wrong}\n"
            assert await asyncio.to_thread(checked, site) == [("fault", wrong)]
            assert len(alice.received) == 2

    asyncio.run(body())
