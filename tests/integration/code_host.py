"""A host that asks for codes: the real sshd and PAM, ``deliver``, a channel that writes down what it gets, and ssh clients."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import needs
from tests.integration import system_user
from tests.integration.site import Site
from tests.integration.ssh_client import SshClient
from tests.integration.sshd import OWN_DEV, free_port, key, listening
from tests.waiting import wait_for

if TYPE_CHECKING:
    import pwd
    from collections.abc import Iterator


# Its own /dev, where /dev/log is the test's, and its own PAM service.
OWN_FILES = OWN_DEV.replace("shift 2\n", 'mount --bind "$3" /etc/pam.d/sshd\nshift 3\n')
SSHD = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/keys/authorized_keys
PidFile none
StrictModes no
UsePAM yes
PasswordAuthentication yes
KbdInteractiveAuthentication yes
AuthenticationMethods {methods}
PermitRootLogin yes
MaxStartups 100
MaxAuthTries {tries}
LoginGraceTime 0
LogLevel VERBOSE
UseDNS no
"""
BOTH = "publickey,keyboard-interactive:pam password,keyboard-interactive:pam"
# After another factor, the code; else, for the method "password", the password.
PAM = """
auth [success=3 ignore=3 default=ignore] pam_exec.so quiet quiet_log /bin/sh -c [test -z "$SSH_AUTH_INFO_0"]
auth requisite pam_exec.so stdout quiet {sshbell} pam challenge --config {config}
auth [success=2 default=ignore] pam_exec.so quiet quiet_log {sshbell} pam verify --config {config}
auth [success=1 default=die] pam_exec.so expose_authtok quiet {sshbell} pam verify --config {config}
auth requisite pam_unix.so
auth required pam_permit.so
account required pam_permit.so
session required pam_permit.so
"""
# The code alone. Without the line in the middle, PAM asks even if sshbell needs no code.
CODE_ONLY = """
auth requisite pam_exec.so stdout quiet {sshbell} pam challenge --config {config}
auth required pam_exec.so expose_authtok quiet {sshbell} pam verify --config {config}
auth required pam_permit.so
account required pam_permit.so
session required pam_permit.so
"""
PASSWORD = "the right one"  # noqa: S105 - of a test
CODE_PROMPT, PASSWORD_PROMPT = r"\nPassword: ", r"'s password: "


def sshbell() -> Path:
    """Return the command as PAM runs it: without this process's environment, and not with the current directory's modules."""
    found = Path(sys.executable).with_name("sshbell")
    assert found.exists(), f"{found} is missing; install sshbell into the environment of the tests"
    return found


class CodeHost:
    """
    A host and its processes.

    Args:
        site: with a state directory.
        stack: ends everything.
        pam, methods, tries: in place of the usual PAM lines, AuthenticationMethods and MaxAuthTries.
        codes: the keys of ``[codes]``.
    """

    def __init__(
        self, site: Site, stack: ExitStack, *, pam: str = PAM, methods: str = BOTH, tries: int = 6, **codes: Any
    ) -> None:
        needs.root("start sshd with its own PAM service")
        self.site, self._stack = site, stack
        self.folder = site.folder
        self._clients = 0
        self.deliver: list[subprocess.Popen[bytes]] = []
        self.told = self.folder / "told"
        self.codes_dir = Path(f"{site.state_dir}-codes")
        self._pam, self._methods, self._tries = pam, methods, tries
        self.account = self.user()
        self.configure(**codes)
        self._listen()
        self._start_sshd()

    def user(self) -> pwd.struct_passwd:
        """Create a user with a password."""
        account = self._stack.enter_context(system_user.user(self.folder / f"home-{len(list(self.folder.iterdir()))}"))
        subprocess.run(["usermod", "--shell", "/bin/sh", account.pw_name], check=True)  # noqa: S607
        subprocess.run(["chpasswd"], input=f"{account.pw_name}:{PASSWORD}\n", text=True, check=True)  # noqa: S607
        return account

    def configure(self, **codes: Any) -> None:
        """Write the configuration: a channel that writes down what it gets, and ``[codes]``."""
        script = self.folder / "tell"
        if not script.exists():
            script.write_text(f"#!/bin/sh\ncat >> {self.told}\n")
            script.chmod(0o755)
        channel = {"name": "phone", "type": "exec", "command": [str(script)], "max_per_hour": 100_000}
        self.site.configure(channel=[channel], codes={"channels": ["phone"], "timeout": "60s"} | codes)

    def start_deliver(self) -> subprocess.Popen[bytes]:
        """Start ``deliver``, and wait until it takes codes."""
        process, _life = self.site.start_deliver()
        self.deliver.append(process)
        wait_for((self.site.state_dir / "deliver.sock").is_socket, "deliver listens")
        return process

    def messages(self) -> list[dict[str, Any]]:
        """Return what the channel got."""
        return [json.loads(line) for line in self.told.read_text().splitlines()] if self.told.exists() else []

    def code(self, client: SshClient) -> str:
        """Return the code of the session that a client has just shown, as its message has it."""
        session = client.said.rpartition("Session ")[2].partition(":")[0]
        return next(str(message["code"]) for message in self.messages() if message["session"] == session)

    # ---------------------------------------------------------------- logins

    def client(self, user: str = "", *, method: str = "publickey", command: str = "echo in") -> SshClient:
        """Start a client that logs in by key or password, and then by code."""
        options = [
            "IdentitiesOnly=yes", "StrictHostKeyChecking=no", f"UserKnownHostsFile={self.folder}/known_hosts",
            f"PreferredAuthentications={method},keyboard-interactive", f"IdentityFile={self.folder}/user_key", "LogLevel=INFO",
            f"NumberOfPasswordPrompts={self._tries}",
        ]  # fmt: skip
        parts = [part for option in options for part in ("-o", option)]
        ssh = needs.program("ssh", "openssh-client")
        # On its command line, ssh refuses names with the shell's characters.
        config = self.folder / f"ssh_config-{self._clients}"
        self._clients += 1
        config.write_text(f'User "{user or self.account.pw_name}"\n')
        return SshClient([ssh, "-F", str(config), "-p", str(self.port), *parts, "127.0.0.1", command])

    def asked(self, user: str = "", *, method: str = "publickey") -> SshClient:
        """Start a client, and wait until it asks for a code."""
        client = self.client(user, method=method)
        if method == "password":
            assert client.until(PASSWORD_PROMPT), client.said
            client.type(PASSWORD)
        assert client.until(CODE_PROMPT), (client.said, self.lines)
        return client

    def lets_in(self, client: SshClient, code: str) -> bool:
        """Type a code, and give up if sshd asks again; return whether the login succeeded."""
        client.type(code)
        return self.ends_in(client)

    def ends_in(self, client: SshClient) -> bool:
        """Wait until a client is in, or sshd asks again or refuses; return which, and end it."""
        found = client.until(rf"(?m)^in$|{CODE_PROMPT}|{PASSWORD_PROMPT}|ermission denied|closed by")
        is_in = found is not None and found[0] == "in"
        client.hang_up() if not is_in else client.end()
        return is_in

    def emergency_codes(self, user: str = "") -> list[str]:
        """Make emergency codes for a user."""
        return self.site.ask("pam", "codes", "new", user or self.account.pw_name).stdout.split()

    # ---------------------------------------------------------------- the log

    def pam_lines(self) -> list[str]:
        """Return the lines of ``sshbell-pam``, without their headers."""
        return [line.partition("]: ")[2] for line in self.lines if " sshbell-pam[" in line]

    def outcomes(self) -> list[str]:
        """Return what those lines say, without sessions and names."""
        return [line.partition(":")[0] for line in self.pam_lines()]

    def _listen(self) -> None:
        """Take the lines of the log."""
        self.lines: list[str] = []
        log = self._stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        log.bind(str(self.folder / "log"))

        def take() -> None:
            while line := log.recv(65536):
                self.lines.append(line.decode(errors="replace"))

        thread = threading.Thread(target=take)
        thread.start()

        def end() -> None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                last.sendto(b"", str(self.folder / "log"))
            thread.join()

        self._stack.callback(end)

    def _start_sshd(self) -> None:
        folder = self.folder
        for name in ("host_key", "user_key"):
            key(folder / name)
        (folder / "keys").mkdir()
        (folder / "keys/authorized_keys").write_text((folder / "user_key.pub").read_text())
        (folder / "dev").mkdir()
        self.port = free_port()
        (folder / "sshd_config").write_text(SSHD.format(port=self.port, folder=folder, methods=self._methods, tries=self._tries))
        (folder / "pam").write_text(self._pam.format(sshbell=sshbell(), config=self.site.config))
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        own = [str(folder / "dev"), str(folder / "log"), str(folder / "pam")]
        command = [needs.program("sshd", "openssh-server"), "-D", "-f", str(folder / "sshd_config")]
        self._stack.enter_context(listening(OWN_FILES, own, command, folder, self.port))


@contextmanager
def code_host(folder: Path, **keys: Any) -> Iterator[CodeHost]:
    """Run a host that asks for codes, in a folder that every user can enter: sshd reads authorized_keys as the user."""
    with Site(folder) as site, ExitStack() as stack:
        yield CodeHost(site, stack, **keys)
