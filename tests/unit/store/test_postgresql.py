"""``consumer.store.postgresql``: statements of SQLite in PostgreSQL's form."""

import pytest

from consumer.errors import ConfigError
from consumer.store.postgresql import PostgresSession, in_postgres


@pytest.mark.parametrize(
    ("statement", "translation"),
    [
        ("SELECT a FROM t WHERE b = ? AND c IN (?, ?)", "SELECT a FROM t WHERE b = %s AND c IN (%s, %s)"),
        ("UPDATE t SET a = :now WHERE user = :user", 'UPDATE t SET a = %(now)s WHERE "user" = %(user)s'),
        ("SELECT user FROM session AS it WHERE it.user = :user", 'SELECT "user" FROM session AS it WHERE it."user" = %(user)s'),
        ("WHERE it.info IS found.info AND it.info IS NULL", "WHERE it.info IS NOT DISTINCT FROM found.info AND it.info IS NULL"),
        ("SELECT 1 FROM hold CROSS JOIN delivery ON TRUE", "SELECT 1 FROM hold JOIN delivery ON TRUE"),
    ],
)
def test_statements(statement: str, translation: str) -> None:
    """Placeholders, the reserved word "user", and the comparison of NULLs differ."""
    assert in_postgres(statement) == translation


def test_a_wrong_connection_string() -> None:
    """The message has no part of the string, which may hold a password."""
    with pytest.raises(ConfigError) as caught:
        PostgresSession("host=x secret word").run("SELECT 1")
    assert "secret" not in str(caught.value)
    assert "secret" not in str(caught.value.__cause__)
