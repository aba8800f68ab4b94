"""The configuration file: all of it has defaults, and what cannot be meant is refused with a suggestion."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest

from consumer import config_file
from consumer.channel_settings import CHANNEL_TYPES, EmailSettings, OAuth2, XmppSettings
from consumer.codes_settings import CodeRule, Codes
from consumer.config import Choice, Config, Route, secret_files, secrets_of
from consumer.config_file import load, reloaded, state_dir_of
from consumer.config_values import Secret
from consumer.errors import ConfigError, ConfigRightsError


def test_no_file_is_all_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a configuration in the default place everything has its default."""
    monkeypatch.setattr(config_file, "DEFAULT_PATH", str(tmp_path / "none.toml"))
    assert load(None) == Config(sshd_programs=[])


def test_default_place_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file in the default place counts without being named."""
    path = tmp_path / "sshbell.toml"
    path.write_text('sshd_programs = ["sshd-ga", "sshd-internal"]\n')
    monkeypatch.setattr(config_file, "DEFAULT_PATH", str(path))
    assert load(None) == Config(sshd_programs=["sshd-ga", "sshd-internal"])


def test_reloaded(tmp_path: Path) -> None:
    """A running process takes what it can change, and refuses another state directory and another user."""
    path = tmp_path / "sshbell.toml"
    before = Config(state_dir="/a", user="a")
    path.write_text('state_dir = "/a"\nuser = "a"\nkeep = "1d"\n')
    assert reloaded(str(path), before) == Config(state_dir="/a", user="a", keep="1d")
    for text in ('state_dir = "/b"\nuser = "a"\n', 'state_dir = "/a"\nuser = "b"\n'):
        path.write_text(text)
        with pytest.raises(ConfigError, match="only at the next start"):
            reloaded(str(path), before)


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


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('state_dir = "/srv/bell"\nkepe = "90d"', "/srv/bell"),
        ("keep = 90\n  state_dir='/srv/bell'  # here", "/srv/bell"),
        ('[[channel]\nstate_dir = "/srv/bell"', "/srv/bell"),
        ('#state_dir = "/srv/bell"\nkepe = "90d"', "/var/lib/sshbell"),
        ("state_dir = 5", "/var/lib/sshbell"),
        ('state_dir = "\xff', "/var/lib/sshbell"),
    ],
)
def test_state_of_a_broken_configuration(tmp_path: Path, text: str, place: str) -> None:
    """Where the state is can be known although nothing else can."""
    path = tmp_path / "sshbell.toml"
    path.write_text(text)
    assert state_dir_of(str(path)) == place
    path.unlink()
    assert state_dir_of(str(path)) == "/var/lib/sshbell"


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
    monkeypatch.setattr(config_file, "DEFAULT_PATH", str(place))
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
    ("text", "says"),
    [
        ('username = "bell"', "username needs password or oauth2"),
        ('password = { env = "X" }', "username is missing"),
        (f'password = {{ env = "X" }}\n{ACCOUNT}"https://login.example.org/token"', "exclude each other"),
        ('username = "bell"\npassword = { env = "X", file = "/x" }', "password needs exactly one of file, env and command"),
        ('username = "bell"\npassword = { command = [] }', "password needs exactly one of file, env and command"),
        ("server = []", "server is empty"),
        (
            'server = "localhost:25"\nsecurity = "none"',
            "may not contain a port; write 'localhost', and in a line of its own: port = 25",
        ),
        (
            'server = ["::1", "[2001:db8::1]:465"]',
            "may not contain a port; write '2001:db8::1', and in a line of its own: port = 465",
        ),
        (
            'server = "smtp://mail.example.org:587"',
            "may not contain a port; write 'mail.example.org', and in a line of its own: port = 587",
        ),
        ('from = "a@example.org\\r\\nBcc: b"', "is not a mail address"),
        ("max_per_hour = 0", "max_per_hour"),
        ('[[route]]\nchannels = ["opps"]', "did you mean 'ops'"),
        ('[[route]]\nchannels = ["ops"]\nexclude = { address = ["192.0.2.1/24"] }', "route 1: 192.0.2.1/24 has host bits set"),
        (CHANNEL, "two channels are called 'ops'"),
    ],
)
def test_what_cannot_be_meant(tmp_path: Path, text: str, says: str) -> None:
    """What contradicts itself is refused, in words that say where."""
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


ROUTE = '[[route]]\nchannels = ["ops"]\n'
*_FIRST, _LAST = (f'"{name}"' for name in CHANNEL_TYPES)
TYPES = f"{', '.join(_FIRST)} or {_LAST}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CHANNEL + 'sever = "x"', "channel 1: there is no key 'sever'; did you mean 'server'?"),
        (CHANNEL + CHANNEL.replace("to =", "To ="), "channel 2: there is no key 'To'; did you mean 'to'?"),
        (CHANNEL + 'user = "bell"', "channel 1: there is no key 'user'; did you mean 'username'?"),
        (CHANNEL.replace("channel", "channels"), "there is no key 'channels'; did you mean 'channel'?"),
        (CHANNEL + ROUTE.replace("channels", "channel"), "route 1: there is no key 'channel'; did you mean 'channels'?"),
        (CHANNEL + ROUTE + 'give_up = "1d"', "route 1: there is no key 'give_up' here; it belongs above the first table"),
        ('to = ["a@b.example"]\n' + CHANNEL, "there is no key 'to' here; it belongs under [codes] or under [[channel]]"),
        (CHANNEL + ROUTE + 'country = ["FR"]', "it belongs in include or exclude of a [[route]]"),
        (CHANNEL + ROUTE + 'address = ["::/0"]', "or in include or exclude of a [[route]]"),
        (CHANNEL + ROUTE + "[route.exclude]\nadress = []", "route 1: exclude: there is no key 'adress'; did you mean 'address'?"),
        (CHANNEL.replace("[[channel]]", "[channel]"), "channel has to be a table under [[channel]], in double brackets"),
        (CHANNEL.replace('name = "ops"', ""), "channel 1: name is missing; it has to be up to 63 letters"),
        (CHANNEL.replace('"ops"', '"ops team"'), "channel 1: name has to be up to 63 letters"),
        (CHANNEL.replace('["ops@example.org"]', '"ops"'), 'channel 1: to has to be a list of addresses: ["ops@example.org"]'),
        (CHANNEL.replace('["ops@example.org"]', "[]"), "channel 1: to has to be a list"),
        (CHANNEL.replace('"email"', '"mail"'), "channel 1: there is no type 'mail'; did you mean 'email'?"),
        (CHANNEL.replace('"email"', '"pigeon"'), f"channel 1: there is no type 'pigeon'; it has to be {TYPES}"),
        (CHANNEL + 'port = "587"', "channel 1: port has to be a number from 1 to 65535, without quotes"),
        (CHANNEL + "port = 65536", "channel 1: port has to be a number from 1 to 65535"),
        (CHANNEL + 'security = "ssl"', 'channel 1: security has to be "starttls", "tls" or "none", not \'ssl\''),
        (CHANNEL + 'password = "hunter2"', "channel 1: password has to be the place of the secret: { file ="),
        (CHANNEL + "password = { file = 1 }", "channel 1: password: file has to be a path"),
        (CHANNEL + ROUTE + 'events = ["login"]', 'route 1: events has to be a list of "ssh_login"'),
        (CHANNEL + ROUTE + 'events = ["login"]', "not 'login'"),
        (CHANNEL + ROUTE + 'exclude = { address = ["192.0.2.1/24"] }', "192.0.2.0/24"),
        ('give_up = "3 days"', 'give_up has to be a number with its unit, in quotes: "90s"'),
        ("keep = 90", "keep has to be a number with its unit"),
        ("\nkeep = 90d", "sshbell.toml:2: Expected newline or end of document after a statement (column 10); put text"),
        ("state_dir = /var/lib/sshbell", "put text in straight quotes"),
        ('state_dir = "/var/lib/sshbell\n', "the closing quote is missing"),
        ('geoip = ["/a.mmdb" "/b.mmdb"]', "a comma or the closing bracket is missing"),
        ('user = "a"\nuser = "b"', "the file has this key already"),
        (CHANNEL.replace("ops@example.org", "ops example"), "'ops example' is not a mail address"),
        (CHANNEL.replace("ops@example.org", "Ops ops@example.org"), "is not a mail address"),
        (CHANNEL.replace("ops@example.org", "a@example.org, b@example.org"), "put several into separate quotes"),
    ],
)  # fmt: skip
def test_faults_are_said_in_the_words_of_the_file(tmp_path: Path, text: str, says: str) -> None:
    """Whatever is wrong, the table, the key and what it has to be are said, and nothing of the library that reads it."""
    path = tmp_path / "sshbell.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load(str(path))
    said = str(raised.value)
    assert says in said
    assert "hunter2" not in said
    assert not any(word in said for word in ("Object", "Expected `", "regex", "$", "`"))


WRONG = """\
kepe = "90d"
state_dir = "var/lib"
give_up = 3

[hosts]
bastion1 = ["192.0.2.1",
  "10.0.0.0/8"]

[[channel]]
name = "ops"
type = "email"
to = [
  "ops@example.org",
  "ops@",
  "a b",  # commas and ] in a remark
]
password = { file = "/x",
  env = "Y" }

[[channel]]
name = "other"
type = "email"
sever = "mail.example.org"
[channel.oauth2]
client_id = 5

[[channel]]
type = "email"

[[route]]
channels = ["ops", "otter"]
events = ["ssh_login",
  "login"]
[route.exclude]
address = ["192.0.2.0/24"]
[[route]]
channels = ["ops", "otter"]
"""


def test_every_fault_at_once_with_its_line() -> None:
    """Unknown keys, wrong values, missing keys and what cannot be meant: all are there, in the order of the file."""
    with pytest.raises(ConfigError) as raised:
        config_file.parse(WRONG.replace(",\n  env", ", env").encode(), "x.toml")
    assert [fault.partition("; ")[0] for fault in raised.value.args] == [
        "x.toml:1: there is no key 'kepe'",
        "x.toml:2: state_dir 'var/lib' is not an absolute path",
        'x.toml:3: give_up has to be a number with its unit, in quotes: "90s", "10m", "36h", "90d", "4w"',
        "x.toml:7: hosts: '10.0.0.0/8' of 'bastion1' is not an address",
        "x.toml:14: channel 'ops': 'ops@' is not a mail address",
        "x.toml:15: channel 'ops': 'a b' is not a mail address",
        "x.toml:17: channel 'ops': username is missing: it belongs to this password or token",
        "x.toml:17: channel 'ops': password needs exactly one of file, env and command",
        "x.toml:19: channel 2: to is missing",
        "x.toml:22: channel 2: there is no key 'sever'",
        "x.toml:23: channel 2: oauth2: token_url is missing",
        "x.toml:23: channel 2: oauth2: refresh_token is missing",
        "x.toml:24: channel 2: oauth2: client_id has to be a text, in quotes",
        "x.toml:26: channel 3: name is missing",
        "x.toml:26: channel 3: to is missing",
        f"x.toml:32: route 1: events has to be {config_file._takes(Route)['events']}, not 'login'",
        "x.toml:36: route 2: there is no channel 'otter'",
    ]


def test_a_table_in_the_wrong_form() -> None:
    """One slip is one fault: what follows from it is not counted against others."""
    for text in ("[channel]\nname = 'ops'", "channel = 5", "channel = ['ops']", "channel = 'ops'"):
        with pytest.raises(ConfigError) as raised:
            config_file.parse(f"{text}\n{ROUTE}".encode(), "x.toml")
        assert raised.value.args == ("x.toml:1: channel has to be a table under [[channel]], in double brackets",)


@pytest.mark.parametrize("table", [Config, EmailSettings, XmppSettings, OAuth2, Secret, Route, Choice])
def test_each_key_has_a_description(table: type[msgspec.Struct]) -> None:
    """The error message about a wrong value gives the valid one."""
    takes = config_file._takes(table)
    assert {field.encode_name for field in msgspec.structs.fields(table)} == takes.keys() - {"type"}
    assert all(takes.values())


def test_who_may_not_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may not read the configuration is told for whom it is; the code is that of missing rights."""

    def refused(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", refused)
    with pytest.raises(ConfigRightsError, match=r"sshbell\.toml: Permission denied; only root") as raised:
        load(str(tmp_path / "sshbell.toml"))
    assert raised.value.exit_code == 77


@pytest.mark.parametrize(
    "text",
    [
        'state_dir = "/a{}"', 'catch_up = "/a{}"', 'people = "/a{}"', 'user = "a{}"', 'geoip = ["/a{}/*.mmdb"]', 'keep = "1{}"',
        'hosts = {{ a = ["{}"] }}', 'sshd_programs = ["a{}"]', '[[channel]]\nca_file = "/a{}"',
        '[[channel]]\npassword = {{ file = "/a{}" }}', '[[channel]]\npassword = {{ command = ["/a{}"] }}',
        '[[channel]]\noauth2.refresh_token.file = "/a{}"', '[[channel]]\nserver = ["a{}"]',
    ],
)  # fmt: skip
def test_nul(text: str) -> None:
    """No path and no other text may hold a NUL, which would end it early; the line is said."""
    with pytest.raises(ConfigError, match=r"(\A|; )here:\d: [a-z0-9_.]+ has a NUL character"):
        config_file.parse(text.format("\\u0000").encode(), "here")


@pytest.mark.parametrize(
    "url", ["https://[::1/", "https://a:b/", "https://a:99999/", "https:///x", "https://", "https://a/ b", "x"]
)
def test_token_url(url: str) -> None:
    """A token server's address that cannot be one is a fault, and no error of Python's."""
    channel = f'[[channel]]\ntype = "email"\nname = "ops"\nto = ["a@b"]\nusername = "u"\noauth2.token_url = "{url}"\n'
    text = f'{channel}oauth2.client_id = "x"\noauth2.refresh_token.env = "X"\n'
    with pytest.raises(ConfigError, match=r"here:6: channel 'ops': oauth2\.token_url"):
        config_file.parse(text.encode(), "here")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('hosts = { bastion1 = ["10.0.0.0/8"] }', "hosts: '10.0.0.0/8' of 'bastion1' is not an address"),
        ('hosts = { bastion1 = "10.0.0.5" }', "hosts"),
        ('map_url = "http://map.example.org/{ip}"', "map_url has to begin with https://"),
        ('map_url = "javascript:alert({ip})"', "map_url has to begin with https://"),
        ('map_url = "https:///{ip}"', "a host name"),
        ('map_url = "https://[{ip}"', "map_url is not a URL"),
        ('map_url = "https://{ip}.example.org/"', "the source of a login would choose where the link leads"),
        ('map_url = "https://map.example.org/{lat}"', "map_url has '{lat}'; it may have {ip}, {latitude}, {longitude}"),
        ('map_url = "https://map.example.org/{ip!r}"', "{ip!r}"),
        ('map_url = "https://map.example.org/{ip}}"', "map_url has '}'"),
        ('map_url = "https://map.example.org/"', "the same place for each address"),
        ('map_url = "https://map.example.org/{ip} x"', "not allowed in URLs"),
        ('map_url = "https://map.example.org/{ip}\\u000a"', "not allowed in URLs"),
        ('reverse_dns = "yes"', "reverse_dns"),
        ('[[channel]]\ntype = "email"\nname = "ops"\nto = ["a@b"]\ntimezone = "Europe/Atlantis"', "such as 'Europe/Berlin'"),
        ('[[channel]]\ntype = "email"\nname = "ops"\nto = ["a@b"]\nlanguage = "fr"', 'language has to be "en" or "de"'),
        ('[[channel]]\ntype = "email"\nname = "ops"\nto = ["a@b"]\ntimezone = "../../etc/passwd"', "is unknown here"),
        ('[[channel]]\ntype = "email"\nname = "ops"\nto = ["a@b"]\ntimezone = "/etc/passwd"', "is unknown here"),
    ],
)
def test_faults_of_enrichment(text: str, says: str) -> None:
    """Addresses that are none, links that lead anywhere, and zones that nobody knows are refused."""
    with pytest.raises(ConfigError) as raised:
        config_file.parse(text.encode(), "here")
    assert says in str(raised.value)


def faults(text: str) -> list[str]:
    """Return the faults of a configuration, each of them one line."""
    with pytest.raises(ConfigError) as raised:
        config_file.parse(text.encode(), "x.toml")
    assert not any("\n" in fault or "\0" in fault for fault in raised.value.args)
    return list(raised.value.args)


def test_a_directory_in_geoip() -> None:
    """``geoip`` names files. A path that ends with "/" is a fault of its line."""
    assert faults('geoip = [\n  "/a/x.mmdb",\n  "/var/lib/GeoIP/",\n]') == [
        "x.toml:3: geoip: '/var/lib/GeoIP/' is a directory; for the databases in it: \"/var/lib/GeoIP/*.mmdb\""
    ]


KEY = 'geoip_key = { file = "/etc/sshbell/maxmind.key" }'


def test_web() -> None:
    """The web service needs an account and its key."""
    found = config_file.parse(f'geoip = "web"\ngeoip_account = 5\n{KEY}\ngeoip_host = "geolite.info"'.encode(), "x.toml")
    assert (found.geoip, found.geoip_account, found.geoip_host) == ("web", 5, "geolite.info")
    assert [(name, secret.file) for name, secret in secrets_of(found)] == [("geoip_key", "/etc/sshbell/maxmind.key")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('geoip = "web"', ['x.toml:1: geoip = "web" needs geoip_account', 'x.toml:1: geoip = "web" needs geoip_key']),
        (f'geoip = "web"\n{KEY}', ['x.toml:1: geoip = "web" needs geoip_account']),
        ('geoip = "web"\ngeoip_account = 5', ['x.toml:1: geoip = "web" needs geoip_key']),
        ("geoip_account = -5", ["x.toml:1: geoip_account"]),
        ('geoip_account = "5"', ["x.toml:1: geoip_account has to be a number, without quotes"]),
        ('geoip_key = "s3cret"', ["x.toml:1: geoip_key has to be"]),
        ("geoip_key = {}", ["x.toml:1: geoip_key needs exactly one of file, env and command"]),
        ('geoip_key = { file = "/a", env = "B" }', ["x.toml:1: geoip_key needs exactly one of file, env and command"]),
        ('geoip = "online"', ["x.toml:1: geoip has to be"]),
        *((f'geoip_host = "{host}"', ["x.toml:1: geoip_host"]) for host in (
            "", "https://geolite.info", "a/b", "user@a", "a?b", "a#b", "a b", "a\\n", "-", "a:", "a:123456", "x" * 254
        )),
    ],
)  # fmt: skip
def test_faults_of_web(text: str, says: list[str]) -> None:
    """What misses, and a host that is none: account and key must not go anywhere else."""
    for fault, begin in zip(faults(text), says, strict=True):
        assert fault.startswith(begin)
        assert "s3cret" not in fault


def test_enrichment() -> None:
    """What is right is taken."""
    found = config_file.parse(
        b'hosts = { "b.example.org" = ["10.0.0.5", "::1"] }\nmap_url = "https://map.example.org:8443/{ip}#{latitude}/{longitude}"\n'
        b'[[channel]]\ntype = "email"\nname = "ops"\nto = ["a@b"]\ntimezone = "Europe/Berlin"',
        "here",
    )
    assert found.reverse_dns
    assert found.hosts == {"b.example.org": ["10.0.0.5", "::1"]}
    assert found.channel[0].timezone == "Europe/Berlin"


def test_files_of_secrets() -> None:
    """Those that hold a secret or a private key are known, so that ``install`` and ``check`` guard them."""
    text = """
    [[channel]]
    name = "hook"
    type = "webhook"
    url = { file = "/a" }
    headers = { "X-Key" = { file = "/b" }, "X-Team" = "ops" }
    bearer = { env = "TOKEN" }
    client_certificate = "/c"
    [[channel]]
    name = "siem"
    type = "syslog"
    server = "tls://siem"
    client_certificate = "/d"
    client_key = "/e"
    """
    assert [str(path) for path in secret_files(config_file.parse(text.encode(), "here"))] == ["/a", "/b", "/c", "/e"]


WEB = 'geoip = "web"\ngeoip_account = 1\ngeoip_key = { env = "X" }\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            CHANNEL + ROUTE + 'include = { country = ["France"] }',
            'include: country has to be a list of codes of countries: ["FR"]',
        ),
        (CHANNEL + ROUTE + 'include = { asn = ["AS64496"] }', "include: asn has to be a list of numbers of networks: [64496]"),
        (
            CHANNEL + ROUTE + 'include = { session = ["shell"] }',
            'session has to be a list of "interactive", "command" and "subsystem", not \'shell\'',
        ),
        (CHANNEL + ROUTE + 'exclude = { origin = ["trusted"] }', "not 'trusted'"),
        (CHANNEL + ROUTE + 'include = { new = ["city"] }', "not 'city'"),
        (CHANNEL + ROUTE + 'include = { persons = ["Alice"] }', "there is no key 'persons'; did you mean 'person'?"),
        (CHANNEL + ROUTE + 'stop = "yes"', "route 1: stop has to be true or false, without quotes"),
        (CHANNEL + ROUTE + 'digest = "daily 8:00"', 'digest has to be a time of the day: "daily 08:00" or "weekly mon 08:00"'),
        (CHANNEL + ROUTE + 'digest = "monthly 08:00"', "digest has to be a time of the day"),
        (CHANNEL + ROUTE + 'digest = "daily 24:00"', "digest has to be a time of the day"),
        (CHANNEL + ROUTE + 'fold = ["port"]', "not 'port'"),
        (CHANNEL + ROUTE + 'fold = ["user"]\nwindow = "8d"', "route 1: window = '8d' is longer than a week"),
        (CHANNEL + ROUTE + 'fold = ["user"]\ndigest = "daily 08:00"', "route 1: fold and digest exclude each other"),
        (CHANNEL + ROUTE + 'urgent = true\ndigest = "daily 08:00"', "route 1: urgent and digest exclude each other"),
        (CHANNEL + ROUTE + 'quiet = "22:00-07:00"', "it belongs under [[channel]]"),
        (CHANNEL + 'quiet = "22-7"', 'quiet has to be two times of the day: "22:00-07:00"'),
        (CHANNEL + 'quiet = "07:00-07:00"', "begins and ends at the same time"),
        (
            "geoip = []\n" + CHANNEL + ROUTE + "include = { asn = [1] }",
            "asn needs databases of places, but geoip has no databases",
        ),
        (
            WEB + CHANNEL + ROUTE + 'include = { new = ["key", "country"] }',
            "new = ['country'] needs databases of places, but geoip",
        ),
        (WEB + CHANNEL + ROUTE + 'exclude = { country = ["FR"] }', "country needs databases of places, but geoip"),
    ],
)
def test_faults_of_routes(text: str, says: str) -> None:
    """Values that no event fits, and keys that contradict each other, are faults with their lines."""
    (fault,) = faults(text)
    assert says in fault


LOG = '[[channel]]\nname = "log"\ntype = "file"\npath = "/var/log/logins"\n'
RULE = "[[codes.rule]]\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CHANNEL + '[codes]\nchannels = ["opps"]', "x.toml:6: codes: there is no channel 'opps'; did you mean 'ops'?"),
        (LOG + '[codes]\nchannels = ["log"]', "x.toml:6: codes: channel 'log' keeps what it gets, so it must not get codes"),
        ('[codes]\nto = "all"', 'x.toml:2: codes: to has to be "team" or "owner", not \'all\''),
        ("[codes]\ndigits = 5", "codes: digits has to be a number from 6 to 12"),
        ("[codes]\ndigits = 13", "codes: digits has to be a number from 6 to 12"),
        ("[codes]\ntries = 0", "codes: tries has to be a number from 1 to 10"),
        ('[codes]\ntimeout = "2m"', "codes: timeout = '2m' is longer than 60 seconds"),
        ('[codes]\nvalid = "1d"', "codes: valid = '1d' is longer than 3600 seconds"),
        ('[codes]\non_failure = "open"', 'codes: on_failure has to be "secure", "safe" or "codes", not \'open\''),
        ("[codes]\nrule = 5", "codes: rule has to be a table under [[codes.rule]]"),
        (RULE + 'ask = "sometimes"', 'rule 1: ask has to be "never", "always" or "new", not \'sometimes\''),
        (RULE + "new = []", 'rule 1: new has to be a list of "address", "network" and "country"'),
        (RULE + 'address = ["10.0.0.1/8"]', "codes: rule 1: 10.0.0.1/8 has host bits set; write an address or network as"),
        ("geoip = []\n" + RULE + 'ask = "new"\nnew = ["country"]', "x.toml:4: codes: rule 1: new = ['country'] needs databases"),
    ],
)
def test_faults_of_codes(text: str, says: str) -> None:
    """A code that could go nowhere, or to a log, and a rule that fits nothing are faults with their lines."""
    (fault,) = faults(text)
    assert says in fault


def test_codes() -> None:
    """Without the table sshbell asks nobody; with it, the first rule that fits counts."""
    assert config_file.parse(b"", "x.toml").codes == Codes()
    text = CHANNEL + '[codes]\nchannels = ["ops"]\nto = "owner"\n' + RULE + 'group = ["wheel"]\nask = "new"\non_failure = "codes"'
    codes = config_file.parse(text.encode(), "x.toml").codes
    assert codes == Codes(channels=["ops"], to="owner", rule=[CodeRule(group=["wheel"], ask="new", on_failure="codes")])


def test_routes_with_everything() -> None:
    """All of it together is valid; what needs no place needs no database."""
    text = (
        WEB + CHANNEL + 'quiet = "22:00-07:00"\n' + ROUTE + 'include = { new = ["address", "key", "host"], host = ["web*"] }\n'
        'urgent = true\nstop = true\nfold = ["route", "event"]\nwindow = "7d"\n' + ROUTE + 'digest = "weekly sun 23:59"'
    )
    first, second = config_file.parse(text.encode(), "here").route
    assert (first.urgent, first.stop, first.fold, first.window) == (True, True, ["route", "event"], "7d")
    assert (second.digest, second.fold, second.window) == ("weekly sun 23:59", [], "10m")


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ('librdkafka = { "group.id" = "x" }', "librdkafka: sshbell sets group.id itself"),
        ('librdkafka = { "auto.offset.reset" = "latest" }', "librdkafka: sshbell sets auto.offset.reset itself"),
        ('librdkafka = { "sasl.password" = "hidden" }', "librdkafka: sasl.password has to be the place of the secret"),
        ('librdkafka = { "sasl.password" = { file = "/a", env = "B" } }', "needs exactly one of file, env and command"),
        ("librdkafka = { linger = 1.5 }", "librdkafka has to be a table of settings of librdkafka"),
        ('database = "host=db password=hidden"', "write that into a file"),
        ('database = "postgresql://sshbell:hidden@db/sshbell"', "write that into a file"),
        ('topic = "a/b"', "topic has to be"),
        ('brokers = "kafka1:9092"', "brokers has to be a list of hosts with ports"),
        ('broker = ["kafka1:9092"]', "there is no key 'broker'; did you mean 'brokers'?"),
    ],
)
def test_faults_of_the_worker(keys: str, says: str) -> None:
    """Settings on which the promises rest, and passwords in the file, are refused; the message has no password."""
    with pytest.raises(ConfigError) as caught:
        config_file.parse(f"[worker]\n{keys}\n".encode(), "here")
    assert says in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_where_the_store_is() -> None:
    """Without a database, the store is in the state directory; the places of secrets are known to ``check``."""
    assert config_file.parse(b"", "here").store == Path("/var/lib/sshbell")
    config = config_file.parse(
        b'[worker]\ndatabase = "host=db"\nlibrdkafka = { "sasl.password" = { file = "/etc/sshbell/kafka.secret" } }\n', "here"
    )
    assert config.store == "host=db"
    assert secret_files(config) == [Path("/etc/sshbell/kafka.secret")]


@pytest.mark.parametrize(
    "setting",
    [
        "host_silent = 0", "host_changed_wording = 0", 'clock_skew = "0s"', 'slow_guessing = ""', "impossible_travel = 0",
        "password_despite_key = 0", "key_in_two_places = 0", 'sshd_penalty = ""', "sshd_health = false",
        "root_by_password = false", 'guessing.host_rule = ""', 'many_accounts.address = ""', "first_seen.what = []",
        'many_addresses.network = ""',
    ],
)  # fmt: skip
def test_detectors_turned_off(tmp_path: Path, setting: str) -> None:
    """What the sample configuration names for that is accepted."""
    path = tmp_path / "sshbell.toml"
    path.write_text(f"[detect]\n{setting}\n")
    name, _, value = setting.partition(" = ")
    found: object = load(str(path)).detect
    for part in name.split("."):
        found = getattr(found, part)
    assert found == tomllib.loads(f"value = {value}")["value"]
