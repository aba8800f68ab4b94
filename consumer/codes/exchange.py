"""
The two halves of a login with a code: ``challenge`` has a code sent and returns the prompt, ``verify`` checks the answer.

PAM runs each in a process of its own. All that connects them is a row in ``codes.db``, which belongs to one connection.
"""

from typing import NamedTuple

from consumer.clock import SECOND_US, now_us
from consumer.codes import log_lines
from consumer.codes.client import MARGIN_S, send_code
from consumer.codes.digests import code_digest, emergency_digest, is_equal, number
from consumer.codes.messages import CodeRequest
from consumer.codes.pam_login import PamLogin
from consumer.codes.policy import account_of, rule_for
from consumer.codes.settings import Settings
from consumer.codes_settings import CodeRule
from consumer.config_values import micros_of, seconds_of
from consumer.errors import StoreError
from consumer.store.codes import Challenge, CodeStore, Kind

# Challenges that nobody has answered, and wrong codes, within this time. Whoever has a password can ask for codes until somebody
# gives in. The users of a whole site may come from one address.
WINDOW_US = 600 * SECOND_US
USER_PROMPT_LIMIT, ADDRESS_PROMPT_LIMIT = 5, 20
USER_TRY_LIMIT, ADDRESS_TRY_LIMIT = 10, 30
# Of the session numbers with the fewest digits, at least half are free.
_DRAWS = 100
_NOTHING_NEEDED = "sshbell needs no code for this login. If PAM asks for one, press Enter."


class _Begun(NamedTuple):
    """
    A challenge in the store.

    Attributes:
        challenge: None if it is refused.
        code: "" if the challenge is an earlier one of this connection.
        reason: of a refusal.
        is_report_due: the user has to hear of too many prompts.
        emergency_left: the user's unused emergency codes.
        prompts: the user's unanswered challenges, with this one.
    """

    challenge: Challenge | None
    code: str = ""
    reason: str = ""
    is_report_due: bool = False
    emergency_left: int = 0
    prompts: int = 0


class Exchange:
    """
    A login that PAM asks about.

    Args:
        settings: of ``[codes]``.
        login: from PAM.
        store: of challenges.

    Raises:
        StoreError: of each method; sshbell cannot remember the login, so it must not pass.
    """

    def __init__(self, settings: Settings, login: PamLogin, store: CodeStore) -> None:
        self._settings, self._codes, self._login, self._store = settings, settings.codes, login, store

    # ---------------------------------------------------------------- challenge

    def challenge(self) -> str:
        """Have a code sent; return the prompt, which is one line, or "" to refuse the login at once."""
        account = account_of(self._login)
        rule = rule_for(self._codes, self._login, account) if account else CodeRule()
        begun = self._begun("decoy" if account is None else "none" if rule.ask == "never" else "code")
        if begun.challenge is None:
            if begun.is_report_due and self._codes.channels:
                send_code(self._settings.state_dir, self._request(rule, begun))
            log_lines.write(log_lines.refused(self._login.asker, begun.reason))
            return ""
        if not begun.code:
            return self._prompt_again(begun.challenge)
        match begun.challenge.kind:
            case "none":
                log_lines.write(log_lines.not_needed(self._login.asker))
                return _NOTHING_NEEDED
            case "decoy":
                # Nobody gets a code, and the prompt does not show that there is no such user.
                log_lines.write(log_lines.not_delivered(self._login.asker, "no such user"))
                return self._prompt(begun.challenge)
        return self._sent(rule, begun)

    def _begun(self, kind: Kind) -> _Begun:
        login, now = self._login, now_us()
        with self._store.transaction():
            before = self._store.of(login.pid, login.started)
            left = len(self._store.emergency_digests(login.user))
            if before is not None and self._is_waiting(before, now):
                # sshd asks again after a wrong code. The code that the user has is still good, unless it was tried too often.
                is_over = before.tries >= self._codes.tries
                return _Begun(None, reason="too many tries") if is_over else _Begun(before, emergency_left=left)
            of_user = self._store.recent("user", login.user, now - WINDOW_US)
            if kind != "none" and (reason := self._reason_against(now)):
                is_due = kind == "code" and of_user.prompts >= USER_PROMPT_LIMIT
                is_due = is_due and self._store.warns(login.user, now - WINDOW_US, now)
                return _Begun(None, "", reason, is_due, left, of_user.prompts)
            challenge, code = self._added(kind, now)
            return _Begun(challenge, code, emergency_left=left, prompts=of_user.prompts + 1)

    def _is_waiting(self, challenge: Challenge, now: int) -> bool:
        return challenge.used_us is None and challenge.made_us <= now < challenge.until_us and self._is_of_login(challenge)

    def _is_of_login(self, challenge: Challenge) -> bool:
        login = self._login
        return (challenge.user, challenge.address, challenge.service) == (login.user, login.address, login.service)

    def _reason_against(self, now: int) -> str:
        """Return why this user or address gets no prompt and no further try; "" if they may go on."""
        of_user = self._store.recent("user", self._login.user, now - WINDOW_US)
        if of_user.prompts >= USER_PROMPT_LIMIT:
            return "too many prompts"
        if of_user.tries >= USER_TRY_LIMIT:
            return "too many tries"
        if not self._login.address:
            return ""
        of_address = self._store.recent("address", self._login.address, now - WINDOW_US)
        if of_address.prompts >= ADDRESS_PROMPT_LIMIT:
            return "too many prompts"
        return "too many tries" if of_address.tries >= ADDRESS_TRY_LIMIT else ""

    def _added(self, kind: Kind, now: int) -> tuple[Challenge, str]:
        """Add a challenge; return it and its code. A decoy has one, too, that nobody ever sees."""
        login, code = self._login, number(self._codes.digits)
        until = now + micros_of(self._codes.valid) + round((seconds_of(self._codes.timeout) + MARGIN_S) * SECOND_US)
        for _ in range(_DRAWS):
            session = number(self._codes.session_digits)
            digest = code_digest(self._store.key, session, login.user, code.encode())
            challenge = Challenge(
                session, kind, digest, login.user, login.address, login.service, login.pid, login.started, "", now, until
            )
            if self._store.add(challenge):
                return challenge, code
        raise StoreError("all session numbers are taken")

    def _sent(self, rule: CodeRule, begun: _Begun) -> str:
        """Have a code sent, and return the prompt; if nobody sends it, do as ``on_failure`` says."""
        assert begun.challenge is not None
        session, asker = begun.challenge.session, self._login.asker
        fault = self._settings.fault or ("" if self._codes.channels else "[codes] has no channels")
        if not fault:
            answer = send_code(self._settings.state_dir, self._request(rule, begun))
            if answer.channel:
                self._set(session, "code", answer.channel)
                log_lines.write(log_lines.sent(asker, session, answer.channel))
                return self._prompt(begun.challenge)
            if answer.not_needed:
                self._set(session, "none")
                log_lines.write(log_lines.not_needed(asker))
                return _NOTHING_NEEDED
            fault = answer.fault
        log_lines.write(log_lines.not_delivered(asker, fault))
        match rule.on_failure or self._codes.on_failure:
            case "safe":
                self._set(session, "none")
                log_lines.write(log_lines.let_in(asker))
                return _NOTHING_NEEDED
            case "codes" if begun.emergency_left:
                self._set(session, "emergency")
                return self._prompt(begun.challenge._replace(kind="emergency"))
        log_lines.write(log_lines.refused(asker, "not sent", session))
        return ""

    def _set(self, session: str, kind: Kind, channel: str = "") -> None:
        # The time counts from now: to send the code may have taken some.
        until = now_us() + micros_of(self._codes.valid)
        with self._store.transaction():
            self._store.set_sent(session, kind, channel, until)

    def _request(self, rule: CodeRule, begun: _Begun) -> CodeRequest:
        login, codes = self._login, self._codes
        return CodeRequest(
            session=begun.challenge.session if begun.challenge else "",
            code=begun.code, user=login.user, host=login.host, address=login.address, service=login.service,
            method=login.method, key=login.key, to=codes.to, channels=tuple(codes.channels),
            new=tuple(rule.new) if rule.ask == "new" and begun.challenge else (),
            emergency_left=begun.emergency_left, valid_s=int(seconds_of(codes.valid)), timeout_s=seconds_of(codes.timeout),
            prompts=begun.prompts,
        )  # fmt: skip

    def _prompt_again(self, challenge: Challenge) -> str:
        left = self._codes.tries - challenge.tries
        tries = f" Tries left: {left}." if challenge.tries else ""
        return _NOTHING_NEEDED if challenge.kind == "none" else self._prompt(challenge) + tries

    def _prompt(self, challenge: Challenge) -> str:
        if challenge.kind == "emergency":
            return f"Session {challenge.session}: sshbell could not send a code. Type one of your emergency codes."
        return f"Session {challenge.session}: sshbell has sent a code of {self._codes.digits} digits. Type it."

    # ---------------------------------------------------------------- verify

    def verify(self, typed: bytes | None) -> bool:
        """
        Return whether the login may pass.

        Args:
            typed: what the user typed; None if PAM has not asked. Then only a login passes that needs no code.
        """
        login, now = self._login, now_us()
        with self._store.transaction():
            challenge = self._store.of(login.pid, login.started)
            if challenge is not None and not self._is_of_login(challenge):
                challenge = None
            if typed is None and (challenge is None or challenge.kind != "none"):
                return False
            verdict = self._settled(challenge, typed or b"", now)
        if verdict.line:
            log_lines.write(verdict.line)
        return verdict.is_right

    def _settled(self, challenge: Challenge | None, typed: bytes, now: int) -> "_Verdict":
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
        self._store.set_wrong(challenge.session)
        return self._no("wrong", challenge)

    def _reason_to_refuse(self, challenge: Challenge, now: int) -> str:
        if challenge.used_us is not None:
            return "used"
        # If somebody sets the clock back, a code ends early, not late.
        if not challenge.made_us <= now < challenge.until_us:
            return "expired"
        if challenge.kind != "none" and (challenge.tries >= self._codes.tries or self._has_tried_too_often(now)):
            return "too many tries"
        return ""

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

    def _has_tried_too_often(self, now: int) -> bool:
        since = now - WINDOW_US
        if self._store.recent("user", self._login.user, since).tries >= USER_TRY_LIMIT:
            return True
        return bool(self._login.address) and self._store.recent("address", self._login.address, since).tries >= ADDRESS_TRY_LIMIT

    def _no(self, reason: str, challenge: Challenge | None = None) -> "_Verdict":
        session, channel = (challenge.session, challenge.channel) if challenge else ("", "")
        return _Verdict(log_lines.refused(self._login.asker, reason, session, channel))


class _Verdict(NamedTuple):
    """Whether a login passes, and the line about it for the log; "" for none."""

    line: str = ""
    is_right: bool = False
