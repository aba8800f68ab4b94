"""The table of ``outbox``: columns that stay aligned, reasons in full, and nothing that a terminal obeys."""

from __future__ import annotations

import json
from datetime import UTC
from zoneinfo import ZoneInfo

import pytest
from rich.cells import cell_len

from consumer.commands.outbox import _rows, _with_cap
from consumer.store.delivery_rows import DeliveryRow

# 2026-11-22 10:00:00 UTC.
AT_US = 1_795_341_600_000_000
REFUSED = "mail.example.org:587: the connection: Connection refused"


def row(
    state: str, user: str = "carol", host: str = "web1", *, channel: str = "ops", attempts: int = 1, reason: str | None = None
) -> DeliveryRow:
    """Return a message as the store gives it; one that is pending comes in a far future."""
    body = json.dumps({"event": {"action": "ssh_login"}, "user": {"name": user}, "host": {"name": host}}).encode()
    next_us = AT_US + 10**15 if state == "pending" else None
    return DeliveryRow("3fa29c01ab12ffff", channel, state, attempts, AT_US, next_us, reason, body, "")


ROWS = [
    row("pending", attempts=3, reason=REFUSED),
    row("dead", "山田太郎", "サーバー" * 9, channel="oncall-team-berlin", attempts=12, reason="550 no such mailbox"),
    row("sent", "x\x1b[2J", "[red]h[/]"),
]


def test_80_columns() -> None:
    """Reasons stand below their rows, where none fits."""
    assert list(_rows(ROWS, 80, UTC, color=False)) == [
        "id           channel  state   tries next try         what",
        "3fa29c01ab12 ops      pending     3 2058-07-31 11:46 ssh_login carol@web1",
        "    mail.example.org:587: the connection: Connection refused",
        "3fa29c01ab12 oncall-… dead       12 never            ssh_login 山田太郎@サー…",
        "    550 no such mailbox",
        r"3fa29c01ab12 ops      sent        1 never            ssh_login x\x1b[2J@[red…",
    ]


def test_120_columns() -> None:
    """There is room for seconds, and for when it was queued."""
    assert list(_rows(ROWS[:2], 120, UTC, color=False)) == [
        "id            channel       state    tries  queued               next try             what",
        "3fa29c01ab12  ops           pending      3  2026-11-22 10:00:00  2058-07-31 11:46:40  ssh_login carol@web1",
        "    mail.example.org:587: the connection: Connection refused",
        "3fa29c01ab12  oncall-team…  dead        12  2026-11-22 10:00:00  never                ssh_login 山田太郎@サー…",
        "    550 no such mailbox",
    ]


def test_160_columns() -> None:
    """A reason that fits stands in its row, a longer one below."""
    assert list(_rows(ROWS[:2], 160, UTC, color=False)) == [
        "id            channel       state    tries  queued               next try             what                      reason",
        "3fa29c01ab12  ops           pending      3  2026-11-22 10:00:00  2058-07-31 11:46:40  ssh_login carol@web1",
        "    mail.example.org:587: the connection: Connection refused",
        (
            "3fa29c01ab12  oncall-team…  dead        12  2026-11-22 10:00:00  never                ssh_login 山田太郎@サー…  "
            "550 no such mailbox"
        ),
    ]


def test_zone() -> None:
    """All times are of the zone that --tz names."""
    held = _with_cap(row("pending"), AT_US + 10**15, ZoneInfo("Asia/Tokyo"))
    _head, text = _rows([held], None, ZoneInfo("Asia/Tokyo"), color=False)
    assert "2026-11-22 19:00:00  2058-07-31 20:46:40" in text
    assert text.endswith("held back by max_per_hour until 2058-07-31 20:46:40")


def test_a_file_gets_everything() -> None:
    """One line a message, with nothing cut."""
    _head, pending, dead, _sent = _rows(ROWS, None, UTC, color=False)
    assert pending.endswith(f"  ssh_login carol@web1                {REFUSED}")
    assert "  oncall-team-berlin  " in dead
    assert f"山田太郎@{'サーバー' * 9}  550 no such mailbox" in dead


def test_what_a_budget_holds_back() -> None:
    """A waiting message shows until when max_per_hour holds it back, and why it failed before; a finished one does not."""
    held_us = AT_US + 10**15 + 90_000_000
    first = row("pending", attempts=0)._replace(next_us=0)
    rows = [
        _with_cap(first, held_us, UTC),
        _with_cap(row("pending", reason=REFUSED), held_us, UTC),
        _with_cap(row("dead"), held_us, UTC),
    ]
    assert list(_rows(rows, 80, UTC, color=False)) == [
        "id           channel  state   tries next try         what",
        "3fa29c01ab12 ops      pending     0 2058-07-31 11:48 ssh_login carol@web1",
        "    held back by max_per_hour until 2058-07-31 11:48:10",
        "3fa29c01ab12 ops      pending     1 2058-07-31 11:48 ssh_login carol@web1",
        f"    held back by max_per_hour until 2058-07-31 11:48:10; {REFUSED}",
        "3fa29c01ab12 ops      dead        1 never            ssh_login carol@web1",
    ]
    assert _with_cap(first, None, UTC) == first


@pytest.mark.parametrize("width", [0, 1, 30, 40, 60, 79, 80, 100, 120, 160])
def test_rows_fit(width: int) -> None:
    """No row is wider than the terminal, but for reasons, and for a terminal that is too narrow for anything."""
    for text in _rows(ROWS, width, UTC, color=False):
        assert cell_len(text) <= max(width, 38) or text.startswith("    "), text


@pytest.mark.parametrize("evil", ["\x1b[2J", "a\rb", "a\nb", "\u202ex", "\x9bx", "\t", "\u200b", "\u2028", "\U000e0041"])
@pytest.mark.parametrize("width", [None, 80, 160])
def test_hostile_texts(evil: str, width: int | None) -> None:
    """What a mail server or a peer wrote is shown as escapes where it is not plain text."""
    for text in _rows([row("dead", evil, evil, channel=evil, reason=evil)], width, UTC, color=False):
        assert text.isprintable()


def test_color() -> None:
    """Given up is red, sent green, tried in vain or held back yellow; the head is bold."""
    rows = [row("dead"), row("sent"), row("pending"), row("pending", attempts=0), row("dropped")]
    rows.append(_with_cap(row("pending", attempts=0), AT_US, UTC))
    assert [text.partition("3fa29c01ab12")[0] for text in list(_rows(rows, None, UTC, color=True))[1:]] == [
        "\x1b[31m", "\x1b[32m", "\x1b[33m", "", "", "\x1b[33m",
    ]  # fmt: skip
    assert next(iter(_rows(rows, None, UTC, color=True))).startswith("\x1b[1mid  ")
