"""
A login after many failed ones: perhaps somebody has guessed a password. Of all findings, this one matters most.

There are three cases, and the finding has the first that applies as its label ``from``:

    address   the same address has failed before: at this account, or at any, if the account has never logged in from there
    prefix    other addresses of its prefix (/24 or /48) have failed, also at this account; it logs in by password, from a
              prefix that is new to it
    account   others have failed at this account, from elsewhere, and it logs in by password, from an address that is new to it

A login forgives the failures of the same account from the same address, and only those.
"""

from collections.abc import Iterable
from typing import ClassVar, NamedTuple

from consumer.actions import EventAction
from consumer.detect.entries import OfAccount, OfAddress
from consumer.detect.findings import Kinds, OneTable, finding_of, is_verified
from consumer.detect.logins import is_by_key, learner_of
from consumer.detect.networks import prefix_of
from consumer.detect.tries import DAY_US, Tries, origin_of
from consumer.detect_settings import SuccessAfterFailuresSettings, rate_of
from consumer.events import Finding, Login
from consumer.records import TIME

_ACTION = EventAction.SUCCESS_AFTER_FAILURES
# Pairs of account and address, or account and prefix, that have logged in. An entry has some 200 bytes.
FAMILIAR_LIMIT = 20_000
# Of the failed logins of a prefix, so many have to be at the account that logs in.
_AT_ACCOUNT = 3
# How long such a pair is familiar without another login.
_FAMILIAR_US = 90 * DAY_US


class _Failures(NamedTuple):
    """Failed logins before a login."""

    case: str
    rule: str
    tries: int
    since_us: int
    is_verified: bool
    event_ids: Iterable[str]
    users: Iterable[str] = ()
    addresses: Iterable[str] = ()


class SuccessAfterFailures(OneTable):
    """Finds logins after many failed ones."""

    takes: ClassVar[Kinds] = (Login,)

    def __init__(self, settings: SuccessAfterFailuresSettings, tries: Tries) -> None:
        super().__init__(int, FAMILIAR_LIMIT)
        self._settings = settings
        self._tries = tries
        self._count, self._pause_us = rate_of(settings.address)
        self._prefix_count, self._prefix_pause_us = rate_of(settings.prefix)
        self._account_count, self._account_pause_us = rate_of(settings.account)

    def take(self, event: Login) -> Iterable[Finding]:
        """Return the finding about a login, remember the address of its account, and forgive its failures."""
        address, user, at_us = event.address, event.user, event.line[TIME]
        if address is None or not user or not at_us:
            return ()
        source, account = self._tries.login(user, address)
        learner = learner_of(event)
        near = f"{learner}\0{prefix_of(address)}"
        may_be_guessed = account is not None and not is_by_key(event)
        is_near = may_be_guessed and at_us - (self._table.get(near) or -_FAMILIAR_US) < _FAMILIAR_US
        is_familiar = at_us - (self._table.put(f"{learner}\0{address}", at_us) or -_FAMILIAR_US) < _FAMILIAR_US
        self._table.put(near, at_us)
        failures = self._of_address(user, address, at_us, source, account, is_familiar=is_familiar)
        if failures is None and account is not None and may_be_guessed and not is_near:
            failures = self._of_prefix(address, at_us, account) or self._of_account(address, at_us, account)
        if failures is not None and failures.case == "account" and account is not None:
            self._count_anew(user, account, event)
        # A forged login must not hide the real one that follows.
        if source is None or not source.is_verified or is_verified(event):
            self._forgive(user, address, source, account)
        if failures is None:
            return ()
        return (
            finding_of(
                event, _ACTION, failures.case, rule=failures.rule, origin=origin_of(is_verified=failures.is_verified),
                # Nobody guesses a key. But then somebody else at this address guesses.
                severity="medium" if is_by_key(event) else "",
                count=failures.tries, since_us=failures.since_us, users=failures.users, addresses=failures.addresses,
                event_ids=failures.event_ids, labels={"from": failures.case},
            ),
        )  # fmt: skip

    def _of_address(
        self, user: str, address: str, at_us: int, source: OfAddress | None, account: OfAccount | None, *, is_familiar: bool
    ) -> _Failures | None:
        if source is None or not self._count or abs(at_us - source.last_us) > self._pause_us:
            return None
        # At a familiar address, only the failures of this account count: colleagues behind one address fail, too.
        count = source.count
        if is_familiar:
            own_us, count = (0, 0) if account is None else account.addresses.get(address, (0, 0))
            count = count if abs(at_us - own_us) <= self._pause_us else 0
        if count < self._count:
            return None
        users = (user,) if is_familiar else reversed(source.users)
        return _Failures(
            "address", self._settings.address, count, source.count_since_us, source.is_verified, source.event_ids, users
        )

    def _of_prefix(self, address: str, at_us: int, account: OfAccount) -> _Failures | None:
        own = prefix_of(address)
        prefix = self._tries.prefixes.get(own) if self._prefix_count else None
        if prefix is None or not prefix.addresses.keys() - {address}:
            return None
        at_account = sum(tries for other, (_, tries) in account.addresses.items() if other != address and prefix_of(other) == own)
        if at_account < _AT_ACCOUNT:
            return None
        sources = {
            other: source
            for other in prefix.addresses
            if other != address
            and (source := self._tries.sources.get(other)) is not None
            and abs(at_us - source.last_us) <= self._prefix_pause_us
        }
        count = sum(source.count for source in sources.values())
        if count < self._prefix_count:
            return None
        since_us = min(source.count_since_us for source in sources.values())
        is_verified = all(source.is_verified for source in sources.values())
        event_ids = [each for source in sources.values() for each in source.event_ids[-2:]]
        return _Failures("prefix", self._settings.prefix, count, since_us, is_verified, event_ids, addresses=sources)

    def _of_account(self, address: str, at_us: int, account: OfAccount) -> _Failures | None:
        if not 0 < self._account_count <= account.count or abs(at_us - account.last_us) > self._account_pause_us:
            return None
        own = prefix_of(address)
        elsewhere = [other for other in account.addresses if prefix_of(other) != own]
        count = account.count - sum(tries for other, (_, tries) in account.addresses.items() if prefix_of(other) == own)
        if count < self._account_count:
            return None
        return _Failures(
            "account", self._settings.account, count, account.since_us, account.is_verified, account.event_ids,
            addresses=reversed(elsewhere),
        )  # fmt: skip

    def _count_anew(self, user: str, account: OfAccount, login: Login) -> None:
        """
        Let a further login count only the failures after this one.

        An account that everybody attacks has failures all day, and its owner may travel. Each login would be a finding.
        """
        if not account.is_verified or is_verified(login):
            account.count, account.since_us = 0, login.time_us
            self._tries.accounts.put(user, account)

    def _forgive(self, user: str, address: str, source: OfAddress | None, account: OfAccount | None) -> None:
        """Forget the failures of an account from an address."""
        own = account.addresses.pop(address, None) if account is not None else None
        if account is not None and own is not None:
            account.count = max(0, account.count - own[1])
            self._tries.accounts.put(user, account)
        if source is None:
            return
        if source.users.keys() <= {user}:
            self._tries.sources.pop(address)
        elif own is not None:
            source.count = max(0, source.count - own[1])
            self._tries.sources.put(address, source)
