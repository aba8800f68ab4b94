"""rsyslog's configuration, as far as sshbell needs it: which modules it loads, where, and with which parameters."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MAIN = Path("/etc/rsyslog.conf")
DROP_IN = Path("/etc/rsyslog.d/30-sshbell.conf")
ENTRY_POINT = Path("/usr/libexec/rsyslog/sshbell")

# Keeps strings, even if they contain "#"; turns comments into blanks, so that line numbers stay right.
_COMMENT = re.compile(r'("(?:\\.|[^"\\\n])*")|#[^\n]*|/\*.*?\*/', re.DOTALL)
_STATEMENT = re.compile(
    r"^[ \t]*(?:\$(?P<directive>\w+)[ \t]+(?P<value>[^\n]*)"
    r'|(?P<object>module|global|include|main_queue)\s*\((?P<inside>(?:"(?:\\.|[^"\\])*"|[^")])*)\))',
    re.MULTILINE | re.IGNORECASE,
)
# A name begins where no name went before, and is never tried shorter: otherwise a long word takes its length squared.
_PARAMETER = re.compile(r'(?<![\w.])([\w.]++)\s*+=\s*(?:"((?:\\.|[^"\\])*)"|(\w+))')
_DEPTH_LIMIT = 10  # of files that include files


class Statement(NamedTuple):
    """One statement: ``module``, ``global``, ``main_queue``, or an old directive, with its value under ""; in lower case."""

    path: Path
    line: int
    name: str
    parameters: dict[str, str]
    text: str

    @property
    def place(self) -> str:
        """File and line, for people."""
        return f"{self.path}:{self.line}"


class RsyslogConfig:
    """
    All statements of a configuration, including those of included files, in rsyslogd's order.

    Raises:
        OSError: a file cannot be read.
    """

    def __init__(self, root: Path = Path("/"), main: Path = MAIN) -> None:
        self._root = root
        self._statements = list(self._read(root / main.relative_to("/"), 0))

    def _read(self, path: Path, depth: int) -> Iterator[Statement]:
        text = _COMMENT.sub(_blank, path.read_text("utf-8", "replace"))
        for found in _STATEMENT.finditer(text):
            if found["directive"] is not None:
                name, parameters = found["directive"].lower(), {"": found["value"].strip()}
            else:
                name = found["object"].lower()
                parameters = {key.lower(): quoted or bare for key, quoted, bare in _PARAMETER.findall(found["inside"])}
            pattern = parameters.get("file" if name == "include" else "") if name in {"include", "includeconfig"} else None
            if pattern is None:
                line = 1 + text.count("\n", 0, found.start())
                yield Statement(path, line, name, parameters, " ".join(found[0].split()))
            elif depth < _DEPTH_LIMIT:
                for included in sorted(self._root.glob(pattern.strip('"').lstrip("/") or "*")):
                    if included.is_file():
                        yield from self._read(included, depth + 1)

    def module(self, name: str, *, except_in: Path | None = None) -> Statement | None:
        """Return the statement that loads a module, or None; skip the file ``except_in``."""
        for statement in self._statements:
            if statement.path == except_in:
                continue
            loaded = {"module": statement.parameters.get("load"), "modload": statement.parameters.get("")}.get(statement.name)
            if loaded is not None and loaded.removesuffix(".so") == name:
                return statement
        return None

    def main_queue(self, *, except_in: Path | None = None) -> Statement | None:
        """Return the statement about the main queue, of which the first counts; skip the file ``except_in``."""
        found = (one for one in self._statements if one.name == "main_queue" and one.path != except_in)
        return next(found, None)

    def includes(self, path: Path) -> bool:
        """Return whether rsyslogd reads a file that has such statements."""
        return any(statement.path == path for statement in self._statements)

    def directive(self, name: str) -> str | None:
        """Return the value of an old directive; the last one counts."""
        values = [statement.parameters[""] for statement in self._statements if statement.name == name.lower()]
        return values[-1] if values else None

    def setting(self, name: str) -> str | None:
        """Return a parameter of ``global()``; the last one counts."""
        values = [
            statement.parameters[name.lower()]
            for statement in self._statements
            if statement.name == "global" and name.lower() in statement.parameters
        ]
        return values[-1] if values else None

    @property
    def user(self) -> str | None:
        """The user that rsyslogd, and sshbell with it, becomes when it drops root; None if it keeps root."""
        return self.setting("privdrop.user.name") or self.directive("PrivDropToUser")


def _blank(found: re.Match[str]) -> str:
    return found[0] if found[1] is not None else re.sub(r"[^\n]", " ", found[0])


def is_on(value: str | None) -> bool:
    """Read a binary parameter as rsyslog does."""
    return value is not None and value.lower() in {"on", "yes", "1", "true"}


# The parameters of the line that loads imuxsock, and the old directives that mean the same.
_TRUSTED = {
    "SysSock.Annotate": "SystemLogSocketAnnotate",
    "SysSock.ParseTrusted": "SystemLogParseTrusted",
    "SysSock.UsePIDFromSystem": "SystemLogUsePIDFromSystem",
}


class Advice(NamedTuple):
    """What is wrong, and what to do."""

    fault: str
    remedy: str


def trusted_advice(config: RsyslogConfig) -> Advice | None:
    """Return how to turn on the properties that show who wrote a line; None if they are on."""
    socket, journal = config.module("imuxsock"), config.module("imjournal")
    if journal is not None and (socket is None or not is_on(socket.parameters.get("syssock.use", "on"))):
        if journal.parameters.get("usepid", "").lower() == "system":
            return None
        return Advice("a local user can choose the PID of a line", _replacing(journal, {"UsePid": "system"}))
    fault = "any local user can forge a login"
    if socket is None:
        line = 'module(load="imuxsock" ' + " ".join(f'{name}="on"' for name in _TRUSTED) + ")"
        return Advice(f"rsyslog loads no local input; with the default one, {fault}", f"add to {MAIN}: {line}")
    missing = {
        name: "on"
        for name, old in _TRUSTED.items()
        if not is_on(socket.parameters.get(name.lower())) and not is_on(config.directive(old))
    }
    return Advice(fault, _replacing(socket, missing)) if missing else None


def _replacing(statement: Statement, wanted: dict[str, str]) -> str:
    """Return how to change the line that loads a module."""
    text = statement.text if statement.name == "module" else f'module(load="{statement.parameters[""]}")'
    for name, value in wanted.items():
        text, count = re.subn(rf'(?i)(?<![\w.]){re.escape(name)}\s*=\s*(?:"[^"]*"|\w+)', f'{name}="{value}"', text)
        if not count:
            text = f'{text.rstrip(") ")} {name}="{value}")'
    module = text.split('"')[1]
    return f"in {statement.place}, replace the line that loads {module} with: {text}"
