"""The advice about the users' keys: old ones, and unused ones."""

from collections.abc import Iterator

from consumer.addresses import is_same_host
from consumer.clock import isoformat
from consumer.keys.authorized_keys import AuthorizedKey
from consumer.keys.fingerprints import canonical
from consumer.matching.messages import method_info
from consumer.store.queries import KeySeen
from consumer.store.recent_logins import LoginKind
from consumer.system.audit_algorithms import RSA_BITS
from consumer.system.audit_row import AuditRow, Mend, affected, some_accounts
from consumer.text import counted

UNUSED_DAYS = 90
# Rows about keys of one kind. A user with a thousand old keys must not hide the other rows.
KEY_ROW_LIMIT = 50
_DAY_US = 86400 * 1_000_000
_OLD_WHY = "An attacker who breaks an old key can log in with it, and no log shows that it is not its owner."
_UNUSED_WHY = "A key that nobody uses may be lost, and its finder can log in."


def key_rows(
    keys: list[AuthorizedKey], seen: list[KeySeen], logins: list[LoginKind] | None, here: str, since_us: int | None, now_us: int
) -> Iterator[AuditRow]:
    """
    Yield the rows about keys.

    Args:
        keys: those that sshd accepts.
        seen: the keys that logins used, on all hosts.
        logins: the recent logins; None if sshbell cannot read them.
        here: this host's name.
        since_us: since when sshbell knows logins; None if it knows none.
        now_us: the wall clock.
    """
    last_us: dict[tuple[str, str], int] = {}
    for one in seen:
        info = method_info(one.info) if one.info is not None and is_same_host(one.host, here) else {}
        for name in ("key_fingerprint", "ca_fingerprint"):
            if found := canonical(info.get(name, "")):
                for account in ("", one.user or ""):
                    last_us[account, found] = max(last_us.get((account, found), 0), one.last_us)

    def last(key: AuthorizedKey) -> int:
        return max(last_us.get((key.account, key.sha256), 0), last_us.get((key.account, key.md5), 0))

    old = [_old(key, last(key), logins) for key in keys if _is_old(key)]
    yield from _limited("old keys", old, f"no key is DSA, or RSA under {RSA_BITS:,} bits")
    if since_us is None:
        return
    before_us = now_us - UNUSED_DAYS * _DAY_US
    if since_us > before_us:
        days = counted(max(0, now_us - since_us) // _DAY_US, "day")
        yield AuditRow("unused keys", "ok", f"sshbell knows the logins of {days}; after {UNUSED_DAYS} days it lists unused keys")
        return
    unused = [_unused(key, last(key)) for key in keys if last(key) < before_us]
    yield from _limited("unused keys", unused, f"every key was used in the last {UNUSED_DAYS} days")


def _limited(name: str, rows: list[AuditRow], well: str) -> Iterator[AuditRow]:
    yield from rows[:KEY_ROW_LIMIT]
    if len(rows) > KEY_ROW_LIMIT:
        yield AuditRow(name, "warning", f"and {len(rows) - KEY_ROW_LIMIT:,} more")
    if not rows:
        yield AuditRow(name, "ok", well)


def _is_old(key: AuthorizedKey) -> bool:
    return key.type == "ssh-dss" or 0 < key.bits < RSA_BITS


def _old(key: AuthorizedKey, last_us: int, logins: list[LoginKind] | None) -> AuditRow:
    kind = "DSA" if key.type == "ssh-dss" else f"RSA with {key.bits:,} bits"
    used = f"last used {isoformat(last_us)[:10]}" if last_us else "never used, as far as sshbell knows"
    count, accounts = None, []
    if logins is not None:
        found = affected(logins, lambda login: _opens(key, login))
        count, accounts = found.total(), some_accounts(found)
    return AuditRow("old keys", "fault", f"{_named(key)}: {kind}, {used}", _OLD_WHY, [_removed(key)], count, accounts)


def _unused(key: AuthorizedKey, last_us: int) -> AuditRow:
    used = f"last used {isoformat(last_us)[:10]}" if last_us else f"not used in {UNUSED_DAYS} days"
    return AuditRow("unused keys", "warning", f"{_named(key)}: {used}", _UNUSED_WHY, [_removed(key)], 0)


def _opens(key: AuthorizedKey, login: LoginKind) -> bool:
    """Return whether a login used a key, or a certificate of an authority."""
    if key.account not in ("", login.user or ""):
        return False
    info = method_info(login.info) if login.info else {}
    name = "ca_fingerprint" if key.is_authority else "key_fingerprint"
    return canonical(info.get(name, "")) in (key.sha256, key.md5)


def _named(key: AuthorizedKey) -> str:
    return f"{key.sha256}{f' ({key.comment})' if key.comment else ''} of {key.account or 'all accounts'}"


def _removed(key: AuthorizedKey) -> Mend:
    file = f"{key.account}'s authorized_keys" if key.account else "the file of TrustedUserCAKeys"
    return Mend(f"delete the line of {key.sha256}", f"in {file}")
