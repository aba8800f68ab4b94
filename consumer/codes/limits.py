"""Limits on the codes that a user and an address ask for and mistype, so that nobody can guess a code or tire a user."""

from consumer.codes.pam_login import PamLogin
from consumer.store.codes import CodeStore

# Challenges that nobody has answered, and wrong codes, within this time. The users of a whole site may come from one address.
WINDOW_US = 600_000_000
USER_PROMPT_LIMIT, ADDRESS_PROMPT_LIMIT = 5, 20
USER_TRY_LIMIT, ADDRESS_TRY_LIMIT = 10, 30


def too_many_prompts(store: CodeStore, login: PamLogin, now_us: int) -> bool:
    """Return whether this user or address gets no further prompt now."""
    return _is_beyond(store, login, now_us, "prompts", USER_PROMPT_LIMIT, ADDRESS_PROMPT_LIMIT)


def too_many_tries(store: CodeStore, login: PamLogin, now_us: int) -> bool:
    """Return whether no code of this user or address counts now."""
    return _is_beyond(store, login, now_us, "tries", USER_TRY_LIMIT, ADDRESS_TRY_LIMIT)


def _is_beyond(store: CodeStore, login: PamLogin, now_us: int, what: str, of_user: int, of_address: int) -> bool:
    since_us = now_us - WINDOW_US
    if getattr(store.recent("user", login.user, since_us), what) >= of_user:
        return True
    # Logins on consoles have no address in common.
    return bool(login.address) and getattr(store.recent("network", login.network, since_us), what) >= of_address
