"""
The settings, as the stages get them. Every key has a default. ``config_file`` reads them from ``sshbell.toml``.

The description of a field is the valid value of its key, as error messages put it: "keep has to be ...".
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from consumer.actions import RINGING_FINDINGS, EventAction
from consumer.channel_settings import ChannelSettings, key_files, secrets
from consumer.codes_settings import Codes, CodesTable
from consumer.config_values import PLACE, AbsolutePath, HostName, Name, NameText, PathText, Port, ReportTime, Secret, Span, Switch
from consumer.detect_settings import Detect, DetectTable
from consumer.state_dir import STATE_DIR

# What may be new about a login, what logins that are folded have in common, and the kinds of a session.
Novelty = Literal["address", "network", "country", "key", "host"]
FoldField = Literal["event", "user", "host", "address", "route"]
SessionKind = Literal["interactive", "command", "subsystem"]

PEOPLE_PATH = "/etc/sshbell/people.toml"
# In the state directory: the socket on which the process keys answers.
KEYS_SOCKET = "keys.sock"
# In a directory of its own: everybody may read it, and nobody may read the state directory.
ACCESS_FILE = "/var/lib/sshbell-block/access.conf"
# Beside the configuration. While a file of this name exists, nothing is blocked.
NO_BLOCKING = "no-blocking"

# For how long sshbell collects events that it folds.
WINDOW = "10m"
# Where "sshbell geoip fetch" stores databases, and where other programs do.
_GEOIP = ("/var/lib/sshbell/geoip/*.mmdb", "/var/lib/GeoIP/*.mmdb", "/usr/share/GeoIP/*.mmdb")
_CHOICE = "a table of lists, such as"
_EVENTS = [f'"{action}"' for action in EventAction]


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Selects events. All non-empty lists must fit, and an unknown value fits no list.

    Attributes:
        user, host, person, group, key: with ``*`` and ``?`` as in a shell; hosts without regard to case. ``key`` has fingerprints
            or owners. Persons, groups and owners come from ``people.toml``.
        address: networks.
        country: codes of ISO 3166, such as ``FR``.
        asn: numbers of networks.
        new: a login is new in one of these respects.
    """

    user: Annotated[list[str], Meta(description='a list of names: ["alice", "backup-*"]')] = []
    host: Annotated[list[str], Meta(description='a list of names: ["web*", "bastion1"]')] = []
    address: Annotated[list[str], Meta(description='a list of networks: ["192.0.2.0/24"]')] = []
    method: Annotated[list[str], Meta(description='a list of methods: ["publickey"]')] = []
    person: Annotated[list[str], Meta(description='a list of names from people.toml: ["Alice Example"]')] = []
    group: Annotated[list[str], Meta(description='a list of groups from people.toml: ["admins"]')] = []
    country: Annotated[
        list[Annotated[str, Meta(pattern=r"^[A-Z]{2}\Z")]],
        Meta(description='a list of codes of countries: ["FR"]'),
    ] = []
    asn: Annotated[
        list[Annotated[int, Meta(ge=0, le=2**32 - 1)]], Meta(description="a list of numbers of networks: [64496]")
    ] = []
    key: Annotated[list[str], Meta(description='a list of fingerprints or owners: ["SHA256:...", "Alice *"]')] = []
    session: Annotated[list[SessionKind], Meta(description='a list of "interactive", "command" and "subsystem"')] = []
    origin: Annotated[
        list[Literal["verified", "unverified", "forged"]], Meta(description='a list of "verified", "unverified" and "forged"')
    ] = []
    new: Annotated[list[Novelty], Meta(description='a list of "address", "network", "country", "key" and "host"')] = []


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Which events go to which channels.

    Attributes:
        to_owner: send them to the contacts of the person they are about; if there are none, to the channel's own recipients.
        stop: no later route gets the events that this one takes.
        urgent: send them in the quiet hours of the channels, too.
        digest: collect them, and report them together at this time, in the zone of each channel; "" for at once.
        fold: report the first login or logout at once, and those within ``window`` after it that are equal in all of these
            respects together. An empty list reports each alone.
        window: how long sshbell collects events that it folds. Failed logins are always folded.
    """

    channels: Annotated[list[str], Meta(min_length=1, description='a list of names of channels: ["ops"]')]
    events: Annotated[
        tuple[EventAction, ...],
        Meta(min_length=1, description=f"a list of {', '.join(_EVENTS[:-1])} and {_EVENTS[-1]}"),
    ] = (EventAction.LOGIN, EventAction.FORGED, *RINGING_FINDINGS)
    include: Annotated[Choice, Meta(description=f'{_CHOICE} {{ user = ["alice"] }}')] = Choice()
    exclude: Annotated[Choice, Meta(description=f'{_CHOICE} {{ user = ["backup-*"] }}')] = Choice()
    to_owner: Switch = False
    stop: Switch = False
    urgent: Switch = False
    digest: ReportTime = ""
    fold: Annotated[
        list[FoldField], Meta(description='a list of "event", "user", "host", "address" and "route": ["user", "host"]')
    ] = []
    window: Span = WINDOW


class Allow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What sshbell never blocks: exactly one of the first four.

    Attributes:
        address: an address or a network.
        name: the name of a host, which sshbell looks up every five minutes. If that fails, the last answer counts.
        file: a file with an address or a network in each line.
        command: a program that prints such lines; sshbell runs it every five minutes.
        reason: why, for people.
        until: the last day, in UTC; "" for no end.
    """

    address: Annotated[str, Meta(description='an address or a network: "192.0.2.0/24"')] = ""
    name: Annotated[str, Meta(description='the name of a host: "vpn.example.org"', max_length=253)] = ""
    file: PathText = ""
    command: Annotated[list[str], Meta(description='a list of texts: ["/usr/local/bin/offices"]')] = []
    reason: Annotated[str, Meta(description="a text, in quotes", max_length=200)] = ""
    until: Annotated[str, Meta(description='a day: "2026-12-31"', pattern=r"^(?:[0-9]{4}-[0-9]{2}-[0-9]{2})?\Z")] = ""


# The keys of commands under [block].
BLOCK_COMMANDS = ("host_block_cmd", "host_clear_cmd", "user_block_cmd", "user_clear_cmd")
BlockMode = Literal["off", "dry-run", "on"]
BlockCommand = Annotated[str, Meta(description='a command with its arguments in brackets: "[/usr/local/bin/ban] [%h]"')]


class Blocking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    How sshbell blocks addresses and users.

    Attributes:
        mode: ``dry-run`` only reports what ``on`` would block.
        duration: of the first block of a target. Each further one is ``growth`` times as long, up to ``longest``.
        known_logins, known_for: sshbell blocks none of so many addresses with the newest logins within that time.
        access_file: the file that sshbell writes for pam_access.
        nftables: TCP ports at which the kernel drops new connections of blocked addresses; [] leaves nftables alone.
        hosts_deny: also write lists for TCP wrappers, beside ``access_file``.
        host_block_cmd, host_clear_cmd, user_block_cmd, user_clear_cmd: commands for a change, as in pam_abl; "" for none.
        allow: what sshbell never blocks.
    """

    mode: Annotated[BlockMode, Meta(description='"off", "dry-run" or "on"')] = "off"
    duration: Span = "1h"
    growth: Annotated[int, Meta(ge=1, le=100, description="a number from 1 to 100, without quotes")] = 2
    longest: Span = "30d"
    known_logins: Annotated[int, Meta(ge=0, le=10_000, description="a number up to 10000, without quotes")] = 200
    known_for: Span = "90d"
    access_file: PathText = ACCESS_FILE
    nftables: Annotated[list[Port], Meta(description="a list of ports: [22]", max_length=64)] = []
    hosts_deny: Switch = False
    host_block_cmd: BlockCommand = ""
    host_clear_cmd: BlockCommand = ""
    user_block_cmd: BlockCommand = ""
    user_clear_cmd: BlockCommand = ""
    allow: Annotated[list[Allow], Meta(description="a table under [[block.allow]], in double brackets")] = []

    @property
    def has_commands(self) -> bool:
        """Whether changes run commands."""
        return any(getattr(self, key) for key in BLOCK_COMMANDS)

    @property
    def needs_rights(self) -> bool:
        """Whether blocking takes more than the rights of sshbell's user."""
        return self.mode == "on" and (bool(self.nftables) or self.has_commands)


class WorkerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Where ``sshbell worker`` takes lines from, and where it stores what they show.

    Attributes:
        brokers: of Kafka, to begin with.
        topic: rsyslog's omkafka fills it, with the host as key.
        group: the workers of one group share the topic.
        database: a connection string of PostgreSQL; "" for SQLite in ``state_dir``, which one worker can use.
        librdkafka: further settings of the client library, by its own names.
    """

    brokers: Annotated[list[str], Meta(description='a list of hosts with ports: ["kafka1.example.org:9092"]')] = []
    topic: Name = "sshbell"
    group: NameText = "sshbell"
    database: Annotated[str, Meta(description='a connection string of PostgreSQL: "host=db.example.org dbname=sshbell"')] = ""
    librdkafka: Annotated[
        dict[str, str | int | bool | Secret],
        Meta(description='a table of settings of librdkafka: { "security.protocol" = "ssl" }'),
    ] = {}


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    The settings of ``sshbell.toml``.

    Attributes:
        sshd_programs: further names under which sshd logs, such as ``sshd-ga`` for a copy of the binary; up to OpenSSH 9.7 the
            PAM service has that name, too.
        state_dir: directory of the journal and the databases; it belongs to ``user`` alone.
        user: the user that ``run`` becomes when root starts it; "" keeps the caller's identity.
        catch_up: the log file that sshbell searches at its start for lines that rsyslog lost; "" turns this off.
        keep: how long sshbell keeps events and messages.
        give_up: how long sshbell retries a message.
        reverse_dns: ask the name servers for the name of an address.
        hosts: addresses by host name, to find the jump host of a login.
        map_url: URL of a map that shows an address, with {ip}, {latitude} and {longitude}; "" for no link.
        detect: what sshbell looks for in the events of all hosts.
        people: the file of people and their keys, certificates and accounts. The default file is optional.
        geoip: databases in MaxMind's format, with ``*`` and ``?`` as in a shell; without any, sshbell shows no places. With
            ``"web"``, ``deliver``, and no other process, asks MaxMind's web service.
        geoip_account: the number of an account at MaxMind, for the web service; 0 for none.
        geoip_key: the licence key of that account.
        geoip_host: the web service's name, with ":" and a port if that is not 443.
        block: whether and how sshbell blocks.
        codes: whether and how sshbell asks for one-time codes.
        worker: the lines and the store of ``sshbell worker``.
    """

    sshd_programs: Annotated[list[str], Meta(description='a list of texts: ["..."]')] = []
    state_dir: PathText = STATE_DIR
    user: NameText = "sshbell"
    catch_up: PathText = "/var/log/auth.log"
    keep: Span = "90d"
    give_up: Span = "3d"
    reverse_dns: Switch = True
    hosts: Annotated[dict[str, list[str]], Meta(description='a table of lists of addresses: { bastion1 = ["192.0.2.10"] }')] = {}
    map_url: Annotated[str, Meta(description="an address with {ip}, {latitude} or {longitude} in it, in quotes")] = ""
    people: PathText = PEOPLE_PATH
    detect: DetectTable = Detect()
    channel: Annotated[list[ChannelSettings], Meta(description="a table under [[channel]], in double brackets")] = []
    route: Annotated[list[Route], Meta(description="a table under [[route]], in double brackets")] = []
    geoip: Annotated[
        list[AbsolutePath] | Literal["web"],
        Meta(description='a list of whole paths, each in quotes: ["/var/lib/GeoIP/*.mmdb"]; or "web"'),
    ] = msgspec.field(default_factory=lambda: list(_GEOIP))
    geoip_account: Annotated[int, Meta(ge=0, le=10**12, description="a number, without quotes")] = 0
    geoip_key: Annotated[Secret | None, Meta(description=PLACE.replace("mail.password", "maxmind.key"))] = None
    geoip_host: HostName = "geoip.maxmind.com"
    block: Annotated[Blocking, Meta(description="a table under [block]")] = Blocking()
    codes: CodesTable = Codes()
    worker: Annotated[WorkerSettings, Meta(description="a table under [worker]")] = WorkerSettings()

    @property
    def store(self) -> Path | str:
        """Where events, outbox and deliveries are: the directory of SQLite's files, or a connection string of PostgreSQL."""
        return self.worker.database or Path(self.state_dir)

    @property
    def routed_actions(self) -> frozenset[str]:
        """The actions of events that the routes take."""
        return frozenset(action for route in self.route for action in route.events)


def secret_files(config: Config) -> list[Path]:
    """Return the files that hold secrets."""
    files = [secret.file for _, secret in secrets_of(config) if secret.file]
    return [Path(path) for path in (*files, *(path for channel in config.channel for _, path in key_files(channel)))]


def secrets_of(config: Config) -> Iterator[tuple[str, Secret]]:
    """Yield all secrets, each with a name for people: ``ops's password``."""
    for channel in config.channel:
        yield from ((f"{channel.name}'s {key}", secret) for key, secret in secrets(channel))
    if config.geoip_key is not None:
        yield "geoip_key", config.geoip_key
    for name, value in config.worker.librdkafka.items():
        if isinstance(value, Secret):
            yield f"worker's {name}", value
