r"""
Converts the fields that a grammar found in a line into typed facts, for both engines.

sshd encodes names with vis(3), VIS_CSTYLE: ``\\``, ``\n``, ``\t``, ``\r``, and ``\ooo`` for bytes that are not printable ASCII.
Up to 10.2, sshd's monitor encodes the lines of the process before authentication once more. PAM writes raw bytes, and rsyslog
replaces control characters in them with ``#ooo``.
"""

import re
from collections.abc import Callable

import msgspec

from consumer.actions import LineAction
from consumer.addresses import ip_text
from consumer.matching import grammar_rules
from consumer.matching.rules import SSHBELL_PAM, SSHD, Reading
from consumer.records import Trusted
from consumer.text import readable

_VIS = re.compile(r"\\(?:([0-3][0-7]{2})|([\\abfnrstv0]))")
_VIS_TEXT = re.compile(r"(?:[^\\]|\\(?:[0-3][0-7]{2}|[\\abfnrstv0]))*\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_VIS_NAMES = {"\\": "\\", "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "s": " ", "t": "\t", "v": "\v", "0": "\0"}
# rsyslog, parser.escapeControlCharactersOnReceive: only for control characters.
_RSYSLOG_ESCAPE = re.compile(r"#(0[0-3][0-7]|177)")
# The interpreter that runs sshbell. Users can start other programs with root's rights under any name, but not this one.
_PYTHON = re.compile(r"(?:python|pypy)[0-9.]*\Z")

METHODS = {"Password": "password", "Pubkey": "publickey", "pubkey": "publickey"}


class AuthMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    One line of sshd, dropbear or PAM.

    Attributes:
        rule: the grammar rule that read it; None if no rule did, and ``action`` is ``unmatched``.
        user: as the client sent it, decoded; may be empty or contain any text.
        user_is_valid: False if, according to the line, the user does not exist or may not log in.
        address: as logged: an address, a host name, or ``UNKNOWN``.
        ip: ``address``, if it is an IP address; without a zone, and IPv4-mapped IPv6 as IPv4.
        port: 0 to 65535.
        method, submethod: in the spelling of OpenSSH.
        count: the number of lines that this line represents.
        ambiguous: the peer's own text may have produced these fields. If even the end of the line is uncertain, ``address``,
            ``ip`` and ``port`` are None.
        fields: all other named fields of the rule, as logged.
    """

    action: LineAction
    rule: str | None = None
    user: str | None = None
    user_is_valid: bool = True
    address: str | None = None
    ip: str | None = None
    port: int | None = None
    method: str | None = None
    submethod: str | None = None
    key_type: str | None = None
    key_fingerprint: str | None = None
    certificate_id: str | None = None
    certificate_serial: int | None = None
    ca_fingerprint: str | None = None
    session_kind: str | None = None
    preauth: bool = False
    count: int = 1
    ambiguous: bool = False
    fields: dict[str, str] = {}


def auth_message(reading: Reading) -> AuthMessage:
    """Convert the fields that a rule has read. It never raises: it accepts every text that a grammar accepts."""
    rule, match = reading.rule, reading.match
    if rule is None or match is None:
        return AuthMessage(action=LineAction.UNMATCHED, count=reading.repeats)
    fields = rule.groupdict(match)
    used = dict(fields)
    preauth = fields.pop("preauth", None) is not None
    if "code" in fields:
        del fields["code"]
        fields |= {name: _VIS.sub(_unvis, fields[name]) for name in ("channel", "service", "fault") if name in fields}
    if "method_info" in fields:
        fields |= method_info(fields.pop("method_info"))
    name = fields.pop("user", None)
    if name is None:
        name = next((fields.pop(field) for field in ("user_old", "user_cut") if field in fields), None)
    if name is None and rule.action is LineAction.PAM_FAILURE:
        name = fields.get("ruser") or None
    if name is None and rule.name == "root_login_refused":
        name = "root"
    address = fields.pop("address", None) or None
    port = fields.pop("port", None)
    is_invalid = fields.pop("invalid", None) is not None
    method, _, submethod = (fields.pop("method", None) or "").partition("/")
    serial = fields.pop("certificate_serial", None)
    key_id = fields.pop("certificate_id", None)
    cut = reading.is_ambiguous
    count = reading.repeats * int(fields.pop("more", "1"))
    is_raw = rule.is_pam or reading.program.family != SSHD
    # sshd writes its PID. Without one, as in the output of a container, the name of the program does not reveal the release.
    program = reading.program.name if reading.procid else ""
    return AuthMessage(
        action=rule.action,
        rule=rule.name,
        user=None if name is None else pam_name(name) if is_raw else sshd_name(name, preauth=preauth, program=program),
        user_is_valid=not is_invalid,
        address=None if cut or address is None else readable(address),
        ip=None if cut else ip_text(address),
        port=int(port) if port and not cut else None,
        method=METHODS.get(method, method) or None,
        submethod=submethod or None,
        key_type=fields.pop("key_type", None),
        key_fingerprint=fields.pop("key_fingerprint", None),
        certificate_id=None if key_id is None else sshd_name(key_id),
        certificate_serial=int(serial) if serial and len(serial) <= 20 else None,
        ca_fingerprint=fields.pop("ca_fingerprint", None),
        session_kind=fields.pop("session_kind", None),
        preauth=preauth,
        count=count,
        ambiguous=cut
        or rule.name.endswith("_cut")
        or is_ambiguous(rule.name, used, reading.text)
        # rsyslog writes a control character and these four characters in the same way.
        or (is_raw and name is not None and reading.is_annotated and reading.text.endswith(name))
        or (is_raw and name is not None and _RSYSLOG_ESCAPE.search(name) is not None)
        # Blanks after a name at the end of the line are either from a collector or part of the name.
        or (is_raw and name is not None and reading.text[-1:] == " " and reading.text.rstrip(" ").endswith(name))
        or (preauth and not is_raw and _relayed_name(name or "", program)[1]),
        fields={key: readable(value) for key, value in fields.items() if value != ""},
    )


# The separator between two texts, one of them free; and how often it may occur in a line that has only one reading.
_BETWEEN = {
    "session_opened": (") by ", 1),
    "session_opened_old": (" by ", 1),
    "session_opened_bare": (" by ", 0),
    "authorized_principal": (", krb5 principal ", 1),
    "requirement_not_met": (' by user "', 1),
    "accepted_certificate": (" signed by ", 1),
    **dict.fromkeys(("subsystem", "subsystem_failed", "subsystem_old", "subsystem_failed_old"), (" by user ", 1)),
}


def is_ambiguous(rule: str, fields: dict[str, str], text: str) -> bool:
    """Return whether a text can be read in two ways that its format allows."""
    match rule:
        case "starting_session":
            # Both the command and the user name are free text.
            return text.count("' for ") + text.count("' on ") > 1
        case "auth_failure_odd" | "ldap_failure" | "disconnecting_from_max_attempts":
            # OpenSSH 6.7 ends that line with the address. Up to 6.6 it ends with the name, which may look like an address.
            return True
        case "auth_failure" | "module_failure" | "module_success":
            # sshd passes no ruser to PAM. Other services may pass one, and it can contain the names of fields.
            return " rhost=" in fields.get("user", "") and not fields.get("tty", "").endswith("ssh")
    between, most = _BETWEEN.get(rule, ("", len(text) + 1))
    return text.count(between) > most


def method_info(text: str) -> dict[str, str]:
    """Read the text after ``ssh2: ``: a key, a certificate or a principal. Return any other text as ``info``."""
    for pattern in grammar_rules.method_info_patterns():
        match = pattern.match(text)
        if match:
            return {name: value for name, value in match.groupdict().items() if value is not None}
    return {"info": text}


def code_facts(text: str) -> dict[str, str]:
    """Read the facts about a one-time code in a line of ``sshbell-pam``; channel, service and fault as logged."""
    match = grammar_rules.code_facts_pattern().match(text)
    return {} if match is None else {name: value for name, value in match.groupdict().items() if value is not None}


def sshd_name(text: str, *, preauth: bool = False, program: str = "sshd") -> str:
    """Decode a name that sshd has encoded: once, or twice in the lines that its monitor relays."""
    return _relayed_name(text, program)[0] if preauth else readable(_VIS.sub(_unvis, text)) if "\\" in text else readable(text)


def _relayed_name(text: str, program: str) -> tuple[str, bool]:
    r"""
    Decode a name in a line that the monitor relays. Return the name, and whether it is ambiguous.

    Up to 10.2 sshd encodes these names twice, from 10.3 on once. Only the program name ``sshd`` proves a release, up to 9.7.
    In all other lines sshbell decodes a second time if that is possible and yields no control characters: ``CORP\\bob`` is a
    name from 10.3.
    """
    once = _VIS.sub(_unvis, text)
    if "\\" not in once or not _VIS_TEXT.match(once):
        return readable(once), False
    twice = _VIS.sub(_unvis, once)
    if program == "sshd":
        return readable(twice), False
    return readable(once if _CONTROL.search(twice) else twice), True


def _unvis(match: re.Match[str]) -> str:
    return chr(int(match[1], 8)) if match[1] else _VIS_NAMES[match[2]]


def pam_name(text: str) -> str:
    """Undo the escapes that rsyslog writes into a raw name."""
    if "#" in text:
        text = _RSYSLOG_ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
    return readable(text)


def origin(trusted: Trusted | None, action: LineAction, *, preauth: bool, program: str, family_of: Callable[[str], str]) -> str:
    """
    Return whether a line comes from the real daemon, judging by the sender's ids that the kernel recorded.

    ``verified``: root's process wrote it, and its path, if known, is one of sshd's or dropbear's programs, or Python for the
    lines of ``sshbell-pam``. ``forged``: another process wrote a line that only such a process writes. ``unverified``: the sender
    is unknown, or a user's session may write this line.
    """
    if trusted is None:
        return "unverified"
    uid, exe = trusted
    family = family_of(program)
    # An upgrade replaces sshd while it runs. The kernel then adds "(deleted)" to the path.
    name = exe.removesuffix(" (deleted)").rpartition("/")[2]
    is_ours = exe == "" or (_PYTHON.match(name) is not None if program == SSHBELL_PAM else family_of(name) != "")
    if uid == 0 and (is_ours or not family):
        return "verified"
    # A client can end its disconnect message with " [preauth]", and the process of its own session logs that.
    is_of_root = action.is_of_root or (preauth and action is not LineAction.RECEIVED_DISCONNECT)
    return "forged" if family and (is_of_root or uid == 0) else "unverified"
