"""Whom a command runs as: what root starts becomes the configuration's ``user`` before it touches what that user owns."""

import os
import pwd

from consumer.errors import ConfigError


def become(name: str) -> None:
    """
    Become a user, for good, where root runs this; nothing is done for anybody else, or for "".

    Raises:
        ConfigError: there is no such user.
    """
    if os.geteuid() != 0 or not name or name == "root":
        return
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(
            f'user = "{name}": there is no such user; run: sshbell install, or set user = "" to stay root'
        ) from None
    os.initgroups(name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
