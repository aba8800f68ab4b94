"""One-time codes with the real sshd, PAM, ssh and ``deliver``."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from consumer.codes.limits import USER_PROMPT_LIMIT, USER_TRY_LIMIT
from tests import needs
from tests.integration.code_host import CODE_ONLY, CODE_PROMPT, PAM, PASSWORD, PASSWORD_PROMPT, code_host, sshbell
from tests.integration.ssh_client import SshClient
from tests.waiting import DEADLINE_S, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.code_host import CodeHost
    from tests.integration.site import Site

pytestmark = needs.CHANGES_THE_MACHINE


@pytest.fixture
def host(open_folder: Path) -> Iterator[CodeHost]:
    """Return a host that asks for codes, with ``deliver``."""
    with code_host(open_folder) as found:
        found.start_deliver()
        yield found


def wrong(code: str) -> str:
    """Return a code that is not this one."""
    return f"{(int(code) + 1) % 10 ** len(code):0{len(code)}}"


@pytest.mark.parametrize("method", ["publickey", "password"])
def test_right_and_wrong(host: CodeHost, method: str) -> None:
    """After the key or the password, the right code lets in, and a wrong one does not; nothing that is typed shows."""
    client = host.asked(method=method)
    code = host.code(client)
    assert host.lets_in(client, code), (client.said, host.lines)
    assert code not in client.said
    client = host.asked(method=method)
    code = host.code(client)
    assert not host.lets_in(client, wrong(code))
    # The same session asks again, with no further message.
    assert "Tries left: 2." in client.said
    assert len(host.messages()) == 2
    assert host.outcomes() == ["Code sent", "Code accepted", "Code sent", "Code refused (wrong)"]


def test_the_message_and_the_log(host: CodeHost) -> None:
    """The message says who, from where and how; the log line has the process whose number "Accepted" has."""
    client = host.asked()
    (message,) = host.messages()
    assert (message["user"], message["address"], message["method"]) == (host.account.pw_name, "127.0.0.1", "publickey")
    assert message["destination"] == "127.0.0.1"
    assert host.lets_in(client, str(message["code"]))
    wait_for(lambda: any(": Accepted keyboard-interactive/pam" in line for line in host.lines), "sshd has let in")
    (accepted,) = [line for line in host.lines if ": Accepted keyboard-interactive/pam" in line]
    pid = accepted.partition("sshd[")[2].partition("]")[0]
    assert all(f"sshd {pid}, from 127.0.0.1 for {host.account.pw_name}" in line for line in host.pam_lines())
    assert len(host.pam_lines()) == 2


def test_two_logins_at_once(host: CodeHost) -> None:
    """Two logins of one user: neither takes the other's code, and each takes its own, once."""
    one, other = host.asked(), host.asked()
    code, other_code = host.code(one), host.code(other)
    one.type(other_code)
    other.type(code)
    assert one.until(CODE_PROMPT)
    assert other.until(CODE_PROMPT)
    assert host.lets_in(other, other_code)
    assert host.lets_in(one, code)
    # Nor does a later one.
    later = host.asked()
    later.type(code)
    assert later.until(CODE_PROMPT)
    assert not host.lets_in(later, other_code)


def test_expired(open_folder: Path) -> None:
    """After its time the right code is wrong."""
    with code_host(open_folder, valid="1s") as host:
        host.start_deliver()
        client = host.asked()
        code = host.code(client)
        with closing(sqlite3.connect(host.codes_dir / "codes.db")) as database:
            ((until_us,),) = database.execute("SELECT until_us FROM challenge").fetchall()
        wait_for(lambda: time.time_ns() // 1000 >= until_us, "the code expires")
        assert not host.lets_in(client, code)
        assert host.outcomes()[:2] == ["Code sent", "Code refused (expired)"]


def test_secure(open_folder: Path) -> None:
    """If no channel takes the code, nobody gets in, and nobody is asked; not even webhookpam's prompt comes."""
    with code_host(open_folder) as host:
        client = host.client()
        assert client.end() == 255
        assert "Session" not in client.said
        assert Counter(host.outcomes())["Code not delivered"] == 1
        assert set(host.outcomes()) == {"Code not delivered", "Code refused (not sent)"}


def test_safe(open_folder: Path) -> None:
    """Then ``safe`` lets in without a prompt, and the log has it."""
    with code_host(open_folder, on_failure="safe") as host:
        client = host.client()
        assert host.ends_in(client), client.said
        assert "Password:" not in client.said
        assert host.outcomes() == ["Code not delivered", "Let in without a code"]
        # Only the code was left out.
        client = host.client(method="password")
        assert client.until(PASSWORD_PROMPT)
        assert not host.lets_in(client, "a wrong password")


def test_no_program_starts(open_folder: Path) -> None:
    """Somebody has the key and the password, and a fork bomb keeps PAM from starting its test: the password is no code."""
    with code_host(open_folder, pam=PAM.replace("/bin/sh -c", "/nonexistent/sh -c")) as host:
        host.start_deliver()
        client = host.client()
        assert client.until(r"Password: "), client.said
        assert not host.lets_in(client, PASSWORD)
        client = host.asked()
        assert host.lets_in(client, host.code(client))


def test_emergency_codes(open_folder: Path) -> None:
    """``codes`` asks for a printed code, which counts once; it also counts while channels work, and the message has the rest."""
    with code_host(open_folder, on_failure="codes") as host:
        client = host.client()
        assert not host.ends_in(client)
        codes = host.emergency_codes()
        assert len(codes) == 10
        client = host.asked()
        assert "Type one of your emergency codes." in client.said
        assert host.lets_in(client, codes[0])
        host.start_deliver()
        client = host.asked()
        client.type(codes[0])
        assert client.until(CODE_PROMPT)
        assert host.lets_in(client, codes[1].replace("-", ""))
        assert (host.messages()[0]["emergency_left"], host.messages()[0]["trial"]) == (9, False)
        listed = host.site.ask("pam", "codes", "list").stdout
        assert listed.startswith(f"{host.account.pw_name}: 8 unused codes, 2 used, made on ")
        host.site.ask("pam", "codes", "revoke", host.account.pw_name)
        assert not host.lets_in(host.asked(), codes[2])


def test_no_code_is_needed(open_folder: Path) -> None:
    """A rule for a group lets in without a prompt, and with two PAM lines on Enter."""
    rule = [{"group": ["bell-*"], "ask": "never"}]
    with code_host(open_folder, rule=rule) as host:
        client = host.client()
        assert host.ends_in(client), (client.said, host.lines)
        assert "Password:" not in client.said
        assert host.outcomes() == ["Code not needed"]


def test_two_lines_of_pam(open_folder: Path) -> None:
    """Without the line in the middle, PAM asks all the same, and Enter suffices."""
    rule = [{"address": ["127.0.0.0/8"], "ask": "never"}]
    with code_host(open_folder, pam=CODE_ONLY, methods="publickey,keyboard-interactive:pam", rule=rule) as host:
        client = host.asked()
        assert "press Enter" in client.said
        assert host.lets_in(client, "")


def test_deliver_dies_between(host: CodeHost) -> None:
    """A code that was sent counts, whatever becomes of ``deliver``."""
    client = host.asked()
    code = host.code(client)
    for process in host.deliver:
        process.kill()
        process.wait()
    assert host.lets_in(client, code)


def test_deliver_dies_while_it_sends(open_folder: Path) -> None:
    """Then the login fails at once, and does not wait for the time limit."""
    with code_host(open_folder) as host:
        begun = host.folder / "begun"
        (host.folder / "tell").write_text(f"#!/bin/sh\ntouch {begun}\nexec sleep 600\n")
        deliver = host.start_deliver()
        client = host.client()
        wait_for(begun.exists, "deliver sends")
        deliver.kill()
        assert not host.ends_in(client)
        assert host.outcomes()[:2] == ["Code not delivered", "Code refused (not sent)"]


def test_a_channel_that_hangs(open_folder: Path) -> None:
    """``timeout`` counts, which webhookpam reads and ignores."""
    with code_host(open_folder, timeout="1s") as host:
        (host.folder / "tell").write_text("#!/bin/sh\nexec sleep 600\n")
        host.start_deliver()
        assert not host.ends_in(host.client())
        assert "no answer within" in host.pam_lines()[0]


HOSTILE = (
    "$(touch /tmp/pwned)", "`id`", "a b; reboot", "a from 6.6.6.6 port 1 ssh2", "x\x1b[2Jy", "-oProxyCommand=id", "%n%s",
    "' OR 1=1 --", "{{ code }}", "\u202eecila", "--config", "é" * 40,
)  # fmt: skip


def test_hostile_names(open_folder: Path) -> None:
    """Whatever a stranger is called: the usual prompt, no message, no login, and one line each that nobody can forge."""
    with code_host(open_folder, pam=CODE_ONLY, methods="keyboard-interactive:pam") as host:
        host.start_deliver()
        for name in HOSTILE:
            client = host.asked(name)
            assert ": sshbell has sent a code of 8 digits. Type it.\nPassword: " in client.said
            assert not host.lets_in(client, "12345678")
        assert host.messages() == []
        assert not Path("/tmp/pwned").exists()  # noqa: S108 - what a shell would have made
        lines = host.pam_lines()
        assert len(lines) >= 2 * len(HOSTILE)
        assert all(re.fullmatch(r"[\x20-\x7e]+, sshd \d+, from 127\.0\.0\.1 for [\x20-\x7e]+", line) for line in lines), lines
        assert {line.partition(":")[0] for line in lines} == {"Prompt without a code", "Code refused (wrong)"}


def test_a_thousand_guesses(open_folder: Path) -> None:
    """Of 1,000 guesses with the right key, sshbell looks at ten at most, and sends five messages and one report at most."""
    with code_host(open_folder, methods="publickey,keyboard-interactive:pam", pam=CODE_ONLY, tries=251) as host:
        host.start_deliver()
        clients = [host.client() for _ in range(4)]
        while clients:
            for client in clients.copy():
                # After the first guesses, sshd refuses the rest of a connection without a prompt, one process after the other.
                if client.until(rf"{CODE_PROMPT}|ermission denied|Too many|\nin\n", 20 * DEADLINE_S) and client.said.endswith(
                    ": "
                ):
                    client.type(wrong(host.code(client)))
                else:
                    assert client.end() == 255, client.said
                    clients.remove(client)
        counted = Counter(host.outcomes())
        assert sum(number for name, number in counted.items() if name.startswith("Code refused")) >= 1000, counted
        assert counted["Code refused (wrong)"] <= USER_TRY_LIMIT
        assert counted["Code sent"] <= USER_PROMPT_LIMIT
        assert len(host.messages()) <= USER_PROMPT_LIMIT + 1


def test_prompt_fatigue(host: CodeHost) -> None:
    """Somebody with the key asks again and again: the prompts stop, and the user hears of it, once."""
    for _ in range(USER_PROMPT_LIMIT):
        host.asked().hang_up()
    for _ in range(2):
        client = host.client()
        assert not host.ends_in(client)
        assert "Session" not in client.said
    *prompts, report = host.messages()
    assert len(prompts) == USER_PROMPT_LIMIT
    assert (report["code"], report["prompts"]) == ("", USER_PROMPT_LIMIT)
    assert set(host.outcomes()[USER_PROMPT_LIMIT:]) == {"Code refused (too many prompts)"}


def test_a_console(host: CodeHost) -> None:
    """A login without an address, and one by another program than sshd, where webhookpam crashes."""
    service = Path(f"/etc/pam.d/sshbell-{os.getpid()}-console")
    service.write_text(CODE_ONLY.format(sshbell=sshbell(), config=host.site.config))
    try:
        pamtester = [needs.program("pamtester", "pamtester"), service.name, host.account.pw_name, "authenticate"]
        client = SshClient(pamtester)
        assert client.until(CODE_PROMPT)
        (message,) = host.messages()
        assert (message["address"], message["destination"], message["service"]) == ("", "", service.name)
        client.type(str(message["code"]))
        assert client.end() == 0, client.said
        client = SshClient(pamtester)
        assert client.until(CODE_PROMPT)
        client.type("1")
        assert client.end() != 0
    finally:
        service.unlink()


def test_who_gets_emergency_codes(site: Site) -> None:
    """A name that nobody has gets none, and shows none."""
    assert "there is no user 'nobody-at-all'" in site.ask("pam", "codes", "new", "nobody-at-all", status=64).stderr
    assert site.ask("pam", "codes", "list").stdout.startswith("nobody has emergency codes")
    made = site.ask("pam", "codes", "new", "root", "--count", "3")
    assert len(set(made.stdout.split())) == 3
    assert all(re.fullmatch(r"[0-9]{4}-[0-9]{4}-[0-9]{4}", one) for one in made.stdout.split())
    again = site.ask("pam", "codes", "new", "root", "--count", "1")
    assert "the old ones, 3 of them unused, no longer count" in again.stderr
    assert site.ask("pam", "codes", "revoke", "root").stdout == "revoked 1 unused emergency code of root\n"
    assert "has no unused emergency codes" in site.ask("pam", "codes", "revoke", "root", status=66).stderr


def files_below(*folders: Path) -> Iterator[Path]:
    """Yield the files in folders."""
    for folder in folders:
        yield from (path for path in folder.rglob("*") if path.is_file())


def test_no_secret_anywhere(host: CodeHost) -> None:
    """While sshd asks, and after the login: no code, key or password in a log, a process list, an environment or a database."""
    emergency = host.emergency_codes()
    client = host.asked()
    code = host.code(client)
    key = (host.codes_dir / "key").read_bytes()
    secrets = [code.encode(), *(one.encode() for one in emergency), *(one.replace("-", "").encode() for one in emergency)]
    secrets += [PASSWORD.encode(), key.hex().encode()]

    def places() -> Iterator[tuple[str, bytes]]:
        for process in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ", "comm"):
                with suppress(OSError):
                    yield f"{process}/{name}", (process / name).read_bytes()
        for path in files_below(host.site.state_dir, host.codes_dir):
            yield str(path), path.read_bytes()
        yield "log", "\n".join(host.lines).encode()
        for name in ("deliver.log", "sshd_said"):
            yield name, (host.folder / name).read_bytes()

    def found() -> list[str]:
        return [place for place, content in places() if any(secret in content for secret in secrets)]

    own = {f"/proc/{os.getpid()}/cmdline", f"/proc/{os.getpid()}/environ"}
    assert set(found()) <= own
    assert host.lets_in(client, code)
    client = host.asked()
    assert not host.lets_in(client, wrong(host.code(client)))
    assert host.lets_in(host.asked(), emergency[0])
    assert set(found()) <= own
    # The search finds what is there.
    (host.site.state_dir / "trap").write_text(f"x{code}x")
    assert str(host.site.state_dir / "trap") in found()


ENVIRONMENT = {"PAM_TYPE": "auth", "PAM_USER": "root", "PAM_SERVICE": "login"}


def started(*, stdin: int = subprocess.PIPE, folder: Path, **env: str) -> subprocess.Popen[bytes]:
    """Start ``verify`` as pam_exec does, in a folder, with core files allowed."""
    command = [
        "/bin/sh",
        "-c",
        'ulimit -c unlimited; exec "$@"',
        "sh",
        str(sshbell()),
        "pam",
        "verify",
        "--config",
        f"{folder}/none",
    ]
    return subprocess.Popen(command, stdin=stdin, stdout=subprocess.DEVNULL, cwd=folder, env=ENVIRONMENT | env)


def test_no_core_file(tmp_path: Path) -> None:
    """A command that dies with a code in its memory leaves no core file, and no other process of root's user can look in."""
    (tmp_path / "none").write_text(f'state_dir = "{tmp_path}/state"\n')
    process = started(folder=tmp_path)
    assert process.stdin is not None
    process.stdin.write(b"12345678")
    process.stdin.flush()

    def reads() -> bool:
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        return re.search(r"Max core file size +0 +0 ", limits) is not None and waits(process.pid)

    wait_for(reads, "verify waits for the end of its input")
    process.send_signal(signal.SIGABRT)
    _, status = os.waitpid(process.pid, 0)
    process.returncode = -1
    process.stdin.close()
    assert os.WTERMSIG(status) == signal.SIGABRT
    assert not os.WCOREDUMP(status)
    assert [path.name for path in tmp_path.rglob("*core*")] == []


def waits(pid: int) -> bool:
    """Return whether a process sleeps in a system call."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_hostile_environment(tmp_path: Path) -> None:
    """Variables beside PAM's do not count; more or longer ones of PAM's change nothing but the name."""
    (tmp_path / "none").write_text(f'state_dir = "{tmp_path}/state"\n')
    for env in ({"PAM_RHOST": "x" * 10_000}, {"PAM_USER": "x" * 10_000}, {"PAM_TYPE": "session"}, {"PAM_USER": ""}):
        process = started(folder=tmp_path, stdin=subprocess.DEVNULL, **env)
        assert process.wait() == 64
    for env in (
        {"PAM_RHOST": "$(id)\n\x1b["}, {"PATH": f"{tmp_path}"}, {"HOME": str(tmp_path), "LANG": "xx\udcff", "TZ": "../../etc"},
        {"PAM_X": "y" * 100_000}, {"SSH_AUTH_INFO_0": "publickey " * 1000},
    ):  # fmt: skip
        process = started(folder=tmp_path, stdin=subprocess.DEVNULL, **env)
        assert process.wait() == 1


def test_many_first_logins_at_once(tmp_path: Path) -> None:
    """Twenty logins at once create one store and one key, and each has its row."""
    config = tmp_path / "x.toml"
    config.write_text(f'state_dir = "{tmp_path}/state"\n[[codes.rule]]\nask = "never"\n')
    # Each has a shell of its own as the process that asks; a second command keeps the shell from becoming the first one.
    script = f"{sshbell()} pam challenge --config {config} && {sshbell()} pam verify --config {config} </dev/null"
    command = ["/bin/sh", "-c", f"{script} && exit 0"]
    logins = [subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, cwd="/") for _ in range(20)]
    assert [login.wait() for login in logins] == [0] * 20
    with closing(sqlite3.connect(tmp_path / "state-codes/codes.db")) as database:
        rows = database.execute("SELECT count(*), count(DISTINCT session), count(DISTINCT pid), count(used_us) FROM challenge")
        assert rows.fetchone() == (20, 20, 20, 20)
    assert sorted(path.name for path in (tmp_path / "state-codes").iterdir()) == ["codes.db", "key"]


def test_only_root() -> None:
    """Without root's rights there is no way to the store; the command says so, and refuses."""
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(sshbell()), "pam", "verify"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=False, cwd="/", text=True)
    if "Permission denied" in done.stderr:
        pytest.skip(f"only root can run {sshbell()}")
    assert done.returncode == 77
    assert "add seteuid to the line of pam_exec.so" in done.stderr


def test_what_a_login_loads(tmp_path: Path) -> None:
    """Neither command loads the command line's library, the grammars', msgspec, or anything that opens channels."""
    config = tmp_path / "x.toml"
    config.write_text(f'state_dir = "{tmp_path}/state"\n')
    for half in ("challenge", "verify"):
        python, command = sshbell().with_name("python"), [str(sshbell()), "pam", half, "--config", str(config)]
        done = subprocess.run(
            [str(python), "-X", "importtime", *command], env=ENVIRONMENT, capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
        modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
        assert f"consumer.codes.{half}" in modules, done.stderr
        slow = {"click", "pyparsing", "msgspec", "aiohttp", "aiosmtplib", "slixmpp", "jinja2", "asyncio", "ssl"}
        assert {name.partition(".")[0] for name in modules}.isdisjoint(slow)
        # What sends a code is not there when it is checked.
        assert ("consumer.codes.client" in modules) is (half == "challenge")
