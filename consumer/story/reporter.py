"""Makes the events that lines and connections decide, with their ids and names, and reports them."""

from collections.abc import Callable

from consumer.actions import EventAction
from consumer.events import Attempt, Event, Trouble
from consumer.matching.messages import pam_name, sshd_name
from consumer.matching.rules import CompiledRule
from consumer.records import HOST, PREAUTH, PROCID, PROGRAM, REPEATS, RULE, TEXT, TIME, USER, Line
from consumer.story.connection import Connection
from consumer.story.event_ids import Identities


class Reporter:
    """
    Reports events.

    Args:
        rules: the rules of the matcher that made the lines.
        family_of: program family by program name.
        tell: gets each event, in the order in which sshbell decides them.
        identities: assigns the ids.
    """

    def __init__(
        self,
        rules: list[CompiledRule],
        family_of: Callable[[str], str],
        tell: Callable[[Event], None],
        identities: Identities,
    ) -> None:
        self._rules = rules
        self._family_of = family_of
        self.tell = tell
        self._identities = identities

    def id_of(self, kind: str, line: Line) -> str:
        """Return the id of the event that ``line`` decides. Empty if the line has no text."""
        text = line[TEXT]
        return (
            self._identities.of_line(kind, line[HOST], self._family_of(line[PROGRAM]), line[PROCID], line[TIME] or 0, text)
            if text
            else ""
        )

    def name(self, line: Line, user: str | None) -> str | None:
        """Undo the escapes in a user's name from ``line``."""
        if user is None or (user.isalnum() and user.isascii()):
            return user
        if self._rules[line[RULE]].is_pam or self._family_of(line[PROGRAM]) != "sshd":
            return pam_name(user)
        return sshd_name(user, preauth=line[PREAUTH] is not None, program=line[PROGRAM] if line[PROCID] else "")

    def attempt(self, connection: Connection, line: Line, method: str, count: int, reason: str | None = None) -> None:
        """Report tries on a connection."""
        connection.attempts += count
        user = connection.user if line[USER] is None else line[USER]
        self.tell(
            Attempt(
                self.id_of(EventAction.ATTEMPT, line), line, self.name(line, user), connection.address, connection.port,
                method or None, connection.user_is_valid, count, reason,
            )
        )  # fmt: skip

    def pam_failure(self, connection: Connection) -> None:
        """Report the "PAM: Authentication failure" that waits for a Failed line, if there is one."""
        line = connection.pam_failure
        if line is not None:
            connection.pam_failure = None
            self.attempt(connection, line, "keyboard-interactive", count=line[REPEATS])

    def trouble(
        self, line: Line, user: str | None, address: str | None, port: str | None, what: str, reason: str | None
    ) -> None:  # fmt: skip
        """Report a complaint of sshd, or a fault of one-time codes."""
        self.tell(Trouble(self.id_of(EventAction.TROUBLE, line), line, self.name(line, user), address, port, what, reason))
