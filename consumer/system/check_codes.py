"""The checks of one-time codes: PAM's stack, sshd's settings, the channels, and what only root may touch."""

import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from consumer.codes_settings import Codes
from consumer.config import Config
from consumer.deliver.channels import Delivered, Rejected, RetryLater, channel_of
from consumer.errors import StoreError
from consumer.keys.sshd_config import DEFAULT_CONFIG, SshdConfig, Values
from consumer.matching.rules import SSHBELL_PAM
from consumer.process.lock import DELIVER_LOCK, holder_of
from consumer.process.threads import run_async
from consumer.rights import is_private
from consumer.state_dir import DELIVER_SOCKET, codes_dir_of
from consumer.store.database import reading
from consumer.system.code_stack import is_half, passes_by_password, stack
from consumer.system.outcome import AS_ROOT, INSTALL, Outcome, fault, ok, warning
from consumer.system.pam_stack import PAM_FOLDER, PamEntry, pam_stack
from consumer.system.rsyslog_conf import DROP_IN

_METHODS = "set in sshd_config: AuthenticationMethods publickey,keyboard-interactive:pam"
_KBD = "keyboard-interactive"
# Somebody has to get the message and type the code within LoginGraceTime.
_GRACE_LEAST_S = 60


# ---------------------------------------------------------------- sshd


def sshd(service: str, path: str = DEFAULT_CONFIG, folder: Path = PAM_FOLDER) -> Iterator[Outcome]:
    """Check that sshd asks PAM, and lets in nobody without PAM; in each ``Match``, too."""
    config = SshdConfig(path)
    if not config.is_there:
        yield warning(f"neither sshd nor {path} exists", "nothing to do if sshd does not ask for codes")
        return
    try:
        entries = [entry for entry in pam_stack(service, folder) if entry.type == "auth"]
    except OSError:
        return  # see stack
    if not any(is_half(entry, "verify") for entry in entries):
        return
    if not config.can_ask():
        yield warning("sshd -T gave no answer; sshbell read the files, and does not know the defaults", AS_ROOT)
    is_fine = True
    for where, values in _scopes(config):
        for outcome in _settings(where, values, entries):
            is_fine = False
            yield outcome
    if is_fine:
        yield ok(f"{path}: each login passes {_KBD}, behind another factor or in PAM")


def _scopes(config: SshdConfig) -> Iterator[tuple[str, Values]]:
    """Yield the settings outside of ``Match``, and in each block."""
    try:
        yield "", config.values()
        for text, visit in config.blocks():
            if visit is not None:
                yield f"{text}: ", config.values_of(visit)
    except PermissionError:
        return  # can_ask has failed, too


def _settings(where: str, values: Values, entries: Sequence[PamEntry]) -> Iterator[Outcome]:
    if _value(values, "usepam", "no") != "yes":
        yield fault(f"{where}UsePAM no: sshd does not ask PAM, and so for no code", "set UsePAM yes")
        return
    if _value(values, "kbdinteractiveauthentication", "yes") != "yes":
        yield fault(f"{where}KbdInteractiveAuthentication no: sshd cannot ask for a code", "set KbdInteractiveAuthentication yes")
        return
    chains = [chain for way in values.get("authenticationmethods", ["any"]) for chain in way.lower().split()]
    if chains == ["any"]:
        chains = _enabled(values)
    for chain in chains:
        yield from _chain(where, [method.partition(":")[0] for method in chain.split(",")], entries)
    grace = _value(values, "logingracetime", "120")
    if grace.isdecimal() and 0 < int(grace) < _GRACE_LEAST_S:
        text = f"{where}LoginGraceTime {grace}: users have {grace} seconds to get the code and to type it"
        yield warning(text, "set LoginGraceTime 120")


def _enabled(values: Values) -> list[str]:
    """Return the methods of which each alone lets in."""
    keywords = {
        "publickey": ("pubkeyauthentication", "yes"), "password": ("passwordauthentication", "yes"), _KBD: ("usepam", "yes"),
        "hostbased": ("hostbasedauthentication", "no"), "gssapi-with-mic": ("gssapiauthentication", "no"),
    }  # fmt: skip
    return [method for method, (keyword, default) in keywords.items() if _value(values, keyword, default) == "yes"]


def _chain(where: str, methods: Sequence[str], entries: Sequence[PamEntry]) -> Iterator[Outcome]:
    """Check one list of methods that together let in."""
    text = ",".join(methods)
    if _KBD in methods[1:]:
        return
    if _KBD in methods and not passes_by_password(entries):
        reason = "anybody can have codes sent, learn which users exist, and use up a user's prompts"
        yield warning(f"{where}{text} asks for the code first: {reason}", _METHODS)
    elif _KBD in methods or (methods == ["password"] and passes_by_password(entries)):
        yield fault(
            f"{where}{text} lets users in with a password alone: no factor comes before it, so PAM asks for no code", _METHODS
        )
    elif methods == ["password"]:
        yield warning(f"{where}password alone never lets users in: sshd passes the password on as the code", _METHODS)
    else:
        yield fault(f"{where}{text} lets users in without a code", _METHODS)


def _value(values: Values, keyword: str, default: str) -> str:
    return values.get(keyword, [default])[0].lower()


# ---------------------------------------------------------------- sshbell itself


def settings(codes: Codes) -> Iterator[Outcome]:
    """Check ``[codes]``."""
    if codes.channels:
        asked = "unless a rule leaves it out" if codes.rule else "each time"
        yield ok(f"codes go by {', '.join(codes.channels)} to the {codes.to}, {asked}")
    else:
        text = f"[codes] has no channels: on_failure = {codes.on_failure!r} decides each login"
        yield fault(text, "set channels under [codes]")
    if codes.on_failure == "safe" or any(rule.on_failure == "safe" for rule in codes.rule):
        text = 'on_failure = "safe": while no channel answers, the first factor is enough'
        yield warning(text, 'make emergency codes with sshbell pam codes new, and set "codes" or "secure"')


def deliver(config: Config) -> Iterator[Outcome]:
    """Check that the process that sends codes takes them."""
    state_dir = Path(config.state_dir)
    place = state_dir / DELIVER_SOCKET
    try:
        if not holder_of(state_dir / DELIVER_LOCK).is_running:
            yield fault(
                "deliver is not running: nobody gets a code", "restart rsyslog: it starts sshbell, and sshbell starts deliver"
            )
            return
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(5)
            asking.connect(str(place))
    except PermissionError as error:
        yield warning(f"{error.filename or place}: {error.strerror}", AS_ROOT)
    except OSError as error:
        yield fault(f"{place}: {error.strerror or error}: nobody gets a code", "see sshbell's log about deliver")
    else:
        yield ok(f"{place} answers")


def channels(config: Config, *, connect: bool) -> Iterator[Outcome]:
    """Connect to the server of each channel for codes."""
    for channel in config.channel if connect else ():
        if channel.name in config.codes.channels:
            found = channel_of(channel)
            try:
                answer = run_async(found.check())
            finally:
                found.close()
            match answer:
                case Delivered():
                    yield ok(f"{channel.name} answers")
                case RetryLater(reason) | Rejected(reason):
                    yield fault(f"{channel.name}: {reason}", "correct the channel's settings or its secrets")


def files(config: Config) -> Iterator[Outcome]:
    """Check that only root can read the directory of codes."""
    folder = codes_dir_of(config.state_dir)
    try:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or not is_private(found, 0):
            yield fault(f"{folder} does not belong to root alone", f"chown root: {folder}; chmod 700 {folder}")
            return
        wrong = [path for path in sorted(folder.iterdir()) if not is_private(path.lstat(), 0)]
    except FileNotFoundError:
        yield ok(f"{folder} does not exist yet: sshbell creates it at the first login")
        return
    except PermissionError:
        yield warning(f"{folder}: only root may look into it", AS_ROOT)
        return
    if wrong:
        yield fault(f"{wrong[0]} does not belong to root alone", f"chown root: {wrong[0]}; chmod 600 {wrong[0]}")
        return
    database = folder / "codes.db"
    if database.exists():
        try:
            with reading(database):
                pass
        except StoreError as error:
            yield fault(f"{error}: nobody can log in with a code", f"move {folder} away; emergency codes are lost with it")
            return
    yield ok(f"{folder} belongs to root alone")


def drop_in(path: Path = DROP_IN) -> Iterator[Outcome]:
    """Check that rsyslogd passes the lines about codes, which a drop-in of an older sshbell does not."""
    try:
        text = path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return  # "sshbell check" reports that
    if f'"{SSHBELL_PAM}"' not in text:
        yield warning(f"{path} does not pass the lines of {SSHBELL_PAM}: sshbell reports no codes with logins", INSTALL)


class CodesContext(NamedTuple):
    """What the checks look at."""

    config: Config
    connect: bool = False
    service: str = "sshd"
    sshd_config: str = DEFAULT_CONFIG
    pam_folder: Path = PAM_FOLDER


CODES_CHECKS: dict[str, Callable[[CodesContext], Iterator[Outcome]]] = {
    "codes": lambda context: settings(context.config.codes),
    "files": lambda context: files(context.config),
    "deliver": lambda context: deliver(context.config),
    "channels": lambda context: channels(context.config, connect=context.connect),
    "drop-in": lambda _context: drop_in(),
    "PAM": lambda context: stack(context.service, context.pam_folder),
    "sshd": lambda context: sshd(context.service, context.sshd_config, context.pam_folder),
}


def sshd_service(sshd_config: str = DEFAULT_CONFIG, folder: Path = PAM_FOLDER) -> str:
    """Return the name of sshd's PAM service: the one that sshd names (9.8 and later), else one that there is."""
    try:
        named = SshdConfig(sshd_config).values().get("pamservicename", [])
    except PermissionError:
        named = []
    return next((name for name in (*named, "sshd", "sshd.pam") if (folder / name).exists()), "sshd")


def is_in_use(context: CodesContext) -> bool:
    """Return whether somebody has set codes up, in the settings or in PAM."""
    if context.config.codes.channels:
        return True
    try:
        entries = pam_stack(context.service, context.pam_folder)
    except OSError:
        return False
    return any(is_half(entry, "challenge") or is_half(entry, "verify") for entry in entries)
