"""A login with a code, both halves with the real store, at times of the test's choice; the mock is ``deliver`` alone."""

from __future__ import annotations

import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from consumer.codes import challenge, log_lines, verify
from consumer.codes.challenge import Challenger
from consumer.codes.digests import emergency_digest
from consumer.codes.limits import ADDRESS_PROMPT_LIMIT, ADDRESS_TRY_LIMIT, USER_PROMPT_LIMIT, USER_TRY_LIMIT, WINDOW_US
from consumer.codes.log_lines import Asker
from consumer.codes.messages import CodeAnswer, CodeRequest
from consumer.codes.numbers import number
from consumer.codes.pam_login import PamLogin
from consumer.codes.settings import PamCodes, PamRule, Settings
from consumer.codes.verify import Verifier
from consumer.errors import StoreError
from consumer.spans import micros_of
from consumer.store import codes as store_codes
from consumer.store.codes import CHALLENGE_LIMIT, CodeStore

if TYPE_CHECKING:
    from pathlib import Path

BEGIN_US = 1_795_900_000_000_000
NOTHING = "sshbell needs no code for this login. If PAM asks for one, press Enter."


class World:
    """
    A clock, a log, a ``deliver`` that answers as the test wants, and the store.

    Attributes:
        now_us: the clock.
        requests: what ``deliver`` got.
        lines: the log.
        answer, slow_us: of ``deliver``, and the time that it takes.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_us, self.requests, self.lines = BEGIN_US, list[CodeRequest](), list[str]()
        self.answer = CodeAnswer(channel="ops")
        self.codes = PamCodes(channels=("ops",))
        self.fault, self.slow_us = "", 0
        self.folder = folder / "codes"
        self.store = CodeStore(self.folder)
        for module in (challenge, verify):
            monkeypatch.setattr(module, "now_us", lambda: self.now_us)
        monkeypatch.setattr(challenge, "send_code", self._send)
        monkeypatch.setattr(log_lines, "write", self.lines.append)

    def _send(self, _state_dir: str, request: CodeRequest) -> CodeAnswer:
        self.requests.append(request)
        self.now_us += self.slow_us
        return self.answer

    def login(self, pid: int = 4711, user: str = "root", address: str = "192.0.2.7", service: str = "sshd") -> PamLogin:
        """Return a login; ``root`` exists everywhere."""
        return PamLogin(user, service, address, "web1", pid, 99, Asker("sshd", pid, user, address))

    def ask(self, login: PamLogin) -> str:
        """Run ``challenge``."""
        return Challenger(Settings(self.codes, "/nowhere", self.fault), login, self.store).prompt()

    def code(self, login: PamLogin) -> str:
        """Run ``challenge``, and return the code that it sent."""
        assert self.ask(login)
        return self.requests[-1].code

    def types(self, login: PamLogin, typed: str) -> bool:
        """Run ``verify``."""
        return Verifier(self.codes, login, self.store).is_right(typed.encode())

    def reasons(self) -> list[str]:
        """Return what the log says, without sessions and names."""
        return [line.partition(":")[0] for line in self.lines]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a world."""
    return World(tmp_path, monkeypatch)


def wrong(code: str) -> str:
    """Return a code that is not this one."""
    return f"{(int(code) + 1) % 10 ** len(code):0{len(code)}}"


def test_right_once(world: World) -> None:
    """The code counts once, and not again in the same connection; the log never has it."""
    login = world.login()
    prompt = world.ask(login)
    (request,) = world.requests
    assert prompt == f"Session {request.session}: sshbell has sent a code of 8 digits. Type it."
    world.now_us += 14_000_000
    assert world.types(login, f"{request.code[:4]} {request.code[4:]}")
    assert not world.types(login, request.code)
    assert world.lines == [
        f"Code sent: session {request.session} by ops, sshd 4711, from 192.0.2.7 for root",
        f"Code accepted: session {request.session} by ops after 14 s, sshd 4711, from 192.0.2.7 for root",
        f"Code refused (used): session {request.session} by ops, sshd 4711, from 192.0.2.7 for root",
    ]


def test_the_request(world: World) -> None:
    """``deliver`` gets all that a message shows."""
    world.codes = PamCodes(channels=("ops", "mail"), to="owner", digits=6, valid="90s", timeout="7s")
    code = world.code(world.login(service="su"))
    (request,) = world.requests
    assert request == CodeRequest(
        request.session, code, "root", "web1", "192.0.2.7", "su", to="owner", channels=("ops", "mail"), valid_s=90, timeout_s=7.0,
        prompts=1,
    )  # fmt: skip
    assert (len(code), len(request.session)) == (6, 6)


@pytest.mark.parametrize("typed", ["", "0", "x", "\0", "9" * 600, "٣" * 8, "-", "' OR 1=1"])
def test_wrong(world: World, typed: str) -> None:
    """Nothing but the code is right. Enter alone, which PAM cannot tell from no prompt, is no try."""
    login = world.login()
    code = world.code(login)
    assert not world.types(login, typed)
    assert world.reasons() == ["Code sent", *(["Code refused (wrong)"] if typed else [])]
    assert world.types(login, code)


@pytest.mark.parametrize("change", [{"pid": 4712}, {"user": "daemon"}, {"address": "192.0.2.8"}, {"service": "su"}])
def test_bound_to_its_login(world: World, change: dict[str, object]) -> None:
    """Another connection, user, address or service cannot use the code, nor can a process that got the same number later."""
    login = world.login()
    code = world.code(login)
    assert not world.types(world.login(**change), code)  # type: ignore[arg-type]
    assert not world.types(login._replace(started=100), code)
    assert world.reasons()[1:] == ["Code refused (unknown)"] * 2
    assert world.types(login, code)


def test_another_connections_code(world: World) -> None:
    """Two logins of one user at once: each has its own code, and the other one's is wrong."""
    one, other = world.login(), world.login(4712)
    code, other_code = world.code(one), world.code(other)
    assert not world.types(one, other_code)
    assert not world.types(other, code)
    assert world.types(other, other_code)
    assert world.types(one, code)
    assert len({request.session for request in world.requests}) == 2


@pytest.mark.parametrize(("after_us", "is_good"), [(-1, True), (0, False), (10**12, False), (-(10**12), False)])
def test_expiry(world: World, after_us: int, is_good: bool) -> None:  # noqa: FBT001 - a parameter of a test
    """A code ends with its time, and also if somebody sets the clock back."""
    login = world.login()
    code = world.code(login)
    world.now_us += micros_of("5m") + after_us
    assert world.types(login, code) is is_good
    assert world.reasons()[1:] == ["Code accepted" if is_good else "Code refused (expired)"]


def test_the_time_counts_from_the_message(world: World) -> None:
    """A slow channel does not shorten the time."""
    world.slow_us = 9_000_000
    login = world.login()
    code = world.code(login)
    world.now_us += micros_of("5m") - 1
    assert world.types(login, code)


def test_tries(world: World) -> None:
    """After a wrong code sshd asks again: the same code counts, until the tries are used up."""
    login = world.login()
    code = world.code(login)
    session = world.requests[0].session
    for left in (2, 1):
        assert not world.types(login, wrong(code))
        assert world.ask(login).startswith(f"Session {session}: ")
        assert world.ask(login).endswith(f"Type it. Tries left: {left}.")
    assert not world.types(login, wrong(code))
    assert world.ask(login) == ""
    assert not world.types(login, code)
    assert len(world.requests) == 1
    assert Counter(world.reasons()) == {"Code sent": 1, "Code refused (wrong)": 3, "Code refused (too many tries)": 2}


def test_prompts_of_a_user(world: World) -> None:
    """Somebody with the password cannot ask until the user gives in: the prompts stop, and the user hears of it once."""
    for pid in range(USER_PROMPT_LIMIT):
        world.code(world.login(pid, address=f"192.0.2.{pid}"))
    for pid in range(100, 104):
        assert world.ask(world.login(pid, address="198.51.100.1")) == ""
    assert world.reasons()[USER_PROMPT_LIMIT:] == ["Code refused (too many prompts)"] * 4
    (report,) = world.requests[USER_PROMPT_LIMIT:]
    assert (report.code, report.prompts, report.user) == ("", USER_PROMPT_LIMIT, "root")
    # Another user is not concerned; and after a while, neither is this one.
    assert world.ask(world.login(200, user="daemon", address="198.51.100.1"))
    world.now_us += WINDOW_US + 1
    code = world.code(world.login(300))
    assert world.types(world.login(300), code)


def test_answered_prompts_do_not_count(world: World) -> None:
    """A user who logs in often is asked each time."""
    for pid in range(3 * USER_PROMPT_LIMIT):
        assert world.types(world.login(pid), world.code(world.login(pid)))


def test_prompts_of_an_address(world: World) -> None:
    """An address that tries all users gets no more prompts; logins on consoles have no address in common."""
    users = ("root", "daemon", "bin", "sys", "games")
    for pid in range(ADDRESS_PROMPT_LIMIT):
        assert world.ask(world.login(pid, users[pid % 5]))
    assert world.ask(world.login(1000, "mail")) == ""
    assert world.ask(world.login(1001, "mail", "192.0.2.8"))
    for pid in range(2000, 2000 + ADDRESS_PROMPT_LIMIT):
        assert world.ask(world.login(pid, f"nobody-{pid}", ""))
    assert world.ask(world.login(3000, "mail", ""))


def test_prompts_of_an_ipv6_network(world: World) -> None:
    """A client has a whole /64, so a new address in it gets no further prompts; the code still counts for one address alone."""
    users = ("root", "daemon", "bin", "sys", "games")
    for pid in range(ADDRESS_PROMPT_LIMIT):
        assert world.ask(world.login(pid, users[pid % 5], f"2001:db8::{pid:x}"))
    assert not world.types(world.login(0, address="2001:db8::1"), world.requests[0].code)
    assert world.ask(world.login(1000, "mail", "2001:db8::ffff:1")) == ""
    assert world.ask(world.login(1001, "mail", "2001:db8:0:1::1"))


def test_a_thousand_guesses(world: World) -> None:
    """Whoever guesses gets few tries, however many connections; then even the right code does not count."""
    world.codes = world.codes._replace(tries=10)
    tries = 0
    for pid in range(100):
        login = world.login(pid)
        asked = bool(world.ask(login))
        for _ in range(10):
            assert not world.types(login, wrong(world.requests[-1].code) if asked else "12345678")
            tries += 1
    assert tries == 1000
    counted = Counter(world.reasons())
    assert counted["Code refused (wrong)"] == USER_TRY_LIMIT
    assert counted["Code sent"] <= USER_PROMPT_LIMIT
    assert not world.types(world.login(0), world.requests[0].code)


def test_guesses_from_one_address(world: World) -> None:
    """The same for many users from one address."""
    world.codes = world.codes._replace(tries=10)
    for pid, user in enumerate(("root", "daemon", "bin", "sys", "games")):
        login = world.login(pid, user)
        if world.ask(login):
            for _ in range(9):
                world.types(login, wrong(world.requests[-1].code))
    assert Counter(world.reasons())["Code refused (wrong)"] <= ADDRESS_TRY_LIMIT + 8
    assert world.ask(world.login(9, "mail")) == ""


def test_guesses_at_old_prompts(world: World) -> None:
    """The limit counts when somebody guesses, not when sshbell asked: prompts that wait give no further guesses."""
    world.codes = world.codes._replace(valid="1h", tries=10)
    logins = [world.login(pid) for pid in range(USER_PROMPT_LIMIT)]
    codes = [world.code(login) for login in logins]
    world.now_us += WINDOW_US + 1
    for login, code in zip(logins, codes, strict=True):
        for _ in range(5):
            world.types(login, wrong(code))
    assert Counter(world.reasons())["Code refused (wrong)"] == USER_TRY_LIMIT
    assert not world.types(logins[-1], codes[-1])


def test_a_flood_does_not_make_guesses_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody with an account, or names without one, fills the store with logins: the guesses at another user still count."""
    monkeypatch.setattr(store_codes, "CHALLENGE_LIMIT", 50)
    world.codes = world.codes._replace(tries=10, rule=(PamRule(user=("daemon",), ask="never"),))
    login = world.login()
    code = world.code(login)
    for _ in range(USER_TRY_LIMIT):
        world.types(login, wrong(code))
    for pid in range(5000, 5050):
        world.now_us += 1
        own, stranger = world.login(pid, "daemon", ""), world.login(pid + 50, f"nobody-{pid}", "")
        assert world.ask(own)
        assert world.types(own, "")
        assert world.ask(stranger)
        answered = world.login(pid + 100, "bin", "")
        assert world.types(answered, world.code(answered))
    assert world.ask(world.login(2, address="198.51.100.1")) == ""
    assert world.reasons()[-1] == "Code refused (too many tries)"


def test_no_such_user(world: World) -> None:
    """The prompt is the same, nobody gets a message, and no code is right; a rule that asks nobody does not count."""
    world.codes = world.codes._replace(rule=(PamRule(ask="never"),))
    login = world.login(user="no such user")
    assert world.ask(login)[14:] == ": sshbell has sent a code of 8 digits. Type it."
    assert world.requests == []
    assert not any(world.types(login, f"{code:08}") for code in range(3))
    assert not world.types(login, "")


FAULT = CodeAnswer(fault="ops: no answer within 5 s")


@pytest.mark.parametrize("how", ["channel", "none", "fault"])
def test_secure(world: World, how: str) -> None:
    """No channel, no login; and no prompt that nobody could answer."""
    world.answer = FAULT
    if how == "none":
        world.codes = PamCodes()
    if how == "fault":
        world.codes, world.fault = PamCodes(on_failure="codes"), "x.toml: no such file"
    # sshd asks PAM several times in one connection.
    for _ in range(3):
        assert world.ask(world.login()) == ""
        assert not world.types(world.login(), "")
    assert len(world.requests) <= 1
    if world.requests:
        # Deliver may have sent it, and died before it said so. Nobody was asked, so it does not count.
        assert not world.types(world.login(), world.requests[0].code)
    assert world.reasons()[:4] == ["Code not delivered", *["Code refused (not sent)"] * 3]


def test_safe(world: World) -> None:
    """The login passes without a code, once, and the log has the reason."""
    world.answer, world.codes = FAULT, world.codes._replace(on_failure="safe")
    login = world.login()
    assert world.ask(login) == NOTHING
    assert world.types(login, "")
    assert not world.types(login, "")
    assert world.reasons() == ["Code not delivered", "Let in without a code", "Code refused (used)"]


def test_on_failure_of_a_rule(world: World) -> None:
    """A rule's own comes first."""
    world.answer = FAULT
    world.codes = world.codes._replace(rule=(PamRule(user=("root",), on_failure="safe"),))
    assert world.ask(world.login()) == NOTHING
    assert world.ask(world.login(2, "daemon")) == ""


def emergency(world: World, *codes: str) -> None:
    """Give root emergency codes."""
    with world.store.transaction():
        world.store.replace_emergency(
            "root", [emergency_digest(world.store.key, "root", one.encode()) for one in codes], BEGIN_US
        )


def test_emergency_codes(world: World) -> None:
    """Each counts once, with or without hyphens, also while channels work; not for others; and new ones replace the old."""
    emergency(world, "000011112222", "333344445555")
    one, other = world.login(), world.login(2)
    assert world.ask(one)
    assert world.requests[0].emergency_left == 2
    assert world.types(one, "0000-1111-2222")
    assert world.ask(other)
    assert not world.types(other, "0000-1111-2222")
    assert world.types(other, "333344445555")
    assert world.reasons() == [
        "Code sent",
        "Emergency code accepted",
        "Code sent",
        "Code refused (wrong)",
        "Emergency code accepted",
    ]
    assert world.lines[1] == "Emergency code accepted: 1 left, sshd 4711, from 192.0.2.7 for root"
    emergency(world, "000011112222")
    third, stranger = world.login(3), world.login(4, "daemon")
    assert world.ask(third)
    assert world.ask(stranger)
    emergency(world)
    assert not world.types(third, "000011112222")
    assert not world.types(stranger, "000011112222")


def test_codes(world: World) -> None:
    """Without a channel sshbell asks for an emergency code, if the user has one."""
    world.answer, world.codes = FAULT, world.codes._replace(on_failure="codes")
    assert world.ask(world.login(1)) == ""
    emergency(world, "000011112222")
    login = world.login(2)
    assert world.ask(login)[14:] == ": sshbell could not send a code. Type one of your emergency codes."
    assert not world.types(login, "")
    # Deliver may have sent the code and died: it still does not count.
    assert not world.types(login, world.requests[-1].code)
    assert world.types(login, "000011112222")


@pytest.mark.parametrize(
    ("rule", "is_asked"),
    [
        (PamRule(ask="never"), False), (PamRule(ask="never", user=("ro?t",)), False),
        (PamRule(ask="never", user=("R*",)), True),
        (PamRule(ask="never", group=("root",)), False), (PamRule(ask="never", group=("daemon",)), True),
        (PamRule(ask="never", address=("192.0.2.0/24",)), False), (PamRule(ask="never", address=("192.0.2.8", "::/0")), True),
        (PamRule(ask="never", service=("sshd",)), False), (PamRule(ask="never", service=("su",)), True),
        (PamRule(ask="never", user=("root",), address=("10.0.0.0/8",)), True),
    ],
)  # fmt: skip
def test_rules(world: World, rule: PamRule, is_asked: bool) -> None:  # noqa: FBT001 - a parameter of a test
    """All lists of a rule must fit; the first rule that fits counts."""
    world.codes = world.codes._replace(rule=(rule, PamRule(), PamRule(ask="never")))
    login = world.login()
    assert (world.ask(login) != NOTHING) is is_asked
    assert len(world.requests) == is_asked
    assert world.types(login, "") is not is_asked


def test_a_rule_for_addresses_fits_no_console(world: World) -> None:
    """A login without an address is in no network, nor is one from a name."""
    world.codes = world.codes._replace(rule=(PamRule(ask="never", address=("0.0.0.0/0", "::/0")),))
    for pid, address in enumerate(("", "host.example.org", "UNKNOWN")):
        assert world.ask(world.login(pid, address=address)) != NOTHING


def test_new(world: World) -> None:
    """``deliver`` decides whether something is new; if nothing is, nobody is asked."""
    world.codes = world.codes._replace(rule=(PamRule(ask="new", new=("address", "country")),))
    world.answer = CodeAnswer(not_needed=True)
    login = world.login()
    assert world.ask(login) == NOTHING
    assert world.requests[0].new == ("address", "country")
    assert not world.types(world.login(2), "")
    assert world.types(login, "")
    assert world.reasons() == ["Code not needed"]


def test_no_code_in_the_store(world: World) -> None:
    """The files have neither code nor emergency code, and only root may read them."""
    emergency(world, "000011112222")
    codes = [world.code(world.login(pid)) for pid in range(3)]
    world.store.close()
    for path in world.folder.iterdir():
        content = path.read_bytes()
        assert not any(code.encode() in content for code in (*codes, "000011112222"))
        assert path.stat().st_mode & 0o077 == 0
    assert world.folder.stat().st_mode & 0o777 == 0o700


def test_digests_need_the_key(world: World, tmp_path: Path) -> None:
    """Another host has another key, so its digests say nothing here."""
    other = CodeStore(tmp_path / "other")
    assert other.key != world.store.key == CodeStore(world.folder).key
    assert emergency_digest(other.key, "root", b"1") != emergency_digest(world.store.key, "root", b"1")


def test_codes_are_even() -> None:
    """Each digit is as frequent as any other in each place, and each code has its length: not those of a number cut short."""
    codes = [number(8) for _ in range(20_000)]
    assert {len(code) for code in codes} == {8}
    for place in range(8):
        counts = Counter(code[place] for code in codes)
        # 2,000 each, with a standard deviation of 42. Eight of them happen once in ten to the fourteenth.
        assert all(abs(counts[digit] - 2000) < 8 * 43 for digit in "0123456789")


def test_long_codes() -> None:
    """A code may have more digits than a random number of 32 bits."""
    assert {len(number(12)) for _ in range(100)} == {12}


@pytest.mark.bulk
def test_a_flood_does_not_fill_the_store(world: World) -> None:
    """Only the newest challenges stay, and only for a day."""
    for pid in range(CHALLENGE_LIMIT + 10):
        with world.store.transaction():
            login = world.login(pid, user=f"user-{pid}", address="")
            Challenger(Settings(world.codes, "/nowhere"), login, world.store)._added("decoy", BEGIN_US + pid)
    with closing(sqlite3.connect(world.folder / "codes.db")) as database:
        assert database.execute("SELECT count(*), min(pid) FROM challenge").fetchone() == (CHALLENGE_LIMIT, 10)
    world.now_us += micros_of("2d")
    world.ask(world.login())
    with closing(sqlite3.connect(world.folder / "codes.db")) as database:
        assert database.execute("SELECT count(*) FROM challenge").fetchone() == (1,)


def test_an_open_directory(tmp_path: Path) -> None:
    """A directory that others may read, or a key of another length, is a fault, and not repaired in silence."""
    (tmp_path / "codes").mkdir(mode=0o755)
    with pytest.raises(StoreError, match="is open to others than root"):
        CodeStore(tmp_path / "codes")
    (tmp_path / "codes").chmod(0o700)
    CodeStore(tmp_path / "codes").close()
    (tmp_path / "codes" / "key").write_bytes(b"short")
    with pytest.raises(StoreError, match="has 5 bytes instead of 32"):
        CodeStore(tmp_path / "codes")
    (tmp_path / "link").symlink_to(tmp_path / "codes")
    with pytest.raises(StoreError):
        CodeStore(tmp_path / "link")


def test_a_damaged_file(world: World) -> None:
    """A damaged store stays where it is: without it, no code is right, and nobody can clear the counts by damaging it."""
    world.store.close()
    path = world.folder / "codes.db"
    path.write_bytes(b"no database at all" * 1000)
    before = path.read_bytes()
    with pytest.raises(StoreError):
        CodeStore(world.folder)
    assert path.read_bytes() == before


def test_parallel_guesses(world: World) -> None:
    """Many processes guess at one prompt at once: sshbell looks at as many guesses as at one after the other."""
    login = world.login()
    code = world.code(login)
    tries = [wrong(code)] * 20

    def guess(typed: str) -> bool:
        with closing(CodeStore(world.folder)) as store:
            return Verifier(world.codes, login, store).is_right(typed.encode())

    with ThreadPoolExecutor(len(tries)) as pool:
        assert not any(pool.map(guess, tries))
    assert Counter(world.reasons())["Code refused (wrong)"] == world.codes.tries


def test_parallel_replay(world: World) -> None:
    """The right code counts once, also if many processes have it at the same moment."""
    login = world.login()
    code = world.code(login)

    def verify_it(_number: int) -> bool:
        with closing(CodeStore(world.folder)) as store:
            return Verifier(world.codes, login, store).is_right(code.encode())

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(verify_it, range(20))) == 1


def test_parallel_prompts(world: World) -> None:
    """Many connections of one user at once get no more prompts than one after the other."""

    def prompt(pid: int) -> str:
        with closing(CodeStore(world.folder)) as store:
            return Challenger(Settings(world.codes, "/nowhere"), world.login(pid), store).prompt()

    with ThreadPoolExecutor(20) as pool:
        assert sum(map(bool, pool.map(prompt, range(20)))) == USER_PROMPT_LIMIT
    # Each message, and one report.
    assert len(world.requests) == USER_PROMPT_LIMIT + 1
