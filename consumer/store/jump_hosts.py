"""The queries of ``enrich/jump_hosts.py`` for each login: which hosts an address belongs to, and who was on a host."""

from pathlib import Path

from consumer.store.database import STATE_DB, DatabaseReader

# The second half finds sessions that have ended since.
_USERS = """
    SELECT user FROM session WHERE host = :host AND closed_us IS NULL
        AND opened_us BETWEEN :since AND :until AND login_id <> :own
    UNION
    SELECT user FROM session WHERE host = :host AND closed_us >= :at
        AND opened_us BETWEEN :since AND :until AND login_id <> :own
    LIMIT 2
"""


class HostSessions:
    """
    Finds the sessions on a host. Only one thread may use it at a time.

    Each method raises a StoreError if ``state.db`` does not exist or cannot be read.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state = DatabaseReader(state_dir / STATE_DB, is_optional=False)

    def senders(self, address: str, since_us: int) -> set[str]:
        """Return the hosts whose lines have come from an address since then."""
        rows = self._state.rows("SELECT host FROM sender WHERE address = ? AND seen_us >= ?", (address, since_us))
        return {host for (host,) in rows}

    def users(self, host: str, at_us: int, since_us: int, until_us: int, own: str | None) -> list[str | None]:
        """
        Return the users of sessions that were open at ``at_us``, but not more than two.

        Args:
            host: its name.
            at_us: the moment.
            since_us: leave out sessions that began earlier.
            until_us: leave out sessions that began later.
            own: leave out the session with this id.
        """
        values = {"host": host, "at": at_us, "since": since_us, "until": until_us, "own": own}
        return [user for (user,) in self._state.rows(_USERS, values)]
