"""
Logs with the shape of real servers, as named profiles for ``make_log.py``.

A profile imitates how often things occur in the log of a real server: which lines, how many of a process and of an address, how
many texts that differ in more than the port, how the clock moves. Names and addresses are invented. The shares do not depend on
the length of the log: an attacker comes with a new address, tries some names for a while, and never returns.
"""

import heapq
import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

# The names that guessers try, with a number behind the ones that no dictionary has.
_GUESSES = ("admin", "test", "user", "oracle", "postgres", "git", "ubuntu", "ftp", "guest", "pi", "deploy", "mysql", "support")
_PID_MAX = 32_768
_HOUR_S = 3600.0


class Entry(NamedTuple):
    """One line before it is written. Entries sort by time."""

    time_s: float  # since the beginning of the log
    number: int  # keeps entries of the same time in order
    host: str
    program: str
    pid: int
    text: str


Texts = list[tuple[float, str]]  # the lines of one process: seconds after its beginning, and the message
Writer = Callable[[Entry], bytes]


class Server:
    """Sorts the lines of processes by time, as syslogd does."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_s = 0.0
        self._number = 0
        self._pid = 300
        self._waiting: list[Entry] = []

    def pid(self) -> int:
        """Return the PID of a new process."""
        self._pid += self.random.randint(1, 3)
        if self._pid >= _PID_MAX:
            self._pid = 300
        return self._pid

    def process(self, host: str, program: str, texts: Texts, pid: int = -1) -> None:
        """Start a process; 0 is the PID of a program that writes none."""
        pid = self.pid() if pid < 0 else pid
        for after_s, text in texts:
            self._number += 1
            heapq.heappush(self._waiting, Entry(self.now_s + after_s, self._number, host, program, pid, text))

    def written(self) -> Iterator[Entry]:
        """Yield the lines up to now."""
        while self._waiting and self._waiting[0].time_s <= self.now_s:
            yield heapq.heappop(self._waiting)

    def address(self) -> str:
        """Return an address that nobody has had."""
        return ".".join(str(self.random.randint(1, 254)) for _ in range(4))

    def port(self) -> int:
        """Return the port of a client."""
        return self.random.randint(1024, 65_535)

    def guess(self) -> str:
        """Return a name that a guesser tries."""
        return f"{self.random.choice(_GUESSES)}{self.random.choice(('', '', self.random.randint(1, 99)))}"


class Guesser(NamedTuple):
    """One attacker: an address, the names that it tries, and the connections that it has left."""

    address: str
    users: list[str]
    left: int


def old_server(seed: int) -> Iterator[Entry]:
    """Yield a server of 2014, whose sshd complains about a missing key: 18 % lines that no rule of a login reads, 18 % failed."""
    server = Server(seed)
    offices = [server.address() for _ in range(8)]
    regulars = [(f"user{number}", server.random.choice(offices)) for number in range(60)]
    guesser = Guesser("", [], 0)
    while True:
        server.now_s += server.random.expovariate(1 / 75)
        missing = server.random.choice((2, 3, 3))
        texts: Texts = [(0, "error: Could not load host key: /etc/ssh/ssh_host_ed25519_key")] * missing
        if server.random.random() < 0.76:
            user, address = server.random.choice(regulars)
            texts += [
                (0.1, f"Accepted publickey for {user} from {address} port {server.port()} ssh2: RSA {_fingerprint(user)}"),
                (0.2, f"pam_unix(sshd:session): session opened for user {user} by (uid=0)"),
                (20, f"Received disconnect from {address}: 11: disconnected by user"),
                (20, f"pam_unix(sshd:session): session closed for user {user}"),
            ]
        else:
            if not guesser.left:
                guesser = Guesser(server.address(), ["root", *(server.guess() for _ in range(10))], 18)
            guesser = guesser._replace(left=guesser.left - 1)
            texts += _old_guesses(server, guesser.address, server.random.choice(guesser.users))
        server.process("gate", "sshd", texts)
        yield from server.written()


def _old_guesses(server: Server, address: str, user: str) -> Texts:
    """Return the lines of one connection of a guesser; rsyslog folds equal lines."""
    port = server.port()
    invalid = "" if user == "root" else "invalid user "
    named = "  user=root" if user == "root" else ""
    texts = [(0.1, f"Invalid user {user} from {address}"), (0.1, f"input_userauth_request: {invalid}{user} [preauth]")]
    failure = f"pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={address}{named}"
    failed = f"Failed password for {invalid}{user} from {address} port {port} ssh2"
    begun = texts if invalid else []
    for number in range(10):
        begun += [(0.2 + number, "pam_unix(sshd:auth): check pass; user unknown")] if invalid else []
        begun += [(0.2 + number, failure), (0.9 + number, failed)]
        if number % 3 == 2:
            begun.append((0.95 + number, f"message repeated {server.random.randint(2, 5)} times: [ {failed}]"))
    begun += [
        (11, f"Disconnecting: Too many authentication failures for {invalid}{user} [preauth]"),
        (11, "PAM 5 more authentication failures; logname= uid=0 euid=0 tty=ssh ruser= rhost=" + address + named),
        (11, "PAM service(sshd) ignoring max retries; 6 > 3"),
    ]
    return begun


def flood(seed: int) -> Iterator[Entry]:
    """Yield a server that only guessers talk to: 67 % lines of PAM, and no login."""
    server = Server(seed)
    guesser = Guesser("", [], 0)
    while True:
        server.now_s += server.random.expovariate(1 / 37)
        if not guesser.left:
            names = server.random.choice((["root"], ["root"], [server.guess(), server.guess()]))
            guesser = Guesser(server.address(), names, 14)
        guesser = guesser._replace(left=guesser.left - 1)
        user, address = server.random.choice(guesser.users), guesser.address
        rhost = f"logname= uid=0 euid=0 tty=ssh ruser= rhost={address} "
        texts: Texts = [] if user == "root" else [(0, f"Invalid user {user} from {address} port {server.port()}")]
        failed = f"Failed password for {'' if user == 'root' else 'invalid user '}{user} from {address} port {server.port()} ssh2"
        for number in range(server.random.choice((1, 3, 3))):
            if user == "root":
                texts += [
                    (1.0 + number, f"pam_unix(sshd:auth): authentication failure; {rhost} user=root"),
                    (1.0 + number, 'pam_succeed_if(sshd:auth): requirement "uid >= 1000" not met by user "root"'),
                ]
            else:
                texts.append((1.0 + number, "pam_unix(sshd:auth): check pass; user unknown"))
                texts.append((1.0 + number, f"pam_unix(sshd:auth): authentication failure; {rhost}"))
            texts.append((2.0 + number, failed))
        if len(texts) > 6:
            named = " user=root" if user == "root" else ""
            texts.append((5, f"PAM 2 more authentication failures; {rhost}{named}"))
        server.process("www", "sshd", texts)
        yield from server.written()


def bastion(seed: int) -> Iterator[Entry]:
    """Yield three hosts over 19 months: scanners from many addresses, and logins of which few ever end."""
    server = Server(seed)
    scanner, habit = Guesser("", [], 0), ""
    while True:
        is_quiet = server.random.random() < 0.06
        server.now_s += server.random.uniform(1.05, 7.5) * _HOUR_S if is_quiet else server.random.expovariate(1 / 190)
        if not scanner.left:
            habit = server.random.choices(("closes", "disconnects", "root", "names"), (20, 20, 25, 35))[0]
            scanner = Guesser(server.address(), [server.guess() for _ in range(3)], server.random.randint(1, 15))
        if server.random.random() < 0.05:
            texts = _login_on_bastion(server)
        else:
            scanner = scanner._replace(left=scanner.left - 1)
            texts = _scan(server, habit, server.random.choice(scanner.users), scanner.address)
        if server.random.random() < 0.16:
            texts.insert(0, (0, "error: Could not load host key: /etc/ssh/ssh_host_dsa_key"))
        server.process(server.random.choice(("jump1", "jump2", "jump3")), "sshd", texts)
        yield from server.written()


def _login_on_bastion(server: Server) -> Texts:
    user, address = f"user{server.random.randrange(40)}", f"198.51.100.{server.random.randint(1, 90)}"
    texts: Texts = [
        (0.1, f"Accepted publickey for {user} from {address} port {server.port()} ssh2: ED25519 {_fingerprint(user)}"),
        (0.2, f"pam_unix(sshd:session): session opened for user {user}(uid=1000) by (uid=0)"),
    ]
    if server.random.random() < 0.08:
        texts.append((600, f"pam_unix(sshd:session): session closed for user {user}"))
    return texts


def _scan(server: Server, habit: str, user: str, address: str) -> Texts:
    """Return the lines of one connection of a scanner."""
    port = server.port()
    if habit == "closes":
        return [(0.5, f"Connection closed by {address} port {port} [preauth]")]
    if habit == "disconnects":
        return [
            (0.5, f"Received disconnect from {address} port {port}:11: Bye Bye [preauth]"),
            (0.5, f"Disconnected from {address} port {port} [preauth]"),
        ]
    if habit == "root":
        return [
            (0.5, f"Failed password for root from {address} port {port} ssh2"),
            (1, f"Connection closed by authenticating user root {address} port {port} [preauth]"),
        ]
    return [
        (0.1, f"Invalid user {user} from {address} port {port}"),
        *([(0.2, "pam_unix(sshd:auth): check pass; user unknown")] if port % 2 else []),
        (1, f"Failed password for invalid user {user} from {address} port {port} ssh2"),
        (2, f"Connection closed by invalid user {user} {address} port {port} [preauth]"),
    ]


def relay(seed: int) -> Iterator[Entry]:
    """Yield 2,000 hosts that send to one relay: logins by key, and guessers that try one host after the other."""
    server = Server(seed)
    guessers: list[Guesser] = []
    while True:
        server.now_s += server.random.expovariate(2)
        port = server.port()
        if server.random.random() < 0.3:
            user = f"user{server.random.randrange(300)}"
            address = f"198.51.100.{server.random.randint(1, 30)}"
            texts: Texts = [
                (0.1, f"Accepted publickey for {user} from {address} port {port} ssh2: ED25519 {_fingerprint(user)}"),
                (0.2, f"pam_unix(sshd:session): session opened for user {user}(uid=1000) by (uid=0)"),
                (60, f"Received disconnect from {address} port {port}:11: disconnected by user"),
                (60, f"Disconnected from user {user} {address} port {port}"),
                (60, f"pam_unix(sshd:session): session closed for user {user}"),
            ]
        else:
            if len(guessers) < 50:
                guessers.append(Guesser(server.address(), [server.guess() for _ in range(4)], 60))
            place = server.random.randrange(len(guessers))
            guesser = guessers[place]
            user, address = server.random.choice(guesser.users), guesser.address
            texts = [
                (0.1, f"Invalid user {user} from {address} port {port}"),
                (1, f"Failed password for invalid user {user} from {address} port {port} ssh2"),
                (2, f"Connection closed by invalid user {user} {address} port {port} [preauth]"),
            ]
            if guesser.left > 1:
                guessers[place] = guesser._replace(left=guesser.left - 1)
            else:
                del guessers[place]
        server.process(f"node{server.random.randrange(2000):04}", "sshd", texts)
        yield from server.written()


def quiet(seed: int) -> Iterator[Entry]:
    """Yield a server of one administrator: cron, sudo, and a login now and then."""
    server = Server(seed)
    session = 0
    while True:
        server.now_s += server.random.expovariate(1 / 300)
        kind = server.random.random()
        if kind < 0.8:
            texts: Texts = [
                (0, "pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)"),
                (0, f"(root) CMD ({server.random.choice(('run-parts --report /etc/cron.hourly', '/usr/sbin/logrotate'))})"),
                (1, "pam_unix(cron:session): session closed for user root"),
            ]
            server.process("home", "CRON", texts)
        elif kind < 0.97:
            command = server.random.choice(
                ("/usr/bin/apt update", "/usr/bin/systemctl status nginx", "/usr/bin/less /var/log/syslog")
            )
            texts = [
                (0, f"   alice : TTY=pts/0 ; PWD=/home/alice ; USER=root ; COMMAND={command}"),
                (0, "pam_unix(sudo:session): session opened for user root(uid=0) by alice(uid=1000)"),
                (5, "pam_unix(sudo:session): session closed for user root"),
            ]
            server.process("home", "sudo", texts, pid=0)
        else:
            session += 1
            port = server.port()
            texts = [
                (0.1, f"Accepted publickey for alice from 203.0.113.7 port {port} ssh2: ED25519 {_fingerprint('alice')}"),
                (0.2, "pam_unix(sshd:session): session opened for user alice(uid=1000) by (uid=0)"),
                (1800, f"Received disconnect from 203.0.113.7 port {port}:11: disconnected by user"),
                (1800, f"Disconnected from user alice 203.0.113.7 port {port}"),
                (1800, "pam_unix(sshd:session): session closed for user alice"),
            ]
            server.process("home", "sshd", texts)
            logind: Texts = [(0.3, f"New session {session} of user alice."), (1801, f"Removed session {session}.")]
            server.process("home", "systemd-logind", logind, pid=417)
        yield from server.written()


def _fingerprint(user: str) -> str:
    return "SHA256:" + "".join(random.Random(user).choices("ABCDEFGHabcdefgh0123456789+/", k=43))


class _Traditional:
    """RSYSLOG_TraditionalFileFormat."""

    def __init__(self, begin: datetime, day: str = "{:2d}", swing_every: int = 0) -> None:
        self._begin = begin
        self._day = day
        self._swing_every = swing_every
        self._count = 0
        self._minute = -1
        self._stamp = ""

    def __call__(self, entry: Entry) -> bytes:
        second = int(entry.time_s)
        self._count += 1
        if self._swing_every and self._count % self._swing_every >= self._swing_every - 20:
            second += 7200  # the clock is set forward and back
        minute, rest = divmod(second, 60)
        if minute != self._minute:
            time = self._begin + timedelta(minutes=minute)
            self._minute, self._stamp = minute, f"{time:%b} {self._day.format(time.day)} {time:%H:%M}"
        return f"{self._stamp}:{rest:02d} {entry.host} {_tag(entry)}: {entry.text}\n".encode()


class _FileFormat:
    """RSYSLOG_FileFormat."""

    def __init__(self, begin: datetime) -> None:
        self._begin = begin

    def __call__(self, entry: Entry) -> bytes:
        time = self._begin + timedelta(seconds=entry.time_s)
        return f"{time:%Y-%m-%dT%H:%M:%S.%f}+00:00 {entry.host} {_tag(entry)}: {entry.text}\n".encode()


class _Json:
    """The template in ``rsyslog.d``."""

    def __init__(self, begin: datetime) -> None:
        self._begin = begin

    def __call__(self, entry: Entry) -> bytes:
        time = self._begin + timedelta(seconds=entry.time_s)
        found = {
            "ts": f"{time:%Y-%m-%dT%H:%M:%S.%f}+00:00",
            "host": entry.host,
            "tag": f"{_tag(entry)}:",
            "prog": entry.program,
            "procid": str(entry.pid),
            "msg": f" {entry.text}",
        }
        return json.dumps(found, separators=(",", ":")).encode() + b"\n"


def _tag(entry: Entry) -> str:
    return f"{entry.program}[{entry.pid}]" if entry.pid else entry.program


class Profile(NamedTuple):
    """One shape of a log: what happens, and a new writer for the lines."""

    entries: Callable[[int], Iterator[Entry]]
    writer: Callable[[], Writer]

    def lines(self, seed: int) -> Iterator[bytes]:
        """Yield lines for ever. Equal seeds give equal lines."""
        write = self.writer()
        return map(write, self.entries(seed))


_BEGIN = datetime(2024, 2, 1, tzinfo=UTC)

PROFILES = {
    "old-server": Profile(old_server, lambda: _Traditional(_BEGIN, swing_every=7500)),
    "flood": Profile(flood, lambda: _Traditional(_BEGIN)),
    "bastion": Profile(bastion, lambda: _Traditional(_BEGIN, day="{}", swing_every=10_000)),
    "relay": Profile(relay, lambda: _Json(_BEGIN)),
    "quiet": Profile(quiet, lambda: _FileFormat(_BEGIN)),
}
