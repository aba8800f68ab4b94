"""
``sshbell import webhookpam``: turns the ini file of webhookpam into a channel and the table ``[codes]``, and lists what changes.

Sources: webhookpam's pam_webhook.c and its sample, and inih, its parser. There, ";" or "#" at the beginning of a line
begins a comment, and so does ";" after a blank. An indented line is a further value of the key before it, and a later value
replaces an earlier one.

The template ``json_data`` is JSON with tokens. webhookpam puts text in their place, whatever that does to the JSON. Here, each
text of the JSON becomes a template of its own, so that no value can leave its text.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from consumer.addresses import is_https_or_local
from consumer.channel_faults import proxy_fault
from consumer.code_bounds import DIGITS, SESSION_DIGITS, TIMEOUT_LIMIT_S
from consumer.errors import ConfigError, DataError, InputError, OutputError
from consumer.text import listed
from consumer.toml import TomlDocument, commented, toml_text

# The tokens of a template, and what stands for each in ours. webhookpam announces the last three, and leaves them as they are.
TOKENS = {
    "PUBLIC_CODE": "session",
    "PRIVATE_CODE": "code",
    "USERNAME": "user",
    "SOURCE_IP": "address",
    "DESTINATION_IP": "destination",
    "HOSTNAME": "host",
    "AUTH_METHOD": "method",
}
_ANNOUNCED = ("DESTINATION_IP", "HOSTNAME", "AUTH_METHOD")
_TOKEN = re.compile("|".join(TOKENS))
# A text of JSON, or a token outside of one, where webhookpam's result is a number.
_BARE = re.compile(rf'"(?:\\.|[^"\\])*"|({_TOKEN.pattern})', re.DOTALL)
# The channel's name, and the beginning of the names of its secret files.
_NAME = "webhookpam"
_FILE_LIMIT = 1 << 20
# inih's own line length, and the port that curl takes for a proxy without one.
_LINE_LIMIT, _PROXY_PORT = 200, 1080
_PROXIES = {"http": "http", "https": "https", "socks4": "socks4", "socks4a": "socks4", "socks5": "socks5", "socks5h": "socks5"}
_NUMBERS = range(-(1 << 63), 1 << 63)


class ImportedWebhook(NamedTuple):
    """
    A translated configuration.

    Attributes:
        toml: a table ``[[channel]]`` and the table ``[codes]``, with what changes as comments below. It has no secret.
        secrets: the texts of the files that ``toml`` names, by their paths.
    """

    toml: str
    secrets: dict[Path, str]


def translated_webhookpam(path: Path, folder: Path) -> ImportedWebhook:
    """
    Translate a file.

    Args:
        path: of the ini file.
        folder: for the files with secrets; nothing is written here.

    Raises:
        InputError: the file cannot be read.
        DataError: it has no URL or no template, or these cannot be used. The error shows neither URL.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_FILE_LIMIT).decode("utf-8-sig", "replace")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    return _Translation(path, folder, text).result()


def write_secrets(found: ImportedWebhook) -> None:
    """
    Write the files with secrets. They belong to the group of the configuration beside them, and nobody else can read them.

    Raises:
        OutputError: a file cannot be written, or there is one with another content.
    """
    for path, text in found.secrets.items():
        try:
            _write(path, f"{text}\n".encode())
        except OSError as error:
            advice = "run this as root, or name another directory with --secrets"
            if isinstance(error, FileNotFoundError):
                advice = "create the directory, or name another one with --secrets"
            if isinstance(error, FileExistsError):
                advice = "it has another content: move it away, or name another directory with --secrets"
            raise OutputError(f"{path}: {error.strerror}; {advice}") from error


def _write(path: Path, content: bytes) -> None:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags | os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        with open(os.open(path, flags | os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123 - of a descriptor
            if file.read(len(content) + 1) == content:
                return
        raise
    with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor
        file.write(content)
        with suppress(OSError):  # there is no configuration yet; sshbell install sets the group
            group = path.with_name("sshbell.toml").stat().st_gid
            os.fchown(descriptor, -1, group)
            os.fchmod(descriptor, 0o640)


class _Translation:
    """Takes the settings of a file."""

    def __init__(self, path: Path, folder: Path, text: str) -> None:
        self._path, self._folder = path, folder
        self._notes: list[str] = []
        self._secrets: dict[Path, str] = {}
        self._values: dict[str, str] = {}
        unknown = []
        for section, key, value in ini_values(text):
            name = f"{section}.{key}"
            if name in _KEYS:
                self._values[name] = value
            else:
                unknown.append(f"{key} in [{section}]")
        if unknown:
            self._notes.append(f"{listed(unknown)} {'is' if len(unknown) == 1 else 'are'} left out: webhookpam has no such key.")

    def result(self) -> ImportedWebhook:
        channel: dict[str, object] = {"name": toml_text(_NAME), "type": '"webhook"', "url": self._url()}
        if proxy := self._proxy():
            channel["proxy"] = proxy
        channel["body"] = _toml_value(self._body())
        codes: dict[str, object] = {
            "channels": f"[{toml_text(_NAME)}]",
            "digits": self._number("general.secret_code_size", DIGITS, 8),
            "session_digits": self._number("general.public_code_size", SESSION_DIGITS, 6),
            "timeout": f'"{self._number("webhook.timeout_seconds", range(1, TIMEOUT_LIMIT_S + 1), 10)}s"',
            "on_failure": '"secure"',
        }
        self._general_notes()
        tables = {"[[channel]]": channel, "[codes]": codes}
        lines = [line for table, keys in tables.items() for line in (table, *(f"{key} = {keys[key]}" for key in keys), "")]
        toml = "\n".join([*lines, *commented(self._notes)]) + "\n"
        try:
            TomlDocument(toml.encode(), "json_data").end()
        except ConfigError as error:
            raise DataError(f"{self._path}: sshbell.toml cannot have such a body: {error}") from error
        return ImportedWebhook(toml, self._secrets)

    def _url(self) -> str:
        url = self._values.get("webhook.url", "")
        if not url:
            raise DataError(f"{self._path}: there is no url in [webhook]")
        if not is_https_or_local(url) or "@" in urlsplit(url).netloc:
            self._notes.append(
                "sshbell sends to https:// without a user name alone, and over http:// to this machine: change the URL."
            )
        return self._secret("url", url)

    def _proxy(self) -> str:
        """Return the proxy as TOML: its place, if it has a password; "" for none."""
        proxy = self._values.get("general.proxy", "")
        if not proxy:
            return ""
        scheme, found, rest = proxy.partition("://")
        scheme, rest = (scheme.lower(), rest) if found else ("http", proxy)
        rest = rest.rstrip("/")
        if not re.search(r":[0-9]+\Z", rest):
            rest += f":{_PROXY_PORT}"
        url = f"{_PROXIES.get(scheme, scheme)}://{rest}"
        if fault := proxy_fault(url):
            self._notes.append(f"Correct proxy: it {fault}.")
        if scheme in {"socks4", "socks5"}:
            self._notes.append("The SOCKS proxy looks up the names of servers. With webhookpam, this machine does.")
        return self._secret("proxy", url) if "@" in rest or proxy_fault(url) else toml_text(url)

    def _secret(self, name: str, text: str) -> str:
        path = self._folder / f"{_NAME}.{name}"
        self._secrets[path] = text
        return f"{{ file = {toml_text(str(path))} }}"

    def _body(self) -> dict[str, Any]:
        template = self._values.get("webhook.json_data", "")
        if not template:
            raise DataError(f"{self._path}: there is no json_data in [webhook]")
        # A number would lose the zeros at its beginning.
        text = _BARE.sub(lambda found: f'"{found[1]}"' if found[1] else found[0], template)
        try:
            body, end = json.JSONDecoder(parse_float=_number_of, parse_constant=_no_constant).raw_decode(text)
        except (ValueError, RecursionError) as error:
            place = f" at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
            raise DataError(f"{self._path}: json_data is not JSON{place}: {getattr(error, 'msg', error)}") from error
        rest = text[end:]
        if rest.strip() and not re.match(r"\s+;", rest):
            raise DataError(f"{self._path}: json_data has something after its JSON")
        if not isinstance(body, dict) or not body:
            raise DataError(f"{self._path}: json_data has to be a JSON object with something in it")
        self._template_notes(template, is_changed=text != template)
        if any(map(_TOKEN.search, _names_in(body))):
            self._notes.append("A token in the name of a member stays as it is. webhookpam replaces it.")
        return {key: _template_of(value) for key, value in body.items()}

    def _template_notes(self, template: str, *, is_changed: bool) -> None:
        if is_changed:
            self._notes.append("A code outside of quotes becomes a text: a number would lose the zeros at its beginning.")
        if announced := [token for token in _ANNOUNCED if token in template]:
            self._notes.append(
                f"sshbell fills in {listed(announced)}. webhookpam leaves {'it' if len(announced) == 1 else 'them'}."
            )
        if re.search(r"\s;", template):
            self._notes.append('json_data is whole. webhookpam ends it at " ;".')
        if len(template) > _LINE_LIMIT:
            self._notes.append(f"json_data is whole. webhookpam reads {_LINE_LIMIT} characters of a line.")
        if "PRIVATE_CODE" not in template:
            self._notes.append("json_data has no PRIVATE_CODE, so nobody would get a code: add {{ code }} to body.")

    def _number(self, name: str, allowed: range, otherwise: int) -> int:
        """Return a number as C's atoi reads it, within what sshbell allows."""
        text = self._values.get(name)
        key = name.partition(".")[2]
        if text is None:
            self._notes.append(f"{key} is not set. sshbell takes {otherwise}; webhookpam takes what is in its memory.")
            return otherwise
        found = re.match(r"\s*([+-]?[0-9]{1,9})", text)
        number = int(found[1]) if found else 0
        if number in allowed:
            return number
        number = min(max(number, allowed[0]), allowed[-1])
        self._notes.append(f"{key} is {number}: sshbell takes {allowed[0]} to {allowed[-1]}.")
        return number

    def _general_notes(self) -> None:
        if "general.authfail_on_httpfail" in self._values:
            self._notes.append(
                "authfail_on_httpfail does nothing in webhookpam but to replace json_data: without the message, nobody gets in. "
                'That is on_failure = "secure". "safe" lets users in without a code, and reports it; '
                '"codes" asks for a printed emergency code.'
            )
        if "webhook.timeout_seconds" in self._values:
            self._notes.append("timeout_seconds counts. webhookpam ignores it, and waits as long as the service does.")
        self._notes += [
            "All digits are equally likely, and a code has up to 12. webhookpam's first digit is mostly 1 to 4, of at most 10.",
            "A code counts for 5 minutes and 3 tries, and only for the login that asked for it: see valid and tries in [codes].",
            "Values cannot leave their text in the JSON, whatever a user's name is.",
            "Other messages to this channel have their own text in place of the one with the code.",
            "Replace the line with pam_webhook.so: docs/codes.md has the lines for PAM and sshd.",
        ]


_KEYS = frozenset({
    "general.secret_code_size", "general.public_code_size", "general.authfail_on_httpfail", "general.proxy", "webhook.url",
    "webhook.json_data", "webhook.timeout_seconds",
})  # fmt: skip


def ini_values(text: str) -> Iterator[tuple[str, str, str]]:
    """
    Yield section, key and value of each setting, in order, as inih reads them.

    ``json_data`` is whole: with " ;" in it, and with the indented lines that follow, of which webhookpam would take the last.
    """
    section = key = ""
    value: list[str] = []
    for line in (*text.splitlines(), "[]"):
        stripped = line.strip()
        if key and line[:1].isspace() and stripped and not stripped.startswith((";", "#")):
            value.append(stripped if key == "json_data" else _without_comment(stripped))
            continue
        if not stripped or stripped.startswith((";", "#")):
            continue
        if key:
            yield section, key, "\n".join(value) if key == "json_data" else value[-1]
            key = ""
        if found := re.match(r"\[([^\]]*)\]", stripped):
            section = found[1]
        elif found := re.match(r"([^=:]*)[=:](.*)", stripped):
            key = found[1].strip()
            value = [found[2].strip() if key == "json_data" else _without_comment(found[2])]


def _without_comment(value: str) -> str:
    return re.split(r"(?:^|\s);", value, maxsplit=1)[0].strip()


def _names_in(value: Any) -> Iterator[str]:
    """Yield the names of all members in a value of JSON."""
    if isinstance(value, dict):
        yield from value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _names_in(inner)


def _template_of(value: Any) -> Any:
    """Return a value of JSON with a template in place of each text."""
    match value:
        case str():
            made = "".join(_pieces(value))
            # Messages without a code, such as the report of many codes, need their text.
            is_whole = "PRIVATE_CODE" not in value or value.strip() == "PRIVATE_CODE"
            return made if is_whole else f"{{% if code %}}{made}{{% else %}}{{{{ text }}}}{{% endif %}}"
        case dict():
            return {key: _template_of(inner) for key, inner in value.items()}
        case list():
            return [_template_of(inner) for inner in value]
        case None:
            return "{{ none }}"  # TOML has no null
    # Nor has it so large a number.
    return str(value) if isinstance(value, int) and value not in _NUMBERS else value


def _pieces(text: str) -> Iterator[str]:
    """Yield the parts of a template for a text: expressions for tokens, and all else as it is, whatever Jinja2 takes it for."""
    start = 0
    for found in _TOKEN.finditer(text):
        yield _literal(text[start : found.start()])
        yield f"{{{{ {TOKENS[found[0]]} }}}}"
        start = found.end()
    yield _literal(text[start:])


def _literal(text: str) -> str:
    return text.replace("{", '{{ "{" }}')


def _number_of(text: str) -> float | str:
    """Return a number with a fraction or an exponent; the text, if it is too large for a float."""
    return found if isfinite(found := float(text)) else text


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _toml_value(value: Any) -> str:
    """Return a value of JSON as TOML, in one line."""
    match value:
        case dict():
            return f"{{ {', '.join(f'{toml_text(key)} = {_toml_value(inner)}' for key, inner in value.items())} }}"
        case list():
            return f"[{', '.join(map(_toml_value, value))}]"
        case str():
            return toml_text(value)
    return json.dumps(value)
