"""Converts the correlator's events to ``EcsEvent``."""

import msgspec

from consumer.actions import SEVERITIES
from consumer.addresses import ip_text
from consumer.clock import isoformat
from consumer.ecs import (
    BlockFields,
    CertificateFields,
    CodeFields,
    EcsEvent,
    EventFields,
    FileFields,
    HostFields,
    KeyFields,
    LogFields,
    NoticeFields,
    ProcessFields,
    RelatedFields,
    RuleFields,
    SessionFields,
    SourceFields,
    SshFields,
    TechniqueFields,
    ThreatFields,
    UserFields,
    known,
)
from consumer.events import PLACE_STEP, Attempt, Block, Event, Finding, Forged, Login, Logout, Probe, Trouble
from consumer.matching.messages import METHODS, method_info, sshd_name
from consumer.records import AMBIGUOUS, PLACE, PROCID, PROGRAM, TEXT
from consumer.text import readable


def of_event(event: Event, paths: list[str]) -> EcsEvent:
    """Return an event as an object of ``sshbell replay``. ``paths``: the files, in the order of reading."""
    login = event if isinstance(event, Login) else event.login if isinstance(event, Logout) else None
    logged = event.line if login is None else login.line
    return EcsEvent(
        timestamp=_moment(event.time_us),
        event=_event_fields(event),
        host=known(HostFields(name=readable(event.host) or None)),
        process=known(ProcessFields(name=readable(logged[PROGRAM]) or None, pid=int(logged[PROCID]) if logged[PROCID] else None)),
        user=known(UserFields(name=event.user, id=str(login.uid) if login is not None and login.uid is not None else None)),
        source=source_of(
            None if event.address is None else readable(event.address), None if event.port is None else int(event.port)
        ),
        ssh=_ssh_fields(event, login),
        rule=known(_rule_fields(event)),
        threat=known(ThreatFields(technique=known(TechniqueFields(id=_techniques(event))))),
        related=known(_related_fields(event)),
        log=_log_fields(event, paths),
        labels=(event.labels or None) if isinstance(event, Finding) else None,
        sshbell=known(_own_fields(event)),
    )


def of_session(login: Login, closed_us: int | None) -> EcsEvent:
    """Return a login, and its end if it has one, as an object of ``sshbell who`` and ``sshbell history``."""
    found = of_event(login, [])
    if closed_us is None:
        return found
    duration = (closed_us - login.time_us) * 1000 if login.time_us else None
    ended = msgspec.structs.replace(found.event, end=_moment(closed_us), duration=duration)
    return msgspec.structs.replace(found, event=ended)


def source_of(address: str | None, port: int | None) -> SourceFields:
    """Return the group ``source``."""
    return known(SourceFields(ip=ip_text(address), port=port, address=address))


def _event_fields(event: Event) -> EventFields:
    start = end = duration = severity = None
    if isinstance(event, Login):
        start = _moment(event.time_us)
    elif isinstance(event, Logout):
        began_us = event.login.time_us
        start, end = _moment(began_us), _moment(event.end_us)
        duration = (event.end_us - began_us) * 1000 if began_us and event.end_us else None
    elif isinstance(event, Forged) and event.count > 1:
        start, end = _moment(event.time_us), _moment(event.last_us)
    elif isinstance(event, Finding):
        start, end, severity = _moment(event.since_us), _moment(event.last_us), SEVERITIES[event.severity]
    action = event.action
    return EventFields(
        kind=action.kind, category=action.category, type=(action.ecs_type,), action=str(action), outcome=action.outcome,
        id=event.id or None, severity=severity, start=start, end=end, duration=duration,
        original=readable(event.line[TEXT]) or None,
    )  # fmt: skip


def _ssh_fields(event: Event, login: Login | None) -> SshFields:
    """Return the group ``ssh``. ``login``: the event itself, or the login that it ends, or None."""
    method = reason = claim = claimed_by_uid = login_id = count = None
    match event:
        case Login():
            method = event.method
        case Logout():
            method, login_id = event.login.method, event.login.id or None
        case Attempt():
            method, reason = event.method, event.reason
            count = event.count if event.count != 1 else None
        case Probe():
            reason = sshd_name(event.reason) if event.reason else None
        case Trouble():
            reason = readable(event.reason) if event.reason else None
        case Finding():
            count = event.count
        case Forged():
            claim, claimed_by_uid = event.claim or None, event.uid
            count = event.count if event.count != 1 else None
    name, _, submethod = (method or "").partition("/")
    info = method_info(login.info) if login is not None and login.info is not None else {}
    return SshFields(
        method=METHODS.get(name, name) or None,
        submethod=submethod or None,
        factors=() if login is None else factor_names(login.factors),
        key=known(KeyFields(type=info.get("key_type"), fingerprint=info.get("key_fingerprint"))),
        certificate=_certificate_fields(info),
        principal=info.get("principal"),
        session=known(SessionFields(kind=login.session_kind if login is not None else None)),
        code=_code_fields(login),
        invalid_user=isinstance(event, Attempt) and not event.user_is_valid,
        count=count,
        ambiguous=event.line[AMBIGUOUS],
        origin=event.origin,
        reason=reason,
        claim=claim,
        claimed_by_uid=claimed_by_uid,
        login_id=login_id,
    )


def _code_fields(login: Login | None) -> CodeFields:
    if login is None or login.code is None:
        return known(CodeFields())
    code = login.code
    return CodeFields(outcome=code.outcome, channel=code.channel, session=code.session, after_s=code.after_s, left=code.left)


def _rule_fields(event: Event) -> RuleFields:
    match event:
        case Forged():
            return RuleFields(name="forged")
        case Trouble():
            return RuleFields(name=event.what)
        case Finding():
            return RuleFields(name=str(event.action), description=event.rule or None)
    return RuleFields()


def _techniques(event: Event) -> tuple[str, ...]:
    technique = event.action.technique
    return (technique,) if technique else ()


def _related_fields(event: Event) -> RelatedFields:
    if not isinstance(event, Finding):
        return RelatedFields()
    ips = (ip_text(readable(address)) for address in event.addresses)
    return RelatedFields(user=event.users, ip=tuple(ip for ip in ips if ip is not None), hosts=tuple(map(readable, event.hosts)))


def _own_fields(event: Event) -> NoticeFields:
    match event:
        case Finding():
            return NoticeFields(events=event.event_ids)
        case Block():
            block = BlockFields(
                target=readable(event.target), until=_moment(event.until_us), finding=event.finding_id or None,
                step=event.step, dry_run=event.is_dry_run,
            )  # fmt: skip
            return NoticeFields(block=known(block))
    return NoticeFields()


def factor_names(methods: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of a login's methods, without submethods."""
    return tuple(METHODS.get(name, name) for name in (method.partition("/")[0] for method in methods))


def _certificate_fields(info: dict[str, str]) -> CertificateFields:
    if "certificate_id" not in info:
        return known(CertificateFields())
    return CertificateFields(
        id=sshd_name(info["certificate_id"]), serial=int(info["certificate_serial"]), ca_fingerprint=info["ca_fingerprint"]
    )


def _log_fields(event: Event, paths: list[str]) -> LogFields:
    if not paths:
        return known(LogFields())
    file, number = divmod(event.line[PLACE], PLACE_STEP)
    return LogFields(file=FileFields(path=paths[file], line=number or None))


def _moment(time_us: int) -> str | None:
    return isoformat(time_us) if time_us else None
