"""From what rsyslogd started to a process that may take lines: its signals, its state directory, its user."""

import os
import pwd
from functools import partial
from pathlib import Path
from typing import NamedTuple

from consumer.config import KEYS_SOCKET, Config
from consumer.errors import RightsError, StoreError
from consumer.process.lock import Lock
from consumer.process.privileges import account_of, become, guard
from consumer.run.catch_up import CatchUp
from consumer.run.children import KeysChild
from consumer.run.retry import Patience
from consumer.run.signals import Signals


class Started(NamedTuple):
    """What ``run`` has besides lines and replies before it opens its store."""

    signals: Signals
    log_file: CatchUp
    keys: KeysChild
    lock: Lock


def started(config: Config, patience: Patience) -> Started:
    """
    Start ``keys``, give up root, and take the lock.

    Raises:
        ConfigError: there is no such user, or root may not become it.
        HungUpError: rsyslog has gone while the disk or the lock was awaited.
    """
    signals = Signals()  # first, since systemd may send one at any time
    folder = Path(config.state_dir)
    patience.until(partial(_make, folder, config.user))
    # Only root may read the log file, and only root can start keys.
    log_file = CatchUp(config.catch_up)
    os.umask(0o077)
    keys = KeysChild(_uid_of(config.user))
    become(config.user)
    # From here on files belong to the user.
    lock = patience.until(partial(_locked, folder / "run.lock"))
    keys.listen(folder / KEYS_SOCKET)
    return Started(signals, log_file, keys, lock)


def _make(folder: Path, user: str) -> None:
    """
    Make the state directory where there is none, and give it to the user that root becomes.

    Raises:
        StoreError: it cannot be made, or others could lead root in it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # One with something in it may be anybody's, if state_dir is a slip.
        if os.geteuid() == 0 and user and not any(folder.iterdir()):
            account = pwd.getpwnam(user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        if user in {"", "root"}:
            guard(folder)
    except KeyError:
        pass  # become() says so
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror}; make it, owned by {user or 'us'}") from error
    except RightsError as error:
        raise StoreError(str(error)) from error


def _locked(path: Path) -> Lock:
    """
    Return the lock, taken. The orphan of a killed rsyslogd may have it until its input ends.

    Raises:
        StoreError: another instance has it, or the disk is full.
    """
    # Opened anew for each try: the file may be another one by then.
    lock = Lock(path)
    try:
        if not lock.take():
            raise StoreError(f"another instance holds {path}")  # noqa: TRY301
    except StoreError:
        lock.close()
        raise
    return lock


def _uid_of(user: str) -> int:
    """Return our user id as it will be after ``become``."""
    return account_of(user).pw_uid if os.geteuid() == 0 and user else os.geteuid()
