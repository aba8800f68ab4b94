"""Checks of sshbell itself: configuration, state, processes, people, secrets, channels, places."""

import grp
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

from consumer.channel_settings import EmailSettings, key_files
from consumer.clock import now_us, utc
from consumer.config import KEYS_SOCKET, PEOPLE_PATH, Config, secrets_of
from consumer.deliver.channels import Channel, Delivered, Rejected, RetryLater, channel_of
from consumer.deliver.channels import SendResult as Answer
from consumer.errors import ConfigError, ConfigRightsError, StoreError, UnavailableError
from consumer.keys.client import KeyOwners
from consumer.people.people import People
from consumer.places.geoip import Places
from consumer.process.lock import RUN_LOCK, holder_of
from consumer.process.threads import run_async
from consumer.rights import Account, changeable_by, closed_to, is_open_to_everybody, is_private, untrusted
from consumer.state_dir import DEFAULT_PATH, shards_in
from consumer.store.database import DELIVERY_DB, STATE_DB, reading
from consumer.store.reader import members_of
from consumer.system.check_blocking import blocking
from consumer.system.outcome import AS_ROOT, INSTALL, Context, Outcome, fault, ok, warning
from consumer.system.rsyslog_conf import DROP_IN
from consumer.system.shards import installed_shards
from consumer.text import counted

_RENEWED = "restart rsyslog: at its start, sshbell sets a damaged file aside and upgrades an older one"
_FETCH = "sudo sshbell geoip fetch, daily from cron"
_OLD_PLACES_D = 180
_MAIL = "compare server, port, security and username with your mail provider's, then run: sudo sshbell check --connect"
_CHANNEL = "correct the channel's settings or its secrets, then run: sudo sshbell check --connect"


def configuration(context: Context) -> Iterator[Outcome]:
    """Check who can read and change the file, and whether events lead to a channel."""
    place, config, account = context.place, context.config, context.account
    if not place.exists():
        yield warning(f"{place} does not exist: sshbell uses its defaults and sends no messages", INSTALL)
        return
    if place.resolve() == Path(DEFAULT_PATH) and (reason := untrusted(place)):
        yield fault(reason, f"chown root {place.parent} {place}; chmod go-w {place.parent} {place}")
        return
    if account is not None and (kept := closed_to(account, place)):
        text = f"sshbell's user cannot access {kept}: deliver cannot start"
        yield fault(text, _readable_by(place, kept, account))
        return
    used = {channel for route in config.route for channel in route.channels}.union(config.codes.channels)
    idle = [channel.name for channel in config.channel if channel.name not in used]
    if not config.channel:
        yield warning(f"{place}: sshbell sends nothing", "add a [[channel]] and a [[route]] that leads to it")
    elif idle:
        yield warning(f"{place}: no [[route]] leads to {', '.join(idle)}", "add one, or remove the channel")
    else:
        yield ok(f"{place}: {counted(len(config.channel), 'channel')}, {counted(len(config.route), 'route')}")


def state(context: Context) -> Iterator[Outcome]:
    """Check the state directory, its owner, and the databases in it."""
    place, user, account = Path(context.config.state_dir), context.user, context.account
    if account is None:
        yield fault(f"user {user} does not exist", INSTALL)
        return
    try:
        found = place.stat()
    except FileNotFoundError:
        yield fault(f"{place} does not exist", INSTALL)
        return
    if not stat.S_ISDIR(found.st_mode):
        yield fault(f"{place} is not a directory")
        return
    wrong = list(_wrongly_owned(place, account.uid))
    if wrong:
        yield fault(f"{wrong[0]} does not belong to {user} alone ({len(wrong)} such files and directories)",
                     f"chown -R {user}: {place}; chmod -R go= {place}")  # fmt: skip
        return
    if reason := _database_fault(place):
        yield fault(reason, _RENEWED)
        return
    yield ok(f"{place} belongs to {user} alone")
    if isinstance(context.config.store, str):
        yield _postgresql(context.config.store)


def _postgresql(database: str) -> Outcome:
    try:
        found = members_of(database)
    except (ConfigError, StoreError, UnavailableError) as error:
        return fault(str(error), "compare database under [worker] with the server's settings")
    who = f"{counted(len(found.workers), 'worker')} connected, deliver is {'running' if found.deliver else 'not running'}"
    if found.workers:
        return ok(f"PostgreSQL answers: {who}")
    return warning(f"PostgreSQL answers: {who}", "start sshbell worker on one or more machines")


def privileges(context: Context) -> Iterator[Outcome]:
    """Check which user sshbell runs as."""
    user, account = context.user, context.account
    if context.rsyslog is not None and context.rsyslog.user is not None:
        text = f"rsyslogd drops root ($PrivDropToUser): sshbell can name a key only if {user} can read authorized_keys"
        yield warning(text, "nothing to do if you do not need the names; else let rsyslogd keep root: sshbell drops it")
    elif account is not None and account.uid == 0:
        text = f'user = "{context.config.user}": the processes that use the network run as root'
        yield warning(text, f'set user = "sshbell", and run {INSTALL}')
    else:
        yield ok(f'"run" and "deliver" have the rights of {user}; only the process "keys" reads each authorized_keys as its user')


def keys(context: Context) -> Iterator[Outcome]:
    """Check that the process ``keys`` answers, if sshbell is running."""
    state_dir = Path(context.config.state_dir)
    if context.config.worker.brokers:
        return  # workers read no authorized_keys
    if not holder_of(state_dir / RUN_LOCK).is_running:
        return
    place = state_dir / KEYS_SOCKET
    if run_async(KeyOwners(state_dir).answers()):
        yield ok(f"{place} answers")
    elif os.geteuid() != 0:
        yield warning(f"{place} does not answer", AS_ROOT)
    else:
        yield warning(f"{place} does not answer: sshbell cannot name the owners of keys",
                     "it comes back within an hour if lines come in; to get it back now, restart rsyslog")  # fmt: skip


def people(context: Context) -> Iterator[Outcome]:
    """Check people.toml, and who can read and change it."""
    place, account = Path(context.config.people), context.account
    try:
        persons = People.load(place).persons
    except ConfigRightsError as error:
        yield warning(str(error), AS_ROOT)
        return
    except ConfigError as error:
        *faults, last = error.args
        yield from map(fault, faults)
        yield fault(last, "fix it; until then, sshbell uses the people that it has already read")
        return
    if place.exists() and (reason := untrusted(place) if place == Path(PEOPLE_PATH) else None):
        yield fault(f"it directs messages, but {reason}", f"chown root {place}; chmod go-w {place}")
    elif place.exists() and account is not None and (kept := closed_to(account, place)):
        text = f"sshbell's user cannot access {kept}: sshbell uses the people that it has already read, if any"
        yield fault(text, _readable_by(place, kept, account))
    elif any(route.to_owner for route in context.config.route) and not persons:
        yield warning(f"{place}: it lists nobody, but a [[route]] has to_owner", "add the people and their keys")
    elif persons:
        yield ok(f"{place}: {counted(len(persons), 'person', 'people')}; sshbell people check compares them with the keys in use")


def catch_up(context: Context) -> Iterator[Outcome]:
    """Check the log file in which sshbell searches for lost lines."""
    if not context.config.catch_up:
        return
    if installed_shards(DROP_IN) > 1:
        yield ok("off: with shards, sshbell does not search the log file")
        return
    place = Path(context.config.catch_up)
    if not place.exists():
        advice = (
            "rsyslogd creates it when it writes the first line there; if it does not, set catch_up to the file with sshd's "
            'lines, such as "/var/log/secure", or to ""'
        )
        yield warning(f"{place} does not exist: sshbell cannot find lines that rsyslogd loses", advice)
    elif context.rsyslog and context.rsyslog.user and not os.access(place, os.R_OK):
        yield warning(f"{context.rsyslog.user} cannot read {place}", "let this user read it")
    else:
        yield ok(str(place))


def secrets(context: Context) -> Iterator[Outcome]:
    """Check that sshbell can read each secret, and that nobody else can."""
    for what, secret in secrets_of(context.config):
        if secret.file:
            yield _secret_file(what, Path(secret.file), context.account)
        elif secret.env:
            # rsyslogd's environment must have it, not the environment of this command.
            yield ok(f"{what}: from ${secret.env}, if rsyslogd's environment has it")
        elif shutil.which(secret.command[0]) is None:
            yield fault(f"{what}: {secret.command[0]} does not exist or is not executable")
        else:
            yield ok(f"{what}: from {secret.command[0]}")
    for channel in context.config.channel:
        for name, path in key_files(channel):
            yield _secret_file(f"{channel.name}'s {name}", Path(path), context.account)


def channels(context: Context) -> Iterator[Outcome]:
    """Connect to the server of each channel; only with ``--connect``."""
    if not context.connect:
        return
    for channel in context.config.channel:
        match run_async(_answer_of(channel_of(channel))):
            case Delivered():
                yield ok(f"{channel.name} answers")
            case RetryLater(reason) | Rejected(reason):
                yield fault(f"{channel.name}: {reason}", _MAIL if isinstance(channel, EmailSettings) else _CHANNEL)


def places(context: Context) -> Iterator[Outcome]:
    """Check the geoip databases, or the web service."""
    if not context.config.geoip:
        return
    if context.config.geoip == "web":
        yield _web_places(context.config, connect=context.connect)
        return
    if context.config.geoip_account or context.config.geoip_key is not None:
        text = 'geoip_account or geoip_key is set, but geoip is not "web": sshbell does not ask the web service'
        yield warning(text, 'set geoip = "web", or delete them')
    faults: list[str] = []
    places = Places(context.config.geoip, faults.append)
    for text in faults:
        yield warning(text, f"{_FETCH}; or remove it from geoip")
    old = utc(now_us()) - timedelta(days=_OLD_PLACES_D)
    for database in places.databases:
        if database.built is not None and database.built < old:
            yield warning(f"{database.path} is from {database.built:%Y-%m-%d}: places change", _FETCH)
        else:
            yield ok(f"{database.path}: {database.type}")
    if not places.databases and not faults:
        yield ok(f"no database: sshbell shows no places; to change that: {_FETCH}")
    places.close()


def _web_places(config: Config, *, connect: bool) -> Outcome:
    """Check the web service, only with ``--connect``. MaxMind counts this as one query."""
    if not connect or config.geoip_key is None:
        return ok(f"web service {config.geoip_host}; sudo sshbell check --connect tries it")
    # Import it here, because the import takes longer than all other checks.
    from consumer.places.web_service import WebError, WebPlaces  # noqa: PLC0415

    places = WebPlaces(config.geoip_account, config.geoip_key, config.geoip_host, report=lambda _text: None)
    try:
        run_async(places.check())
    except WebError as error:
        return fault(str(error))
    return ok(f"web service {config.geoip_host} answers")


async def _answer_of(channel: Channel) -> Answer:
    """Return the answer of a channel's server, and close the connection."""
    try:
        return await channel.check()
    finally:
        channel.close()


def _database_fault(place: Path) -> str:
    """Return the fault of an existing database, or ""."""
    databases = [place / STATE_DB, place / DELIVERY_DB, *(folder / STATE_DB for folder in shards_in(place).values())]
    for file in databases:
        if not file.exists():
            continue
        try:
            with reading(file):
                pass
        except StoreError as error:
            return str(error)
    return ""


def _wrongly_owned(place: Path, uid: int) -> Iterator[Path]:
    """Yield the state directory and its files if they do not belong to this user alone."""
    for folder, _, names in os.walk(place):
        for path in (Path(folder), *(Path(folder, name) for name in names)):
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue  # deleted in the meantime: the directory is in use
            if not is_private(found, uid):
                yield path


def _secret_file(what: str, path: Path, account: Account | None) -> Outcome:
    # In this directory, "sshbell install" makes the file readable only for root and sshbell.
    is_ours = path.is_relative_to(Path(DEFAULT_PATH).parent)
    try:
        found = path.stat()
    except FileNotFoundError:
        advice = f"(umask 077; cat > {path}), and type the secret" + (f"; then: {INSTALL}" if is_ours else "")
        return fault(f"{what}: {path} does not exist", advice)
    if is_open_to_everybody(found):
        advice = INSTALL if is_ours else f"chmod o-rw {path}"
        return fault(f"{what}: everybody on this machine can read or write {path}", advice)
    # The owner matters less: somebody had to write the file.
    if reason := changeable_by(found, (found.st_uid,), (0,)):
        return fault(f"{what}: {path} {reason}", f"chmod g-w {path}")
    if account is not None and (kept := closed_to(account, path)):
        return fault(f"{what}: sshbell's user cannot access {kept}", _readable_by(path, kept, account))
    return ok(f"{what}: {path}")


def _readable_by(path: Path, kept: Path, account: Account) -> str:
    """Return the command that lets a user read a file."""
    if kept.is_relative_to(Path(DEFAULT_PATH).parent):
        return INSTALL
    if kept != path:
        return f"chmod o+x {kept}"
    try:
        group = grp.getgrgid(account.gid).gr_name
    except KeyError:
        group = str(account.gid)
    return f"chgrp {group} {path}; chmod 640 {path}"


# In the order of their rows.
CHECKS: dict[str, Callable[[Context], Iterator[Outcome]]] = {
    "configuration": configuration, "state": state, "privileges": privileges, "keys": keys, "people": people,
    "catch-up": catch_up, "secrets": secrets, "channels": channels, "places": places,
    "blocking": blocking,
}  # fmt: skip
