"""``sshbell audit``: one row for each piece of hardening advice, judged by sshd's settings and by who really logs in."""

import socket
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from consumer.config import Config
from consumer.errors import SshbellError, StoreError
from consumer.keys.authorized_keys import AuthorizedKey
from consumer.keys.export import exported_keys, want_root
from consumer.keys.sshd_config import DEFAULT_CONFIG, SshdConfig, Values, Visit
from consumer.spans import micros_of
from consumer.store.earlier_logins import EarlierLogins
from consumer.store.queries import KeySeen, keys_seen
from consumer.store.recent_logins import LoginKind, recent_logins
from consumer.system.audit_algorithms import ALGORITHM_ADVICE, host_key_rows
from consumer.system.audit_keys import key_rows
from consumer.system.audit_row import AuditRow, Judged, Mend, SettingAdvice, Site, affected, some_accounts
from consumer.system.audit_settings import SETTING_ADVICE
from consumer.system.pam_stack import PAM_FOLDER, PamEntry, pam_stack

# The traffic that a row counts: long enough for a monthly job, and short enough to describe the present.
TRAFFIC_DAYS = 30
_DAY_US = 86400 * 1_000_000
_AS_ROOT = Mend("sudo sshbell audit", "as a command")
_UNREAD_WHY = "Without it, sshbell cannot judge everything."


class AuditPlaces(NamedTuple):
    """The files that ``audit`` reads besides the store."""

    sshd_config: str = DEFAULT_CONFIG
    pam_folder: Path = PAM_FOLDER


class _Scope(NamedTuple):
    """Settings that apply to some logins only: the text of their ``Match``, or of the logins, and one of their visits."""

    text: str
    visit: Visit
    values: Values


class _AuditedHost(NamedTuple):
    """
    What a piece of advice is judged by.

    Attributes:
        sshd: finds the line that sets a value now.
        values: sshd's settings outside of ``Match``.
        scopes: the settings in each ``Match``.
        visits: the logins, each with the settings that applied to it.
        pam: None if sshbell cannot read it.
        is_counting: whether sshbell knows the logins.
    """

    sshd: SshdConfig
    values: Values
    scopes: list[_Scope]
    visits: list[tuple[LoginKind, _Scope]]
    pam: list[PamEntry] | None
    is_counting: bool


def audit_rows(config: Config, now_us: int, places: AuditPlaces) -> Iterator[AuditRow]:
    """
    Yield all rows. A part that sshbell cannot read yields a row, too.

    Args:
        config: says where the store is.
        now_us: the wall clock.
        places: the files to read.
    """
    sshd = SshdConfig(places.sshd_config)
    if not sshd.is_there:
        yield AuditRow("sshd", "warning", f"neither sshd nor {places.sshd_config} exists; there is nothing to audit")
        return
    store, here = config.store, socket.gethostname()
    logins: list[LoginKind] | None = None
    seen: list[KeySeen] = []
    since_us = None
    try:
        logins = recent_logins(store, here, now_us - TRAFFIC_DAYS * _DAY_US)
        with closing(EarlierLogins(store)) as earlier:
            created_us = earlier.created_us()
        _oldest_us, seen = keys_seen(store)
        kept_us = now_us - micros_of(config.keep)
        since_us = None if created_us is None else max(created_us, kept_us)
    except StoreError as error:
        yield AuditRow("logins", "warning", f"{error}; sshbell counts no logins", _UNREAD_WHY)
    yield from _settings(sshd, logins, places.pam_folder)
    keys, faults = _keys()
    yield from (_unread("keys", fault) for fault in faults)
    if keys is not None:
        yield from key_rows(keys, seen, logins, here, since_us, now_us)


def _unread(name: str, text: str, mend: Mend = _AS_ROOT) -> AuditRow:
    return AuditRow(name, "warning", text, _UNREAD_WHY, [mend])


def _keys() -> tuple[list[AuthorizedKey] | None, list[str]]:
    """Return the keys of all accounts, None if sshbell cannot read them; and what is missing."""
    faults: list[str] = []
    try:
        want_root()
        return list(exported_keys(faults.append)), faults
    except SshbellError:
        return None, ["only root can read the authorized_keys of all accounts", *faults]


def _settings(sshd: SshdConfig, logins: list[LoginKind] | None, pam_folder: Path) -> Iterator[AuditRow]:
    """Yield the rows about sshd's settings: those outside of ``Match``, and those inside that are worse."""
    try:
        values = sshd.values()
    except PermissionError as error:
        yield _unread("sshd", f"{error.filename}: {error.strerror}")
        return
    if not sshd.can_ask():
        yield _unread("sshd", "sshd -T gave no answer; sshbell read the files, and knows no default algorithms")
    scopes: list[_Scope] = []
    for text, visit in sshd.blocks():
        if visit is None:
            command = Mend(f"sshd -T -f {sshd.path} -C user=...,host=...,addr=...", "as a command")
            yield _unread("Match", f"{text}: sshbell knows no user and address to which it applies", command)
        else:
            scopes.append(_Scope(text, visit, sshd.values_of(visit)))
    pam: list[PamEntry] | None = None
    try:
        if pam_folder.is_dir():
            pam = pam_stack(values.get("pamservicename", ["sshd"])[0], pam_folder)
    except OSError as error:
        yield _unread("PAM", f"{error.filename}: {error.strerror}")
    host = _AuditedHost(sshd, values, scopes, _visited(sshd, logins or []), pam, is_counting=logins is not None)
    for advice in (*SETTING_ADVICE, *ALGORITHM_ADVICE):
        yield from _advised(advice, host)
    yield from host_key_rows(values)


def _visited(sshd: SshdConfig, logins: list[LoginKind]) -> list[tuple[LoginKind, _Scope]]:
    """Return the settings of each login."""
    scopes: dict[tuple[str | None, str | None], _Scope] = {}
    for login in logins:
        if (login.user, login.address) not in scopes:
            address = login.address or "UNKNOWN"
            visit = Visit(login.user or "UNKNOWN", address, address)
            text = f"for {login.user or 'unknown'} from {address}"
            scopes[login.user, login.address] = _Scope(text, visit, sshd.values_of(visit))
    return [(login, scopes[login.user, login.address]) for login in logins]


def _advised(advice: SettingAdvice, host: _AuditedHost) -> Iterator[AuditRow]:
    """Yield the row of a piece of advice, and one for each ``Match`` with other settings that are not ok."""

    def key_of(values: Values) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(values.get(keyword, ())) for keyword in advice.keywords)

    logins: defaultdict[tuple[tuple[str, ...], ...], list[LoginKind]] = defaultdict(list)
    for login, scope in host.visits:
        logins[key_of(scope.values)].append(login)
    done = {key_of(host.values)}
    site = Site(host.values, logins[key_of(host.values)], host.pam)
    if (judged := advice.judge(site)) is not None:
        yield _row(advice, judged, site, _places(host.sshd, judged, None), is_counting=host.is_counting)
    for scope in (*host.scopes, *(scope for _login, scope in host.visits)):
        key = key_of(scope.values)
        if key in done:
            continue
        done.add(key)
        site = Site(scope.values, logins[key], host.pam)
        judged = advice.judge(site)
        if judged is not None and judged.state != "ok":
            judged = judged._replace(text=f"{judged.text} ({scope.text})")
            yield _row(advice, judged, site, _places(host.sshd, judged, scope), is_counting=host.is_counting)


def _row(advice: SettingAdvice, judged: Judged, site: Site, places: list[str], *, is_counting: bool) -> AuditRow:
    if judged.state == "ok":
        return AuditRow(advice.name, "ok", judged.text)
    mend = [Mend(line, place) for line, place in zip(judged.lines, places, strict=True)]
    if judged.prevents is None or not is_counting:
        return AuditRow(advice.name, judged.state, judged.text, advice.why, mend)
    found = affected(site.logins, judged.prevents)
    return AuditRow(advice.name, judged.state, judged.text, advice.why, mend, found.total(), some_accounts(found))


def _places(sshd: SshdConfig, judged: Judged, scope: _Scope | None) -> list[str]:
    """Return where each line belongs: in place of the line that counts now, or in a new one."""
    new = f"in {sshd.path}, above the first Match" if scope is None else f"in {sshd.path}, first in a Match for these logins"
    places = []
    for line in judged.lines:
        old = sshd.place_of(line.partition(" ")[0].lower(), None if scope is None else scope.visit)
        replaced = judged.place or old
        places.append(f"in place of {replaced}" if replaced else new)
    return places
