"""
What the commands for PAM and ``deliver`` say to each other: one line of JSON each way.

Both are objects with the fields below. A missing field of a request has its default, and unknown fields do not matter. So a
command and a ``deliver`` of different versions understand each other. This module loads nothing but ``json``, because a login
waits for it.
"""

import json
from typing import NamedTuple

# In bytes, with the line feed.
REQUEST_LIMIT, ANSWER_LIMIT = 16 * 1024, 4 * 1024
# Texts other than codes and session numbers, in characters; names in a list.
TEXT_LIMIT, LIST_LIMIT = 1024, 32


class CodeRequest(NamedTuple):
    """
    Asks for a message with a code or, without a code, for the report that somebody asks for many codes.

    Attributes:
        session: the number that the prompt shows, too; digits.
        code: digits; "" for the report.
        user: the account, as PAM names it.
        host: this host's name.
        address: where the user comes from, an IP address or a name; "" on a console.
        service: of PAM: "sshd".
        destination: the address of this host that the user has connected to; "" if unknown.
        method: what sshd has accepted so far: "publickey"; "" if unknown.
        key: the fingerprint of the user's key: "SHA256:..."; "" if unknown. It tells the owners of a shared account apart.
        to: "team" for the channels' own recipients, or "owner" for the person of ``people.toml``.
        channels: names, in the order in which to try them.
        new: send a code only if one of these is new: "address", "network", "country"; empty to send one in any case.
        emergency_left: the user's unused emergency codes.
        valid_s: how long the code counts, in seconds.
        timeout_s: how long all channels together may try, in seconds.
        prompts: for the report, how many codes somebody has asked for.
        trial: ``sshbell pam try`` asks, and nobody logs in.
    """

    session: str
    code: str
    user: str
    host: str
    address: str = ""
    service: str = "sshd"
    destination: str = ""
    method: str = ""
    key: str = ""
    to: str = "team"
    channels: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    emergency_left: int = 0
    valid_s: int = 300
    timeout_s: float = 10.0
    prompts: int = 0
    trial: bool = False


class CodeAnswer(NamedTuple):
    """
    The answer; exactly one of the fields is set.

    Attributes:
        channel: the name of the channel that has accepted the message.
        not_needed: ``new`` was asked, and nothing is new.
        fault: why no channel has it, in one line that is safe for a terminal.
    """

    channel: str = ""
    not_needed: bool = False
    fault: str = ""


def line_of(message: CodeRequest | CodeAnswer) -> bytes:
    """Return a message as a line. Bytes that are no UTF-8, as ``os.environ`` gives them, become "?"."""
    return json.dumps(message._asdict(), ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def code_answer_of(line: bytes) -> CodeAnswer:
    """
    Read an answer.

    Raises:
        ValueError: it is not one.
    """
    match json.loads(line):
        case {"channel": str(channel), "not_needed": bool(not_needed), "fault": str(fault)}:
            answer = CodeAnswer(channel, not_needed, fault)
            if [bool(field) for field in answer].count(True) == 1:
                return answer
    raise ValueError("not an answer of deliver")
