"""Prepares the process that rsyslogd has started: its configuration, signals, state directory, user and lock."""

import os
import pwd
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from consumer.config import KEYS_SOCKET, Config
from consumer.config_file import load
from consumer.errors import ConfigError, RightsError, StoreError
from consumer.process.lock import RUN_LOCK, Lock, locked
from consumer.process.privileges import account_of, become
from consumer.process.privileges import guard as guarded_folder
from consumer.run.catch_up import RotatedLog
from consumer.run.children import GatherChild, OwnChildren, ShardChildren
from consumer.run.retry import Patience
from consumer.run.signals import Signals


class Started(NamedTuple):
    """The parts that ``run`` has before it opens its store, besides lines and replies."""

    signals: Signals
    log_file: RotatedLog
    children: OwnChildren | ShardChildren
    lock: Lock


def configuration_of(path: str | None) -> Config:
    """
    Read the configuration, and make sure that it is usable.

    Raises:
        ConfigError: it is not.
    """
    config = load(path)
    if config.worker.database:
        raise ConfigError(
            'the database under [worker] is for "sshbell worker"; run either that or sshbell under rsyslogd, not both'
        )
    if config.user and os.geteuid() == 0:
        account_of(config.user)
    return config


def started(config: Config, config_path: str | None, patience: Patience, shard: int | None = None) -> Started:
    """
    Start the children that need rights, give up root, and take the lock.

    Args:
        config: of this role.
        config_path: as in ``consumer.config_file.load``.
        patience: for the disk and the lock.
        shard: the number of the shard; None if it is none.

    Raises:
        ConfigError: there is no such user, or root may not become it.
        HungUpError: rsyslogd has gone during the wait for the disk or the lock.
    """
    signals = Signals()  # first, because systemd may send one at any time
    folder = Path(config.state_dir)
    children: OwnChildren | ShardChildren
    if shard is not None:
        patience.until(partial(_make, folder.parent, config.user))
    patience.until(partial(_make, folder, config.user))
    # Only root may read the log file, and only root can start keys.
    log_file = RotatedLog(config.catch_up)
    os.umask(0o077)
    if shard is not None:
        children = ShardChildren(folder.parent, GatherChild(config_path) if shard == 0 else None)
        become(config.user)
        return Started(signals, log_file, children, patience.until(partial(locked, folder / RUN_LOCK)))
    _make_block_folder(config)
    children = OwnChildren(config, config_path, _uid_of(config.user))
    become(config.user)
    # From here on, new files belong to the user.
    lock = patience.until(partial(locked, folder / RUN_LOCK))
    children.listen(folder / KEYS_SOCKET)
    return Started(signals, log_file, children, lock)


def _make(folder: Path, user: str) -> None:
    """
    Create the state directory if there is none, and give it to the user that root becomes.

    Raises:
        StoreError: it cannot be created, or other users could trick root with it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # If state_dir is a mistake, it may name somebody else's directory, so only an empty one changes its owner.
        if os.geteuid() == 0 and user and not any(folder.iterdir()):
            account = pwd.getpwnam(user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        if user in {"", "root"}:
            guarded_folder(folder)
    except KeyError:
        pass  # become() reports it
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror}; create it for {user or 'the current user'}") from error
    except RightsError as error:
        raise StoreError(str(error)) from error


def _make_block_folder(config: Config) -> None:
    """Create the directory of the file for pam_access, which belongs to guard's user. guard reports it if there is none."""
    folder = Path(config.block.access_file).parent
    if config.block.mode != "on" or folder.exists():
        return
    with suppress(OSError, KeyError):
        folder.mkdir(mode=0o755, parents=True)
        folder.chmod(0o755)
        if os.geteuid() == 0 and config.user:
            account = pwd.getpwnam(config.user)
            os.chown(folder, account.pw_uid, account.pw_gid)


def _uid_of(user: str) -> int:
    """Return this process's user id after ``become``."""
    return account_of(user).pw_uid if os.geteuid() == 0 and user else os.geteuid()
