"""
The external format of all data: the Elastic Common Schema, as nested JSON objects, one per line. docs/messages.md explains each
field.

One struct, ``EcsEvent``, goes from the store through enrichment to the message, and out of the commands. Unknown values are None,
``()`` or False, and are never written: our JSON has no nulls and no empty objects.

All structs are frozen, so that events can share a part, such as a place.
"""

import json
from typing import Any, TypeVar

import msgspec


class Fields(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """A group of fields. Decoding skips unknown names: another version of sshbell may have written them."""


class EventFields(Fields, frozen=True):
    """``event``: the event, or the meaning of a line. ``start``, ``end``: RFC 3339; ``duration``: nanoseconds."""

    kind: str | None = None
    category: tuple[str, ...] = ()
    type: tuple[str, ...] = ()
    action: str | None = None
    outcome: str | None = None
    id: str | None = None
    severity: int | None = None
    start: str | None = None
    end: str | None = None
    duration: int | None = None
    original: str | None = None


class HostFields(Fields, frozen=True):
    """``host``: the host that logged it."""

    name: str | None = None


class ProcessFields(Fields, frozen=True):
    """``process``: the process that logged it."""

    name: str | None = None
    pid: int | None = None


class UserFields(Fields, frozen=True):
    """``user``: the account; ``full_name`` is the name of the person in ``people.toml``."""

    name: str | None = None
    id: str | None = None
    full_name: str | None = None


NO_HOST, NO_USER = HostFields(), UserFields()


class LocationFields(Fields, frozen=True):
    """``geo.location``, in degrees."""

    lat: float | None = None
    lon: float | None = None


class GeoFields(Fields, frozen=True):
    """``source.geo``; ``name`` is the kind of an address that is not public."""

    name: str | None = None
    city_name: str | None = None
    region_name: str | None = None
    country_name: str | None = None
    country_iso_code: str | None = None
    continent_code: str | None = None
    timezone: str | None = None
    location: LocationFields = LocationFields()


class OrganizationFields(Fields, frozen=True):
    """``source.as.organization``."""

    name: str | None = None


class AsFields(Fields, frozen=True):
    """``source.as``: the network."""

    number: int | None = None
    organization: OrganizationFields = OrganizationFields()


class SourceFields(Fields, frozen=True):
    """``source``: ``address`` as logged, ``ip`` if it is an IP address; ``anonymous`` lists what hides the real source."""

    ip: str | None = None
    port: int | None = None
    address: str | None = None
    domain: str | None = None
    geo: GeoFields = GeoFields()
    as_: AsFields = msgspec.field(name="as", default=AsFields())
    anonymous: tuple[str, ...] = ()


NO_SOURCE = SourceFields()


class KeyFields(Fields, frozen=True):
    """``ssh.key``: ``owner`` and ``options`` come from the lines that allow it."""

    type: str | None = None
    fingerprint: str | None = None
    owner: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class CertificateFields(Fields, frozen=True):
    """``ssh.certificate``."""

    id: str | None = None
    serial: int | None = None
    ca_fingerprint: str | None = None
    ca_owner: str | None = None


class SessionFields(Fields, frozen=True):
    """``ssh.session``."""

    kind: str | None = None
    id: str | None = None


class ViaFields(Fields, frozen=True):
    """``ssh.via``: the jump host of a login, and the user on it."""

    host: HostFields = NO_HOST
    user: UserFields = NO_USER


class CodeFields(Fields, frozen=True):
    """
    ``ssh.code``: the one-time code of a login.

    ``outcome`` is one of ``consumer.events.CodeOutcome``; ``after_s`` are seconds from the message to the answer; ``left`` is the
    number of unused emergency codes.
    """

    outcome: str | None = None
    channel: str | None = None
    session: str | None = None
    after_s: int | None = None
    left: int | None = None


class SshFields(Fields, frozen=True):
    """
    ``ssh``: facts for which ECS has no field. Only ``sshbell parse`` writes the last three.

    ``method`` is the one that let somebody in; ``factors`` has all methods in order, if the log shows several.
    """

    method: str | None = None
    submethod: str | None = None
    factors: tuple[str, ...] = ()
    key: KeyFields = KeyFields()
    certificate: CertificateFields = CertificateFields()
    principal: str | None = None
    session: SessionFields = SessionFields()
    code: CodeFields = CodeFields()
    invalid_user: bool = False
    preauth: bool = False
    count: int | None = None
    ambiguous: bool = False
    origin: str | None = None
    reason: str | None = None
    claim: str | None = None
    claimed_by_uid: int | None = None
    claimed_by_user: str | None = None
    login_id: str | None = None
    via: ViaFields = ViaFields()
    child_pid: int | None = None
    connection_pid: int | None = None
    disconnect_code: int | None = None


class PamFields(Fields, frozen=True):
    """``pam``: ``by`` is the user that asked for it."""

    module: str | None = None
    service: str | None = None
    type: str | None = None
    by: UserFields = NO_USER


NO_PAM = PamFields()


class RuleFields(Fields, frozen=True):
    """``rule``: the rule of a grammar, or the detector; ``description`` is its rule as in the configuration."""

    name: str | None = None
    description: str | None = None


class TechniqueFields(Fields, frozen=True):
    """``threat.technique``: of MITRE ATT&CK."""

    id: tuple[str, ...] = ()


class ThreatFields(Fields, frozen=True):
    """``threat``: what a finding means, in the words of MITRE ATT&CK."""

    technique: TechniqueFields = TechniqueFields()


class RelatedFields(Fields, frozen=True):
    """``related``: all that a finding names."""

    user: tuple[str, ...] = ()
    ip: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


class BlockFields(Fields, frozen=True):
    """``sshbell.block``: ``target`` until ``until``, because of ``finding``, for the ``step``-th time after the first."""

    target: str | None = None
    until: str | None = None
    finding: str | None = None
    step: int | None = None
    dry_run: bool = False


class FileFields(Fields, frozen=True):
    """``log.file``: the file and line number of a replayed line."""

    path: str | None = None
    line: int | None = None


class LogFields(Fields, frozen=True):
    """``log``."""

    file: FileFields = FileFields()


class ErrorFields(Fields, frozen=True):
    """``error``: the fault of a line."""

    message: str | None = None


class FoundFields(Fields, frozen=True):
    """``sshbell.found``: one event of several that a notice reports together."""

    timestamp: str | None = msgspec.field(name="@timestamp", default=None)
    action: str | None = None
    user: str | None = None
    ip: str | None = None
    count: int | None = None


class NoticeFields(Fields, frozen=True):
    """
    ``sshbell``: ``found`` lists the events that one notice stands for; ``new`` lists what is new about a login, for routes;
    ``events`` lists the ids of the events that a finding rests on.
    """

    # A text is from before there were fields.
    found: tuple[FoundFields | str, ...] = ()
    new: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    block: BlockFields = BlockFields()


class EcsEvent(Fields, frozen=True):
    """
    One event, or the meaning of one line.

    Attributes:
        timestamp: RFC 3339, UTC; in a row of the outbox, any text.
        message: a message about sshbell itself.
        labels: further values that a rule of the grammar, or a detector, names.
    """

    timestamp: str | None = msgspec.field(name="@timestamp", default=None)
    event: EventFields = EventFields()
    message: str | None = None
    host: HostFields = NO_HOST
    process: ProcessFields = ProcessFields()
    user: UserFields = NO_USER
    source: SourceFields = NO_SOURCE
    ssh: SshFields = SshFields()
    pam: PamFields = NO_PAM
    rule: RuleFields = RuleFields()
    threat: ThreatFields = ThreatFields()
    related: RelatedFields = RelatedFields()
    log: LogFields = LogFields()
    error: ErrorFields = ErrorFields()
    labels: dict[str, str] | None = None
    sshbell: NoticeFields = NoticeFields()


# The answer of a source of further fields that knows nothing.
NOTHING = EcsEvent()

F = TypeVar("F", bound=Fields)


class NoEventError(Exception):
    """A row of the outbox is not an event."""


_encode = msgspec.json.Encoder(order=None).encode
_decode = msgspec.json.Decoder(EcsEvent).decode


def json_line(found: object) -> bytes:
    """Return one line of JSON, with its line feed; characters that a terminal obeys are written as escapes."""
    line: bytes = _encode(found)
    # JSON itself escapes the control characters of ASCII, but for one.
    if (not line.isascii() or b"\x7f" in line) and not (text := line.decode()).isprintable():
        line = "".join(char if char.isprintable() else _escaped(char) for char in text).encode()
    return line + b"\n"


def _escaped(char: str) -> str:
    """Return a character as a JSON escape: two surrogates if it is beyond U+FFFF."""
    return json.dumps(char)[1:-1] if char != "\x7f" else "\\u007f"


def event_of(body: bytes) -> EcsEvent:
    """
    Return the event of a row of the outbox, in the format of ``sshbell replay``; its texts are still hostile.

    Raises:
        NoEventError: ``body`` is not an event.
    """
    try:
        return _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise NoEventError(f"not the JSON of an event: {error}") from error


def joined(fields: F, more: F) -> F:
    """Return the fields of both; if both have a value, the first counts."""
    added: dict[str, Any] = {}
    for name, nothing in zip(fields.__struct_fields__, fields.__struct_defaults__, strict=True):
        theirs = getattr(more, name)
        if theirs is nothing or theirs == nothing:
            continue
        ours = getattr(fields, name)
        if ours is nothing or ours == nothing:
            added[name] = theirs
        elif isinstance(ours, Fields):
            added[name] = joined(ours, theirs)
    return msgspec.structs.replace(fields, **added) if added else fields


# One empty group of each kind. msgspec compares a default by identity, so it leaves out only these very objects.
_EMPTY = {
    type(nothing): nothing
    for group in (
        EcsEvent,
        SourceFields,
        GeoFields,
        AsFields,
        SshFields,
        ViaFields,
        PamFields,
        LogFields,
        ThreatFields,
        NoticeFields,
    )
    for nothing in group.__struct_defaults__
    if isinstance(nothing, Fields)
}


def known(fields: F) -> F:
    """Return a group for use in an event; an empty one is replaced by the object that msgspec leaves out."""
    nothing: Any = _EMPTY[type(fields)]
    return nothing if fields == nothing else fields
