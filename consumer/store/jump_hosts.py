"""The queries of ``enrich/jump_hosts.py`` for each login: the hosts with an address, and the users on a host."""

from consumer.store.reader import Reader, Store, reader_of

# The second half finds sessions that have ended since then.
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

    Each method raises a StoreError if ``state.db`` does not exist or sshbell cannot read it.
    """

    def __init__(self, store: Store) -> None:
        self._state: Reader = reader_of(store, is_optional=False)

    def senders(self, address: str, since_us: int) -> set[str]:
        """Return the hosts whose lines have come from an address since ``since_us``."""
        rows = self._state.rows("SELECT host FROM sender WHERE address = ? AND seen_us >= ?", (address, since_us))
        return {host for (host,) in rows}

    def users(self, host: str, at_us: int, since_us: int, until_us: int, own: str | None) -> list[str | None]:
        """
        Return the users of sessions that were open at ``at_us``, two at most.

        Args:
            host: the name of the host.
            at_us: the time, in microseconds since 1970 UTC.
            since_us: leave out sessions that began earlier.
            until_us: leave out sessions that began later.
            own: leave out the session with this id.
        """
        values = {"host": host, "at": at_us, "since": since_us, "until": until_us, "own": own}
        return [user for (user,) in self._state.rows(_USERS, values)]
