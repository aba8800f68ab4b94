"""The query of ``sshbell audit``: who has logged in on a host lately, and how. It writes nothing and blocks no writer."""

import json
from contextlib import closing

import msgspec

from consumer.addresses import is_same_host
from consumer.store.reader import Store, path_of, reader_of
from consumer.store.rows import Whole, checked

# Kinds of logins to return. A host with more has the most frequent ones counted.
KIND_LIMIT = 50_000
# A try this long before a login can belong to the same connection: sshd's LoginGraceTime is 120 s by default.
_SAME_CONNECTION_US = 600 * 1_000_000


class LoginKind(msgspec.Struct, frozen=True):
    """
    Equal logins.

    Attributes:
        user: as in the log; hostile.
        address: as in the log; None if unknown.
        method: the last one: ``publickey``, ``keyboard-interactive/pam``; None if unknown.
        info: the key or certificate, as sshd writes it after "ssh2: ".
        factors: the methods in order, separated by commas, if there were several.
        failed: failed tries on the same connection before the login.
        took_s: seconds from the first of these tries to the login.
        count: how many logins.
        last_us: the time of the last one.
    """

    user: str | None
    address: str | None
    method: str | None
    info: str | None
    factors: str | None
    failed: int
    took_s: int
    count: int
    last_us: Whole

    @property
    def methods(self) -> list[str]:
        """All methods in order, as sshd's ``AuthenticationMethods`` spells them."""
        return [method.partition("/")[0] for method in (self.factors or self.method or "").split(",") if method]


_KINDS = """
    WITH here AS (SELECT value AS host FROM json_each(:names)), tries AS (
        SELECT host, address, port, CAST(sum(count) AS bigint) AS failed, min(time_us) AS first_us, max(time_us) AS last_us
        FROM event WHERE action = 'ssh_attempt' AND time_us >= :since - :gap
            AND address IN (SELECT address FROM session WHERE opened_us >= :since AND host IN (SELECT host FROM here))
        GROUP BY host, address, port
    ), login AS (
        SELECT session.user, session.address, method, info, factors, opened_us,
            coalesce(tries.failed, 0) AS failed, coalesce((opened_us - first_us) / 1000000, 0) AS took_s
        FROM session LEFT JOIN tries ON tries.host = session.host AND tries.address = session.address
            AND tries.port = session.port AND last_us BETWEEN opened_us - :gap AND opened_us + 1000000
        WHERE opened_us >= :since AND session.host IN (SELECT host FROM here)
    )
    SELECT user, address, method, info, factors, failed, max(0, took_s) AS took_s, count(*) AS count, max(opened_us) AS last_us
    FROM login GROUP BY user, address, method, info, factors, failed, max(0, took_s)
    ORDER BY count(*) DESC LIMIT :limit
"""


def recent_logins(store: Store, here: str, since_us: int) -> list[LoginKind]:
    """
    Return the kinds of logins on a host since a moment, the most frequent first, then by user.

    Args:
        store: where the rows are.
        here: the host's name.
        since_us: microseconds since 1970 UTC.

    Raises:
        StoreError: the store does not exist or cannot be read.
    """
    with closing(reader_of(store, is_optional=False)) as reader:
        hosts = reader.rows("SELECT DISTINCT host FROM session WHERE opened_us >= :since", {"since": since_us})
        names = json.dumps([host for (host,) in hosts if is_same_host(host, here)])
        values = {"since": since_us, "gap": _SAME_CONNECTION_US, "limit": KIND_LIMIT, "names": names}
        rows = reader.rows(_KINDS, values)
    found = [checked(path_of(store), dict(zip(LoginKind.__struct_fields__, row, strict=True)), LoginKind) for row in rows]
    # SQLite and PostgreSQL do not sort texts alike.
    return sorted(found, key=lambda kind: (-kind.count, kind.user or "", kind.address or "", kind.last_us))
