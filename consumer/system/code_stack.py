"""
The check of a PAM stack that asks for one-time codes.

sshbell walks through the stack with given answers of its modules. So a wrong order, a jump to the wrong line and a ``sufficient``
in the wrong place show as what they cause: somebody gets in without a code, or nobody gets in at all.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from consumer.rights import untrusted
from consumer.system.outcome import Outcome, fault, ok, warning
from consumer.system.pam_stack import PAM_FOLDER, PamEntry, pam_stack
from consumer.system.pam_walk import SUCCESS, walk

LINES = "take the lines of docs/codes.md"
# Modules that ask for a password. They also pass it on, and pam_exec then takes it for the code.
_PASSWORD_MODULES = frozenset({
    "pam_unix", "pam_sss", "pam_ldap", "pam_krb5", "pam_winbind", "pam_systemd_home", "pam_userdb", "pam_radius_auth", "pam_pwdb",
})  # fmt: skip
# Modules that answer pam_setcred(). pam_exec does not; without another one, the login ends after "Accepted".
_CREDENTIAL_MODULES = _PASSWORD_MODULES | {"pam_permit", "pam_env", "pam_group", "pam_cap"}
_FAILED = "auth_err"
_BOTH = (False, True)


class _Way(NamedTuple):
    """
    The answers of a stack's modules.

    Attributes:
        has_factor: sshd has checked another factor before.
        challenge: sshbell has sent a code, or needs none.
        code: the user types the right code.
        password: the user types the right password.
        starts: PAM can start programs; it cannot after a fork bomb, for example.
    """

    has_factor: bool = True
    challenge: bool = True
    code: bool = True
    password: bool = False
    starts: bool = True

    def answer(self, entry: PamEntry) -> str:
        """Return what a module answers."""
        if entry.module == "pam_exec" and not self.starts:
            is_right = False
        elif is_half(entry, "challenge"):
            is_right = self.challenge
        elif is_half(entry, "verify"):
            is_right = self.challenge and self.code and "expose_authtok" in entry.arguments
        elif _asks_for_factor(entry):
            is_right = self.has_factor != ("-z" in entry.text.split())
        elif entry.module in _PASSWORD_MODULES:
            is_right = self.password
        else:
            is_right = entry.module != "pam_deny"
        return SUCCESS if is_right else _FAILED


def is_half(entry: PamEntry, half: str) -> bool:
    """Return whether an entry runs ``sshbell pam challenge`` or ``verify``."""
    return entry.module == "pam_exec" and _program(entry, half) is not None


def _program(entry: PamEntry, half: str) -> str | None:
    """Return the program that an entry runs with ``pam challenge`` or ``pam verify``; None if it runs something else."""
    words = entry.arguments
    return next((words[at - 1] for at in range(1, len(words) - 1) if words[at : at + 2] == ["pam", half]), None)


def _asks_for_factor(entry: PamEntry) -> bool:
    """Return whether an entry asks whether sshd has checked another factor before."""
    return entry.module == "pam_exec" and "SSH_AUTH_INFO_0" in entry.text


def stack(service: str, folder: Path = PAM_FOLDER) -> Iterator[Outcome]:
    """Check the stack of a service."""
    try:
        entries = [entry for entry in pam_stack(service, folder) if entry.type == "auth"]
    except OSError as error:
        yield warning(f"{error.filename}: {error.strerror}", "name PAM's service of your sshd with --service")
        return
    challenges = [entry for entry in entries if is_half(entry, "challenge")]
    verifies = [entry for entry in entries if is_half(entry, "verify")]
    if not challenges and not verifies:
        yield warning(f"{folder / service} does not ask sshbell for codes", LINES)
        return
    if not challenges or not verifies:
        missing = "verify" if challenges else "challenge"
        yield fault(f"{(challenges or verifies)[0].place}: no auth line runs sshbell pam {missing}", LINES)
        return
    found = [*_arguments(challenges, verifies), *_order(entries, challenges[0])]
    yield from found
    if not any(outcome.state == "fault" for outcome in found):
        yield ok(f"{challenges[0].place}: nobody passes without the right code")


def _arguments(challenges: Sequence[PamEntry], verifies: Sequence[PamEntry]) -> Iterator[Outcome]:
    for entry in challenges:
        if "stdout" not in entry.arguments:
            yield fault(f"{entry.place}: without stdout, users do not see the session number", "add stdout behind pam_exec.so")
        if "expose_authtok" in entry.arguments:
            yield fault(f"{entry.place}: expose_authtok asks for the code before sshbell sends it", "delete it in this line")
    if not any("expose_authtok" in entry.arguments for entry in verifies):
        yield fault(f"{verifies[0].place}: without expose_authtok, nobody is asked for the code", "add it behind pam_exec.so")
    for entry in (*challenges, *verifies):
        half = "challenge" if entry in challenges else "verify"
        yield from _program_outcomes(entry, Path(_program(entry, half) or ""))


def _program_outcomes(entry: PamEntry, program: Path) -> Iterator[Outcome]:
    if not program.is_absolute():
        yield fault(f"{entry.place}: {program} is not a full path, and pam_exec searches no path", "write the full path")
    elif not os.access(program, os.X_OK):
        yield fault(f"{entry.place}: {program} does not exist or is not executable: nobody can log in", "correct the path")
    elif reason := untrusted(program):
        yield fault(f"PAM runs {program} as root, but {reason}", "let only root own and write it")


def _order(entries: Sequence[PamEntry], challenge: PamEntry) -> Iterator[Outcome]:
    """Check what happens in each case."""
    if before := _password_before_code(entries):
        yield fault(f"{before.place}: {before.module} comes first, and pam_exec takes its password for the code", LINES)
        return
    right = walk(entries, _Way().answer)
    halves = [entry for entry in right.ran if is_half(entry, "challenge") or is_half(entry, "verify")]
    if halves and is_half(halves[0], "verify"):
        yield fault(f"{halves[0].place}: verify comes before challenge, so nobody has a code yet", LINES)
    elif not right.lets_in:
        last = right.ran[-1]
        yield fault(f"even the right code does not let users in: the stack ends at {last.place}: {last.text}", LINES)
    elif not any(entry.module in _CREDENTIAL_MODULES for entry in right.ran):
        text = "no module behind the code answers setcred: each login ends right after it began"
        yield fault(f"{challenge.place}: {text}", "end the auth lines with: auth required pam_permit.so")
    if _lets_in(entries, [_Way(code=False, password=password) for password in _BOTH]):
        yield fault(f"{challenge.place}: a wrong code lets in", LINES)
    refused = [_Way(challenge=False, code=code, password=password) for code in _BOTH for password in _BOTH]
    if _lets_in(entries, refused):
        yield fault(f"{challenge.place}: a user whom sshbell refuses gets in", LINES)
    elif any(is_half(entry, "verify") for way in refused for entry in walk(entries, way.answer).ran):
        text = "after a refusal, users still see a prompt, and no code is right"
        yield warning(f"{challenge.place}: {text}", "make its control requisite")
    if _lets_in(entries, [_Way(password=True, starts=False)]):
        yield fault(f"{challenge.place}: while PAM cannot start a program, a password lets users in without a code", LINES)
    if _lets_in(entries, [_Way(has_factor=False, code=False)]):
        yield fault(f"{challenge.place}: PAM lets users in without a password and without a code", LINES)


def _lets_in(entries: Sequence[PamEntry], ways: Sequence[_Way]) -> bool:
    return any(walk(entries, way.answer).lets_in for way in ways)


def _password_before_code(entries: Sequence[PamEntry]) -> PamEntry | None:
    """Return the module that asks for a password before somebody can type the code."""
    for entry in walk(entries, _Way(password=True).answer).ran:
        if entry.module in _PASSWORD_MODULES:
            return entry
        if is_half(entry, "verify") and "expose_authtok" in entry.arguments:
            break
    return None


def passes_by_password(entries: Sequence[PamEntry]) -> bool:
    """Return whether a password alone satisfies PAM if it is the first factor."""
    return walk(entries, _Way(has_factor=False, code=False, password=True).answer).lets_in
