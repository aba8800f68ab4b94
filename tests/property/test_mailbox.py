"""Any text is either refused as a mail address, or makes a header that everybody reads as that one address."""

from __future__ import annotations

import email.policy
from email import message_from_bytes
from email.message import EmailMessage

from hypothesis import given
from hypothesis import strategies as st

from consumer.mailbox import Mailbox, mailbox_of

# Whatever means something in an address or in a header, and some that do not.
LETTERS = st.text(st.sampled_from('ab.@<>()[]\\",;: =?_-!ü\u00a0\r\n\t\0'), max_size=12)
LOCAL = st.one_of(LETTERS, LETTERS.map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'))
DOMAIN = st.one_of(LETTERS, st.sampled_from(["x.example", "[192.0.2.1]", "[IPv6:::1]", "bücher.example", "127.0.0.1"]))
TEXT = st.one_of(
    LETTERS,
    st.tuples(LOCAL, DOMAIN).map("@".join),
    st.tuples(LOCAL, LOCAL, DOMAIN).map(lambda parts: f"{parts[0]} <{parts[1]}@{parts[2]}>"),
)


def found(text: str) -> Mailbox | None:
    """Return the address, if it is one."""
    try:
        return mailbox_of(text)
    except ValueError:
        return None


@given(TEXT)
def test_refused_or_sendable(text: str) -> None:
    """One header, one address, one line of SMTP."""
    mailbox = found(text)
    if mailbox is None:
        return
    assert mailbox.smtp.isprintable()
    assert found(mailbox.smtp) == mailbox._replace(name="")
    # Only with ASCII can the email package read again what it writes.
    if mailbox.smtp.isascii():
        mail = EmailMessage(policy=email.policy.SMTP)
        mail["To"] = [mailbox.header]
        raw = mail.as_bytes()
        assert raw.isascii()
        (address,) = message_from_bytes(raw, policy=email.policy.SMTP)["To"].addresses
        assert (address.display_name.split(), address.addr_spec) == (mailbox.name.split(), mailbox.smtp)
