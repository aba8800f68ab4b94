"""The first half of a login with a code: have one sent, and return the prompt. ``verify`` is the second half."""

from typing import NamedTuple

from consumer.clock import SECOND_US, now_us
from consumer.codes import log_lines
from consumer.codes.client import MARGIN_S, send_code
from consumer.codes.destination import destination_of
from consumer.codes.digests import code_digest
from consumer.codes.limits import USER_PROMPT_LIMIT, WINDOW_US, too_many_prompts, too_many_tries
from consumer.codes.messages import CodeRequest
from consumer.codes.numbers import number
from consumer.codes.pam_login import PamLogin
from consumer.codes.policy import passwd_entry, rule_for
from consumer.codes.settings import PamRule, Settings
from consumer.errors import StoreError
from consumer.spans import micros_of, seconds_of
from consumer.store.codes import Challenge, ChallengeKind, CodeStore

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


class Challenger:
    """
    Asks the user of a login for a code.

    Args:
        settings: of ``[codes]``.
        login: from PAM.
        store: remembers the challenge for ``verify``.

    Raises:
        StoreError: of each method; sshbell cannot remember the login, so it must not pass.
    """

    def __init__(self, settings: Settings, login: PamLogin, store: CodeStore) -> None:
        self._settings, self._codes, self._login, self._store = settings, settings.codes, login, store

    def prompt(self) -> str:
        """Have a code sent; return the prompt, which is one line, or "" to refuse the login at once."""
        account = passwd_entry(self._login)
        rule = rule_for(self._codes, self._login, account) if account else PamRule()
        begun = self._begun("decoy" if account is None else "none" if rule.ask == "never" else "code")
        if begun.challenge is None:
            if begun.is_report_due and self._codes.channels:
                send_code(self._settings.state_dir, self._request(rule, begun))
            log_lines.write(log_lines.refused(self._login.asker, begun.reason))
            return ""
        if not begun.code:
            return self._text_again(begun.challenge)
        match begun.challenge.kind:
            case "none":
                log_lines.write(log_lines.not_needed(self._login.asker))
                return _NOTHING_NEEDED
            case "decoy":
                # Nobody gets a code, and the prompt does not show that there is no such user.
                log_lines.write(log_lines.prompted(self._login.asker, begun.challenge.session))
                return self._text(begun.challenge)
        return self._sent(rule, begun)

    # ---------------------------------------------------------------- the row

    def _begun(self, kind: ChallengeKind) -> _Begun:
        login, store, now = self._login, self._store, now_us()
        with store.transaction():
            before, left = store.of(login.pid, login.started), len(store.emergency_digests(login.user))
            if before is not None and before.is_open(now) and login.is_of(before):
                # The client tries again. No channel took the code a moment ago, so none is asked again.
                if before.kind == "code" and not before.channel:
                    return _Begun(None, reason="not sent")
                # The code that the user has is still good, unless it was tried too often.
                is_over = before.tries >= self._codes.tries
                return _Begun(None, reason="too many tries") if is_over else _Begun(before, emergency_left=left)
            prompts = store.recent("user", login.user, now - WINDOW_US).prompts
            if kind != "none" and (reason := self._reason_against(now)):
                is_due = kind == "code" and prompts >= USER_PROMPT_LIMIT and store.warns(login.user, now - WINDOW_US, now)
                return _Begun(None, "", reason, is_due, left, prompts)
            challenge, code = self._added(kind, now)
            return _Begun(challenge, code, emergency_left=left, prompts=prompts + 1)

    def _reason_against(self, now: int) -> str:
        if too_many_prompts(self._store, self._login, now):
            return "too many prompts"
        return "too many tries" if too_many_tries(self._store, self._login, now) else ""

    def _added(self, kind: ChallengeKind, now: int) -> tuple[Challenge, str]:
        """Add a challenge; return it and its code. A decoy has one, too, which nobody ever sees."""
        login, code = self._login, number(self._codes.digits)
        until = now + micros_of(self._codes.valid) + round((seconds_of(self._codes.timeout) + MARGIN_S) * SECOND_US)
        for _ in range(_DRAWS):
            session = number(self._codes.session_digits)
            digest = code_digest(self._store.key, session, login.user, code.encode())
            challenge = Challenge(
                session, kind, digest, login.user, login.address, login.network, login.service, login.pid, login.started, "", now,
                until,
            )  # fmt: skip
            if self._store.add(challenge):
                return challenge, code
        raise StoreError("all session numbers are taken")

    def _set(self, session: str, kind: ChallengeKind, channel: str = "") -> None:
        # The time counts from now: to send the code may have taken some.
        until = now_us() + micros_of(self._codes.valid)
        with self._store.transaction():
            self._store.set_sent(session, kind, channel, until)

    # ---------------------------------------------------------------- the message

    def _sent(self, rule: PamRule, begun: _Begun) -> str:
        """Have a code sent, and return the prompt; if no channel takes it, do as ``on_failure`` says."""
        assert begun.challenge is not None
        session, asker = begun.challenge.session, self._login.asker
        fault = self._settings.fault or ("" if self._codes.channels else "[codes] has no channels")
        if not fault:
            answer = send_code(self._settings.state_dir, self._request(rule, begun))
            if answer.channel:
                self._set(session, "code", answer.channel)
                log_lines.write(log_lines.sent(asker, session, answer.channel))
                return self._text(begun.challenge)
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
                log_lines.write(log_lines.prompted(asker, session))
                return self._text(begun.challenge._replace(kind="emergency"))
        log_lines.write(log_lines.refused(asker, "not sent", session))
        return ""

    def _request(self, rule: PamRule, begun: _Begun) -> CodeRequest:
        login, codes = self._login, self._codes
        return CodeRequest(
            # The report on too many prompts has no session.
            session=begun.challenge.session if begun.challenge else "0" * codes.session_digits,
            code=begun.code, user=login.user, host=login.host, address=login.address, service=login.service,
            destination=destination_of(login.pid), method=login.method, key=login.key, to=codes.to, channels=codes.channels,
            new=rule.new if rule.ask == "new" and begun.challenge else (),
            emergency_left=begun.emergency_left, valid_s=int(seconds_of(codes.valid)), timeout_s=seconds_of(codes.timeout),
            prompts=begun.prompts, trial=login.asker.service == log_lines.TRY,
        )  # fmt: skip

    # ---------------------------------------------------------------- the prompt

    def _text_again(self, challenge: Challenge) -> str:
        if challenge.kind == "none":
            return _NOTHING_NEEDED
        tries = f" Tries left: {self._codes.tries - challenge.tries}." if challenge.tries else ""
        return self._text(challenge) + tries

    def _text(self, challenge: Challenge) -> str:
        if challenge.kind == "emergency":
            return f"Session {challenge.session}: sshbell could not send a code. Type one of your emergency codes."
        return f"Session {challenge.session}: sshbell has sent a code of {self._codes.digits} digits. Type it."
