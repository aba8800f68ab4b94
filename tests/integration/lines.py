"""Lines as rsyslogd sends them to ``sshbell run``: JSON objects of our template."""

from __future__ import annotations

import json
from typing import Any

ACCEPTED = "Accepted password for alice from 192.0.2.7 port 4711 ssh2"
OPENED = "pam_unix(sshd:session): session opened for user alice(uid=1001) by (uid=0)"
CLOSED = "pam_unix(sshd:session): session closed for user alice"


def ours(text: str, at: int = 0, number: int = 0, pid: int = 7, **fields: Any) -> bytes:
    """
    Return a line.

    Args:
        text: the message.
        at: the second of its time.
        number: the microsecond of that second in which rsyslogd received it. It distinguishes lines of the same text.
        pid: sshd's.
        fields: other fields, by their names in the template; None removes one.
    """
    stamp = f"2026-11-22T10:00:{at:02}"
    # In the template's order, which some tests rely on.
    known: dict[str, Any] = {
        "v": "1", "ts": f"{stamp}.123456+00:00", "rcvd": f"{stamp}.{number:06}+00:00", "host": "web1", "from_ip": None,
        "input": None, "tag": f"sshd[{pid}]:", "prog": "sshd", "procid": str(pid), "msg": f" {text}", "uid": 0,
        "exe": "/usr/sbin/sshd",
    }  # fmt: skip
    line = {name: value for name, value in (known | fields).items() if value is not None}
    return json.dumps(line, ensure_ascii=False, separators=(", ", ":")).encode("latin-1") + b"\n"
