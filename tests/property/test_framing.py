"""Framing: any bytes give one row a line, however they were cut into blocks, and never an exception."""

from __future__ import annotations

import json
import math
from datetime import UTC
from typing import TYPE_CHECKING

from hypothesis import example, given
from hypothesis import strategies as st

from consumer.ecs import FileFields, event_of, json_line
from consumer.framing import json_lines
from consumer.framing.framer import Framer
from consumer.framing.timestamps import Timestamps
from consumer.logs.parse import records, said
from consumer.matching.matcher import Matcher
from consumer.pipeline import LineReader
from consumer.records import PLACE
from tests.budget import examples
from tests.property.strategies import FRAMINGS, NAMES, PUT_BACK, WITHOUT_TAG, escaped_by_rsyslog
from tests.unit.framing.test_framing import FRAMED, ODD
from tests.unit.framing.test_timestamps import NOW

if TYPE_CHECKING:
    from consumer.records import Row

MATCHER = Matcher()
SEEDS = [line for line, _ in (*FRAMED.values(), *ODD.values())]
FAILED = "Failed password for root from 192.0.2.1 port 5 ssh2"


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return a line of some framing with a few bytes changed, taken out, doubled, or cut off."""
    line = bytearray(draw(st.sampled_from(SEEDS)).encode("latin-1"))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, len(line) - 1)))
        match draw(st.sampled_from(["change", "remove", "double", "cut", "swap"])):
            case "change":
                line[at : at + 1] = bytes(
                    [draw(st.sampled_from([0, 9, 13, 32, 34, 58, 91, 92, 93, 123, 0xB2, 0xC2, 0xED, 0xFF]))]
                )
            case "remove":
                del line[at : at + draw(st.integers(1, 8))]
            case "double":
                line[at:at] = line[at : at + draw(st.integers(1, 8))]
            case "cut":
                del line[at:]
            case "swap":
                line[at : at + 2] = reversed(line[at : at + 2])
    return bytes(line)


@st.composite
def framed(draw: st.DrawFn) -> bytes:
    """Return a line of any framing, with a peer's text in it."""
    frame = FRAMINGS[draw(st.sampled_from(sorted(FRAMINGS)))]
    text = draw(st.one_of(st.just(FAILED), NAMES.map(escaped_by_rsyslog)))
    return frame(draw(st.sampled_from(["sshd", "sshd-session", "cron", "app"])), "42", text).encode("latin-1")


def framer() -> Framer:
    """Return a framer that has seen nothing."""
    return Framer(MATCHER.is_program, MATCHER.daemon_of)


LINES = st.lists(st.one_of(framed(), damaged(), st.binary(max_size=60)), max_size=8).map(
    lambda lines: b"".join(line.replace(b"\n", b"").removesuffix(b"\r") + b"\n" for line in lines)
)


def rows(framer: Framer, text: bytes) -> list[Row]:
    """Frame a block, which is never empty."""
    return framer.rows(text.decode("latin-1")) if text else []


@examples(400)
@given(LINES)
@example(b'{"tag":"sshd","msg":"\\ud800"}\n')
@example(b'{"tag":"sshd","uid":"\xb2"}\n')
def test_any_bytes_give_one_row_a_line(text: bytes) -> None:
    """Whatever stands in a file: one row for each line, of six texts, and no exception."""
    found = rows(framer(), text)
    assert len(found) == text.count(b"\n")
    for row in found:
        assert len(row) == 6
        assert all(isinstance(part, str) and all(ord(char) < 256 for char in part) for part in row[:5])
        assert "\n" not in row[2] or b"\\n" in text


@examples(300)
@given(LINES)
@example(b"2026-11-22T10:00:07.892585+00:00 h sshd[1]: x\n2026-11-22T10:00:07.89\xb2585+00:00 h sshd[1]: x\n")
@example(b'{"tag":"sshd:","prog":"sshd","procid":"\xb2","msg":" %s"}\n' % FAILED.encode())
@example(b"0001-01-01T00:00:00+05:00 h sshd[1]: %s\n" % FAILED.encode())
@example(b"9999-12-31T23:59:60Z h sshd[1]: %s\n" % FAILED.encode())
def test_any_bytes_can_be_parsed(text: bytes) -> None:
    """``parse`` says something, or nothing, about any bytes; the correlator's lines come of them too, and nothing raises."""
    block = text.decode("latin-1")
    if not block:
        return
    timestamps = Timestamps(NOW, UTC)
    for number, (record, found) in enumerate(records(block, framer(), MATCHER, timestamps), 1):
        if found is not None:
            event = said(record, found, MATCHER, number, "x")
            assert event.log.file == FileFields(path="x", line=number)
            assert event_of(json_line(event)) == event
    reader = LineReader(MATCHER, Timestamps(NOW, UTC), keep_text=True)
    places = [line[PLACE] for line in reader.lines(text, 1)]
    assert places == sorted(set(places))
    assert sum(reader.counts) <= text.count(b"\n")


@examples(400)
@given(LINES, st.data())
@example(
    b"2026-11-22T10:00:07Z a sshd[1]: x\nNov 22 10:00:07 a sshd[1]: x\nNov 22 10:00:07 a auth.info sshd[1]: x\n", None,
)  # fmt: skip
def test_rows_do_not_depend_on_blocks(text: bytes, data: st.DataObject | None) -> None:
    """Cut at any of its line ends, a text gives the rows that it gives as a whole."""
    whole = rows(framer(), text)
    lines = text.splitlines(keepends=True) if b"\r" not in text else [line + b"\n" for line in text.split(b"\n")[:-1]]
    cuts = [True] * len(lines) if data is None else [data.draw(st.booleans()) for _ in lines]
    reader = framer()
    found: list[Row] = []
    block = b""
    for line, is_end in zip(lines, cuts, strict=True):
        block += line
        if is_end:
            found += rows(reader, block)
            block = b""
    found += rows(reader, block)
    assert found == whole


@examples(200)
@given(
    st.sampled_from(sorted(set(FRAMINGS) - {"repeated", "relayed"} - WITHOUT_TAG - PUT_BACK)),
    NAMES.map(escaped_by_rsyslog),
    st.sampled_from(["sshd", "sshd-session"]),
)
def test_a_text_never_changes_its_header(framing: str, text: str, program: str) -> None:
    """A text of a peer, whatever it holds, leaves host, program and PID alone, and comes through as it was."""
    (row,) = rows(framer(), FRAMINGS[framing](program, "42", f"Invalid user {text} from ").encode("latin-1") + b"\n")
    expected = f"Invalid user {text} from "
    assert row[1:4] == ("bastion1", program, "42")
    assert row[4] == (expected.rstrip() if framing in {"journal", "short-precise"} else expected)


TEMPLATE: dict[str, object] = {
    "v": "1", "ts": "2026-11-22T10:00:00.000001+00:00", "host": "web1", "tag": "sshd[7]:", "prog": "sshd", "procid": "7",
}  # fmt: skip
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.just(10**19), st.floats(), st.text(),
    st.sampled_from(["-", "7", "00", "x" * 300]), st.lists(st.integers(0, 300), max_size=3), st.lists(st.text(), max_size=2),
)  # fmt: skip
KEYS = (
    "ts",
    "host",
    "tag",
    "prog",
    "procid",
    "msg",
    "uid",
    "exe",
    "j_uid",
    "j_exe",
    "MESSAGE",
    "syslogtag",
    "__REALTIME_TIMESTAMP",
)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4), st.sampled_from(KEYS), st.booleans())
@example({"msg": " a", "uid": 0, "exe": "/usr/sbin/sshd"}, "v", True)  # noqa: FBT003
@example({"msg": " a", "uid": 10**19, "j_exe": "/usr/sbin/sshd"}, "v", False)  # noqa: FBT003
def test_our_template_is_read_alike_both_ways(values: dict[str, object], gone: str, is_ascii: bool) -> None:  # noqa: FBT001 - hypothesis gives it by place
    """What is read by its type is what is read by name, and whatever is not ours is left to the other way."""
    found = TEMPLATE | {"msg": " x"} | values
    found.pop(gone, None)
    line = json.dumps(found, ensure_ascii=is_ascii, allow_nan=False, default=str) if is_finite(found) else "{}"
    raw = line.encode("utf-8", "surrogatepass").decode("latin-1")
    typed = json_lines._usual(raw)
    if typed is not None:
        decoded = json_lines._object(raw)
        assert isinstance(decoded, dict)
        assert typed == json_lines._template(decoded)
        assert not {"MESSAGE", "syslogtag", "__REALTIME_TIMESTAMP"} & found.keys()


def is_finite(found: dict[str, object]) -> bool:
    """Tell whether JSON can say it."""
    return not any(isinstance(value, float) and not math.isfinite(value) for value in found.values())


def test_our_template_is_read_by_its_type() -> None:
    """The usual line takes the short way."""
    line = json.dumps(
        TEMPLATE | {"msg": " x", "rcvd": "2026-11-22T10:00:00.000001+00:00", "sev": 6, "pid": 7, "uid": 0, "exe": "/x"}
    )
    assert json_lines._usual(line) == (TEMPLATE["ts"], "web1", "sshd", "7", "x", (0, "/x"))
