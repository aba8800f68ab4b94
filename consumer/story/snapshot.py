"""
The memory of a correlator as bytes, part by part, so that it survives a restart.

A part is one host, or the ids assigned recently. sshbell writes a host in pieces, each a list of records of some connections. No
piece and no step is large, even if the host has many connections. Records refer to rules by name, so a newer version with more
rules can still read the snapshot. sshbell skips a part that it cannot read, and reports it.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from consumer.events import Login, LoginCode
from consumer.matching.rules import CompiledRule
from consumer.records import RULE, TRUSTED, Line
from consumer.story.connection import REMEMBERED, Connection
from consumer.story.connections import Connections
from consumer.story.correlate import Correlator
from consumer.story.forged_lines import ForgedCount
from consumer.story.host import Host

FORMAT = 2
# Bytes in a piece. A single record may be larger.
PIECE_BYTES = 1 << 18
# Queue entries in one record.
_RUN = 256
_HOST = "host"
_IDENTITIES = "identities"
_LINES = frozenset({"seen", "pam_failure", "pam_failures", "accepted", "opened", "closed", "child_over", "code"})
_NO_LINE = Line((0, None, 0, 1, "", None, False, "", "", "", None, None, None, None, None, None, None))
# By attribute of a connection: the value that a snapshot leaves out. It has the first two for every connection.
# CPython lays out the attributes of all connections by the first ones, so this one sets all of them.
_NEW = Connection("", _NO_LINE)
for _name in (*REMEMBERED, "older"):
    setattr(_NEW, _name, getattr(_NEW, _name))
_DEFAULTS = {name: getattr(_NEW, name) for name in REMEMBERED} | {"procid": None, "since_us": None}
# The errors that a damaged part, or one from another version, can cause.
DAMAGE = (msgspec.DecodeError, LookupError, TypeError, ValueError)

# A part's name and its pieces. There are none if the part is gone.
SnapshotPart = tuple[str, Iterable[bytes]]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


def rule_names(rules: list[CompiledRule]) -> list[str]:
    """Return a unique name for each rule. Two grammars may use the same name."""
    seen: Counter[str] = Counter()
    names = []
    for rule in rules:
        name = f"{'pam' if rule.is_pam else rule.family}.{rule.name}"
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}.{seen[name]}")
    return names


class Snapshots:
    """
    Writes and reads the memory of one correlator.

    Args:
        report: gets one line about each part that sshbell cannot read.
    """

    def __init__(self, correlator: Correlator, rules: list[CompiledRule], report: Callable[[str], None]) -> None:
        self._correlator = correlator
        self._held = correlator.held
        self._names = rule_names(rules)
        self._report = report
        self._unreadable: set[str] = set()

    def changed(self) -> Iterator[SnapshotPart]:
        """
        Yield the parts that differ from the last snapshot. Consume the pieces of each part before you ask for the next.

        They count as changed until you call ``kept``: if the store fails, it gets them again.
        """
        self._held.changed.update(host.key for host in self._held.heard)
        for name in self._unreadable:
            yield name, ()
        for key in self._held.changed:
            host = self._held.host_of(key)
            yield f"{_HOST}\t{key[1]}\t{key[0]}", () if host is None else self._pieces(host)
        for chunk, body in self._correlator.identities.changed():
            yield f"{_IDENTITIES}\t{chunk}", (body,) if body else ()

    def kept(self) -> None:
        """Note that the store has saved the parts that ``changed`` yielded last, and that no line has come since."""
        self._held.changed.clear()
        self._unreadable.clear()
        self._correlator.identities.kept()

    def forget(self) -> None:
        """Treat everything as changed."""
        self._held.changed.update(self._held.keys())
        self._correlator.identities.forget_snapshot()

    def restore(self, name: str, pieces: Iterable[bytes]) -> None:
        """Restore one part from an earlier process. Call ``begin`` after the last one."""
        kind, _, rest = name.partition("\t")
        try:
            if kind == _IDENTITIES and rest:
                self._correlator.identities.restore(rest, b"".join(pieces))
            elif kind == _IDENTITIES:  # written before there were chunks
                self._unreadable.add(name)
                _version, state = _decode(b"".join(pieces))
                self._correlator.identities.take_over((digest, ordinal) for digest, ordinal in state)
            elif kind == _HOST:
                family, _, host = rest.partition("\t")
                self._held.restore((host, family), _Reader(self._names, self._held).host(pieces))
        except DAMAGE as error:
            self._unreadable.add(name)
            self._report(f"the memory of {name!r} cannot be read ({error}); sshbell forgets the half-known stories in it")

    def begin(self) -> None:
        """Sort the restored connections by age."""
        self._held.begin_again()

    def forget_identities(self) -> None:
        """Number equal lines from the start again, so that replayed lines get their old ids."""
        self._correlator.identities.forget()

    def _pieces(self, host: Host) -> Iterator[bytes]:
        """Yield the records of a host, several in each piece."""
        piece: list[msgspec.Raw] = []
        size = 0
        for record in self._records(host):
            body = _encode(record)
            if piece and size + len(body) > PIECE_BYTES:
                yield _encode(piece)
                piece, size = [], 0
            piece.append(msgspec.Raw(body))
            size += len(body)
        yield _encode(piece)

    def _records(self, host: Host) -> Iterator[list[Any]]:
        found: dict[int, int] = {}
        connections: list[Connection] = []

        def number(connection: Connection) -> int:
            known = found.get(id(connection))
            if known is None:
                known = found[id(connection)] = len(connections)
                connections.append(connection)
            return known

        for connection in host.connections.values():
            number(connection)
        by_source = [[*source, number(connection)] for source, connection in host.by_source.items()]
        children = [[pid, number(connection)] for pid, connection in host.children.items()]
        waiting = [[at, number(each)] for at, each in host.waiting if not each.is_gone and not each.login]
        due = [(term, [[at, number(each)] for at, each in queue if not each.is_gone]) for term, queue in host.due.items()]
        yield [
            "host", FORMAT, host in self._held.heard, host.clock_us, host.last_us, host.leaped_total, host.has_sshd, host.names,
            host.next_sweep_us, len(host.connections),
        ]  # fmt: skip
        for connection in connections:  # grows: it also gets previous connections with the same PID
            lines: list[Line] = []
            row = {
                name: _value(name, value, lines)
                for name, default in _DEFAULTS.items()
                if (value := getattr(connection, name)) != default
            }
            older = None if connection.older is None else number(connection.older)
            yield ["connection", row, older, [self._row_of(line) for line in lines]]
        yield from _runs(by_source, "by_source")
        yield from _runs(children, "children")
        yield from _runs(waiting, "waiting")
        for term, queue in due:
            yield from _runs(queue, "due", term)
        if host.forged:
            yield ["forged", self._forged(host)]
        yield ["end"]

    def _forged(self, host: Host) -> list[list[Any]]:
        return [
            [*kind, counted.since_us, counted.count, counted.id, counted.line and self._row_of(counted.line), counted.last_us]
            for kind, counted in host.forged.items()
        ]

    def _row_of(self, line: Line) -> list[Any]:
        """Return a line as stored, with the name of its rule."""
        return [self._names[line[RULE]], *line[RULE + 1 :]]


def _value(name: str, value: Any, lines: list[Line]) -> Any:
    """Return a connection's attribute as stored. A line is added to ``lines`` and replaced by its number."""
    if value is None:
        return None
    if name in _LINES:
        return _number_of(value, lines)
    if isinstance(value, Login):
        code = None if value.code is None else msgspec.structs.asdict(value.code)
        return msgspec.structs.asdict(value) | {"line": _number_of(value.line, lines), "code": code}
    return value


def _number_of(line: Line, lines: list[Line]) -> int:
    """Return the number of a line in ``lines``. Most attributes of a connection share one line."""
    for number, other in enumerate(lines):
        if other is line:
            return number
    lines.append(line)
    return len(lines) - 1


def _runs(entries: list[Any], *kind: Any) -> Iterator[list[Any]]:
    """Yield records of up to ``_RUN`` entries. An empty queue gets a record too, because the order of the queues matters."""
    for begin in range(0, max(1, len(entries)), _RUN):
        yield [*kind, entries[begin : begin + _RUN]]


class _Reader:
    """Reads one host."""

    def __init__(self, names: list[str], held: Connections) -> None:
        self._names = names
        self._held = held
        self._connections: list[Connection] = []
        self._older: list[tuple[Connection, int]] = []

    def host(self, pieces: Iterable[bytes]) -> Host:
        """
        Build the host from its pieces.

        Raises:
            DAMAGE: the pieces cannot be read.
        """
        host = Host()
        is_heard, held, is_whole = False, 0, False
        for kind, *values in (record for piece in pieces for record in _records_of(_decode(piece))):
            if kind == "host":
                is_heard, held = self._head(host, values)
            elif kind == "connection":
                self._connection(*values)
            elif kind == "end":
                is_whole = True
            else:
                self._references(host, kind, *values)
        if not is_whole:
            raise ValueError("it has no end")
        for connection, number in self._older:
            connection.older = self._connections[number]
        host.connections = {connection.procid: connection for connection in self._connections[:held]}
        if is_heard:
            self._held.heard.add(host)
        return host

    @staticmethod
    def _head(host: Host, values: list[Any]) -> tuple[bool, int]:
        """Return whether the host has sent lines since the last tick, and how many connections belong in its table of PIDs."""
        version, is_heard, host.clock_us, host.last_us, host.leaped_total, host.has_sshd, names, host.next_sweep_us, held = values
        if version > FORMAT:
            raise ValueError(f"format {version}")
        host.names = [(name, program) for name, program in names]
        return is_heard, held

    def _references(self, host: Host, kind: str, *values: Any) -> None:
        """Read part of a table or queue, which lists connections by number, or the counts of forged lines."""
        connections = self._connections
        if kind == "by_source":
            host.by_source.update(((address, port), connections[number]) for address, port, number in values[0])
        elif kind == "children":
            host.children.update((pid, connections[number]) for pid, number in values[0])
        elif kind == "waiting":
            host.waiting.extend(self._queue(values[0]))
        elif kind == "due":
            host.due.setdefault(values[0], deque()).extend(self._queue(values[1]))
        elif kind == "forged":
            for uid, claim, since_us, count, event_id, line, last_us in values[0]:
                first = None if line is None else self._line_of(line)
                host.forged[uid, claim] = ForgedCount(since_us, count, event_id, first, last_us)
        else:
            raise ValueError(f"record {kind!r}")

    def _queue(self, entries: Iterable[tuple[int, int]]) -> list[tuple[int, Connection]]:
        return [(at, self._connections[number]) for at, number in entries]

    def _connection(self, row: dict[str, Any], older: int | None, rows_of_lines: list[list[Any]]) -> None:
        lines = [self._line_of(values) for values in rows_of_lines]
        connection = Connection(row["procid"], lines[row["seen"]])
        for name in row.keys() & _DEFAULTS.keys():
            setattr(connection, name, _read(name, row[name], lines))
        self._connections.append(connection)
        if older is not None:
            self._older.append((connection, older))

    def _line_of(self, values: list[Any]) -> Line:
        values[RULE] = self._names.index(values[RULE])
        if values[TRUSTED] is not None:
            values[TRUSTED] = tuple(values[TRUSTED])
        return Line(values)


def _read(name: str, value: Any, lines: list[Line]) -> Any:
    """Return an attribute of a connection from its stored form."""
    if value is None:
        return None
    if name in _LINES:
        return lines[value]
    if name == "login":
        code = value.get("code")
        changed = {
            "line": lines[value["line"]],
            "factors": tuple(value.get("factors", ())),
            "code": None if code is None else LoginCode(**code),
        }
        return Login(**value | changed)
    return tuple(value) if name == "partial_methods" else value


def _records_of(piece: Any) -> Iterator[list[Any]]:
    """Yield the records of a piece. Before format 2, a host was one row of fields."""
    if piece[0] != 1:
        yield from piece
        return
    version, *fields, held, rows, by_source, children, waiting, due = piece
    yield ["host", version, *fields, held]
    for row in rows:
        lines: list[Any] = []
        for attributes, name in (*((row, name) for name in _LINES), (row.get("login") or {}, "line")):
            if attributes.get(name) is not None:
                lines.append(attributes[name])
                attributes[name] = len(lines) - 1
        yield ["connection", row, row.pop("older"), lines]
    yield from (["by_source", by_source], ["children", children], ["waiting", waiting])
    for term, queue in due:
        yield ["due", term, queue]
    yield ["end"]
