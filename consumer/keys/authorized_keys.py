r"""
Reads the lines of ``authorized_keys`` as sshd does.

Source: OpenSSH ``auth2-pubkeyfile.c`` (``auth_check_authkey_line``), ``sshkey.c`` (``sshkey_read``), ``authfile.c``
(``sshkey_advance_past_options``), ``auth-options.c`` (``sshauthopt_parse``), 6.0 to 10.2. Rule::

    line    = [blanks] [options blanks] type blanks base64 [blanks comment]
    options = [option] *("," [option])
    option  = name | name "=" quote *(any but quote, or "\" quote) quote

A line ends with a line feed or at a NUL; blanks are space and tab. sshd refuses a line with an option that it does not know or
cannot read, so sshbell skips such a line, too. It checks only the lengths in a key, not whether, for example, the point of an
ECDSA key is on its curve: sshd has checked that before it let anybody in.
"""

import re
from base64 import b64encode
from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Iterator
from hashlib import md5, sha256
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

# Longer lines are skipped: RSA keys of 16,384 bits, the longest that sshd accepts, take 2,800 bytes.
LINE_LIMIT = 16 * 1024
LINES_LIMIT = 200_000
COMMENT_LIMIT = 200
OPTION_LIMIT = 200
# Options of one line; sshd refuses a second one of each of these except expiry-time.
OPTIONS_LIMIT = 8

_KEY = re.compile(rb"([^ \t]+)[ \t]+([^ \t]+)[ \t]*", re.DOTALL)
# The alternatives begin with different characters, so the pattern never backtracks.
_QUOTED = rb'"(?:[^"\\]|\\"|\\(?!"))*"'
_OPTIONS = re.compile(rb'((?:[^ \t"\\]|\\"|\\(?!")|' + _QUOTED + rb")+)[ \t]+")
_OPTION = re.compile(
    rb"(restrict|cert-authority|(?:no-)?(?:port-forwarding|agent-forwarding|x11-forwarding|pty|user-rc|touch-required|verify-required))"
    rb"|(command|environment|expiry-time|from|permitlisten|permitopen|principals|tunnel)=(" + _QUOTED + rb")",
    re.IGNORECASE,
)
_VALUES = {
    b"environment": re.compile(rb"[A-Za-z0-9_]*=.*", re.DOTALL),
    b"expiry-time": re.compile(rb"[0-9]{8}(?:[0-9]{4}(?:[0-9]{2})?)?Z?"),
    b"permitlisten": re.compile(rb"(?:.*:)?(?:[0-9]{1,5}|\*)", re.DOTALL),
    b"permitopen": re.compile(rb".*:(?:[0-9]{1,5}|\*)", re.DOTALL),
    b"tunnel": re.compile(rb"any|[0-9]+", re.IGNORECASE),
}
_ONCE = frozenset({b"command", b"from", b"principals"})
# Not environment: it may hold secrets, and it does not restrict a login.
_SHOWN = frozenset({b"command", b"expiry-time", b"from", b"principals", b"restrict"})

# The lengths of the strings after the type in a key's blob; None for any length.
_FIELDS: dict[bytes, tuple[int | None, ...]] = {
    b"ecdsa-sha2-nistp256": (8, 65),
    b"ecdsa-sha2-nistp384": (8, 97),
    b"ecdsa-sha2-nistp521": (8, 133),
    b"sk-ecdsa-sha2-nistp256@openssh.com": (8, 65, None),
    b"sk-ssh-ed25519@openssh.com": (32, None),
    b"ssh-dss": (None, None, None, None),
    b"ssh-ed25519": (32,),
    b"ssh-rsa": (None, None),
}
# Names of signatures that sshd also accepts as names of keys.
_ALIASES = {
    b"rsa-sha2-256": b"ssh-rsa",
    b"rsa-sha2-512": b"ssh-rsa",
    b"webauthn-sk-ecdsa-sha2-nistp256@openssh.com": b"sk-ecdsa-sha2-nistp256@openssh.com",
}
_RSA_BITS = 1024
_CERTIFICATE = b"-cert-v01@openssh.com"


_Text = Annotated[str, Meta(max_length=1024)]


class AuthorizedKey(msgspec.Struct, frozen=True, omit_defaults=True):
    r"""
    One line that allows a key. ``sshbell keys export`` writes it as JSON; the annotations bound what ``import`` accepts.

    Attributes:
        account: the account that the line opens; "" for an authority for all accounts.
        type: as the key itself spells it, ``ssh-ed25519``.
        sha256: ``SHA256:`` and 43 characters of unpadded base64, as sshd logs it.
        md5: ``MD5:`` and 16 bytes in hex with colons.
        comment: the text after the key, or ""; hostile. Bytes that are not UTF-8 are written as ``\xNN``. A comment of more than
            ``COMMENT_LIMIT`` characters is cut and ends with ``…``.
        options: those that restrict a login, as in the file: ``from="192.0.2.0/24"``, ``restrict``; at most ``OPTIONS_LIMIT``, of
            up to ``OPTION_LIMIT`` characters each; hostile like the comment.
        is_authority: it is a ``cert-authority`` line: not a person's key, but one whose certificates sshd accepts.
        bits: the length of an RSA key; 0 for other types, and in documents of an older sshbell.
    """

    account: Annotated[str, Meta(max_length=256)]
    type: Annotated[str, Meta(max_length=100)]
    sha256: Annotated[str, Meta(pattern=r"^SHA256:[A-Za-z0-9+/]{43}\Z")]
    md5: Annotated[str, Meta(pattern=r"^MD5:[0-9a-f]{2}(:[0-9a-f]{2}){15}\Z")]
    comment: _Text = ""
    options: Annotated[list[_Text], Meta(max_length=32)] = []
    is_authority: bool = msgspec.field(name="authority", default=False)
    bits: Annotated[int, Meta(ge=0)] = 0


class _Parts(NamedTuple):
    options: bytes
    type: bytes
    blob: bytes
    comment: bytes


def parsed(text: bytes, account: str = "") -> Iterator[AuthorizedKey]:
    """Yield the lines that allow a key of an account, among the first ``LINES_LIMIT``; never raises."""
    start = 0
    for _ in range(LINES_LIMIT):
        if start >= len(text):
            return
        end = text.find(b"\n", start)
        if end < 0:
            end = len(text)
        if end - start <= LINE_LIMIT:
            key = _authorized(text[start:end], account)
            if key is not None:
                yield key
        start = end + 1


def _authorized(line: bytes, account: str) -> AuthorizedKey | None:
    """Return the key that a line (without line feed) allows; None for a blank line, a comment and a line that sshd refuses."""
    found = _read(line)
    if found is None:
        return None
    options = _read_options(found.options)
    if options is None:
        return None
    names = {name for name, _ in options}
    is_authority = b"cert-authority" in names
    if b"principals" in names and not is_authority:
        return None
    return AuthorizedKey(
        account,
        found.type.decode("ascii", "backslashreplace"),
        "SHA256:" + b64encode(sha256(found.blob).digest()).decode().rstrip("="),
        "MD5:" + md5(found.blob, usedforsecurity=False).digest().hex(":"),
        _bounded(found.comment, COMMENT_LIMIT),
        [_bounded(text, OPTION_LIMIT) for name, text in options if name in _SHOWN][:OPTIONS_LIMIT],
        is_authority,
        _rsa_bits(found.blob) if found.type == b"ssh-rsa" else 0,
    )


def _read(line: bytes) -> _Parts | None:
    """Split a line without checking its options."""
    line = line.partition(b"\0")[0].lstrip(b" \t")
    if not line or line[0] == ord("#"):
        return None
    found = _read_key(b"", line)
    if found is None and (options := _OPTIONS.match(line)) is not None:
        found = _read_key(options[1], line[options.end() :])
    return found


def _read_key(options: bytes, text: bytes) -> _Parts | None:
    words = _KEY.match(text)
    if words is None:
        return None
    blob = _decoded(words[2])
    type_ = _ALIASES.get(words[1], words[1])
    if blob is None or not _is_key(type_, blob):
        return None
    return _Parts(options, type_, blob, text[words.end() :].strip(b" \t\r"))


def _decoded(text: bytes) -> bytes | None:
    """Decode base64 as sshd does: skip white space, and refuse anything else that an encoder would not write."""
    text = text.translate(None, b"\r\n\v\f")
    try:
        blob = a2b_base64(text)
    except Error:
        return None
    return blob if b2a_base64(blob, newline=False) == text else None


def _is_key(type_: bytes, blob: bytes) -> bool:
    """Return whether a blob is a key of a type. A key of an unknown type must consist of strings and begin with its type."""
    strings = _strings(blob)
    # These files never hold certificates, only their authorities.
    if strings is None or strings[:1] != [type_] or type_.endswith(_CERTIFICATE):
        return False
    if type_ == b"ssh-rsa" and _rsa_bits(blob) < _RSA_BITS:
        return False
    lengths = _FIELDS.get(type_)
    return lengths is None or (
        len(strings) == 1 + len(lengths)
        and all(length is None or length == len(string) for length, string in zip(lengths, strings[1:], strict=True))
    )


def _rsa_bits(blob: bytes) -> int:
    """Return the length of an RSA key in bits: of its modulus, the last string."""
    strings = _strings(blob)
    return int.from_bytes(strings[-1], "big").bit_length() if strings else 0


def _strings(blob: bytes) -> list[bytes] | None:
    """Split a blob into RFC 4251 strings: four bytes of length each, then the text; None if they do not fill the blob."""
    strings = []
    at = 0
    while at < len(blob):
        end = at + 4 + int.from_bytes(blob[at : at + 4], "big")
        if end > len(blob):
            return None
        strings.append(blob[at + 4 : end])
        at = end
    return strings


def _read_options(text: bytes) -> list[tuple[bytes, bytes]] | None:
    """Return each option's name in lower case and its whole text; None if sshd refuses them."""
    found: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(text):
        option = _OPTION.match(text, at)
        if option is not None:
            name = (option[1] or option[2]).lower()
            value = _VALUES.get(name)
            if value is not None and value.fullmatch(option[3][1:-1].replace(b'\\"', b'"')) is None:
                return None
            if name in _ONCE and any(name == other for other, _ in found):
                return None
            found.append((name, option[0]))
            at = option.end()
        if at < len(text) and text[at] != ord(","):
            return None
        at += 1
    return found


def _bounded(raw: bytes, limit: int) -> str:
    # A character has four bytes at most.
    text = raw[: 4 * limit + 4].decode("utf-8", "backslashreplace")
    return text if len(text) <= limit else text[: limit - 1] + "…"
