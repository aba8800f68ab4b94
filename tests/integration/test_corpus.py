"""
Lines from other projects' tests, and whether ``parse`` reads in them what their authors expected.

The cases lie beside the project and are read in place, because they are other people's data.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.truth import PROJECT_DIR, Event, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

CASES = PROJECT_DIR.parent / "shared" / "corpus" / "cases.jsonl"

REQUIRED_SHARE = 0.98

#: Case ids whose expectation we do not share, with the reason.
KNOWN_DIFFERENCES: dict[str, str] = {}

ATTEMPTS = {"failed", "invalid_user", "user_denied", "max_attempts", "pam_failure"}
ENDS = {
    "received_disconnect",
    "disconnected",
    "connection_closed",
    "negotiation_failed",
    "bad_client",
    "protocol_error",
    "timeout",
    "connection_dropped",
}

#: What each kind of expectation accepts as ``event.action``.
KINDS = {
    "login_accepted": {"accepted"},
    "auth_failed": {"failed", "pam_failure"},
    "auth_postponed": {"postponed"},
    "invalid_user": {"invalid_user"},  # and see NAMES_NOBODY
    "user_denied": {"user_denied"},
    "max_attempts": {"max_attempts"},
    "session_opened": {"session_opened"},
    "session_closed": {"session_closed"},
    "session_started": {"session_started"},
    "connection_opened": {"connection_opened"},
    "disconnect": {"received_disconnect", "disconnected", "connection_closed"},
    "negotiation_failed": {"negotiation_failed"},
    "timeout": {"timeout"},
    "refused_connection": {"connection_dropped"},
    "bad_client": {"bad_client"},
    "protocol_error": {"protocol_error"},
    "dns_warning": {"dns_warning"},
    # The source does not say which sort of failure it is.
    "failure": ATTEMPTS | ENDS,
    "connection_failure": ATTEMPTS | ENDS,
}

#: What each negative kind forbids.
FORBIDDEN = {
    "not_ssh": ATTEMPTS | {"accepted"},
    "no_match": ATTEMPTS | {"accepted"},
    "not_auth": ATTEMPTS | {"accepted"},
    "no_failure": ATTEMPTS,
    "no_ban": {"failed"},  # weak: the line can belong to a failure that another line counts
}

# A line that says so itself is about an invalid user, whatever else it tells.
NAMES_NOBODY = re.compile(r"(?i)\b(?:invalid|illegal|unknown) user|user unknown")

#: Expectations that stand in one field.
FIELDS = {
    "user": "user.name",
    "host": "source.address",
    "port": "source.port",
    "key_type": "ssh.key.type",
    "key_fingerprint": "ssh.key.fingerprint",
    "uid": "user.id",
    "repeat": "ssh.count",
}


def address(text: str | None) -> str | None:
    """Return an address in one spelling: without a zone, and IPv4 in IPv6 as IPv4; anything else as it is."""
    try:
        parsed = ipaddress.ip_address((text or "").partition("%")[0])
    except ValueError:
        return text
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def right_kind(kind: str, line: str, event: Event) -> bool:
    """Whether the event says what kind of line it is; negatives are content with no event at all."""
    action = event.get("event.action")
    if kind in FORBIDDEN:
        return action not in FORBIDDEN[kind]
    if kind == "invalid_user" and NAMES_NOBODY.search(line):
        return action not in {None, "unmatched"}
    return action in KINDS[kind]


def right_field(name: str, value: Any, event: Event) -> bool:
    """Whether the event has the expected value; numbers may come as text."""
    if name == "ip":
        return address(value) in {address(event.get("source.ip")), address(event.get("source.address"))}
    if name == "method":
        return str(value) == "/".join(filter(None, [event.get("ssh.method"), event.get("ssh.submethod")]))
    told = event.get(FIELDS[name], 1 if name == "repeat" else None)
    return told == value or (name in {"port", "uid", "repeat"} and told is not None and int(told) == int(value))


def checks(expect: dict[str, Any], line: str, event: Event, context: Iterable[Event] = ()) -> Iterator[tuple[str, bool]]:
    """Yield each assertion of an expectation with its result; only the address may come from ``context``."""
    for name, value in expect.items():
        if name == "kind":
            yield f"kind {value}", right_kind(value, line, event)
        elif name == "ip":
            yield f"ip {value}", any(right_field(name, value, e) for e in (event, *context))
        elif name == "method" or name in FIELDS:
            yield f"{name} {value}", right_field(name, value, event)


def check_case(case: dict[str, Any], events: list[Event]) -> Iterator[tuple[str, bool]]:
    """Yield the assertions of one case; ``events`` has one event, perhaps empty, for each of its lines."""
    expect, lines = case["expect"], case["lines"]
    yield from checks(expect, lines[-1], events[-1], events[:-1] if case.get("needs_context") else ())
    for part in expect.get("events", []):
        met = any(all(right for _, right in checks(part, *pair)) for pair in zip(lines, events, strict=True))
        yield f"an event with {part}", met
    for user in expect.get("users", []):
        yield f"user {user}", any(event.get("user.name") == user for event in events)


def told(event: Event) -> str:
    """Return the part of an event that the assertions look at."""
    names = ["event.action", "rule.name", "source.ip", *FIELDS.values(), "ssh.method", "ssh.submethod"]
    return str({name: event[name] for name in names if name in event})


@pytest.mark.skipif(not CASES.exists(), reason="the corpus of other projects' lines is not beside this project")
def test_other_projects_expectations_are_met(tmp_path: Path) -> None:
    """Of the assertions that other projects make about their lines at least 98 % hold, and no line is accused wrongly."""
    cases = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
    together = tmp_path / "corpus.log"
    together.write_text("".join(f"{line}\n" for case in cases for line in case["lines"]), encoding="utf-8")
    by_line: defaultdict[int, Event] = defaultdict(dict)
    by_line.update((event["log.file.line"], event) for event in run("parse", together))

    total, wrong, accused, line_number = 0, [], [], 1
    for case in cases:
        events = [by_line[number] for number in range(line_number, line_number + len(case["lines"]))]
        line_number += len(case["lines"])
        if case["id"] in KNOWN_DIFFERENCES:
            continue
        results = list(check_case(case, events))
        total += len(results)
        faults = [name for name, right in results if not right]
        if faults:
            text = f"{case['id']}: expected {', '.join(faults)}\n    {case['lines'][-1]}\n    {told(events[-1])}"
            wrong += [text] * len(faults)
            if case["expect"].get("kind") in FORBIDDEN:
                accused.append(text)

    assert not accused, "\n".join(accused)
    share = 1 - len(wrong) / total
    assert share >= REQUIRED_SHARE, "\n".join([f"{share:.1%} of {total} assertions hold", *dict.fromkeys(wrong)])
