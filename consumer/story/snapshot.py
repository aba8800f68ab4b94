"""
The memory of a correlator, part by part, as bytes: what a restart would forget.

A part is one host, or the identities that were given lately. Rules are written by name, so a snapshot outlives a version in which
rules were added; a part that cannot be read is left out and reported.
"""

from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import msgspec

from consumer.events import Login
from consumer.matching.rules import CompiledRule
from consumer.records import RULE, TRUSTED, Line
from consumer.story.connections import Connection, Host
from consumer.story.correlate import Correlator
from consumer.story.forged_lines import ForgedCount

FORMAT = 1
_HOST = "host"
_IDENTITIES = "identities"
_LINES = frozenset({"seen", "pam_failure", "pam_failures", "accepted", "opened", "closed", "child_over"})

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


def rule_names(rules: list[CompiledRule]) -> list[str]:
    """Return a name for each rule that is its own: grammars may share names."""
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
        report: is told in one line what could not be read.
    """

    def __init__(self, correlator: Correlator, rules: list[CompiledRule], report: Callable[[str], None]) -> None:
        self._correlator = correlator
        self._held = correlator.held
        self._names = rule_names(rules)
        self._report = report

    def changed(self) -> dict[str, bytes | None]:
        """Return the parts that are not as they were when this was last asked; None stands for one that is gone."""
        parts: dict[str, bytes | None] = {}
        self._held.changed.update(host.key for host in self._held.heard)
        for key in self._held.changed:
            host = self._held.host_of(key)
            parts[f"{_HOST}\t{key[1]}\t{key[0]}"] = None if host is None else self._of_host(host)
        self._held.changed.clear()
        if parts:
            parts[_IDENTITIES] = _encode([FORMAT, self._correlator.identities.state()])
        return parts

    def forget(self) -> None:
        """Count every part as changed."""
        self._held.changed.update(self._held.keys())

    def restore(self, parts: dict[str, bytes]) -> None:
        """Take over what an earlier process remembered."""
        for name, body in parts.items():
            kind, _, rest = name.partition("\t")
            try:
                if kind == _IDENTITIES:
                    _version, state = _decode(body)
                    self._correlator.identities.restore(state)
                elif kind == _HOST:
                    family, _, host = rest.partition("\t")
                    self._held.restore((host, family), self._host(body))
            except (msgspec.DecodeError, LookupError, TypeError, ValueError) as error:
                self._report(f"the memory of {name!r} cannot be read ({error}); what was half-known of it is forgotten")
        self._held.begin_again()

    # ---------------------------------------------------------------- out

    def _of_host(self, host: Host) -> bytes:
        found: dict[int, int] = {}
        connections: list[Connection] = []

        def number(connection: Connection | None) -> int | None:
            if connection is None:
                return None
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
        due = [[term, [[at, number(each)] for at, each in queue if not each.is_gone]] for term, queue in host.due.items()]
        held = len(host.connections)
        rows = []
        for connection in connections:  # grows by those that had the same PID before
            row = {name: self._value(name, value) for name, value in vars(connection).items()}
            row["older"] = number(connection.older)
            rows.append(row)
        return _encode(
            [
                FORMAT, host in self._held.heard, host.clock_us, host.last_us, host.leaped_total, host.has_sshd, host.names,
                host.next_sweep_us,
                held, rows, by_source, children, waiting, due, self._forged(host),
            ]
        )  # fmt: skip

    def _forged(self, host: Host) -> list[Any]:
        return [
            [
                *kind,
                counted.since_us,
                counted.count,
                counted.id,
                None if counted.line is None else self._line(counted.line),
                counted.last_us,
            ]
            for kind, counted in host.forged.items()
        ]

    def _value(self, name: str, value: Any) -> Any:
        if value is None:
            return None
        if name in _LINES:
            return self._line(value)
        if isinstance(value, Login):
            fields = msgspec.structs.asdict(value)
            return fields | {"line": self._line(value.line)}
        return value

    def _line(self, line: Line) -> list[Any]:
        return [self._names[line[RULE]], *line[RULE + 1 :]]

    # ---------------------------------------------------------------- in

    def _host(self, body: bytes) -> Host:
        version, is_heard, *fields = _decode(body)
        if version != FORMAT:
            raise ValueError(f"format {version}")
        host = Host()
        host.clock_us, host.last_us, host.leaped_total, host.has_sshd, names, host.next_sweep_us = fields[:6]
        held, rows, by_source, children, waiting, due, *later = fields[6:]
        host.names = [(name, program) for name, program in names]
        connections = [Connection.__new__(Connection) for _ in rows]
        for connection, row in zip(connections, rows, strict=True):
            for name, value in row.items():
                setattr(connection, name, self._read(name, value, connections))
        host.connections = {connection.procid: connection for connection in connections[:held]}
        host.by_source = {(address, port): connections[number] for address, port, number in by_source}
        host.children = {pid: connections[number] for pid, number in children}
        host.waiting = deque((at, connections[number]) for at, number in waiting)
        for uid, claim, since_us, count, event_id, line, last_us in later[0] if later else ():
            host.forged[uid, claim] = ForgedCount(
                since_us, count, event_id, None if line is None else self._line_of(line), last_us
            )
        if is_heard:
            self._held.heard.add(host)
        host.due = {term: deque((at, connections[number]) for at, number in queue) for term, queue in due}
        return host

    def _read(self, name: str, value: Any, connections: list[Connection]) -> Any:
        if value is None:
            return None
        if name == "older":
            return connections[value]
        if name in _LINES:
            return self._line_of(value)
        if name == "login":
            return Login(**value | {"line": self._line_of(value["line"])})
        return value

    def _line_of(self, values: list[Any]) -> Line:
        values[RULE] = self._names.index(values[RULE])
        if values[TRUSTED] is not None:
            values[TRUSTED] = tuple(values[TRUSTED])
        return tuple(values)
