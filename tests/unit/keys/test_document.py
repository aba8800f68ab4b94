"""``consumer.keys.document``: what another host has exported is read whole, or refused in one line."""

from __future__ import annotations

from io import BytesIO

import pytest

from consumer.errors import DataError
from consumer.keys.authorized_keys import AuthorizedKey
from consumer.keys.document import Document, Head, written

KEY = AuthorizedKey("alice", "ssh-ed25519", f"SHA256:{'A' * 43}", f"MD5:{':'.join(['00'] * 16)}", "alice@laptop", ["restrict"])
HEAD, ROW, TAIL = written(Head("sshbell-keys", 1, "web1", "2026-11-22T10:00:00Z"), [KEY])
DEEP = b"[" * 60_000


def read(text: bytes) -> list[AuthorizedKey]:
    """Read a document."""
    document = Document(BytesIO(text), "web1.json")
    return [key for _number, key in document.keys()]  # noqa: SIM118 - no dict


def test_document() -> None:
    """What is written is read."""
    assert read(HEAD + ROW + TAIL) == [KEY]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (DEEP + b"\n", 1),
        (HEAD[:-2] + b',"x":' + DEEP + b"\n", 1),
        (HEAD + DEEP + b"\n", 2),
        (HEAD + ROW[:-2] + b',"x":' + DEEP + b"\n", 2),
        (HEAD + b'{"keys":' + DEEP + b"\n", 2),
        (HEAD + ROW + b'{"keys":1,"x":' + DEEP + b"\n", 3),
        (HEAD + ROW.replace(b"laptop", b"\xff") + TAIL, 2),
        (HEAD + ROW.replace(b"laptop", b"\\ud800") + TAIL, 2),
        (HEAD + b'{"keys":' + b"9" * 5000 + b"}\n", 2),
        (HEAD.replace(b"2026", b"0000") + ROW + TAIL, 1),
    ],
)
def test_what_is_no_document(text: bytes, line: int) -> None:
    """Brackets without an end, texts that are none and numbers without an end are faults of their line."""
    with pytest.raises(DataError, match=rf"\Aweb1\.json:{line}: ."):
        read(text)
