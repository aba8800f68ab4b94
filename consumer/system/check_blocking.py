"""The check of blocking: its directory, the lines of PAM, and the programs that it runs."""

import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from consumer.block.commands import split_command
from consumer.config import BLOCK_COMMANDS, NO_BLOCKING
from consumer.process.command import system_path
from consumer.rights import ANYBODY, closed_to
from consumer.system.outcome import INSTALL, Context, Outcome, fault, ok, warning
from consumer.system.pam_stack import PAM_FOLDER, PamEntry, pam_stack

_LINES = "add the lines of docs/blocking.md to /etc/pam.d/sshd"


def blocking(context: Context) -> Iterator[Outcome]:
    """Check that what sshbell blocks is really refused, and that a missing file locks nobody out."""
    settings = context.config.block
    path = Path(settings.access_file)
    entries = [entry for entry in _stack() if f"accessfile={path}" in entry.arguments]
    closed = [entry for entry in entries if "required" in entry.text.split() or "requisite" in entry.text.split()]
    if closed and not path.exists():
        yield fault(f"{path} does not exist, and {closed[0].place} requires it: nobody can log in",
                    'set mode = "on" under [block] and restart rsyslog, or remove that line')  # fmt: skip
    if settings.mode == "off":
        return
    if settings.mode == "dry-run":
        yield ok("dry-run: sshbell reports what it would block, and blocks nothing")
        return
    if context.config.worker.brokers:
        yield ok("other machines block what sshbell block export prints here")
        return
    panic = context.place.with_name(NO_BLOCKING)
    if panic.exists():
        yield warning(f"{panic} turns blocking off", f"rm {panic}")
    yield from _folder(context, path)
    missing = [kind for kind in ("auth", "account") if kind not in {entry.type for entry in entries}]
    if missing:
        what = "passwords and keys" if len(missing) == 2 else "passwords" if missing == ["auth"] else "keys"
        yield warning(
            f"sshd's PAM service does not ask for {path} under {' and '.join(missing)}: blocked users can still use {what}",
            _LINES,
        )
    else:
        yield ok(f"sshd's PAM service asks for {path}")
    yield from _programs(context)


def _stack() -> list[PamEntry]:
    for service in ("sshd", "sshd.pam"):
        try:
            return pam_stack(service, PAM_FOLDER)
        except OSError:
            continue
    return []


def _folder(context: Context, path: Path) -> Iterator[Outcome]:
    folder, account = path.parent, context.account
    try:
        found = folder.stat()
    except FileNotFoundError:
        yield fault(f"{folder} does not exist", INSTALL)
        return
    if account is not None and account.uid not in (0, found.st_uid):
        yield fault(f"{folder} does not belong to {context.user}, so guard cannot write there", f"chown {context.user}: {folder}")
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield fault(f"{folder}: others can write there, and so let anybody in", f"chmod go-w {folder}")
    elif path.exists() and (place := closed_to(ANYBODY, path)) is not None:
        yield warning(f"not everybody can read {place}: a PAM service of a user cannot ask for it", f"chmod go+rX {place}")


def _programs(context: Context) -> Iterator[Outcome]:
    settings = context.config.block
    if settings.needs_rights and context.rsyslog is not None and context.rsyslog.user is not None:
        text = "rsyslogd drops root ($PrivDropToUser): guard cannot change nftables, and commands run without rights"
        yield fault(text, "let rsyslogd keep root: sshbell drops it; or use pam_access alone")
    if settings.nftables and shutil.which("nft", path=system_path()) is None:
        yield fault("nftables is set, but there is no program nft", "apt install nftables")
    for key in BLOCK_COMMANDS:
        if text := getattr(settings, key):
            program = "".join(split_command(text)[0])
            if shutil.which(program, path=system_path()) is None:
                yield fault(f"{key}: {program} does not exist or is not executable", "correct it under [block]")
