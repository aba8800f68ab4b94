"""``consumer.process.privileges``: whom root becomes."""

from __future__ import annotations

import json
import os
import pwd
from typing import Any

import pytest

from consumer.errors import ConfigError
from consumer.process.privileges import become
from tests import needs


def after(name: str, before_uid: int = 0) -> Any:
    """Return what a process is that has become somebody: its ids, groups, and whether it can go back. It may have no other."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if before_uid:
                os.setresuid(before_uid, before_uid, before_uid)
            become(name)
            try:
                os.setuid(0)
            except PermissionError:
                returns = False
            else:
                returns = True
            os.write(writing, json.dumps([os.getresuid(), os.getresgid(), os.getgroups(), returns]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        found = json.load(said)
    os.waitpid(pid, 0)
    return found


@pytest.fixture
def root() -> None:
    """Be root."""
    needs.root("become another user")


@pytest.mark.usefixtures("root")
def test_another_user() -> None:
    """For good: all ids are that user's, the groups, too, and there is no way back."""
    user = pwd.getpwnam("nobody")
    assert after("nobody") == [[user.pw_uid] * 3, [user.pw_gid] * 3, [user.pw_gid], False]


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("name", ["", "root"])
def test_nobody_else(name: str) -> None:
    """Without a name, or with root's, the identity is kept."""
    assert after(name)[0] == [0, 0, 0]


@pytest.mark.usefixtures("root")
def test_no_such_user() -> None:
    """A user that is not there is said, with what to do."""
    with pytest.raises(ConfigError, match=r'user = "no-such-user": this user does not exist; run sshbell install'):
        become("no-such-user")


@pytest.mark.usefixtures("root")
def test_who_is_not_root() -> None:
    """Where rsyslogd has given up root already, nobody else is tried; a process of its own, since it gives up what is left."""
    user = pwd.getpwnam("nobody")
    uids, _gids, _groups, returns = after("no-such-user", user.pw_uid)
    assert (uids, returns) == ([user.pw_uid] * 3, False)
