"""``sshbell install`` and ``uninstall`` in a tree: what is done is said, undone exactly, and refused where unsafe."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from consumer.config import Config
from consumer.config_file import load
from consumer.errors import ConfigError, DataError, InputError, OutputError, RightsError, SshbellError
from consumer.rights import untrusted, untrusted_below
from consumer.store.codes import CodeStore
from consumer.system import install as module
from consumer.system.accounts import Accounts
from consumer.system.install import install, uninstall
from consumer.system.installed import MANIFEST, Owned, write_file
from consumer.system.shards import with_shards
from tests import needs
from tests.integration.rsyslogd import DROP_IN

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWD = "root:x:0:0:root:/root:/bin/bash\nx:x:999:999::/:/bin/false\nzo\udceb:x:1000:1000::/home/z:/bin/sh\n"  # noqa: S105 - the file
GROUP = "root:x:0:\nx:x:999:\nstaff:x:50:\n"
SHADOW, GSHADOW = "root:*:19000:0:99999:7:::\n", "root:*::\n"
RSYSLOG = 'module(load="imuxsock") # local logging\n$WorkDirectory /var/spool/rsyslog\n$IncludeConfig /etc/rsyslog.d/*.conf\n'
PUT = [
    "etc/sshbell",
    "etc/sshbell/sshbell.toml",
    "etc/sshbell/people.toml",
    "etc/rsyslog.d/30-sshbell.conf",
    "usr/libexec/rsyslog/sshbell",
    "var/lib/sshbell",
    "var/lib/sshbell-block",
]


@pytest.fixture(autouse=True)
def _as_root() -> None:
    """What others than root may do is tested below; all else needs root."""
    needs.root("install")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a small system, with a Python of its own that has sshbell; nothing in it is run."""
    root = tmp_path / "root"
    for name, text, mode in (
        ("etc/passwd", PASSWD, 0o644), ("etc/group", GROUP, 0o644), ("etc/shadow", SHADOW, 0o640),
        ("etc/gshadow", GSHADOW, 0o600), ("etc/rsyslog.conf", RSYSLOG, 0o644), ("opt/sshbell/bin/python", "", 0o755),
        ("opt/sshbell/lib/python3/consumer/__init__.py", "", 0o644),
    ):  # fmt: skip
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        path.chmod(mode)
    for path in (root, *root.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    monkeypatch.setattr(module, "this_interpreter", lambda: root / "opt/sshbell/bin/python")
    monkeypatch.setattr(module, "code_of", lambda _interpreter: [root / "opt/sshbell/lib/python3"])
    return root


class Said(list[tuple[str, str]]):
    """What was said, by word."""

    def __call__(self, word: str, what: str) -> None:
        """Be told."""
        self.append((word, what))

    def of(self, word: str) -> list[str]:
        """Return what was said with one word."""
        return [what for said, what in self if said == word]


# What shadow's programs leave behind.
BACKUPS = {"etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-"}


def everything(root: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Return all that is in a tree: owner, mode and content."""
    found = {}
    for path in sorted(root.rglob("*")):
        if str(path.relative_to(root)) in BACKUPS:
            continue
        is_file = path.is_file()
        at = path.lstat()
        found[str(path.relative_to(root))] = (
            at.st_uid,
            at.st_gid,
            stat.S_IMODE(at.st_mode),
            path.read_bytes() if is_file else b"",
        )
    return found


def numbers(root: Path) -> tuple[int, int]:
    """Return the uid and gid of sshbell's user in a tree."""
    account = Accounts(root).user("sshbell")
    assert account is not None
    return account


def test_install(tree: Path) -> None:
    """Everything is there with the right owner and mode, the user cannot log in, and what is left to do is said."""
    before = everything(tree)
    said = Said()
    steps = install(tree, said)
    after = everything(tree)
    uid, gid = numbers(tree)
    assert {path: after[path][:3] for path in PUT} == {
        "etc/sshbell": (0, gid, 0o750),
        "etc/sshbell/sshbell.toml": (0, gid, 0o640),
        "etc/sshbell/people.toml": (0, gid, 0o640),
        "etc/rsyslog.d/30-sshbell.conf": (0, 0, 0o644),
        "usr/libexec/rsyslog/sshbell": (0, 0, 0o755),
        "var/lib/sshbell": (uid, gid, 0o700),
        "var/lib/sshbell-block": (uid, gid, 0o755),
    }
    assert after["etc/rsyslog.d/30-sshbell.conf"][3] == DROP_IN.read_bytes()
    last = after["usr/libexec/rsyslog/sshbell"][3].splitlines()[-1]
    assert shlex.split(last.decode()) == ["exec", "/opt/sshbell/bin/python", "-I", "-m", "consumer", "run", "--confirmed", "$@"]
    # Numbers that are free both as a user's and as a group's; files of users keep owner, mode and every byte they had.
    assert 100 <= uid < 999
    assert 100 <= gid < 999
    assert (
        after["etc/passwd"][3]
        == before["etc/passwd"][3] + f"sshbell:x:{uid}:{gid}:sshbell:/nonexistent:/usr/sbin/nologin\n".encode()
    )
    assert after["etc/group"][3] == before["etc/group"][3] + f"sshbell:x:{gid}:\n".encode()
    assert after["etc/shadow"][:3] == before["etc/shadow"][:3]
    assert re.fullmatch(re.escape(before["etc/shadow"][3]) + rb"sshbell:!:\d*::::::\n", after["etc/shadow"][3])
    assert after["etc/gshadow"] == (*before["etc/gshadow"][:3], before["etc/gshadow"][3] + b"sshbell:!::\n")
    assert all(any(str(what).startswith(f"/{path}") for what in said.of("created")) for path in PUT)
    text = "\n".join(steps)
    assert 'module(load="imuxsock" SysSock.Annotate="on" SysSock.ParseTrusted="on" SysSock.UsePIDFromSystem="on")' in text
    assert "restart rsyslog" in text
    # The sample is one that works.
    assert load(str(tree / "etc/sshbell/sshbell.toml")) == Config()


def test_a_tree_without_shadow(tree: Path) -> None:
    """Where passwords stand in passwd, or groups have none, no file for them is made."""
    for name in ("shadow", "gshadow"):
        (tree / "etc" / name).unlink()
    before = everything(tree)
    install(tree, Said())
    uid, gid = numbers(tree)
    last = (tree / "etc/passwd").read_bytes().splitlines()[-1]
    assert last == f"sshbell:!:{uid}:{gid}:sshbell:/nonexistent:/usr/sbin/nologin".encode()
    uninstall(tree, Said())
    assert everything(tree) == before


def test_numbers_of_a_tree(tree: Path) -> None:
    """The tree's own bounds count, not those of this machine; nor does it matter who exists here."""
    (tree / "etc/login.defs").write_text("SYS_UID_MIN 400\nSYS_UID_MAX 450\nSYS_GID_MIN 400\nSYS_GID_MAX 450\n")
    accounts = Accounts(tree)
    # A user of every system, but not of this tree.
    accounts.add_group("daemon")
    accounts.add_user("daemon")
    assert accounts.user("daemon") == (450, 450)
    accounts.remove_user("daemon")
    accounts.remove_group("daemon")
    assert (accounts.user("daemon"), accounts.group("daemon")) == (None, None)
    with pytest.raises(OutputError, match=r"^userdel: it ended with \d+: userdel: user 'daemon' does not exist"):
        accounts.remove_user("daemon")


def test_what_a_tree_needs(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree without users, and a machine without shadow's programs: nothing is done, and it is said what to do."""
    before = everything(tree)
    with monkeypatch.context() as alone:
        alone.setattr("consumer.system.accounts.system_path", lambda: str(tmp_path))
        with pytest.raises(OutputError, match=r"BusyBox cannot create a user in a tree: install shadow .*sshbell install again"):
            install(tree, Said())
        assert everything(tree) == before
        # By hand, as it says.
        for file, line in (("passwd", "sshbell:x:500:500::/nonexistent:/bin/false\n"), ("group", "sshbell:x:500:\n")):
            with (tree / "etc" / file).open("a") as out:
                out.write(line)
        said = Said()
        install(tree, said)
        assert said.of("exists") == ["user sshbell"]
        assert everything(tree)["var/lib/sshbell"][:3] == (500, 500, 0o700)
        uninstall(tree, Said())
    for name in ("passwd", "group"):
        (tree / "etc" / name).unlink()
    with pytest.raises(OutputError, match=rf"{tree}/etc/passwd is missing, .*: install the system into {tree} first"):
        install(tree, Said())
    assert not (tree / "etc/sshbell").exists()


def test_install_twice_and_uninstall_twice(tree: Path) -> None:
    """A second installation changes nothing and says so; uninstalling leaves no trace, and is not done twice."""
    before = everything(tree)
    install(tree, Said())
    after = everything(tree)
    said = Said()
    install(tree, said)
    assert everything(tree) == after
    assert {word for word, _ in said} == {"exists"}
    uninstall(tree, Said())
    assert everything(tree) == before
    with pytest.raises(InputError, match="nothing is installed"):
        uninstall(tree, Said())
    assert everything(tree) == before


def test_what_is_there_is_kept(tree: Path) -> None:
    """Files that somebody else wrote are kept, and it is said; uninstalling leaves them, too."""
    (tree / "etc/sshbell").mkdir(mode=0o755)
    (tree / "etc/rsyslog.d").mkdir()
    for name in ("etc/sshbell/sshbell.toml", "etc/rsyslog.d/30-sshbell.conf"):
        (tree / name).write_text("# mine\n")
    before = everything(tree)
    said = Said()
    install(tree, said)
    assert len(said.of("kept")) == 2
    assert any(what.startswith("/etc/sshbell: owner and mode from 0:0 0755 to 0:") for what in said.of("changed"))
    said = Said()
    uninstall(tree, said)
    assert any(what.startswith("/etc/sshbell: owner and mode back to 0:0 0755") for what in said.of("changed"))
    assert everything(tree) == before


def test_what_was_changed_is_kept(tree: Path) -> None:
    """Uninstalling keeps what was changed or filled since, user and group with it; once that is gone, the rest follows."""
    before = everything(tree)
    install(tree, Said())
    uid, gid = numbers(tree)
    config, state = tree / "etc/sshbell/sshbell.toml", tree / "var/lib/sshbell/state.db"
    people = tree / "etc/sshbell/people.toml"
    config.write_text('keep = "1d"\n')
    people.write_text('[[person]]\nname = "Alice"\n')
    state.touch()
    said = Said()
    steps = uninstall(tree, said)
    left = everything(tree)
    assert left.keys() - before.keys() == {
        "etc/sshbell", "etc/sshbell/sshbell.toml", "etc/sshbell/people.toml", f"{MANIFEST}"[1:],
        "var", "var/lib", "var/lib/sshbell", "var/lib/sshbell/state.db",
    }  # fmt: skip
    assert (left["etc/sshbell"][:3], left["var/lib/sshbell"][:3]) == ((0, gid, 0o750), (uid, gid, 0o700))
    assert numbers(tree) == (uid, gid)
    kept = "\n".join(said.of("kept"))
    for what in (
        "/etc/sshbell/sshbell.toml",
        "/var/lib/sshbell/: it contains state.db",
        "user sshbell",
        "group sshbell",
        "installed.json",
    ):
        assert what in kept
    assert f"remove the kept files that you do not need: rm -r {config} {people} {state.parent};" in steps[-1]
    config.unlink()
    people.unlink()
    shutil.rmtree(state.parent)
    uninstall(tree, Said())
    assert everything(tree) == before


def test_uninstall_names_what_is_left(tree: Path) -> None:
    """What the administrator, or rsyslogd, has put beside is named, and the record of what is kept is not."""
    (tree / "var/log").mkdir(parents=True)
    install(tree, Said())
    (tree / "usr/libexec/rsyslog/of-somebody").touch()
    (tree / "etc/sshbell/mail.password").write_text("secret")
    (tree / "var/log/sshbell.err").touch()
    steps = uninstall(tree, Said())
    assert f": rm -r {tree}/etc/sshbell/mail.password; then" in steps[1]
    assert f"{tree}/var/log/sshbell.err" in steps[2]
    (tree / "etc/sshbell/mail.password").unlink()
    # What others have put into a directory that we made is never to be removed with it.
    assert "that you do not need, then" in uninstall(tree, Said())[1]
    (tree / "usr/libexec/rsyslog/of-somebody").unlink()
    assert len(uninstall(tree, Said())) == 2
    assert not (tree / "etc/sshbell").exists()


def test_a_configuration_that_was_made_roots_alone(tree: Path) -> None:
    """An editor may have closed it to sshbell's user, without whom no message goes out; a second call gives it back."""
    before = everything(tree)
    install(tree, Said())
    config = tree / "etc/sshbell/sshbell.toml"
    wanted = everything(tree)["etc/sshbell/sshbell.toml"][:3]
    os.chown(config, 0, 0)
    config.chmod(0o600)
    said = Said()
    install(tree, said)
    assert said.of("changed") == [f"/etc/sshbell/sshbell.toml: owner and mode from 0:0 0600 to 0:{numbers(tree)[1]} 0640"]
    assert everything(tree)["etc/sshbell/sshbell.toml"][:3] == wanted
    uninstall(tree, Said())
    assert everything(tree) == before


def test_a_broken_configuration(tree: Path) -> None:
    """The defaults are taken for now; what is left to do is to mend it, not to say whom to tell."""
    (tree / "etc/sshbell").mkdir()
    (tree / "etc/sshbell/sshbell.toml").write_text("kepe = 1\n")
    steps = install(tree, Said())
    assert steps[0] == f"fix {tree}/etc/sshbell/sshbell.toml:1: there is no key 'kepe'; did you mean 'keep'?"
    assert "whom to tell" not in "".join(steps)


def test_a_new_version_brings_its_files(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier version wrote, and nobody changed, becomes this version's; uninstalling removes it."""
    before = everything(tree)
    with monkeypatch.context() as earlier:
        earlier.setattr(module, "_ENTRY_POINT", "#!/bin/sh\nexec {interpreter} old {drop_in}\n")
        install(tree, Said())
    said = Said()
    install(tree, said)
    assert said.of("updated") == ["/usr/libexec/rsyslog/sshbell"]
    assert b"-m consumer run" in (tree / "usr/libexec/rsyslog/sshbell").read_bytes()
    uninstall(tree, Said())
    assert everything(tree) == before


def test_an_interrupted_installation(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever step it was killed at, uninstalling leaves no trace of it; so does going on and uninstalling then."""
    before = everything(tree)
    for goes_on in (False, True):
        for dies_at in range(5):
            written = 0

            def dying(path: Path, data: bytes, owned: Owned) -> None:
                nonlocal written
                if written == dies_at:  # noqa: B023 - called in this turn alone
                    raise KeyboardInterrupt
                written += 1
                write_file(path, data, owned)

            with monkeypatch.context() as killed:
                killed.setattr(module, "write_file", dying)
                if dies_at < 4:
                    with pytest.raises(KeyboardInterrupt):
                        install(tree, Said())
                else:
                    install(tree, Said())
            if goes_on:
                install(tree, Said())
            uninstall(tree, Said())
            assert everything(tree) == before


def test_secrets_and_a_state_directory_of_ones_own(tree: Path) -> None:
    """Secrets that the configuration names, and the state it names, get their owner and mode; elsewhere nothing is touched."""
    (tree / "etc/sshbell").mkdir()
    inside, outside = tree / "etc/sshbell/password", tree / "srv/password"
    outside.parent.mkdir()
    for secret in (inside, outside):
        secret.write_text("secret")
        secret.chmod(0o644)
    channel = '[[channel]]\ntype = "email"\nname = "{0}"\nto = ["a"]\nusername = "a"\npassword = {{ file = "/{1}" }}\n'
    text = 'state_dir = "/srv/bell/state"\n' + channel.format("a", "etc/sshbell/password") + channel.format("b", "srv/password")
    (tree / "etc/sshbell/sshbell.toml").write_text(text)
    before = everything(tree)
    install(tree, Said())
    uid, gid = numbers(tree)
    after = everything(tree)
    assert after["etc/sshbell/password"][:3] == (0, gid, 0o640)
    assert after["srv/password"] == before["srv/password"]
    assert after["srv/bell/state"][:3] == (uid, gid, 0o700)
    uninstall(tree, Said())
    assert everything(tree) == before


def test_a_state_directory_of_others(tree: Path) -> None:
    """A directory with other things in it is refused before anything is done: its owner and mode are not ours to change."""
    (tree / "etc/sshbell").mkdir()
    (tree / "etc/sshbell/sshbell.toml").write_text('state_dir = "/srv"\n')
    (tree / "srv").mkdir()
    (tree / "srv/pages").write_text("somebody's")
    before = everything(tree)
    with pytest.raises(ConfigError, match="state_dir /srv is not empty and does not belong to sshbell alone"):
        install(tree, Said())
    assert everything(tree) == before
    (tree / "srv/pages").unlink()
    install(tree, Said())
    uid, _ = numbers(tree)
    (tree / "srv/state.db").write_text("ours")
    install(tree, Said())
    assert everything(tree)["srv"][0] == uid


def test_a_secret_that_is_a_link(tree: Path) -> None:
    """What a link in our directory leads to keeps its owner and mode; so does what is beside the directory."""
    (tree / "etc/sshbell").mkdir()
    (tree / "etc/shadow").write_text("root:!:::::::\n")
    (tree / "etc/sshbell/password").symlink_to("../shadow")
    for name in ("etc/sshbell/password", "etc/sshbell/../shadow"):
        channel = f'[[channel]]\ntype = "email"\nname = "a"\nto = ["a"]\nusername = "a"\npassword = {{ file = "/{name}" }}\n'
        (tree / "etc/sshbell/sshbell.toml").write_text(channel)
        (tree / "etc/shadow").chmod(0o600)
        install(tree, Said())
        assert everything(tree)["etc/shadow"][:3] == (0, 0, 0o600)
        uninstall(tree, Said())


def test_where_rsyslogd_gives_up_root(tree: Path) -> None:
    """With $PrivDropToUser sshbell is that user and cannot become another: state and configuration are for it."""
    with (tree / "etc/passwd").open("a") as passwd:
        passwd.write("syslog:x:101:102::/nonexistent:/usr/sbin/nologin\n")
    with (tree / "etc/rsyslog.conf").open("a") as conf:
        conf.write("$PrivDropToUser syslog\n")
    install(tree, Said())
    found = everything(tree)
    assert (found["var/lib/sshbell"][:3], found["etc/sshbell"][:3]) == ((101, 102, 0o700), (0, 102, 0o750))
    assert Accounts(tree).user("sshbell") is None


@pytest.mark.parametrize("name", ["10-first.conf", "50-later.conf"])
def test_another_file_loads_omprog(tree: Path, name: str) -> None:
    """A module is loaded once: where another file does it before ours, ours does not; where it comes behind, it is said."""
    (tree / "etc/rsyslog.d").mkdir()
    (tree / "etc/rsyslog.d" / name).write_text('# comes first\nmodule(load="omprog")\n')
    said = Said()
    install(tree, said)
    (note,) = said.of("note")
    assert f"/etc/rsyslog.d/{name}:2 loads omprog" in note
    ours = (tree / "etc/rsyslog.d/30-sshbell.conf").read_text()
    assert ('\nmodule(load="omprog")\n' in ours) == (name == "50-later.conf")
    if name == "10-first.conf":
        main = tree / "test.conf"
        main.write_text(f'global(workDirectory="{tree}")\nmodule(load="imuxsock")\ninclude(file="{tree}/etc/rsyslog.d/*.conf")\n')
        rsyslogd = needs.program("rsyslogd", "rsyslog")
        assert subprocess.run([rsyslogd, "-N1", "-f", main], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("is_named", [True, False])
def test_uninstall_and_the_files_of_blocking(tree: Path, *, is_named: bool) -> None:
    """They are deleted; if a PAM service asks for one, which may refuse everybody without it, that one is emptied and kept."""
    before = everything(tree)
    install(tree, Said())
    folder = tree / "var/lib/sshbell-block"
    for name in ("access.conf", "hosts.deny", "hosts.allow"):
        (folder / name).write_text("- : ALL : 192.0.2.7\n")
    if is_named:
        (tree / "etc/pam.d").mkdir()
        (tree / "etc/pam.d/sshd").write_text("auth required pam_access.so accessfile=/var/lib/sshbell-block/access.conf\n")
    said = Said()
    uninstall(tree, said)
    assert sorted(path.name for path in folder.glob("*")) == (["access.conf"] if is_named else [])
    if is_named:
        assert "192.0.2.7" not in (folder / "access.conf").read_text()
        assert any("/etc/pam.d/sshd names it" in what for what in said.of("kept"))
        (tree / "etc/pam.d/sshd").unlink()
        (tree / "etc/pam.d").rmdir()
        uninstall(tree, Said())
    assert everything(tree) == before


def test_uninstall_and_codes(tree: Path) -> None:
    """While PAM asks for codes, uninstall does nothing: nobody could log in. Then it deletes the digests of codes."""
    before = everything(tree)
    install(tree, Said())
    CodeStore(tree / "var/lib/sshbell-codes").close()
    service = tree / "etc/pam.d/sshd"
    service.parent.mkdir()
    service.write_text("auth required pam_permit.so\n#auth required pam_exec.so /bin/sshbell pam verify\n")
    (service.parent / "broken").write_text("@include missing\n")
    lines = service.read_text()
    service.write_text(f"{lines}auth requisite pam_exec.so stdout quiet /opt/sshbell/bin/sshbell pam challenge\n")
    installed = everything(tree)
    with pytest.raises(ConfigError, match=r"sshd:3 asks sshbell for codes"):
        uninstall(tree, Said())
    assert everything(tree) == installed
    service.write_text(lines)
    said = Said()
    uninstall(tree, said)
    assert "/var/lib/sshbell-codes" in said.of("removed")
    shutil.rmtree(service.parent)
    assert everything(tree) == before


def test_a_shared_directory_stays_as_it_is(tree: Path) -> None:
    """Install takes no directory that has other files for the one of the file for pam_access."""
    (tree / "etc/sshbell").mkdir()
    (tree / "etc/sshbell/sshbell.toml").write_text('[block]\naccess_file = "/etc/security/sshbell.conf"\n')
    (tree / "etc/security").mkdir(mode=0o755)
    install(tree, Said())
    assert Owned.of(tree / "etc/security") == Owned(0, 0, 0o755)


def test_apparmor(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rsyslogd's profile takes further rules, ours are put there, with the place of the Python that is run."""
    (tree / "etc/apparmor.d/rsyslog.d").mkdir(parents=True)
    (tree / "opt/sshbell").rename(tree / "opt/bell")
    monkeypatch.setattr(module, "this_interpreter", lambda: tree / "opt/bell/bin/python")
    monkeypatch.setattr(module, "code_of", lambda _interpreter: [tree / "opt/bell/lib/python3"])
    install(tree, Said())
    rules = (tree / "etc/apparmor.d/rsyslog.d/sshbell").read_text()
    assert "/opt/bell/bin/python3*" in rules
    assert "/opt/sshbell" not in rules
    # The parser makes a profile of them, and does not load it: many kernels have no AppArmor.
    profile = f"#include <tunables/global>\nprofile rsyslogd /usr/sbin/rsyslogd {{\n#include <abstractions/base>\n{rules}}}\n"
    parser = needs.program("apparmor_parser", "apparmor")
    done = subprocess.run(
        [parser, "--skip-kernel-load", "--skip-cache"], input=profile.encode(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_logrotate(tree: Path) -> None:
    """Where there is a logrotate, it is told of sshbell's own log, and no more once sshbell is gone."""
    (tree / "etc/logrotate.d").mkdir()
    install(tree, Said())
    assert (tree / "etc/logrotate.d/sshbell").read_bytes() == (DROP_IN.parent / "sshbell.logrotate").read_bytes()
    uninstall(tree, Said())
    assert list((tree / "etc/logrotate.d").iterdir()) == []


@pytest.mark.parametrize(
    ("place", "mode", "uid"),
    [
        ("opt/sshbell/lib/python3/consumer/__init__.py", 0o666, 0),
        ("opt/sshbell/lib/python3/consumer/__init__.py", 0o644, 1000),
        ("opt/sshbell/lib/python3/consumer", 0o777, 0),
        ("opt/sshbell/lib", 0o775, 0),
        ("opt/sshbell/bin/python", 0o757, 0),
        ("opt/sshbell/bin", 0o1777, 0),
        ("opt", 0o755, 1000),
    ],
)  # fmt: skip
def test_refuses_what_others_can_write(tree: Path, place: str, mode: int, uid: int) -> None:
    """A Python or a package that others than root could change is refused, by name, and nothing is done."""
    os.chown(tree / place, uid, 1000 if mode == 0o775 else 0)
    (tree / place).chmod(mode)
    before = everything(tree)
    said = Said()
    with pytest.raises(RightsError) as refused:
        install(tree, said)
    assert f"{tree / place} " in str(refused.value)
    assert "as root" in str(refused.value)
    assert " -m venv /opt/sshbell" in str(refused.value)
    assert (everything(tree), said) == (before, [])


def test_refuses_a_link_into_what_others_can_write(tree: Path) -> None:
    """Links are followed: what counts is every place on the way."""
    python = tree / "opt/sshbell/bin/python"
    (tree / "home/alice").mkdir(parents=True)
    (tree / "home").chmod(0o755)
    os.chown(tree / "home/alice", 1000, 1000)
    python.rename(tree / "home/alice/python")
    python.symlink_to("../../../home/alice/python")
    with pytest.raises(RightsError, match="home/alice belongs to uid 1000"):
        install(tree, Said())
    package = tree / "opt/sshbell/lib/python3/extra"
    package.symlink_to(tree / "home/alice")
    assert "home/alice belongs to uid 1000" in (untrusted_below(tree / "opt/sshbell/lib", tree) or "")
    assert untrusted(tree / "opt/sshbell/lib", tree) is None
    os.chown(tree / "home/alice", 0, 0)
    os.chown(tree / "home/alice/python", 1000, 0)
    assert "/alice/python belongs to uid 1000" in (untrusted_below(tree / "opt/sshbell/lib", tree) or "")


def test_refuses_what_its_user_cannot_read(tree: Path) -> None:
    """A Python in /root is root's alone, but sshbell gives up root: that would fail at the first start."""
    (tree / "opt").chmod(0o700)
    with pytest.raises(RightsError, match=r"runs as sshbell, but only root can access .*/opt "):
        install(tree, Said())


def test_refuses_a_record_that_others_could_have_written(tree: Path) -> None:
    """Root removes what the record names: it has to be root's."""
    install(tree, Said())
    record = tree / "etc/sshbell/installed.json"
    os.chown(record, 1000, 0)
    before = everything(tree)
    with pytest.raises(DataError, match="users other than root"):
        uninstall(tree, Said())
    os.chown(record, 0, 0)
    record.write_text("{")
    with pytest.raises(DataError, match=r"installed\.json"):
        uninstall(tree, Said())
    record.unlink()
    assert before.keys() - everything(tree).keys() == {"etc/sshbell/installed.json"}


def test_refuses_to_leave_the_tree(tree: Path, tmp_path: Path) -> None:
    """A link in the tree that leads to this system is not followed."""
    (tmp_path / "outside").mkdir()
    (tree / "var").symlink_to(tmp_path / "outside")
    with pytest.raises(SshbellError, match="leads out of"):
        install(tree, Said())
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.fixture
def open_python(tmp_path: Path) -> Iterator[Path]:
    """Make a real environment in a directory that everybody can write."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (packages,) = (folder / "venv/lib").glob("python*/site-packages")
    ours = [path for path in sys.path if path and Path(path).is_dir() and not path.startswith(sys.base_prefix + "/lib/python")]
    (packages / "all.pth").write_text("\n".join([str(Path(module.__file__).parents[1]), *ours]) + "\n")
    yield folder / "venv/bin/python"
    shutil.rmtree(folder)


def test_command_refuses(open_python: Path, tree: Path) -> None:
    """The command itself, in a Python that others could change: one line that names the place, EX_NOPERM, and nothing is done."""
    before = everything(tree)
    done = subprocess.run(
        [open_python, "-m", "consumer", "install", "--root", tree], capture_output=True, text=True, check=False, cwd="/"
    )
    assert (done.returncode, done.stdout) == (77, ""), done.stderr
    assert done.stderr.count("\n") == 1
    assert "is writable by everybody (mode " in done.stderr
    # Whatever python3 is in the path, such as one of pyenv's: a Python is named that will do.
    (advised,) = re.findall(r"in a clone of it: (\S+) -m venv /opt/sshbell", done.stderr)
    assert subprocess.run([advised, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], check=False).returncode == 0
    assert untrusted(Path(advised)) is None
    real = open_python.resolve()
    assert (f"it runs with {real}; use {advised} instead" in done.stderr) == (real != Path(advised).resolve())
    assert everything(tree) == before


def test_others_than_root(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else is told to call it as root."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for command in (install, uninstall):
        with pytest.raises(RightsError, match="only root"):
            command(tree, Said())


def test_shards(tree: Path) -> None:
    """``--shards`` writes the drop-in; a later installation keeps the number; 1 goes back; uninstall removes the file."""
    path = tree / "etc/rsyslog.d/30-sshbell.conf"
    steps = install(tree, Said(), 4)
    assert path.read_text() == with_shards(DROP_IN.read_text(), 4)
    assert any("docs/fleet.md" in step for step in steps)
    said = Said()
    assert any("docs/fleet.md" in step for step in install(tree, said))
    assert "/etc/rsyslog.d/30-sshbell.conf" in said.of("exists")
    said = Said()
    install(tree, said, 2)
    assert "/etc/rsyslog.d/30-sshbell.conf" in said.of("updated")
    assert path.read_text().count("--shard") == 3  # and in the comment about its origin
    install(tree, Said(), 1)
    assert path.read_bytes() == DROP_IN.read_bytes()
    install(tree, Said(), 3)
    uninstall(tree, Said())
    assert not path.exists()


def test_shards_and_the_main_queue(tree: Path) -> None:
    """A main queue in another file counts, so it has to keep the order; a module that is loaded already is left out."""
    more = 'main_queue(\n  queue.size="10000"\n)\nmodule(load="fmhash")\n'
    (tree / "etc/rsyslog.conf").write_text(more + RSYSLOG)
    said = Said()
    install(tree, said, 2)
    assert said.of("note") == [
        '/etc/rsyslog.conf:1 sets the main queue: set queue.workerThreads="1" there, to keep the lines in order',
        "/etc/rsyslog.conf:4 loads fmhash already, so /etc/rsyslog.d/30-sshbell.conf does not",
    ]
    assert '\nmodule(load="fmhash")' not in (tree / "etc/rsyslog.d/30-sshbell.conf").read_text()
