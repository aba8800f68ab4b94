"""
The nftables part: a table of our own, with a set of addresses and one of networks for each version of IP.

Source: libnftables-json(5). Each element has a time-out, so the kernel forgets it by itself, even if sshbell has gone. Only new
connections are dropped: a session that exists goes on.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from consumer.block.target import Target

TABLE = "sshbell"
_WHERE = {"family": "inet", "table": TABLE}
_SYN = {"match": {
    "op": "==", "left": {"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, {"|": ["syn", "ack"]}]}, "right": "syn",
}}  # fmt: skip
# The names of the sets, with IP version, and whether they hold networks.
_SETS = {
    f"{kind}_{what}{version}": (version, what == "networks")
    for kind in ("allowed", "blocked")
    for version in (4, 6)
    for what in ("addresses", "networks")
}
_Command = dict[str, Any]


def whole_table(blocked: Mapping[Target, int], allowed: Iterable[Target], ports: Sequence[int], now_us: int) -> _Command:
    """
    Return the commands that replace the table in one transaction.

    Args:
        blocked: the end of each block, in microseconds since 1970.
        allowed: the allow list; this and ``blocked`` hold no network within another one.
        ports: of TCP.
        now_us: the wall clock.
    """
    table = {"family": "inet", "name": TABLE}
    # To add it first makes the deletion valid.
    commands: list[_Command] = [{"add": {"table": table}}, {"delete": {"table": table}}, {"add": {"table": table}}]
    for name, (version, has_networks) in _SETS.items():
        flags = [*(["interval"] if has_networks else []), *(["timeout"] if name.startswith("blocked") else [])]
        made = {**_WHERE, "name": name, "type": f"ipv{version}_addr"} | ({"flags": flags} if flags else {})
        commands.append({"add": {"set": made}})
    chain = {**_WHERE, "name": "input", "type": "filter", "hook": "input", "prio": -10, "policy": "accept"}
    commands.append({"add": {"chain": chain}})
    to_ssh = {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": {"set": sorted(ports)}}}
    for name, (version, _) in _SETS.items():
        source = {"payload": {"protocol": "ip" if version == 4 else "ip6", "field": "saddr"}}
        from_set = {"match": {"op": "==", "left": source, "right": f"@{name}"}}
        verdict: _Command = {"drop": None} if name.startswith("blocked") else {"return": None}
        commands.append({"add": {"rule": {**_WHERE, "chain": "input", "expr": [to_ssh, _SYN, from_set, verdict]}}})
    commands += _elements("add", "allowed", ((target, None) for target in allowed))
    commands += _elements("add", "blocked", ((target, _left_s(until_us, now_us)) for target, until_us in blocked.items()))
    return {"nftables": commands}


def changes(before: Mapping[Target, int], after: Mapping[Target, int], now_us: int) -> _Command | None:
    """
    Return the commands that turn one state of the blocked sets into another one; None if there is nothing to do.

    The transaction fails if the kernel has just forgotten an element that it deletes. Then ``whole_table`` helps.
    """
    gone = [(target, None) for target, until_us in before.items() if until_us > now_us and after.get(target) != until_us]
    new = [(target, _left_s(until_us, now_us)) for target, until_us in after.items() if before.get(target) != until_us]
    commands = _elements("delete", "blocked", gone) + _elements("add", "blocked", new)
    return {"nftables": commands} if commands else None


def no_table() -> _Command:
    """Return the commands that delete the table."""
    table = {"family": "inet", "name": TABLE}
    return {"nftables": [{"add": {"table": table}}, {"delete": {"table": table}}]}


def _left_s(until_us: int, now_us: int) -> int:
    return max(1, -((now_us - until_us) // 1_000_000))


def _elements(verb: str, kind: str, timed: Iterable[tuple[Target, int | None]]) -> list[_Command]:
    found: dict[str, list[object]] = {}
    for target, left_s in timed:
        address, _, length = target.text.partition("/")
        name = f"{kind}_{'networks' if target.is_network else 'addresses'}{target.version}"
        value: object = {"prefix": {"addr": address, "len": int(length)}} if length else address
        found.setdefault(name, []).append(value if left_s is None else {"elem": {"val": value, "timeout": left_s}})
    return [{verb: {"element": {**_WHERE, "name": name, "elem": values}}} for name, values in found.items()]
