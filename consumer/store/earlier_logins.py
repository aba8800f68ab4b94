"""The queries of ``deliver/route_facts.py``: where, and with which keys, an account has logged in before."""

from typing import NamedTuple

from consumer.store.reader import Reader, Store, reader_of

# The most combinations of key, address and host of one account. Beyond it, sshbell may take a known one for new.
COMBINATION_LIMIT = 2_000


def _steps(which: str = "") -> tuple[str, ...]:
    """Return statements that each jump to the next combination in the index, so that a million equal logins cost one step."""
    is_within = (
        "EXISTS (SELECT 1 FROM session AS it WHERE it.user = :user AND it.info IS found.info AND it.address IS found.address"  # noqa: S608 - our own text
        f" AND it.host = found.host AND it.opened_us >= :since AND it.opened_us < :before{which})"
    )
    return tuple(
        f"SELECT info, address, host, {is_within} FROM"  # noqa: S608 - our own text
        f" (SELECT info, address, host FROM session WHERE user = :user{which} AND {after} LIMIT 1) AS found"
        for after in (
            "(info, address, host) > (:info, :address, :host) ORDER BY info, address, host",
            "info IS NULL AND (address, host) > (:address, :host) ORDER BY address, host",
        )
    )


# Nobody has confirmed a login that on_failure = "safe" has let in.
_STEPS, _VERIFIED_STEPS = _steps(), _steps(""" AND origin = 'verified' AND coalesce(instr(code, '"let_in"'), 0) = 0""")


class EarlierLogin(NamedTuple):
    """One of several equal logins. ``info``: the key or certificate as in ``Login``; ``address``: as logged; None: unknown."""

    user: str
    info: str | None
    address: str | None
    host: str


class EarlierLogins:
    """
    Finds earlier logins in ``state.db``. If the file does not exist yet, there are none.

    Each method raises a StoreError if sshbell cannot read the file.
    """

    def __init__(self, store: Store) -> None:
        self._state: Reader = reader_of(store, is_optional=True)

    def close(self) -> None:
        """Close the file."""
        self._state.close()

    def created_us(self) -> int | None:
        """Return when sshbell created the file, in microseconds since 1970 UTC; None if there is no file."""
        rows = self._state.rows("SELECT value FROM status WHERE name = 'created_us'")
        return int(rows[0][0]) if rows else None

    def of(self, user: str, since_us: int, before_us: int, *, is_verified: bool = False) -> list[EarlierLogin]:
        """
        Return the different logins of an account, on any host, from ``since_us`` on and before ``before_us``.

        Args:
            user: the account.
            since_us: microseconds since 1970 UTC.
            before_us: likewise.
            is_verified: only logins that no local user can have forged, and none that lacks its code because no channel took it.
        """
        found: list[EarlierLogin] = []
        steps = 0
        for statement in _VERIFIED_STEPS if is_verified else _STEPS:
            values = {"user": user, "info": "", "address": "", "host": "", "since": since_us, "before": before_us}
            while steps < COMBINATION_LIMIT and (rows := self._state.rows(statement, values)):
                steps += 1
                ((info, address, host, is_within),) = rows
                values |= {"info": info, "address": address or "", "host": host}
                if is_within:
                    found.append(EarlierLogin(user, info, address, host))
        return found
