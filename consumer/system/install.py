"""``sshbell install`` and ``uninstall``: add and remove the files and accounts that sshbell needs outside its package."""

import os
import shlex
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

from consumer.block.access_conf import access_conf
from consumer.config import ACCESS_FILE, Config, secret_files
from consumer.config_file import load
from consumer.errors import ConfigError, InputError, OutputError, RightsError
from consumer.rights import Account, closed_to, is_private, unreachable, untrusted
from consumer.state_dir import DEFAULT_PATH, codes_dir_of
from consumer.store.codes import KEY_NAME
from consumer.store.codes import NAME as CODES_DB
from consumer.system.accounts import Accounts
from consumer.system.code_stack import is_half
from consumer.system.installed import (
    MANIFEST,
    Changed,
    Entry,
    MadeDirectory,
    MadeFile,
    MadeGroup,
    MadeUser,
    Manifest,
    Owned,
    digest,
    write_file,
)
from consumer.system.interpreter import code_of, how_to_install, this_interpreter, untrusted_code
from consumer.system.pam_stack import PAM_FOLDER, pam_stack
from consumer.system.rsyslog_conf import DROP_IN, ENTRY_POINT, MAIN, RsyslogConfig, Statement, trusted_advice
from consumer.system.shards import MAIN_QUEUE_REMEDY, installed_shards, with_shards
from consumer.system.status import LOG

_CONFIG = Path(DEFAULT_PATH)
_APPARMOR = Path("/etc/apparmor.d/rsyslog.d/sshbell")
_LOGROTATE = Path("/etc/logrotate.d/sshbell")
_ENTRY_POINT = """\
#!/bin/sh
# rsyslogd starts this script (see {drop_in}). Its Python ignores PYTHONPATH and the like.
# A HUP for log rotation may arrive before sshbell can handle it.
trap '' HUP INT TERM
# rsyslogd 8.2302 crashes if its only child ends without this word, as sshbell does if sshbell.toml has a fault. An error in
# answer to the first line does no harm.
echo OK
exec {interpreter} -I -m consumer run --confirmed "$@"
"""
_ROOT = Path("/")

# Prints one row: what install did ("created", "updated", "changed", "kept", "exists", "removed", "missing"), and to what.
Report = Callable[[str, str], None]


def install(root: Path, report: Report, shards: int | None = None) -> list[str]:
    """
    Install everything below ``root``; return the steps that are left for you.

    Args:
        root: "/" for the running system, else a tree.
        report: prints one row.
        shards: the number of shards; None for as many as the installed drop-in has.

    Raises:
        SshbellError: install cannot start and has changed nothing; or it failed halfway, and a second call continues.
    """
    return _Installation(root, report, shards).install()


def uninstall(root: Path, report: Report) -> list[str]:
    """
    Undo the steps that ``install`` recorded below ``root``; return the steps that are left for you.

    Raises:
        SshbellError: there is nothing to undo, or it failed halfway.
    """
    return _Installation(root, report).uninstall()


class _Installation:
    def __init__(self, root: Path, report: Report, shards: int | None = None) -> None:
        if os.geteuid() != 0:
            raise RightsError("only root can do this; run it again with sudo")
        if not root.is_dir():
            raise InputError(f"{root}: no such directory")
        self._root = root.resolve()
        self._report = report
        self._accounts = Accounts(self._root)
        self._manifest = Manifest(self._at(MANIFEST))
        self._fault = ""  # of the configuration
        self._shards = shards or installed_shards(self._at(DROP_IN))

    # ------------------------------------------------------------ install

    def install(self) -> list[str]:
        interpreter = this_interpreter()
        code = self._checked_code(interpreter)
        config = self._config()
        rsyslog = self._rsyslog()
        # If rsyslogd drops root, sshbell cannot become another user.
        user = (rsyslog.user if rsyslog else None) or config.user or "root"
        for path in (interpreter, *code) if user != "root" else ():
            if reason := unreachable(path, self._root):
                raise RightsError(f"sshbell runs as {user}, but {reason}; {how_to_install(interpreter)}")
        self._check_state_dir(Path(config.state_dir), user)
        if user != "root" and self._accounts.user(user) is None:
            self._accounts.check_tree(user)
        try:
            # This comes first: the directory holds our record.
            self._directory(_CONFIG.parent, None)
            account = self._account(user)
            self._put_all(interpreter, config, rsyslog, account)
        except OSError as error:
            raise OutputError(f"{error.filename or 'output'}: {error.strerror}; install stopped there") from error
        return list(self._next_steps(config, rsyslog))

    def _checked_code(self, interpreter: Path) -> list[Path]:
        """
        Return the paths from which a Python loads its code.

        rsyslogd runs it as root. So it must find sshbell by itself, and only root may be able to change it.
        """
        if reason := untrusted(interpreter, self._root):
            raise RightsError(f"rsyslogd would run this Python as root, but {reason}; {how_to_install(interpreter)}")
        code = code_of(interpreter)
        if code is None:
            raise ConfigError(f"{interpreter} -I -m consumer cannot find sshbell; {how_to_install(interpreter)}")
        if reason := untrusted_code(interpreter, code, self._root):
            raise RightsError(f"rsyslogd would run this as root, but {reason}; {how_to_install(interpreter)}")
        return code

    def _config(self) -> Config:
        try:
            return load(str(self._at(_CONFIG)))
        except ConfigError as error:
            if self._at(_CONFIG).exists():
                self._fault = str(error)
                self._report("note", f"{error}; install uses the defaults")
            return Config()

    def _rsyslog(self) -> RsyslogConfig | None:
        try:
            return RsyslogConfig(self._root)
        except OSError:
            self._report("note", f"{self._at(MAIN)} does not exist or is not readable: is rsyslog installed?")
            return None

    def _account(self, name: str) -> Account:
        if name == "root":
            return Account(0, 0)
        found = self._accounts.user(name)
        if found is not None:
            self._report("exists", f"user {name}")
            return found
        if self._accounts.group(name) is None:
            self._manifest.add(MadeGroup(name))
            self._accounts.add_group(name)
            self._report("created", f"group {name}")
        self._manifest.add(MadeUser(name))
        self._accounts.add_user(name)
        self._report("created", f"user {name}")
        made = self._accounts.user(name)
        assert made is not None
        return made

    def _check_state_dir(self, path: Path, user: str) -> None:
        """Refuse a directory that is not ours: install must not change owner and mode of /var/lib."""
        place, account = self._at(path), Account(0, 0) if user == "root" else self._accounts.user(user)
        if not place.is_dir() or not any(place.iterdir()):
            return
        if account is None or not is_private(place.lstat(), account.uid):
            raise ConfigError(
                f"state_dir {path} is not empty and does not belong to {user} alone ({Owned.of(place)}); name a directory that "
                f"only sshbell uses, or, if this is one: chown -R {user}: {path}; chmod -R go= {path}"
            )

    def _put_all(self, interpreter: Path, config: Config, rsyslog: RsyslogConfig | None, account: Account) -> None:
        package = files("consumer")
        self._directory(_CONFIG.parent, Owned(0, account.gid, 0o750))
        for name in ("sshbell.toml", "people.toml"):
            place = _CONFIG.parent / name
            self._file(place, package.joinpath(name).read_bytes(), Owned(0, account.gid, 0o640))
            # run reads it as root, deliver does not. An editor or a copy may have made it readable for root alone.
            if closed_to(account, self._at(place), self._root) == self._at(place):
                self._own(place, Owned(0, account.gid, 0o640))
        for path in secret_files(config):
            place = self._at(path)
            # A link or ".." may lead elsewhere.
            if path.is_relative_to(_CONFIG.parent) and ".." not in path.parts and place.is_file() and not place.is_symlink():
                self._own(path, Owned(0, account.gid, 0o640))
        self._directory(Path(config.state_dir), Owned(account.uid, account.gid, 0o700))
        # Everybody may read the file for pam_access, so it cannot be in the state directory. guard writes it.
        blocks = Path(config.block.access_file).parent
        if blocks == Path(ACCESS_FILE).parent or not self._at(blocks).exists():
            self._directory(blocks, Owned(account.uid, account.gid, 0o755))
        recorded = _ROOT / interpreter.relative_to(self._root) if interpreter.is_relative_to(self._root) else interpreter
        self._directory(ENTRY_POINT.parent, None)
        script = _ENTRY_POINT.format(drop_in=DROP_IN, interpreter=shlex.quote(str(recorded)))
        self._file(ENTRY_POINT, script.encode(), Owned(0, 0, 0o755))
        if self._at(_APPARMOR).parent.is_dir():
            rules = package.joinpath("rsyslog.d", "sshbell.apparmor").read_text("utf-8")
            prefix = recorded.parent.parent
            self._file(_APPARMOR, (rules if prefix == Path("/usr") else rules.replace("/opt/sshbell", str(prefix))).encode(),
                       Owned(0, 0, 0o644))  # fmt: skip
        if self._at(_LOGROTATE).parent.is_dir():
            self._file(_LOGROTATE, package.joinpath("rsyslog.d", "sshbell.logrotate").read_bytes(), Owned(0, 0, 0o644))
        # This comes last: from here on rsyslogd starts sshbell.
        self._directory(DROP_IN.parent, None)
        self._file(DROP_IN, self._drop_in(rsyslog).encode(), Owned(0, 0, 0o644))

    def _drop_in(self, rsyslog: RsyslogConfig | None) -> str:
        text = files("consumer").joinpath("rsyslog.d", DROP_IN.name).read_text("utf-8")
        if self._shards > 1:
            text = with_shards(text, self._shards)
            if rsyslog and (other := rsyslog.main_queue(except_in=self._at(DROP_IN))):
                self._report("note", f"{self._place(other)} sets the main queue: {MAIN_QUEUE_REMEDY}")
        for module in ("omprog", "fmhash"):
            loads = f'module(load="{module}")\n'
            # A file other than our drop-in may load it, too.
            other = rsyslog.module(module, except_in=self._at(DROP_IN)) if rsyslog and loads in text else None
            if other is None:
                continue
            place = self._place(other)
            if other.path.parent == self._at(DROP_IN).parent and other.path.name > DROP_IN.name:
                self._report("note", f"{place} loads {module}, but {DROP_IN} now loads it first: remove that line")
            else:
                self._report("note", f"{place} loads {module} already, so {DROP_IN} does not")
                text = text.replace(loads, f"# {loads.strip()} is in {place}.\n", 1)
        return text

    def _place(self, statement: Statement) -> str:
        return f"{_ROOT / statement.path.relative_to(self._root)}:{statement.line}"

    def _at(self, path: Path) -> Path:
        """Return the place of ``path`` below the root."""
        found = self._root / path.relative_to("/")
        if self._root != _ROOT and not found.resolve().is_relative_to(self._root):
            raise ConfigError(f"{found} leads out of {self._root} through a link")
        return found

    def _directory(self, path: Path, owned: Owned | None) -> None:
        """Create a directory and its parents. If it exists, set its owner and mode, unless ``owned`` is None."""
        place = self._at(path)
        if place.is_dir():
            if owned is None:
                return
            self._own(path, owned)
            return
        if path.parent != path:
            self._directory(path.parent, None)
        self._manifest.add(MadeDirectory(str(path)))
        place.mkdir(mode=0o700)
        _give(place, owned or Owned(0, 0, 0o755))
        self._report("created", f"{path}/")

    def _own(self, path: Path, owned: Owned) -> None:
        """Set owner and mode of an existing path."""
        place = self._at(path)
        was = Owned.of(place)
        if was == owned:
            self._report("exists", str(path))
            return
        if self._manifest.find(MadeDirectory, path) is None and self._manifest.find(MadeFile, path) is None:
            before = self._manifest.find(Changed, path)
            self._manifest.add(Changed(str(path), before.was if isinstance(before, Changed) else was, owned))
        _give(place, owned)
        self._report("changed", f"{path}: owner and mode from {was} to {owned}")

    def _file(self, path: Path, data: bytes, owned: Owned) -> None:
        """Write a file that does not exist, or that nobody has changed since an earlier version wrote it."""
        place = self._at(path)
        entry = self._manifest.find(MadeFile, path)
        try:
            found = place.read_bytes()
        except FileNotFoundError:
            # Record it first: uninstall can skip a file that was never written, but not find one without a record.
            self._manifest.add(MadeFile(str(path), digest(data)))
            write_file(place, data, owned)
            self._report("created", str(path))
            return
        if found == data:
            self._report("exists", str(path))
        elif isinstance(entry, MadeFile) and digest(found) == entry.sha256:
            write_file(place, data, owned)
            self._report("updated", str(path))
        else:
            self._report("kept", f"{path}: it differs from this version's file: {_source(path)}")
            return
        if entry is not None:
            self._manifest.add(MadeFile(str(path), digest(data)))

    def _next_steps(self, config: Config, rsyslog: RsyslogConfig | None) -> Iterator[str]:
        if self._fault:
            yield f"fix {self._fault}"
        elif not config.channel:
            yield f"add a [[channel]] and a [[route]] to {_CONFIG}; without them sshbell sends no messages"
        if rsyslog is not None and (advice := trusted_advice(rsyslog)):
            yield f"{advice.fault}: {advice.remedy}"
        if Path("/sys/fs/selinux/enforce").exists() and self._root == _ROOT:
            folders = f"{ENTRY_POINT.parent} {_CONFIG.parent} {config.state_dir}"
            yield f"SELinux: restorecon -Rv {folders}; then read {_source(Path('README.md'))}"
        if self._shards > 1:
            yield f"read docs/fleet.md about {self._shards} shards: open sessions, and lines that wait at a restart"
        yield "check the installation: sshbell check --connect; and send a test message: sshbell ring"
        yield f"restart rsyslog: {self._restart()}"
        yield "check that sshbell is running: sshbell status"

    def _restart(self) -> str:
        """Return the command that restarts rsyslog on this system."""
        if self._root != _ROOT:
            return "systemctl restart rsyslog, or without systemd: /etc/init.d/rsyslog restart"
        if Path("/run/systemd/system").is_dir():
            return "systemctl restart rsyslog"
        if Path("/etc/init.d/rsyslog").is_file():
            return "/etc/init.d/rsyslog restart"
        if not Path("/run/rsyslogd.pid").exists():
            return "rsyslogd"
        # A second rsyslogd refuses to start while the first one's PID file exists. One that crashed left its file behind.
        return 'kill "$(cat /run/rsyslogd.pid)" && while [ -e /run/rsyslogd.pid ]; do sleep 0.2; done; rsyslogd'

    # ------------------------------------------------------------ uninstall

    def uninstall(self) -> list[str]:
        if not self._manifest.entries:
            raise InputError(f"{self._at(MANIFEST)} does not exist: nothing is installed, or uninstall has already undone it")
        own_folder = MadeDirectory(str(_CONFIG.parent))
        self._check_pam()
        try:
            self._unblock()
            self._forget_codes()
            for entry in reversed(self._manifest.entries[:]):
                if entry != own_folder and not isinstance(entry, MadeUser | MadeGroup):
                    self._undo(entry, self._undo_path)
            for kind in (MadeUser, MadeGroup):
                for entry in reversed(self._manifest.entries[:]):
                    if isinstance(entry, kind):
                        self._undo(entry, self._undo_account)
            if self._manifest.entries == [own_folder] and not self._left_in(_CONFIG.parent):
                self._at(MANIFEST).unlink()
                self._undo(own_folder, self._undo_path)
        except OSError as error:
            raise OutputError(f"{error.filename or 'output'}: {error.strerror}; fix this, then run it again") from error
        return list(self._last_steps())

    def _check_pam(self) -> None:
        """Stop while PAM asks sshbell for codes: without deliver, nobody could log in."""
        folder = self._at(PAM_FOLDER)
        for service in sorted(path.name for path in folder.glob("*") if path.is_file()):
            try:
                entries = pam_stack(service, folder)
            except OSError:
                continue  # it includes a file that does not exist, so PAM uses it for nobody
            for entry in entries:
                if is_half(entry, "challenge") or is_half(entry, "verify"):
                    raise ConfigError(f"{entry.place} asks sshbell for codes, so nobody could log in; remove these lines first")

    def _forget_codes(self) -> None:
        """Delete the digests of codes and their key, which nothing reads any more."""
        path = codes_dir_of(self._config().state_dir)
        folder = self._at(path)
        if not folder.is_dir():
            return
        for place in folder.iterdir():
            if place.name.startswith((CODES_DB, KEY_NAME)):
                place.unlink()
        is_empty = not any(folder.iterdir())
        if is_empty:
            folder.rmdir()
        self._report("removed" if is_empty else "kept", str(path))

    def _unblock(self) -> None:
        """Delete the files with the blocks, which nobody would end; empty the one that a PAM service still asks for."""
        path = Path(self._config().block.access_file)
        if self._manifest.find(MadeDirectory, path.parent) is None:
            return
        services = self._at(Path("/etc/pam.d"))
        named = [file for file in sorted(services.glob("*")) if file.is_file() and str(path).encode() in file.read_bytes()]
        for name in (path.name, f".{path.name}.new", "hosts.deny", "hosts.allow"):
            place = self._at(path.with_name(name))
            if not place.exists():
                continue
            if name == path.name and named:
                place.write_bytes(access_conf([], {}, []))
                self._report("kept", f"{path}: emptied, since {named[0]} names it; remove those lines first")
            else:
                place.unlink()
                self._report("removed", str(path.with_name(name)))

    def _last_steps(self) -> Iterator[str]:
        yield f"restart rsyslog, so that it stops sshbell: {self._restart()}"
        if self._manifest.entries:
            self._report("kept", f"{MANIFEST}, which lists the kept files")
            left = shlex.join(dict.fromkeys(map(str, self._by_hand())))
            command = f": rm -r {left};" if left else ","
            yield f"remove the kept files that you do not need{command} then run sshbell uninstall again"
        if (log := self._at(Path(LOG))).exists():
            yield f"if you like, remove the log that rsyslogd has written: {log}"

    def _by_hand(self) -> Iterator[Path]:
        """
        Yield the paths that you can remove to let uninstall finish: our user's directory, changed files, and files beside them.

        Never a directory that belongs to root, since other programs may use it; nor our record, which the second run needs.
        """
        for path in map(self._at, self._remaining()):
            if not path.is_dir() or Owned.of(path).uid != 0:
                yield path
        folder = self._at(_CONFIG.parent)
        if folder.is_dir():
            yield from (path for path in sorted(folder.iterdir()) if path not in map(self._at, (MANIFEST, _CONFIG)))

    def _undo(self, entry: Entry, how: Callable[[Entry], bool]) -> None:
        """Undo one step, then remove it from the record."""
        if how(entry):
            self._manifest.entries.remove(entry)
            self._manifest.save()

    def _undo_path(self, entry: Entry) -> bool:
        assert isinstance(entry, MadeFile | MadeDirectory | Changed)
        place = self._at(Path(entry.path))
        if not place.exists():
            self._report("missing", entry.path)
            return True
        match entry:
            case MadeFile():
                if digest(place.read_bytes()) != entry.sha256:
                    self._report("kept", f"{entry.path}: somebody has changed it")
                    return False
                place.unlink()
                self._report("removed", entry.path)
            case MadeDirectory():
                if left := self._left_in(Path(entry.path)):
                    self._report("kept", f"{entry.path}/: it contains {left}")
                    return False
                place.rmdir()
                self._report("removed", f"{entry.path}/")
            case Changed():
                if Owned.of(place) != entry.now:
                    self._report("kept", f"{entry.path}: somebody has changed its owner or mode")
                    return True
                _give(place, entry.was)
                self._report("changed", f"{entry.path}: owner and mode back to {entry.was}")
        return True

    def _undo_account(self, entry: Entry) -> bool:
        assert isinstance(entry, MadeUser | MadeGroup)
        kind = "user" if isinstance(entry, MadeUser) else "group"
        account, gid = self._accounts.user(entry.name), self._accounts.group(entry.name)
        if (account if kind == "user" else gid) is None:
            self._report("missing", f"{kind} {entry.name}")
            return True
        # Another user may get this id one day, and must not get the remaining files with it.
        for path in self._remaining():
            owned = Owned.of(self._at(path))
            if (account is not None and owned.uid == account.uid) or owned.gid == gid:
                self._report("kept", f"{kind} {entry.name}: {path} is kept and belongs to it")
                return False
        try:
            (self._accounts.remove_user if kind == "user" else self._accounts.remove_group)(entry.name)
        except OutputError as error:
            self._report("kept", f"{kind} {entry.name}: {error}")
            return False
        self._report("removed", f"{kind} {entry.name}")
        return True

    def _remaining(self) -> Iterator[Path]:
        """Yield the paths that install created and that still exist. Our own directory counts if it has more than our record."""
        for entry in self._manifest.entries:
            if isinstance(entry, MadeFile | MadeDirectory):
                path = Path(entry.path)
                if self._at(path).exists() and (path != _CONFIG.parent or self._left_in(path)):
                    yield path

    def _left_in(self, path: Path) -> str | None:
        """Return the name of a file in a directory other than our record; None if there is none."""
        names = sorted(os.listdir(self._at(path)))  # noqa: PTH208 - names alone
        return next((name for name in names if path / name != MANIFEST), None)


def _give(place: Path, owned: Owned) -> None:
    os.chown(place, owned.uid, owned.gid)
    place.chmod(owned.mode)


def _source(path: Path) -> str:
    """Return the file of the package that install copies to ``path``."""
    package = files("consumer")
    others = {_APPARMOR: "rsyslog.d/sshbell.apparmor", _LOGROTATE: "rsyslog.d/sshbell.logrotate"}
    for name in (others.get(path, path.name), f"rsyslog.d/{path.name}"):
        if package.joinpath(name).is_file():
            return str(package.joinpath(name))
    return "each installation writes its own; remove the file and run sshbell install again"
