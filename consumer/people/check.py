"""``sshbell people check``: compare ``people.toml`` with the keys in use."""

import pwd
import socket
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from consumer.clock import isoformat
from consumer.ecs import CertificateFields, EcsEvent, KeyFields, SshFields
from consumer.keys.fingerprints import Fingerprints, canonical
from consumer.matching.messages import method_info, sshd_name
from consumer.people.people import People, host_matching, split_account
from consumer.store.queries import KeySeen
from consumer.text import readable

# A key without a login for this long may be lost; somebody should remove it.
UNSEEN_DAYS = 90
_DAY_US = 86400 * 1_000_000
_SHOWN = 5


class PeopleFault(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    A mismatch between ``people.toml`` and the keys in use.

    Attributes:
        finding: ``unowned``: a key or a certificate that belongs to no person; ``shared``: a key of several people; ``unseen``: a
            key without a login for 90 days, or since the store begins; ``account``: an account that does not seem to exist;
            ``stale``: a host whose keys were exported too long ago.
        key: the fingerprint, or the certificate's id; "" for an account or a host.
        accounts: the accounts that the key opens or has opened, as user@host; or the account itself; or the host, as *@host.
        last: the last known use, in RFC 3339.
    """

    finding: Literal["unowned", "shared", "unseen", "account", "stale"]
    state: Literal["fault", "warning"]
    text: str
    key: str = ""
    people: list[str] = []
    accounts: list[str] = []
    last: str = ""


class Allowed(msgspec.Struct, frozen=True):
    """A line of ``authorized_keys``: fingerprints, the account and host that it opens, and its comment."""

    key: Fingerprints
    user: str
    host: str
    comment: str


class _Use(msgspec.Struct):
    """The use of one key that belongs to no person."""

    accounts: dict[str, None]
    comments: dict[str, None]
    last_us: int = 0


def findings(
    people: People,
    allowed: Iterable[Allowed],
    stale: Iterable[tuple[str, str]],
    seen: list[KeySeen],
    oldest_us: int | None,
    now_us: int,
) -> Iterator[PeopleFault]:
    """
    Yield all mismatches.

    Args:
        people: from ``people.toml``.
        allowed: the known lines of ``authorized_keys``.
        stale: the hosts whose keys were exported too long ago, and the day of the export.
        seen: the keys that logins used.
        oldest_us: the time of the oldest login; None if there is none.
        now_us: the wall clock.
    """
    uses: dict[str, _Use] = {}
    existing: set[tuple[str, str]] = set()
    last_us: dict[str, int] = {}
    for line in allowed:
        existing.add((line.user, line.host))
        if not any(people.owners_of(fingerprint) for fingerprint in line.key):
            _note(uses, str(line.key), line.user, line.host).comments[line.comment] = None
    for one in seen:
        existing.add((one.user or "", one.host))
        info = method_info(one.info) if one.info is not None else {}
        fingerprint = canonical(info.get("key_fingerprint", "")) or info.get("key_fingerprint", "")
        certificate = sshd_name(info["certificate_id"]) if "certificate_id" in info else None
        if fingerprint:
            last_us[fingerprint] = max(last_us.get(fingerprint, 0), one.last_us)
        shown = SshFields(key=KeyFields(fingerprint=fingerprint), certificate=CertificateFields(id=certificate))
        if (certificate or fingerprint) and people.person_of(EcsEvent(ssh=shown)) is None:
            use = _note(uses, f"certificate {certificate!r}" if certificate else fingerprint, one.user or "", one.host)
            use.last_us = max(use.last_us, one.last_us)
    yield from _unowned(uses)
    yield from _shared(people)
    yield from _unseen(people, last_us, oldest_us, now_us)
    yield from _accounts(people, existing)
    for host, day in stale:
        yield PeopleFault(
            "stale", "warning", f"{host}: its keys were exported on {day}; import a new export", "", [], [f"*@{host}"]
        )


def _note(uses: dict[str, _Use], key: str, user: str, host: str) -> _Use:
    use = uses.setdefault(key, _Use({}, {}))
    use.accounts[f"{user}@{readable(host)}"] = None
    return use


def _unowned(uses: dict[str, _Use]) -> Iterator[PeopleFault]:
    for key, use in sorted(uses.items()):
        comments = _some(list(filter(None, use.comments)))
        accounts = list(use.accounts)
        text = f"{key}{f' ({comments})' if comments else ''}: {_some(accounts)}"
        if use.last_us:
            text += f"; last login {_day(use.last_us)}"
        yield PeopleFault("unowned", "fault", text, key, [], accounts, isoformat(use.last_us) if use.last_us else "")


def _shared(people: People) -> Iterator[PeopleFault]:
    shown = set()
    for person in people.persons:
        for key in person.keys:
            for fingerprint in filter(None, key):
                names = [owner.name for owner in people.owners_of(fingerprint)]
                if len(names) > 1 and str(key) not in shown:
                    shown.add(str(key))
                    yield PeopleFault("shared", "fault", f"{key}: {_some(names)}", str(key), names)


def _unseen(people: People, last_us: dict[str, int], oldest_us: int | None, now_us: int) -> Iterator[PeopleFault]:
    if oldest_us is None:
        return
    before_us = now_us - UNSEEN_DAYS * _DAY_US
    for person in people.persons:
        for key in person.keys:
            seen_us = max((last_us.get(fingerprint, 0) for fingerprint in key if fingerprint), default=0)
            if seen_us >= before_us:
                continue
            since = f"last login {_day(seen_us)}" if seen_us else f"no login since {_day(oldest_us)}, when the store begins"
            last = isoformat(seen_us) if seen_us else ""
            yield PeopleFault("unseen", "warning", f"{key} of {person.name}: {since}", str(key), [person.name], [], last)


def _accounts(people: People, existing: set[tuple[str, str]]) -> Iterator[PeopleFault]:
    here = socket.gethostname()
    existing = existing | {(account.pw_name, name) for account in pwd.getpwall() for name in (here, here.partition(".")[0])}
    hosts_of: dict[str, set[str]] = {}
    for user, host in existing:
        hosts_of.setdefault(user, set()).add(host.casefold())
    for person in people.persons:
        for account in person.accounts:
            user, host = split_account(account)
            fits = host_matching(host)
            if not any(char in user for char in "*?") and not any(map(fits, hosts_of.get(user, ()))):
                text = f"{account} of {person.name}: it does not exist here, and sshbell knows no key and no login of it"
                yield PeopleFault("account", "warning", text, "", [person.name], [account])


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _day(time_us: int) -> str:
    return isoformat(time_us)[:10]
