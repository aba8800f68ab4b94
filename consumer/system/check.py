"""``sshbell check``: one row for each thing that has to be right, and what to do if it is not."""

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

from consumer.config import KEYS_SOCKET, PEOPLE_PATH, Config, secrets_of
from consumer.config_file import DEFAULT_PATH, load
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
_ELSEWHERE = "fix this, or install sshbell in another directory and run sshbell install from there"
_RENEWED = "restart rsyslog: at its start, sshbell sets a damaged file aside and upgrades an older one"
_NO_SSHD = "nothing to do if this host only receives other hosts' lines, or if it uses dropbear"
_AS_ROOT = "run it as root to check this: sudo sshbell check"
_FETCH = "sudo sshbell geoip fetch, daily from cron"
_OLD_PLACES_D = 180
# For rsyslogd -N1.
_TIMEOUT_S, _OUTPUT_LIMIT_BYTES = 30.0, 1 << 20
_SSHD_CONFIG = DEFAULT_CONFIG
# sshd logs logins at INFO and above. Debian's sshd -T prints SILENT for QUIET.
_SILENT = {"SILENT", "QUIET", "FATAL", "ERROR"}


class Result(msgspec.Struct, frozen=True):
    """One row: the name of the check, its result, the reason in words, and what to do."""

    name: str
    state: Literal["ok", "warning", "fault"]
    text: str
    advice: str = ""


class Checks:
    """
    All checks.

    Args:
        path: of the configuration; None for the default file, which may be missing.
        connect: connect to the server of each channel.
    """

    def __init__(self, path: str | None, *, connect: bool) -> None:
        self._path = path
        self._connect = connect
        self._config: Config | None = None
        self._rsyslog: RsyslogConfig | None = None

    def run(self) -> Iterator[Result]:
        """Yield the results. A check that cannot be made yields a result, too."""
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
            yield Result(name, "warning", f"{place} does not exist: sshbell uses its defaults and sends no messages", _INSTALL)
            return
        if place.resolve() == Path(DEFAULT_PATH) and (reason := untrusted(place)):
            yield Result(name, "fault", reason, f"chown root {place.parent} {place}; chmod go-w {place.parent} {place}")
            return
        _, account = self._user()
        if account is not None and (kept := closed_to(account, place)):
            text = f"sshbell's user cannot access {kept}: deliver cannot start"
            yield Result(name, "fault", text, _readable_by(place, kept, account))
            return
        routed = {channel for route in config.route for channel in route.channels}
        idle = [channel.name for channel in config.channel if channel.name not in routed]
        if not config.channel:
            yield Result(name, "warning", f"{place}: sshbell sends nothing", "add a [[channel]] and a [[route]] that leads to it")
        elif idle:
            yield Result(name, "warning", f"{place}: no [[route]] leads to {', '.join(idle)}", "add one, or remove the channel")
        else:
            yield Result(name, "ok", f"{place}: {_number(config.channel, 'channel')}, {_number(config.route, 'route')}")

    def _user(self) -> tuple[str, Account | None]:
        """Return the user that ``run`` becomes, and its ids; None if it does not exist."""
        assert self._config is not None
        name = (self._rsyslog.user if self._rsyslog else None) or self._config.user or "root"
        return name, Accounts(Path("/")).user(name)

    def _state(self) -> Iterator[Result]:
        if self._config is None:
            return
        name, place = "state", Path(self._config.state_dir)
        user, account = self._user()
        if account is None:
            yield Result(name, "fault", f"user {user} does not exist", _INSTALL)
            return
        try:
            found = place.stat()
        except FileNotFoundError:
            yield Result(name, "fault", f"{place} does not exist", _INSTALL)
            return
        if not stat.S_ISDIR(found.st_mode):
            yield Result(name, "fault", f"{place} is not a directory")
            return
        wrong = list(_wrongly_owned(place, account.uid))
        if wrong:
            yield Result(name, "fault", f"{wrong[0]} does not belong to {user} alone ({len(wrong)} such files and directories)",
                         f"chown -R {user}: {place}; chmod -R go= {place}")  # fmt: skip
            return
        if (fault := _database_fault(place)) is not None:
            yield fault
            return
        yield Result(name, "ok", f"{place} belongs to {user} alone")

    def _privileges(self) -> Iterator[Result]:
        if self._config is None:
            return
        name = "privileges"
        user, account = self._user()
        if self._rsyslog is not None and self._rsyslog.user is not None:
            text = f"rsyslogd drops root ($PrivDropToUser): sshbell can name a key only if {user} can read authorized_keys"
            yield Result(
                name, "warning", text, "nothing to do if you do not need the names; else let rsyslogd keep root: sshbell drops it"
            )
        elif account is not None and account.uid == 0:
            text = f'user = "{self._config.user}": the processes that use the network run as root'
            yield Result(name, "warning", text, f'set user = "sshbell", and run {_INSTALL}')
        else:
            yield Result(
                name, "ok", f"run and deliver run as {user}; only keys can become other users, to read their authorized_keys"
            )

    def _keys(self) -> Iterator[Result]:
        """Ask the process ``keys``, if sshbell is running."""
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
            yield Result("keys", "warning", f"{place} does not answer: sshbell cannot name the owners of keys",
                         "it comes back within an hour if lines come in; to get it back now, restart rsyslog")  # fmt: skip

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
            yield Result("people", "fault", last, "fix it; until then, sshbell uses the people that it has already read")
            return
        _, account = self._user()
        if place.exists() and (reason := untrusted(place) if place == Path(PEOPLE_PATH) else None):
            yield Result("people", "fault", f"it directs messages, but {reason}", f"chown root {place}; chmod go-w {place}")
        elif place.exists() and account is not None and (kept := closed_to(account, place)):
            text = f"sshbell's user cannot access {kept}: sshbell uses the people that it has already read, if any"
            yield Result("people", "fault", text, _readable_by(place, kept, account))
        elif any(route.to_owner for route in self._config.route) and not persons:
            yield Result(
                "people", "warning", f"{place}: it lists nobody, but a [[route]] has to_owner", "add the people and their keys"
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
                "rsyslogd creates it when it writes the first line there; if it does not, set catch_up to the file with sshd's "
                'lines, such as "/var/log/secure", or to ""'
            )
            yield Result("catch-up", "warning", f"{place} does not exist: sshbell cannot find lines that rsyslogd loses", advice)
        elif self._rsyslog and self._rsyslog.user and not os.access(place, os.R_OK):
            yield Result("catch-up", "warning", f"{self._rsyslog.user} cannot read {place}", "let this user read it")
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
                yield Result("secrets", "ok", f"{what}: from ${secret.env}, if rsyslogd's environment has it")
            elif shutil.which(secret.command[0]) is None:
                yield Result("secrets", "fault", f"{what}: {secret.command[0]} does not exist or is not executable")
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
            yield Result("places", "warning", fault, f"{_FETCH}; or remove it from geoip")
        old = datetime.now(UTC) - timedelta(days=_OLD_PLACES_D)
        for database in places.databases:
            if database.built is not None and database.built < old:
                yield Result("places", "warning", f"{database.path} is from {database.built:%Y-%m-%d}: places change", _FETCH)
            else:
                yield Result("places", "ok", f"{database.path}: {database.type}")
        if not places.databases and not faults:
            yield Result("places", "ok", f"no database: sshbell shows no places; to change that: {_FETCH}")
        places.close()

    def _web_places(self, config: Config) -> Result:
        """Check the web service. Only ``--connect`` asks it, which counts as one question."""
        if not self._connect or config.geoip_key is None:
            return Result("places", "ok", f"web service {config.geoip_host}; sudo sshbell check --connect tries it")
        # Imported here, because the import takes longer than all other checks.
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
            yield Result("rsyslog", "fault", "rsyslogd is not installed", "install the package rsyslog")
        try:
            self._rsyslog = RsyslogConfig(main=MAIN)
        except FileNotFoundError:
            yield Result("rsyslog", "fault", f"{MAIN} does not exist", "install the package rsyslog")

    def _entry_point(self) -> Iterator[Result]:
        name = "entry point"
        try:
            text = ENTRY_POINT.read_text("utf-8", "replace")
        except FileNotFoundError:
            yield Result(name, "fault", f"{ENTRY_POINT} does not exist: rsyslogd has nothing to start", _INSTALL)
            return
        if reason := untrusted(ENTRY_POINT):
            yield Result(name, "fault", f"rsyslogd runs it as root, but {reason}", "let only root own and write it")
            return
        if not ENTRY_POINT.stat().st_mode & stat.S_IXUSR:
            yield Result(name, "fault", f"{ENTRY_POINT} is not executable", f"chmod 755 {ENTRY_POINT}")
            return
        interpreter = _interpreter_of(text)
        if interpreter is None:
            yield Result(name, "ok", f"{ENTRY_POINT}, which somebody has changed")
            return
        reason = untrusted(interpreter) if interpreter.exists() else f"{interpreter} does not exist"
        code = [] if reason else code_of(interpreter)
        if code is None:
            reason = f"{interpreter} cannot find sshbell"
        elif not reason:
            reason = untrusted_code(interpreter, code)
        if reason:
            yield Result(name, "fault", f"rsyslogd runs it as root, but {reason}", _ELSEWHERE)
        else:
            yield Result(name, "ok", f"{ENTRY_POINT}, with {interpreter}")

    def _drop_in(self) -> Iterator[Result]:
        name = "drop-in"
        if not DROP_IN.exists():
            yield Result(name, "fault", f"{DROP_IN} does not exist: rsyslog passes no lines to sshbell", _INSTALL)
            return
        if self._rsyslog is not None and not self._rsyslog.includes(DROP_IN):
            yield Result(name, "fault", f"{MAIN} does not include {DROP_IN}",
                         f'add to it: include(file="{DROP_IN.parent}/*.conf" mode="optional")')  # fmt: skip
            return
        text = DROP_IN.read_text("utf-8", "replace")
        for program in self._config.sshd_programs if self._config else ():
            if f'"{program}"' not in text:
                yield Result(name, "warning", f"sshd_programs has {program}, but {DROP_IN} does not pass its lines",
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
            yield Result("trusted", "ok", "the kernel vouches for the sender of each line")

    # ------------------------------------------------------------ sshd's

    def _sshd(self) -> Iterator[Result]:
        config = SshdConfig(_SSHD_CONFIG)
        if not config.is_there:
            yield Result("sshd", "warning", f"neither sshd nor {_SSHD_CONFIG} exists", _NO_SSHD)
            return
        # If sshd cannot be asked, its files do not name the defaults.
        values = {"loglevel": ["INFO"], "syslogfacility": ["AUTH"]} | config.values()
        level, facility = (values[name][0].upper() for name in ("loglevel", "syslogfacility"))
        if level in _SILENT:
            yield Result("sshd", "fault", f"LogLevel {level}: sshd does not log who logs in",
                         f"set in {_SSHD_CONFIG}: LogLevel VERBOSE; then restart sshd")  # fmt: skip
        elif facility not in {"AUTH", "AUTHPRIV"} and self._config is not None and self._config.catch_up:
            yield Result("sshd", "warning", f"SyslogFacility {facility}: {self._config.catch_up} may not have its lines",
                         f"if so, set catch_up, or set SyslogFacility AUTH in {_SSHD_CONFIG}")  # fmt: skip
        else:
            more = "" if level != "INFO" else "; with VERBOSE sshbell learns more, such as the key before a second factor"
            yield Result("sshd", "ok", f"LogLevel {level}, SyslogFacility {facility}{more}")


async def _answer_of(channel: Channel) -> Answer:
    """Return the answer of a channel's server, and close the connection."""
    try:
        return await channel.check()
    finally:
        channel.close()


def _database_fault(place: Path) -> Result | None:
    """Return the fault of an existing database, or None."""
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
    """Yield the state directory and its files where they do not belong to one user alone."""
    for folder, _, names in os.walk(place):
        for path in (Path(folder), *(Path(folder, name) for name in names)):
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue  # deleted meanwhile: the directory is in use
            if not is_private(found, uid):
                yield path


def _secret_file(what: str, path: Path, account: Account | None) -> Result:
    # There "sshbell install" makes it readable for root and sshbell alone.
    is_ours = path.is_relative_to(Path(DEFAULT_PATH).parent)
    try:
        found = path.stat()
    except FileNotFoundError:
        advice = f"(umask 077; cat > {path}), and type the secret" + (f"; then: {_INSTALL}" if is_ours else "")
        return Result("secrets", "fault", f"{what}: {path} does not exist", advice)
    if is_open_to_everybody(found):
        advice = _INSTALL if is_ours else f"chmod o-rw {path}"
        return Result("secrets", "fault", f"{what}: everybody on this machine can read or write {path}", advice)
    # The owner matters less: somebody had to write the file.
    if reason := changeable_by(found, (found.st_uid,), (0,)):
        return Result("secrets", "fault", f"{what}: {path} {reason}", f"chmod g-w {path}")
    if account is not None and (kept := closed_to(account, path)):
        return Result("secrets", "fault", f"{what}: sshbell's user cannot access {kept}", _readable_by(path, kept, account))
    return Result("secrets", "ok", f"{what}: {path}")


def _readable_by(path: Path, kept: Path, account: Account) -> str:
    """Return the command that lets a user read a file."""
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
    """Return the Python that our entry point runs."""
    for line in text.splitlines():
        if line.startswith("exec ") and " -I -m consumer " in line:
            with suppress(ValueError):
                return Path(shlex.split(line)[1])
    return None
