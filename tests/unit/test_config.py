"""The configuration file: all of it has defaults, and what cannot be meant is refused with a suggestion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumer import config
from consumer.config import Config, load
from consumer.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def test_no_file_is_all_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a configuration in the default place everything has its default."""
    monkeypatch.setattr(config, "DEFAULT_PATH", str(tmp_path / "none.toml"))
    assert load(None) == Config(sshd_programs=[])


def test_default_place_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file in the default place counts without being named."""
    path = tmp_path / "sshbell.toml"
    path.write_text('sshd_programs = ["sshd-ga", "sshd-internal"]\n')
    monkeypatch.setattr(config, "DEFAULT_PATH", str(path))
    assert load(None) == Config(sshd_programs=["sshd-ga", "sshd-internal"])


def test_empty_file(tmp_path: Path) -> None:
    """An empty file is all defaults."""
    path = tmp_path / "sshbell.toml"
    path.write_bytes(b"")
    assert load(str(path)) == Config()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('sshd_program = ["x"]', "did you mean 'sshd_programs'"),
        ('sshd-programs = ["x"]', "did you mean 'sshd_programs'"),
        ('SSHD_PROGRAMS = ["x"]', "SSHD_PROGRAMS"),
        ("frobnicate = 1", "frobnicate"),
        ('sshd_programs = "x"', "sshd_programs"),
        ("sshd_programs = [1]", "sshd_programs"),
        ("sshd_programs = [", ""),
        ("\x00", ""),
        ('sshd_programs = ["a"]\nsshd_programs = ["b"]', ""),
    ],
)
def test_fault_names_file_and_key(tmp_path: Path, text: str, says: str) -> None:
    """Each fault names the file and the key, and suggests the one that was meant."""
    path = tmp_path / "sshbell.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load(str(path))
    assert str(path) in str(raised.value)
    assert says in str(raised.value)
    assert raised.value.exit_code == 78


def test_named_file_must_be_there(tmp_path: Path) -> None:
    """A file that was asked for by name and cannot be read is an error; so is a directory."""
    with pytest.raises(ConfigError, match="No such file"):
        load(str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match="directory"):
        load(str(tmp_path))


def test_unreadable_default_is_not_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration that is there and cannot be read is an error, not the defaults in silence."""
    place = tmp_path / "sshbell.toml"
    place.symlink_to(place)  # ELOOP, also for root
    monkeypatch.setattr(config, "DEFAULT_PATH", str(place))
    with pytest.raises(ConfigError):
        load(None)


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    """TOML is UTF-8; anything else is a fault of the file."""
    path = tmp_path / "sshbell.toml"
    path.write_bytes(b'sshd_programs = ["\xff"]')
    with pytest.raises(ConfigError, match=r"sshbell\.toml"):
        load(str(path))


CHANNEL = '[[channel]]\nname = "ops"\ntype = "email"\nto = ["ops@example.org"]\n'
ACCOUNT = 'username = "bell"\n[channel.oauth2]\nclient_id = "bell"\nrefresh_token = { env = "X" }\ntoken_url = '


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('security = "none"\nserver = "mail.example.org"', "allow_plaintext"),
        ('security = "none"\nserver = ["localhost", "192.0.2.1"]', "allow_plaintext"),
        (f'{ACCOUNT}"http://login.example.org/token"', "https://"),
        (f'{ACCOUNT}"file:///etc/passwd"', "https://"),
    ],
)
def test_nothing_goes_in_clear_by_accident(tmp_path: Path, text: str, says: str) -> None:
    """Mail and tokens leave this machine encrypted, unless somebody wants it otherwise."""
    path = tmp_path / "sshbell.toml"
    path.write_text(CHANNEL + text)
    with pytest.raises(ConfigError) as raised:
        load(str(path))
    assert says in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        'security = "none"\nserver = ["localhost", "127.0.0.1", "::1"]',
        'security = "none"\nserver = "mail.example.org"\nallow_plaintext = true',
        f'{ACCOUNT}"https://login.example.org/token"',
    ],
)
def test_what_may_go_in_clear(tmp_path: Path, text: str) -> None:
    """To this machine, or where it is wanted, nothing stands in the way."""
    path = tmp_path / "sshbell.toml"
    path.write_text(CHANNEL + text)
    assert load(str(path)).channel[0].name == "ops"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('hosts = { bastion1 = ["10.0.0.0/8"] }', "hosts: '10.0.0.0/8' of 'bastion1' is no address"),
        ('hosts = { bastion1 = "10.0.0.5" }', "hosts"),
        ('map_url = "http://map.example.org/{ip}"', "map_url has to begin with https://"),
        ('map_url = "javascript:alert({ip})"', "map_url has to begin with https://"),
        ('map_url = "https:///{ip}"', "a host name"),
        ('map_url = "https://[{ip}"', "map_url is no URL"),
        ('map_url = "https://{ip}.example.org/"', "whoever logs in would choose where it leads"),
        ('map_url = "https://map.example.org/{lat}"', "map_url has '{lat}'; known are {ip}, {latitude}, {longitude}"),
        ('map_url = "https://map.example.org/{ip!r}"', "{ip!r}"),
        ('map_url = "https://map.example.org/{ip}}"', "map_url has '}'"),
        ('map_url = "https://map.example.org/"', "the same place for each address"),
        ('map_url = "https://map.example.org/{ip} x"', "no URL has"),
        ('map_url = "https://map.example.org/{ip}\\u000a"', "no URL has"),
        ('reverse_dns = "yes"', "reverse_dns"),
        ('[[channel]]\ntype = "email"\nname = "ops"\nto = ["a@b"]\ntimezone = "Europe/Atlantis"', "one is 'Europe/Berlin'"),
        ('[[channel]]\ntype = "email"\nname = "ops"\nto = ["a@b"]\ntimezone = "../../etc/passwd"', "is not known here"),
        ('[[channel]]\ntype = "email"\nname = "ops"\nto = ["a@b"]\ntimezone = "/etc/passwd"', "is not known here"),
    ],
)
def test_faults_of_enrichment(text: str, says: str) -> None:
    """Addresses that are none, links that lead anywhere, and zones that nobody knows are refused."""
    with pytest.raises(ConfigError) as raised:
        config.parse(text.encode(), "here")
    assert says in str(raised.value)


def test_enrichment() -> None:
    """What is right is taken."""
    found = config.parse(
        b'hosts = { "b.example.org" = ["10.0.0.5", "::1"] }\nmap_url = "https://map.example.org:8443/{ip}#{latitude}/{longitude}"\n'
        b'[[channel]]\ntype = "email"\nname = "ops"\nto = ["a@b"]\ntimezone = "Europe/Berlin"',
        "here",
    )
    assert found.reverse_dns
    assert found.hosts == {"b.example.org": ["10.0.0.5", "::1"]}
    assert found.channel[0].timezone == "Europe/Berlin"
