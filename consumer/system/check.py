"""``sshbell check``: one result for each thing that has to be right, and what to do where it is not."""

import grp
import os
import shlex
import shutil
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec

from consumer.config import DEFAULT_PATH, KEYS_SOCKET, PEOPLE_PATH, Config, load, secrets_of
from consumer.deliver.channels import Channel, Delivered, Rejected, RetryLater, channel_of
from consumer.deliver.channels import SendResult as Answer
from consumer.errors import ConfigError, ConfigRightsError, StoreError
from consumer.keys.client import LIMIT_S
from consumer.keys.fields import Question
from consumer.keys.sshd_config import DEFAULT_CONFIG, SshdConfig
from consumer.people.people import People
from consumer.places.geoip import Places
from consumer.process.command import run_command, system_path
from consumer.process.threads import run_async
from consumer.rights import Account, changeable_by, closed_to, is_open_to_everybody, is_private, untrusted
from consumer.store.database import reading
from consumer.system.accounts import Accounts
from consumer.system.interpreter import code_of, untrusted_code
from consumer.system.rsyslog_conf import DROP_IN, ENTRY_POINT, MAIN, RsyslogConfig, trusted_advice
from consumer.system.status import process

_INSTALL = "sudo sshbell install"
_ELSEWHERE = "mend that, or put sshbell elsewhere and call sshbell install there"
_RENEWED = "restart rsyslog: when sshbell starts anew it sets a damaged one aside, and brings an older one up to date"
_NO_SSHD = "nothing to do where other hosts' lines come by rsyslog, or with dropbear"
_AS_ROOT = "call it as root to see that: sudo sshbell check"
_FETCH = "sudo sshbell geoip fetch, daily by cron"
_OLD_PLACES_D = 180
# Of rsyslogd -N1.
_TIMEOUT_S, _OUTPUT_LIMIT_BYTES = 30.0, 1 << 20
_SSHD_CONFIG = DEFAULT_CONFIG
# Logins are logged at INFO and above. SILENT is what Debian's sshd -T calls QUIET.
_SILENT = {"SILENT", "QUIET", "FATAL", "ERROR"}


class Result(msgspec.Struct, frozen=True):
    """One row: what was looked at, how it is, in words, and what to do."""

    name: str
    state: Literal["ok", "warning", "fault"]
    text: str
    advice: str = ""


class Checks:
    """
    All checks.

    Args:
        path: of the configuration; None for the default one, which may be missing.
        connect: try to reach the channels.
    """

    def __init__(self, path: str | None, *, connect: bool) -> None:
        self._path = path
        self._connect = connect
        self._config: Config | None = None
        self._rsyslog: RsyslogConfig | None = None

    def run(self) -> Iterator[Result]:
        """Yield the results; one that cannot be had is a result, too."""
        checks: list[tuple[str, Callable[[], Iterator[Result]]]] = [
            ("rsyslog", self._rsyslog_configuration), ("configuration", self._configuration), ("state", self._state),
            ("privileges", self._privileges), ("keys", self._keys), ("people", self._people), ("catch-up", self._catch_up),
            ("secrets", self._secrets), ("channels", self._channels), ("places", self._places),
            ("entry point", self._entry_point), ("drop-in", self._drop_in), ("trusted", self._trusted), ("sshd", self._sshd),
        ]  # fmt: skip
        for name, checked in checks:
            try:
                yield from checked()
            except PermissionError as error:
                yield Result(name, "warning", f"{error.filename}: {error.strerror}", _AS_ROOT)
            except OSError as error:
                yield Result(name, "fault", f"{error.filename}: {error.strerror}")

    # ------------------------------------------------------------ ours

    def _configuration(self) -> Iterator[Result]:
        name, place = "configuration", Path(self._path or DEFAULT_PATH)
        try:
            config = load(self._path)
        except ConfigRightsError as error:
            yield Result(name, "warning", str(error), _AS_ROOT)
            return
        except ConfigError as error:
            yield from (Result(name, "fault", fault) for fault in error.args)
            return
        self._config = config
        if not place.exists():
            yield Result(name, "warning", f"{place} is not there: all defaults, and nobody is told", _INSTALL)
            return
        if place.resolve() == Path(DEFAULT_PATH) and (reason := untrusted(place)):
            yield Result(name, "fault", reason, f"chown root {place.parent} {place}; chmod go-w {place.parent} {place}")
            return
        _, account = self._user()
        if account is not None and (kept := closed_to(account, place)):
            text = f"{kept} is closed to sshbell's user: deliver cannot start"
            yield Result(name, "fault", text, _readable_by(place, kept, account))
            return
        routed = {channel for route in config.route for channel in route.channels}
        idle = [channel.name for channel in config.channel if channel.name not in routed]
        if not config.channel:
            yield Result(name, "warning", f"{place}: nobody is told", "add a [[channel]] and a [[route]] that leads to it")
        elif idle:
            yield Result(name, "warning", f"{place}: no [[route]] leads to {', '.join(idle)}", "add one, or take the channel out")
        else:
            yield Result(name, "ok", f"{place}: {_number(config.channel, 'channel')}, {_number(config.route, 'route')}")

    def _user(self) -> tuple[str, Account | None]:
        """Return whom ``run`` is, and the numbers; None where there is no such user."""
        assert self._config is not None
        name = (self._rsyslog.user if self._rsyslog else None) or self._config.user or "root"
        return name, Accounts(Path("/")).user(name)

    def _state(self) -> Iterator[Result]:
        if self._config is None:
            return
        name, place = "state", Path(self._config.state_dir)
        user, account = self._user()
        if account is None:
            yield Result(name, "fault", f"there is no user {user}", _INSTALL)
            return
        try:
            found = place.stat()
        except FileNotFoundError:
            yield Result(name, "fault", f"{place} is not there", _INSTALL)
            return
        if not stat.S_ISDIR(found.st_mode):
            yield Result(name, "fault", f"{place} is no directory")
            return
        wrong = list(_wrongly_owned(place, account.uid))
        if wrong:
            yield Result(name, "fault", f"{wrong[0]}: not {user}'s alone ({len(wrong)} such files and directories)",
                         f"chown -R {user}: {place}; chmod -R go= {place}")  # fmt: skip
            return
        if (fault := _database_fault(place)) is not None:
            yield fault
            return
        yield Result(name, "ok", f"{place}: {user}'s alone")

    def _privileges(self) -> Iterator[Result]:
        if self._config is None:
            return
        name = "privileges"
        user, account = self._user()
        if self._rsyslog is not None and self._rsyslog.user is not None:
            text = f"rsyslogd gives up root ($PrivDropToUser): keys have names only where {user} can read authorized_keys"
            yield Result(
                name, "warning", text, "nothing to do where names are not needed; else let rsyslogd stay root: sshbell does not"
            )
        elif account is not None and account.uid == 0:
            text = f'user = "{self._config.user}": what talks to the network is root'
            yield Result(name, "warning", text, f'set user = "sshbell", and call {_INSTALL}')
        else:
            yield Result(
                name, "ok", f"run and deliver become {user}; keys alone may become other users, to read their authorized_keys"
            )

    def _keys(self) -> Iterator[Result]:
        """Ask, where somebody should answer."""
        if self._config is None or not process(Path(self._config.state_dir) / "run.lock").is_running:
            return
        place = Path(self._config.state_dir) / KEYS_SOCKET
        answer = b""
        with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(LIMIT_S)
            client.connect(str(place))
            client.sendall(msgspec.json.encode(Question("root")) + b"\n")
            answer = client.recv(1)
        if answer:
            yield Result("keys", "ok", f"{place} answers")
        elif os.geteuid() != 0:
            yield Result("keys", "warning", f"{place} does not answer", _AS_ROOT)
        else:
            yield Result("keys", "warning", f"{place} does not answer: owners of keys are not named",
                         "it comes back within the hour, when lines come in; at once: restart rsyslog")  # fmt: skip

    def _people(self) -> Iterator[Result]:
        if self._config is None:
            return
        place = Path(self._config.people)
        try:
            persons = People.load(place).persons
        except ConfigRightsError as error:
            yield Result("people", "warning", str(error), _AS_ROOT)
            return
        except ConfigError as error:
            *faults, last = error.args
            yield from (Result("people", "fault", fault) for fault in faults)
            yield Result("people", "fault", last, "mend it; until then, those are known that were before")
            return
        _, account = self._user()
        if place.exists() and (reason := untrusted(place) if place == Path(PEOPLE_PATH) else None):
            yield Result("people", "fault", f"it says where messages go, but {reason}", f"chown root {place}; chmod go-w {place}")
        elif place.exists() and account is not None and (kept := closed_to(account, place)):
            text = f"{kept} is closed to sshbell's user: those are known that were before, or nobody"
            yield Result("people", "fault", text, _readable_by(place, kept, account))
        elif any(route.to_owner for route in self._config.route) and not persons:
            yield Result(
                "people", "warning", f"{place}: nobody is in it, and a [[route]] has to_owner", "write down who owns what"
            )
        elif persons:
            number = "1 person" if len(persons) == 1 else f"{len(persons)} people"
            yield Result("people", "ok", f"{place}: {number}; sshbell people check compares them with the keys in use")

    def _catch_up(self) -> Iterator[Result]:
        if self._config is None or not self._config.catch_up:
            return
        place = Path(self._config.catch_up)
        if not place.exists():
            advice = (
                "rsyslogd makes it with the first line for it; where it does not, set catch_up to the file with sshd's lines, "
                'such as "/var/log/secure", or to ""'
            )
            yield Result("catch-up", "warning", f"{place} is not there: lines lost with rsyslogd are not found again", advice)
        elif self._rsyslog and self._rsyslog.user and not os.access(place, os.R_OK):
            yield Result("catch-up", "warning", f"{place} cannot be read", f"let {self._rsyslog.user} read it")
        else:
            yield Result("catch-up", "ok", str(place))

    def _secrets(self) -> Iterator[Result]:
        if self._config is None:
            return
        _, account = self._user()
        for what, secret in secrets_of(self._config):
            if secret.file:
                yield _secret_file(what, Path(secret.file), account)
            elif secret.env:
                # It has to be in rsyslogd's environment, not in this one.
                yield Result("secrets", "ok", f"{what}: from ${secret.env}, if rsyslogd is started with it")
            elif shutil.which(secret.command[0]) is None:
                yield Result("secrets", "fault", f"{what}: {secret.command[0]} is not there or cannot be run")
            else:
                yield Result("secrets", "ok", f"{what}: from {secret.command[0]}")

    def _channels(self) -> Iterator[Result]:
        if self._config is None or not self._connect:
            return
        for channel in self._config.channel:
            match run_async(_answer_of(channel_of(channel))):
                case Delivered():
                    yield Result("channels", "ok", f"{channel.name} answers")
                case RetryLater(reason) | Rejected(reason):
                    yield Result("channels", "fault", f"{channel.name}: {reason}")

    def _places(self) -> Iterator[Result]:
        if self._config is None or not self._config.geoip:
            return
        if self._config.geoip == "web":
            yield self._web_places(self._config)
            return
        if self._config.geoip_account or self._config.geoip_key is not None:
            text = 'geoip_account or geoip_key is set, but geoip is not "web": sshbell does not ask the web service'
            yield Result("places", "warning", text, 'set geoip = "web", or delete them')
        faults: list[str] = []
        places = Places(self._config.geoip, faults.append)
        for fault in faults:
            yield Result("places", "warning", fault, f"{_FETCH}; or take it out of geoip")
        old = datetime.now(UTC) - timedelta(days=_OLD_PLACES_D)
        for database in places.databases:
            if database.built is not None and database.built < old:
                yield Result("places", "warning", f"{database.path} was made on {database.built:%Y-%m-%d}: places change", _FETCH)
            else:
                yield Result("places", "ok", f"{database.path}: {database.type}")
        if not places.databases and not faults:
            yield Result("places", "ok", f"no database: places are not told; to change that: {_FETCH}")
        places.close()

    def _web_places(self, config: Config) -> Result:
        """Check the web service. Only ``--connect`` asks it, which counts as one question."""
        if not self._connect or config.geoip_key is None:
            return Result("places", "ok", f"web service {config.geoip_host}; sudo sshbell check --connect tries it")
        # Here, because the import takes longer than all other checks.
        from consumer.places.web_service import WebError, WebPlaces  # noqa: PLC0415

        places = WebPlaces(config.geoip_account, config.geoip_key, config.geoip_host, report=lambda _text: None)
        try:
            run_async(places.check())
        except WebError as error:
            return Result("places", "fault", str(error))
        return Result("places", "ok", f"web service {config.geoip_host} answers")

    # ------------------------------------------------------------ rsyslog's

    def _rsyslog_configuration(self) -> Iterator[Result]:
        if shutil.which("rsyslogd", path=system_path()) is None:
            yield Result("rsyslog", "fault", "rsyslogd is not there", "install the package rsyslog")
        try:
            self._rsyslog = RsyslogConfig(main=MAIN)
        except FileNotFoundError:
            yield Result("rsyslog", "fault", f"{MAIN} is not there", "install the package rsyslog")

    def _entry_point(self) -> Iterator[Result]:
        name = "entry point"
        try:
            text = ENTRY_POINT.read_text("utf-8", "replace")
        except FileNotFoundError:
            yield Result(name, "fault", f"{ENTRY_POINT} is not there: rsyslogd has nothing to start", _INSTALL)
            return
        if reason := untrusted(ENTRY_POINT):
            yield Result(name, "fault", f"rsyslogd runs it as root, but {reason}", "give it to root alone")
            return
        if not ENTRY_POINT.stat().st_mode & stat.S_IXUSR:
            yield Result(name, "fault", f"{ENTRY_POINT} cannot be run", f"chmod 755 {ENTRY_POINT}")
            return
        interpreter = _interpreter_of(text)
        if interpreter is None:
            yield Result(name, "ok", f"{ENTRY_POINT}, which is not as sshbell wrote it")
            return
        reason = untrusted(interpreter) if interpreter.exists() else f"{interpreter} is not there"
        code = [] if reason else code_of(interpreter)
        if code is None:
            reason = f"{interpreter} does not find sshbell"
        elif not reason:
            reason = untrusted_code(interpreter, code)
        if reason:
            yield Result(name, "fault", f"rsyslogd runs it as root, but {reason}", _ELSEWHERE)
        else:
            yield Result(name, "ok", f"{ENTRY_POINT}, with {interpreter}")

    def _drop_in(self) -> Iterator[Result]:
        name = "drop-in"
        if not DROP_IN.exists():
            yield Result(name, "fault", f"{DROP_IN} is not there: rsyslog hands nothing to sshbell", _INSTALL)
            return
        if self._rsyslog is not None and not self._rsyslog.includes(DROP_IN):
            yield Result(name, "fault", f"{MAIN} does not include {DROP_IN}",
                         f'put into it: include(file="{DROP_IN.parent}/*.conf" mode="optional")')  # fmt: skip
            return
        text = DROP_IN.read_text("utf-8", "replace")
        for program in self._config.sshd_programs if self._config else ():
            if f'"{program}"' not in text:
                yield Result(name, "warning", f"sshd_programs has {program}, which {DROP_IN} does not let through",
                             f'add "{program}" beside "sshd" in its first "if"')  # fmt: skip
        rsyslogd = shutil.which("rsyslogd", path=system_path())
        if rsyslogd is None:
            return
        done = run_command(
            [rsyslogd, "-N1", "-f", MAIN], limit_s=_TIMEOUT_S, output_limit=_OUTPUT_LIMIT_BYTES, with_errors=True
        )  # fmt: skip
        lines = done.errors.decode("utf-8", "replace").splitlines()
        reason = next((line for line in lines if "config validation run" not in line), done.fault)
        if not done.fault:
            yield Result(name, "ok", f"{DROP_IN}, accepted by rsyslogd -N1")
        elif os.geteuid() != 0:
            yield Result(name, "warning", f"rsyslogd -N1: {reason}", _AS_ROOT)
        else:
            yield Result(name, "fault", f"rsyslogd -N1: {reason}", f"see: rsyslogd -N1 -f {MAIN}")

    def _trusted(self) -> Iterator[Result]:
        if self._rsyslog is None:
            return
        if advice := trusted_advice(self._rsyslog):
            yield Result("trusted", "warning", advice.fault, f"{advice.remedy}; then restart rsyslog")
        else:
            yield Result("trusted", "ok", "the kernel vouches for who wrote a line")

    # ------------------------------------------------------------ sshd's

    def _sshd(self) -> Iterator[Result]:
        config = SshdConfig(_SSHD_CONFIG)
        if not config.is_there:
            yield Result("sshd", "warning", f"neither sshd nor {_SSHD_CONFIG} is there", _NO_SSHD)
            return
        # Where sshd cannot be asked its files do not name the defaults.
        values = {"loglevel": ["INFO"], "syslogfacility": ["AUTH"]} | config.values()
        level, facility = (values[name][0].upper() for name in ("loglevel", "syslogfacility"))
        if level in _SILENT:
            yield Result("sshd", "fault", f"LogLevel {level}: sshd does not log who logs in",
                         f"set in {_SSHD_CONFIG}: LogLevel VERBOSE; then restart sshd")  # fmt: skip
        elif facility not in {"AUTH", "AUTHPRIV"} and self._config is not None and self._config.catch_up:
            yield Result("sshd", "warning", f"SyslogFacility {facility}: are its lines in {self._config.catch_up}, too?",
                         f"look, and set catch_up or, in {_SSHD_CONFIG}, SyslogFacility AUTH")  # fmt: skip
        else:
            more = "" if level != "INFO" else "; with VERBOSE sshbell knows more, such as the key before a second factor"
            yield Result("sshd", "ok", f"LogLevel {level}, SyslogFacility {facility}{more}")


async def _answer_of(channel: Channel) -> Answer:
    """Return what a channel's server says, and hang up."""
    try:
        return await channel.check()
    finally:
        channel.close()


def _database_fault(place: Path) -> Result | None:
    """Return what is wrong with a database, where there is one already."""
    for database in ("state", "delivery"):
        file = place / f"{database}.db"
        if not file.exists():
            continue
        try:
            with reading(file):
                pass
        except StoreError as error:
            return Result("state", "fault", str(error), _RENEWED)
    return None


def _wrongly_owned(place: Path, uid: int) -> Iterator[Path]:
    """Yield what in the state, itself included, is not one user's alone."""
    for folder, _, names in os.walk(place):
        for path in (Path(folder), *(Path(folder, name) for name in names)):
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue  # it is in use
            if not is_private(found, uid):
                yield path


def _secret_file(what: str, path: Path, account: Account | None) -> Result:
    # Below there "sshbell install" gives it to sshbell alone.
    is_ours = path.is_relative_to(Path(DEFAULT_PATH).parent)
    try:
        found = path.stat()
    except FileNotFoundError:
        advice = f"(umask 077; cat > {path}), and type it" + (f"; then: {_INSTALL}" if is_ours else "")
        return Result("secrets", "fault", f"{what}: {path} is not there", advice)
    if is_open_to_everybody(found):
        advice = _INSTALL if is_ours else f"chmod o-rw {path}"
        return Result("secrets", "fault", f"{what}: everybody on this machine can read or write {path}", advice)
    # Whose it is matters less: somebody has to have written it.
    if reason := changeable_by(found, (found.st_uid,), (0,)):
        return Result("secrets", "fault", f"{what}: {path} {reason}", f"chmod g-w {path}")
    if account is not None and (kept := closed_to(account, path)):
        return Result("secrets", "fault", f"{what}: {kept} is closed to sshbell's user", _readable_by(path, kept, account))
    return Result("secrets", "ok", f"{what}: {path}")


def _readable_by(path: Path, kept: Path, account: Account) -> str:
    """Say how to let a user read a file."""
    if kept.is_relative_to(Path(DEFAULT_PATH).parent):
        return _INSTALL
    if kept != path:
        return f"chmod o+x {kept}"
    try:
        group = grp.getgrgid(account.gid).gr_name
    except KeyError:
        group = str(account.gid)
    return f"chgrp {group} {path}; chmod 640 {path}"


def _number(things: Sequence[object], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _interpreter_of(text: str) -> Path | None:
    """Return the Python that our entry point becomes."""
    for line in text.splitlines():
        if line.startswith("exec ") and " -I -m consumer " in line:
            with suppress(ValueError):
                return Path(shlex.split(line)[1])
    return None
