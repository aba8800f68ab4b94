"""
``codes.db``: the logins that sshbell asked for a code, and the digests of emergency codes. There is no code in it.

Several processes write it, each for milliseconds: the commands that PAM runs, and ``sshbell pam codes``.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from consumer.errors import StoreError
from consumer.rights import is_private
from consumer.store.database import open_intact, transaction

NAME = "codes.db"
KEY_NAME, KEY_BYTES = "key", 32
# sshbell forgets a challenge after a day, and beyond this number, so that a flood cannot fill the disk. Those that the limits of
# existing users count go last: a flood must not make sshbell forget somebody's guesses.
CHALLENGE_LIMIT = 5_000
_KEPT_US = 86_400_000_000
_COLUMNS = (
    "session, kind, digest, user, address, network, service, pid, started, channel, made_us, until_us, tries, tried_us, used_us"
)

ChallengeKind = Literal["code", "emergency", "none", "decoy"]


class Challenge(NamedTuple):
    """A login that sshbell asked. ``codes.sql`` describes the columns."""

    session: str
    kind: ChallengeKind
    digest: bytes
    user: str
    address: str
    network: str
    service: str
    pid: int
    started: int
    channel: str
    made_us: int
    until_us: int
    tries: int = 0
    tried_us: int | None = None
    used_us: int | None = None

    def is_open(self, now_us: int) -> bool:
        """Return whether it still counts. If somebody sets the clock back, it ends early, not late."""
        return self.used_us is None and self.made_us <= now_us < self.until_us


_COLUMNS = ", ".join(Challenge._fields)


class RecentCodes(NamedTuple):
    """The challenges of a time that nobody has answered, and the wrong codes."""

    prompts: int
    tries: int


class EmergencyUser(NamedTuple):
    """A user with emergency codes."""

    user: str
    made_us: int
    unused: int
    used: int


class CodeStore:
    """
    Reads and writes ``codes.db`` in a directory of root's own, and the key beside it. Creates all of them.

    A damaged file stays where it is: without it no code is right.

    Attributes:
        key: for keyed digests.

    Raises:
        StoreError: the directory is open to others, or the file cannot be used now.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with self._alone():
            self.key = self._key()
            self._connection = open_intact(folder / NAME)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run all calls of the block in one transaction, which no other process disturbs."""
        with transaction(self._connection):
            yield

    # ---------------------------------------------------------------- challenges, all of them within a transaction

    def add(self, challenge: Challenge) -> bool:
        """Add a challenge; return False if its session number is taken. Forget old ones."""
        self._connection.execute("DELETE FROM challenge WHERE made_us < ?", (challenge.made_us - _KEPT_US,))
        self._connection.execute(
            "DELETE FROM challenge WHERE session IN (SELECT session FROM challenge"
            " ORDER BY used_us IS NULL AND kind IN ('code', 'emergency') DESC, made_us DESC LIMIT -1 OFFSET ?)",
            (CHALLENGE_LIMIT - 1,),
        )
        marks = ", ".join("?" * len(challenge))
        return self._connection.execute(f"INSERT OR IGNORE INTO challenge VALUES ({marks})", challenge).rowcount == 1  # noqa: S608

    def of(self, pid: int, started: int) -> Challenge | None:
        """Return the newest challenge of a process."""
        row = self._connection.execute(
            f"SELECT {_COLUMNS} FROM challenge WHERE pid = ? AND started = ? ORDER BY made_us DESC LIMIT 1",  # noqa: S608
            (pid, started),
        ).fetchone()
        return None if row is None else Challenge(*row)

    def recent(self, column: Literal["user", "network"], value: str, since_us: int) -> RecentCodes:
        """Count the challenges of a user or a network since then, and the wrong codes."""
        row = self._connection.execute(
            "SELECT count(*) FILTER (WHERE used_us IS NULL AND kind <> 'none' AND made_us >= :since),"  # noqa: S608 - our own names
            # Of a challenge, all tries count as long as the last one does.
            f" coalesce(sum(tries) FILTER (WHERE tried_us >= :since), 0) FROM challenge WHERE {column} = :value",
            {"value": value, "since": since_us},
        ).fetchone()
        return RecentCodes(*row)

    def set_sent(self, session: str, kind: ChallengeKind, channel: str, until_us: int) -> None:
        """Note what became of a challenge: which channel took its code, or that it needs none."""
        self._connection.execute(
            "UPDATE challenge SET kind = ?, channel = ?, until_us = ? WHERE session = ?", (kind, channel, until_us, session)
        )

    def set_wrong(self, session: str, now_us: int) -> None:
        """Count a wrong code."""
        self._connection.execute("UPDATE challenge SET tries = tries + 1, tried_us = ? WHERE session = ?", (now_us, session))

    def set_used(self, session: str, now_us: int) -> None:
        """Note that the login succeeded."""
        self._connection.execute("UPDATE challenge SET used_us = ? WHERE session = ?", (now_us, session))

    def warns(self, user: str, since_us: int, now_us: int) -> bool:
        """Return whether nobody has warned a user since then; note that somebody does now."""
        self._connection.execute("DELETE FROM warned WHERE time_us < ? OR time_us > ?", (since_us, now_us))
        return self._connection.execute("INSERT OR IGNORE INTO warned VALUES (?, ?)", (user, now_us)).rowcount == 1

    # ---------------------------------------------------------------- emergency codes, within a transaction

    def emergency_digests(self, user: str) -> list[bytes]:
        """Return the digests of a user's unused emergency codes."""
        return [
            row[0] for row in self._connection.execute("SELECT digest FROM emergency WHERE user = ? AND used_us IS NULL", (user,))
        ]

    def set_emergency_used(self, user: str, digest: bytes, now_us: int) -> None:
        """Note that a user has used an emergency code."""
        self._connection.execute("UPDATE emergency SET used_us = ? WHERE user = ? AND digest = ?", (now_us, user, digest))

    def replace_emergency(self, user: str, digests: list[bytes], now_us: int) -> int:
        """Replace all emergency codes of a user; return how many unused ones there were."""
        gone = len(self.emergency_digests(user))
        self._connection.execute("DELETE FROM emergency WHERE user = ?", (user,))
        self._connection.executemany(
            "INSERT INTO emergency VALUES (?, ?, ?, NULL)", [(user, digest, now_us) for digest in digests]
        )
        return gone

    def emergency_users(self) -> list[EmergencyUser]:
        """Return who has emergency codes."""
        rows = self._connection.execute(
            "SELECT user, min(made_us), count(*) - count(used_us), count(used_us) FROM emergency GROUP BY user ORDER BY user"
        )
        return [EmergencyUser(*row) for row in rows]

    # ---------------------------------------------------------------- the directory and the key

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the directory, so that two commands do not create files at the same time."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            holding = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise StoreError(f"{self._folder}: {error.strerror}") from error
        try:
            if not is_private(os.fstat(holding), os.geteuid()):
                raise StoreError(
                    f"{self._folder} is open to others than root; run: chown root:root {self._folder}; chmod 700 {self._folder}"
                )
            fcntl.flock(holding, fcntl.LOCK_EX)
            yield
        finally:
            os.close(holding)

    def _key(self) -> bytes:
        path = self._folder / KEY_NAME
        try:
            if not path.exists():
                made = self._folder / f"{KEY_NAME}.new"
                made.unlink(missing_ok=True)
                made.touch(mode=0o600, exist_ok=False)
                with made.open("wb") as file:
                    file.write(os.urandom(KEY_BYTES))
                    file.flush()
                    os.fsync(file.fileno())
                made.rename(path)
            key = path.read_bytes()
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
        if len(key) != KEY_BYTES:
            raise StoreError(f"{path} has {len(key)} bytes instead of {KEY_BYTES}; delete it, and make new emergency codes")
        return key
