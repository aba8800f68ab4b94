"""
Reads an archive that ``sshbell archive`` has written, as ``queries.py`` reads the store.

DuckDB runs the queries: it reads only the days and columns that a query needs, and sorts on disk what does not fit into memory.
Archives may overlap: an event counts once, because its id is the same in all of them.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb

from consumer.actions import SESSION_ACTIONS, EventAction
from consumer.addresses import is_in
from consumer.errors import InputError, StoreError
from consumer.events import Event
from consumer.store.event_rows import EventRow, Session, SessionRow, event_of_row, session_of_row
from consumer.store.queries import OPEN_LIMIT_US, Asked
from consumer.store.rows import checked

# Rows that DuckDB hands over at once.
_PAGE = 2_000
# The columns of the store, from those of an archive; and the parts of ``info``.
_FOUND = """
    SELECT event.id AS id, coalesce(epoch_us("@timestamp"), 0) AS time_us, event.action AS action,
        coalesce(host.name, '') AS host, "user".name AS user,
        coalesce(try_cast("user".id AS BIGINT), ssh.claimed_by_uid) AS uid, source.address AS address, source.port AS port,
        coalesce(rule.name, nullif(concat_ws('/', ssh.method, ssh.submethod), '')) AS method,
        ssh.origin AS origin, coalesce(ssh.count, 1) AS count, coalesce(ssh.claim, ssh.reason) AS reason,
        coalesce(ssh.ambiguous, false)::INTEGER AS ambiguous, ssh.login_id AS login_id,
        array_to_string(ssh.factors, ',') AS factors, epoch_us(event.start) AS opened_us,
        ssh.key.type AS key_type, ssh.key.fingerprint AS fingerprint, ssh.principal AS principal,
        ssh.certificate.id AS certificate, ssh.certificate.serial::VARCHAR AS serial, ssh.certificate.ca_fingerprint AS ca
    FROM read_parquet($files, hive_partitioning = true)
    WHERE ($user IS NULL OR "user".name = $user) AND ($host IS NULL OR host.name = $host) AND {wanted}
    QUALIFY row_number() OVER (PARTITION BY event.id) = 1
"""
_EVENTS = (
    "time_us >= coalesce($since, time_us) AND time_us < coalesce($until, time_us + 1)",
    "SELECT * FROM found",
)
_SESSIONS = (
    f"action IN {tuple(map(str, SESSION_ACTIONS))} AND ($until IS NULL OR time_us < $until OR action = '{EventAction.LOGOUT}')",
    f"""
    SELECT login.* REPLACE (login.time_us AS opened_us), closed_us FROM found AS login LEFT JOIN (
        SELECT login_id, min(time_us) AS closed_us FROM found WHERE action = '{EventAction.LOGOUT}' GROUP BY login_id
    ) AS logout ON logout.login_id = login.id
    WHERE action = '{EventAction.LOGIN}' AND ($since IS NULL OR time_us >= $since OR closed_us >= $since
        OR (closed_us IS NULL AND time_us >= $since - {OPEN_LIMIT_US}))
    """,  # noqa: S608 - of our own texts
)


def archived_events(folder: Path, asked: Asked) -> Iterator[Event]:
    """
    Yield all events, oldest first.

    Raises:
        InputError: there is no archive.
        StoreError: it cannot be read.
    """
    for row in _rows(folder, asked, _EVENTS):
        event = event_of_row(checked(folder, row, EventRow))
        if event is not None:
            yield event


def archived_sessions(folder: Path, asked: Asked) -> Iterator[Session]:
    """
    Yield logins with their ends, oldest first: those that were open at some time between the bounds.

    Raises:
        InputError: there is no archive.
        StoreError: it cannot be read.
    """
    for row in _rows(folder, asked, _SESSIONS):
        yield session_of_row(checked(folder, row | {"login_id": row["id"]}, SessionRow))


def _rows(folder: Path, asked: Asked, query: tuple[str, str]) -> Iterator[dict[str, Any]]:
    """
    Yield rows as the store has them, oldest first. The limit counts the newest.

    Args:
        folder: has the archive.
        asked: the query of the command.
        query: the condition for the events to read, and the rows to make of those.
    """
    files = [str(path) for path in folder.rglob("*.parquet") if not _is_unfinished(path.relative_to(folder))]
    if not files:
        raise InputError(f"{folder}: it has no archive; sshbell archive writes one")
    selection = asked.selection
    values = {
        "files": files, "user": selection.user, "host": selection.host, "since": selection.since_us, "until": selection.until_us,
    }  # fmt: skip
    order = "ASC" if asked.limit is None else "DESC"
    wanted, select = query
    statement = f"WITH found AS ({_FOUND.format(wanted=wanted)}) {select} ORDER BY time_us {order}, id {order}"
    try:
        # Without leave to load extensions, DuckDB asks no server.
        with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
            cursor = connection.execute(statement, values)
            names = [column[0] for column in cursor.description]
            pages = iter(lambda: cursor.fetchmany(_PAGE), [])
            rows = (dict(zip(names, each, strict=True)) for page in pages for each in page)
            chosen = (row | {"info": _info(row)} for row in rows if is_in(asked.network, row["address"]))
            yield from chosen if asked.limit is None else reversed(list(islice(chosen, asked.limit)))
    except duckdb.Error as error:
        raise StoreError(f"{folder}: {error}") from error


def _is_unfinished(path: Path) -> bool:
    """Return whether a file belongs to a run of Spark that has not ended, or has failed."""
    return any(part.startswith(("_", ".")) for part in path.parts)


def _info(row: dict[str, Any]) -> str | None:
    """Return the key, the certificate or the principal as sshd writes it after "ssh2: "."""
    key = " ".join(filter(None, (row["key_type"], row["fingerprint"])))
    if row["serial"] is not None:
        # An archive does not have the type of the authority's key.
        return f"{key} ID {row['certificate']} (serial {row['serial']}) CA - {row['ca']}"
    return key or row["principal"]
