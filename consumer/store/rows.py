"""Checks the values of rows: somebody may have changed a database by hand."""

from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from consumer.errors import StoreError

# An integer of a row: a count, or microseconds since 1970 in the years 1 to 9999. SQLite stores any value in any column, and a
# calendar knows no other years.
Whole = Annotated[int, msgspec.Meta(ge=-62_135_596_800_000_000, le=253_402_300_799_999_999)]
_Row = TypeVar("_Row")


def checked(path: Path, values: object, kind: type[_Row]) -> _Row:
    """
    Return values of a database as a type.

    Raises:
        StoreError: somebody has written a value that sshbell never writes.
    """
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise StoreError(f"{path}: it has a value that sshbell never writes: {error}") from error
