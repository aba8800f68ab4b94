"""Events as CSV for a spreadsheet: a head, and a row for each. Neither a spreadsheet nor a terminal obeys their texts."""

import csv
import io
import re
from collections.abc import Iterable
from datetime import datetime, tzinfo
from typing import Any

import msgspec

from consumer.ecs import EcsEvent
from consumer.text import harmless

# The path of each value in the JSON object. CSV always has the first columns, in this order; new ones go to the end of the
# others.
_COLUMNS = (
    "timestamp", "event.action", "user.name", "user.full_name", "source.address", "source.geo.city_name",
    "source.geo.country_iso_code", "host.name", "ssh.method", "ssh.key.fingerprint", "ssh.key.owner", "ssh.count", "ssh.reason",
    "event.end", "duration_s",
)  # fmt: skip
_MORE_COLUMNS = (
    "event.start", "event.outcome", "event.id", "source.port", "source.geo.name", "source.as.number",
    "source.as.organization.name", "ssh.submethod", "ssh.factors", "ssh.key.type", "ssh.key.options", "ssh.certificate.id",
    "ssh.certificate.ca_owner", "ssh.claim", "ssh.origin", "ssh.ambiguous",
    "ssh.code.outcome", "ssh.code.channel", "ssh.code.after_s",
)  # fmt: skip
_TIMES = frozenset({"timestamp", "event.start", "event.end"})
# Columns that JSON has under another name, or in another unit.
_PLACES = {"timestamp": "@timestamp", "duration_s": "event.duration"}
# A spreadsheet takes a cell with such a beginning for a formula. Some also split at semicolons and tabs.
_FORMULA = re.compile(r"(^|[,;|\t])(\s*)(?=[=+@\t\r\uff0b\uff0d\uff1d\uff20-])")


class Spreadsheet:
    """
    Makes the rows.

    Args:
        zone: of the times. CSV does not show it, because spreadsheets recognize only times without a zone.
        all_columns: add all other known values after the usual columns.
    """

    def __init__(self, zone: tzinfo, *, all_columns: bool) -> None:
        self._zone = zone
        self._columns = _COLUMNS + _MORE_COLUMNS if all_columns else _COLUMNS

    def head(self) -> bytes:
        """Return the row with the columns' names."""
        return _written(self._columns)

    def row(self, found: EcsEvent) -> bytes:
        """Return the row of an event; a cell without a known value is empty."""
        fields = msgspec.to_builtins(found)
        return _written(self._cell(column, fields) for column in self._columns)

    def _cell(self, column: str, fields: dict[str, Any]) -> str:
        value: Any = fields
        for name in _PLACES.get(column, column).split("."):
            value = value.get(name) if isinstance(value, dict) else None
        match value:
            case None:
                return ""
            case bool():
                return str(value).lower()
            case tuple() | list():
                return "; ".join(map(str, value))
        if column in _TIMES:
            return f"{datetime.fromisoformat(value).astimezone(self._zone):%Y-%m-%d %H:%M:%S}"
        return f"{value / 1e9:.3f}".rstrip("0").rstrip(".") if column == "duration_s" else str(value)


def _written(cells: Iterable[str]) -> bytes:
    out = io.StringIO()
    safe = [_FORMULA.sub(r"\1\2'", cell) for cell in cells]
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow([harmless(cell) for cell in safe])
    return out.getvalue().encode()
