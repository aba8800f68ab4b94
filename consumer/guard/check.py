"""
Answers ``sshbell block check``, in its own, light way: a script may ask at each login.

The types of the messages, and all other libraries, take longer to load than the answer. So this imports what is slow only when
it needs it: without ``guard``, or for an address that is none.
"""

import json
import socket
import time
from typing import Any

from consumer.errors import TryLaterError, UsageError
from consumer.state_dir import DEFAULT_PATH, GUARD_SOCKET, state_dir_in
from consumer.text import harmless

_LIMIT_S = 5.0
_USER = "user:"


def check(target: str, user: str, config: str | None, *, as_json: bool) -> tuple[str, bool]:
    """
    Return whether an address or a user is blocked: the lines to print, and the answer.

    Args:
        target: an address, or ``user:NAME``.
        user: ask about this user from that address; "" for any.
        config: as in ``consumer.config_file.load``.
        as_json: the lines are one JSON object.

    Raises:
        SshbellError: there is no answer.
    """
    is_user = target.startswith(_USER)
    name, address = (target.removeprefix(_USER), "") if is_user else (user, target)
    if address and not _is_address(address):
        raise UsageError(f"check takes an address or user:NAME, not {target!r}")
    if not address and not name:
        raise UsageError("user: needs a name")
    found = _from_guard(address, name, config)
    if found is None:
        found = _from_store(address, name, config)
    if found.get("fault"):
        raise TryLaterError(found["fault"])
    is_enforcing, allowed = found.get("is_enforcing", True), found.get("allowed", "")
    blocks = found.get("blocks", []) if is_enforcing else []
    if as_json:
        answer = {"target": target, "blocked": bool(blocks), "allowed": allowed, "blocks": blocks}
        return f"{json.dumps(answer)}\n", bool(blocks)
    lines = []
    for one in blocks:
        until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["until_us"] // 1_000_000))
        lines.append(f"{target} is blocked until {until}, as {one['target']}: {one['reason']}")
    if not blocks:
        why = f": never blocked: {allowed}" if allowed else ""
        lines.append(f"{target} is not blocked{why}{'' if is_enforcing else ': blocking is turned off'}")
    return "".join(f"{harmless(line)}\n" for line in lines), bool(blocks)


def _is_address(text: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text.partition("%")[0])
        except (OSError, ValueError):
            continue
        return True
    return False


def _from_guard(address: str, user: str, config: str | None) -> dict[str, Any] | None:
    """Return the answer of ``guard``; None if it does not answer."""
    with socket.socket(socket.AF_UNIX) as guard:
        guard.settimeout(_LIMIT_S)
        try:
            guard.connect(f"{state_dir_in(config or DEFAULT_PATH)}/{GUARD_SOCKET}")
            guard.sendall(json.dumps({"type": "check", "address": address, "user": user}).encode() + b"\n")
            said = b""
            while not said.endswith(b"\n") and (part := guard.recv(1 << 16)):
                said += part
            found: dict[str, Any] = json.loads(said)
        except (OSError, ValueError):
            return None
    return found


def _from_store(address: str, user: str, config: str | None) -> dict[str, Any]:
    """Return what ``guard`` would answer if it were running."""
    import msgspec  # noqa: PLC0415 - see above, and so are these

    from consumer.config_file import load  # noqa: PLC0415
    from consumer.guard.messages import Check  # noqa: PLC0415
    from consumer.guard.without import checked_without_guard  # noqa: PLC0415

    answer: dict[str, Any] = msgspec.to_builtins(checked_without_guard(load(config), Check(address, user)))
    return answer
