"""``consumer.system.import_webhookpam``: every key and token of webhookpam is translated or named, and no secret is shown."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.channel_settings import WebhookSettings
from consumer.config_file import parse
from consumer.deliver.channels import Message
from consumer.deliver.channels.payloads import Skeleton
from consumer.errors import DataError, InputError, OutputError
from consumer.system.import_webhookpam import (
    TOKENS,
    ImportedWebhook,
    ini_values,
    translated_webhookpam,
    write_secrets,
)

if TYPE_CHECKING:
    from pathlib import Path

    from consumer.codes_settings import Codes

URL = "https://hooks.example.com/services/T0SECRET"
# The sample of webhookpam, with a URL.
SAMPLE = """
[general]
secret_code_size=8
public_code_size=6
; todo
authfail_on_httpfail=no

[webhook]
url={url}
; allowed variables: PUBLIC_CODE, PRIVATE_CODE. Todo: SOURCE_IP, DESTINATION_IP, HOSTNAME, USERNAME, AUTH_METHOD
json_data={json}

; todo
timeout_seconds=10
"""
JSON = '{"text":"SSH MFA CODE for session PUBLIC_CODE: PRIVATE_CODE "}'
# What PAM and the network may put in place of the tokens.
HOSTILE = 'a"}, {"b": "\\ {{ code }} {% raw %} \U0001f514'
VALUES: dict[str, Any] = {
    "session": "482913", "code": "00120975", "user": HOSTILE, "address": "203.0.113.7", "destination": "198.51.100.4",
    "host": "web1", "method": "publickey",
}  # fmt: skip
MESSAGE = Message("id", "subject", "the whole text", code=VALUES)


def read(folder: Path, text: str) -> ImportedWebhook:
    """Return the translation of a file, whose secrets would go to the same folder."""
    path = folder / "webhookpam.ini"
    path.write_text(text, encoding="utf-8")
    return translated_webhookpam(path, folder)


def of_template(folder: Path, template: str, **more: str) -> ImportedWebhook:
    """Return the translation of the sample with another template."""
    text = SAMPLE.replace("{url}", more.pop("url", URL)).replace("{json}", template)
    assert not more
    return read(folder, text)


def settings_of(found: ImportedWebhook) -> tuple[WebhookSettings, Codes]:
    """Return the settings that sshbell reads in the output, pasted into an empty configuration."""
    config = parse(found.toml.encode(), "sshbell.toml")
    (channel,) = config.channel
    assert isinstance(channel, WebhookSettings)
    return channel, config.codes


def payload(found: ImportedWebhook, message: Message = MESSAGE) -> Any:
    """Return the JSON that the channel sends."""
    return json.loads(msgspec.json.encode(Skeleton(settings_of(found)[0].body).of(message)))


def replaced(value: Any) -> Any:
    """Return a value of JSON as webhookpam means it: each token replaced, within its text."""
    match value:
        case str():
            return re.sub("|".join(TOKENS), lambda token: VALUES[TOKENS[token[0]]], value)
        case dict():
            return {key: replaced(inner) for key, inner in value.items()}
        case list():
            return [replaced(inner) for inner in value]
    return value


def test_the_sample(tmp_path: Path) -> None:
    """The sample of webhookpam becomes a channel and the table of codes; its URL is in a file alone."""
    found = of_template(tmp_path, JSON)
    channel, codes = settings_of(found)
    assert (channel.name, channel.url.file, channel.proxy) == ("webhookpam", str(tmp_path / "webhookpam.url"), "")
    assert (codes.channels, codes.digits, codes.session_digits, codes.timeout) == (["webhookpam"], 8, 6, "10s")
    assert codes.on_failure == "secure"
    assert found.secrets == {tmp_path / "webhookpam.url": URL}
    assert "T0SECRET" not in found.toml
    assert payload(found) == {"text": "SSH MFA CODE for session 482913: 00120975 "}
    # The report that somebody asks for many codes, and other messages.
    assert payload(found, Message("id", "subject", "the whole text")) == {"text": "the whole text"}
    for key in ("authfail_on_httpfail", "timeout_seconds", "pam_webhook.so"):
        assert key in found.toml


TEMPLATES = {
    "every token": json.dumps({"text": " ".join(TOKENS)}),
    "twice": '{"a": ["USERNAMEUSERNAME", {"b": "SOURCE_IP/PUBLIC_CODE"}], "c": "PRIVATE_CODE"}',
    "braces": '{"text": "{{ USERNAME }} {% if %} {# x #} {USERNAME} {{{PRIVATE_CODE}}}"}',
    "semicolon": '{"text": "a ; b ;c PRIVATE_CODE"}',
    "escapes": '{"text": "\\"USERNAME\\" \\\\ \\u00e9 \\/ é", "PRIVATE_CODE": "key"}',
    "values": '{"a": null, "b": true, "c": 1.5, "d": [null, {}, []], "e": -7, "f": 1e3, "g": "PRIVATE_CODE"}',
    "teams": json.dumps({"type": "message", "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive",
                         "contentUrl": None, "content": {"type": "AdaptiveCard", "body": [{"type": "TextBlock", "text":
                         "Session PUBLIC_CODE of USERNAME: PRIVATE_CODE"}]}}]}),
    "long": json.dumps({"text": "x" * 500 + "PRIVATE_CODE"}),
}  # fmt: skip


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates(tmp_path: Path, name: str) -> None:
    """Tokens are replaced within their texts, whatever the values are; all else stays as it is, and so do names of members."""
    found = of_template(tmp_path, TEMPLATES[name])
    assert payload(found) == replaced(json.loads(TEMPLATES[name]))
    assert ("A token in the name of a member stays" in found.toml) == (name == "escapes")


PARTS = st.sampled_from(["{", "}", "%", "#", " ", ";", "\\", '"', "a", "\n", "é", *TOKENS])
TEXTS = st.lists(PARTS, max_size=8).map("".join)


@given(template=st.dictionaries(TEXTS, st.recursive(TEXTS, lambda inner: st.lists(inner, max_size=3), max_leaves=4), min_size=1))
def test_any_template(tmp_path_factory: pytest.TempPathFactory, template: dict[str, Any]) -> None:
    """No text of a template is taken for anything but a text. A text that is one expression loses the blanks around it."""
    found = of_template(tmp_path_factory.mktemp("any"), json.dumps(template))
    body = Skeleton(settings_of(found)[0].body).of(MESSAGE)

    def stripped(value: Any) -> Any:
        # Jinja2 drops one line feed at the end of a template.
        if isinstance(value, list):
            return [stripped(inner) for inner in value]
        return value.strip()

    assert {key: stripped(value) for key, value in body.items()} == {
        key: stripped(value) for key, value in {key: replaced(value) for key, value in template.items()}.items()
    }


def test_a_token_outside_of_a_text(tmp_path: Path) -> None:
    """In webhookpam it is a number, which loses the zeros at its beginning. Here it is a text, and the output says so."""
    found = of_template(tmp_path, '{"code": PRIVATE_CODE, "text": "a PRIVATE_CODE"}')
    assert payload(found) == {"code": "00120975", "text": "a 00120975"}
    assert "a number would lose the zeros" in found.toml


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("", "there is no json_data"), ("{", "not JSON at character"), ('{"a": T0SECRET}', "not JSON at character 7"),
        ("[1]", "has to be a JSON object"), ("{}", "has to be a JSON object"), ('"PRIVATE_CODE"', "has to be a JSON object"),
        ('{"a": 1} x', "something after its JSON"), ('{"a": NaN}', "not JSON"), ("[" * 5000, "not JSON"),
        ('{"a": ' + "[" * 30 + "]" * 30 + "}", "sshbell.toml cannot have such a body"),
    ],
)  # fmt: skip
def test_wrong_templates(tmp_path: Path, template: str, says: str) -> None:
    """What is no JSON is refused with its place, but without its text."""
    with pytest.raises(DataError, match=re.escape(says)) as raised:
        of_template(tmp_path, template)
    assert "T0SECRET" not in str(raised.value)


def test_large_numbers(tmp_path: Path) -> None:
    """Numbers that TOML does not have become texts."""
    assert payload(of_template(tmp_path, f'{{"a": {2**70}, "b": 1e999}}')) == {"a": str(2**70), "b": "1e999"}


@pytest.mark.parametrize(
    ("proxy", "url", "is_secret"),
    [
        ("proxy.example.org", "http://proxy.example.org:1080", False),
        ("http://proxy.example.org:3128/", "http://proxy.example.org:3128", False),
        ("HTTPS://[2001:db8::1]:3128", "https://[2001:db8::1]:3128", False),
        ("socks4a://127.0.0.1", "socks4://127.0.0.1:1080", False),
        ("socks5h://127.0.0.1:9050", "socks5://127.0.0.1:9050", False),
        ("me:s3same@proxy:3128", "http://me:s3same@proxy:3128", True),
        ("socks5://me:s3same@proxy", "socks5://me:s3same@proxy:1080", True),
        ("ftp://s3same", "ftp://s3same:1080", True),
    ],
    ids=range(8),
)  # fmt: skip
def test_proxies(tmp_path: Path, proxy: str, url: str, is_secret: bool) -> None:  # noqa: FBT001
    """Every form of curl's becomes one of ours. One with a password, or with a fault that might be one, goes to a file."""
    found = read(tmp_path, SAMPLE.format(url=URL, json=JSON).replace("[webhook]", f"proxy={proxy}\n[webhook]"))
    assert found.secrets.get(tmp_path / "webhookpam.proxy") == (url if is_secret else None)
    assert "s3same" not in found.toml
    if not is_secret:
        assert f'proxy = "{url}"' in found.toml


@pytest.mark.parametrize(
    ("key", "value", "name", "wanted"),
    [
        ("secret_code_size", "4", "digits", 6), ("secret_code_size", "20", "digits", 12), ("secret_code_size", "x", "digits", 6),
        ("secret_code_size", "10x", "digits", 10), ("public_code_size", "2", "session_digits", 4),
        ("timeout_seconds", "300", "timeout", "60s"), ("timeout_seconds", "0", "timeout", "1s"),
    ],
)  # fmt: skip
def test_numbers(tmp_path: Path, key: str, value: str, name: str, wanted: object) -> None:
    """A number beyond what sshbell takes becomes the nearest one, and the output says so."""
    found = read(tmp_path, re.sub(rf"{key}=\d+", f"{key}={value}", SAMPLE.format(url=URL, json=JSON)))
    assert getattr(settings_of(found)[1], name) == wanted
    assert (f"# {key} is " in found.toml) == (value != "10x")


def test_missing_and_strange_keys(tmp_path: Path) -> None:
    """Missing numbers have defaults, unknown keys are named, and nothing else of the file is repeated."""
    found = read(tmp_path, f"[webhook]\nurl: {URL}\njson_data = {JSON}\nstrange=T0SECRET\n[general]\nurl={URL}\n\x1b[31m=1\n")
    _, codes = settings_of(found)
    assert (codes.digits, codes.session_digits, codes.timeout) == (8, 6, "10s")
    assert "strange in [webhook], url in [general] and ?[31m in [general] are left out" in found.toml
    assert "T0SECRET" not in found.toml
    for text in ("", "[webhook]\njson_data={}\n"):
        with pytest.raises(DataError, match="there is no url"):
            read(tmp_path, text)
    with pytest.raises(InputError):
        translated_webhookpam(tmp_path / "missing", tmp_path)


def test_an_insecure_url(tmp_path: Path) -> None:
    """A URL without TLS, or with a password, is taken over, and the output asks for another one."""
    for url in ("http://hooks.example.com/T0SECRET", "https://me:T0SECRET@hooks.example.com/"):
        found = of_template(tmp_path, JSON, url=url)
        assert "change the URL" in found.toml
        assert "T0SECRET" not in found.toml


def test_how_inih_reads() -> None:
    """Comments, both separators, blanks, further lines, and the last of several values."""
    text = (
        "; c\n# c\nx=0\n[a]\n k = 1 ; c\nk: 2;3\n[b] ; c\njson_data = {\n  1 ; x\n  ; c\n\n  2\nk=\n k2 ; c\n[c\nbroken\n = 5\n"
    )
    assert list(ini_values(text)) == [
        ("", "x", "0"), ("a", "k", "1"), ("a", "k", "2;3"), ("b", "json_data", "{\n1 ; x\n2"), ("b", "k", "k2"),
    ]  # fmt: skip


def test_secret_files(tmp_path: Path) -> None:
    """Secrets go to new files that nobody else can read, of the group of the configuration; another content stays as it is."""
    found = of_template(tmp_path, JSON)
    write_secrets(found)
    path = tmp_path / "webhookpam.url"
    assert (path.read_text(), path.stat().st_mode & 0o777) == (f"{URL}\n", 0o600)
    write_secrets(found)  # it has the same content
    path.write_text("another")
    with pytest.raises(OutputError, match="it has another content"):
        write_secrets(found)
    assert path.read_text() == "another"
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError):
        write_secrets(found)
    assert not (tmp_path / "elsewhere").exists()
    path.unlink()
    (tmp_path / "sshbell.toml").touch()
    write_secrets(found)
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.stat().st_gid == (tmp_path / "sshbell.toml").stat().st_gid
    with pytest.raises(OutputError, match="create the directory, or name another"):
        write_secrets(ImportedWebhook("", {tmp_path / "missing" / "x": ""}))
    assert os.access(path, os.R_OK)
