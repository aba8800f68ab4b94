"""
A login of root by password: everybody who guesses or learns that one password has the whole host, and the log does not show who.

sshd's own default forbids it (``PermitRootLogin prohibit-password``).
"""

from collections.abc import Iterable
from typing import ClassVar

from consumer.actions import EventAction
from consumer.detect.findings import Kinds, Stateless, finding_of
from consumer.events import Finding, Login

# "none" needs not even a password: PermitEmptyPasswords.
_METHODS = frozenset({"password", "keyboard-interactive", "none"})
# A one-time code that the user has typed: see ``LoginCode``.
_SECOND_FACTORS = frozenset({"accepted", "emergency"})


class RootByPassword(Stateless):
    """Finds logins of the user ``root``, or of another name with uid 0, that needed nothing but a password."""

    takes: ClassVar[Kinds] = (Login,)

    def take(self, event: Login) -> Iterable[Finding]:
        """Return the finding about a login; with a key or a one-time code as well it has two factors, which is no finding."""
        if event.user != "root" and event.uid != 0:
            return ()
        if event.code is not None and event.code.outcome in _SECOND_FACTORS:
            return ()
        methods = [method.partition("/")[0] for method in event.factors or (event.method or "",)]
        if not all(method in _METHODS for method in methods):
            return ()
        return (finding_of(event, EventAction.ROOT_BY_PASSWORD),)
