"""The second half of a login with a code: check what the user typed."""

from typing import NamedTuple

from consumer.clock import SECOND_US, now_us
from consumer.codes import log_lines
from consumer.codes.digests import code_digest, emergency_digest, is_equal
from consumer.codes.limits import too_many_tries
from consumer.codes.pam_login import PamLogin
from consumer.codes.settings import PamCodes
from consumer.store.codes import Challenge, CodeStore


class _Verdict(NamedTuple):
    """Whether a login passes, and the line about it for the log; "" for none."""

    line: str = ""
    is_right: bool = False


class Verifier:
    """
    Checks the code of a login.

    Args:
        codes: the settings.
        login: from PAM.
        store: has the challenge.

    Raises:
        StoreError: of each method; the login must not pass.
    """

    def __init__(self, codes: PamCodes, login: PamLogin, store: CodeStore) -> None:
        self._codes, self._login, self._store = codes, login, store

    def is_right(self, typed: bytes) -> bool:
        """
        Return whether the login may pass.

        Args:
            typed: what the user typed; b"" if PAM has not asked, or for Enter alone. Then only a login passes that needs no code,
                and this is no try.
        """
        login, now = self._login, now_us()
        with self._store.transaction():
            challenge = self._store.of(login.pid, login.started)
            if challenge is not None and not login.is_of(challenge):
                challenge = None
            if not typed and (challenge is None or challenge.kind != "none"):
                return False
            verdict = self._settled(challenge, typed, now)
        if verdict.line:
            log_lines.write(verdict.line)
        return verdict.is_right

    def _settled(self, challenge: Challenge | None, typed: bytes, now: int) -> _Verdict:
        """Return the verdict, and note it in the store."""
        if challenge is None:
            return self._no("unknown")
        if reason := self._reason_to_refuse(challenge, now):
            return self._no(reason, challenge)
        if challenge.kind == "none":
            # Its line was written when sshbell found that no code is needed.
            self._store.set_used(challenge.session, now)
            return _Verdict(is_right=True)
        if line := self._right(challenge, bytes(byte for byte in typed if byte not in b" -"), now):
            self._store.set_used(challenge.session, now)
            return _Verdict(line, is_right=True)
        self._store.set_wrong(challenge.session, now)
        return self._no("wrong", challenge)

    def _reason_to_refuse(self, challenge: Challenge, now: int) -> str:
        if challenge.used_us is not None:
            return "used"
        if not challenge.is_open(now):
            return "expired"
        if challenge.kind == "none":
            return ""
        is_over = challenge.tries >= self._codes.tries or too_many_tries(self._store, self._login, now)
        return "too many tries" if is_over else ""

    def _right(self, challenge: Challenge, code: bytes, now: int) -> str:
        """Return the line about a right code or emergency code; "" if it is wrong. All are compared, whichever is right."""
        login, store = self._login, self._store
        is_code = is_equal(code_digest(store.key, challenge.session, login.user, code), challenge.digest)
        emergency, unused = emergency_digest(store.key, login.user, code), store.emergency_digests(login.user)
        is_emergency = [is_equal(emergency, one) for one in unused].count(True) == 1
        if is_code and challenge.kind == "code" and challenge.channel:
            after_s = (now - challenge.made_us) // SECOND_US
            return log_lines.accepted(login.asker, challenge.session, challenge.channel, after_s)
        if is_emergency:
            store.set_emergency_used(login.user, emergency, now)
            return log_lines.emergency_accepted(login.asker, len(unused) - 1)
        return ""

    def _no(self, reason: str, challenge: Challenge | None = None) -> _Verdict:
        session, channel = (challenge.session, challenge.channel) if challenge else ("", "")
        return _Verdict(log_lines.refused(self._login.asker, reason, session, channel))
