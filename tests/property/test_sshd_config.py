"""sshd's configuration: what we read in it is what the real ``sshd -T -C`` says, Match blocks, includes and quotes and all."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from consumer.keys.sshd_config import SshdConfig, Visit
from tests import needs
from tests.budget import examples

needs.program("sshd", "openssh-server")

VISITS = [
    Visit("root", "192.0.2.7", "192.0.2.7"),
    Visit("root", "laptop.Example.org", "2001:db8::7"),
    Visit("nobody", "10.1.2.3", "10.1.2.3"),
    Visit("no-such-user", "UNKNOWN", "UNKNOWN"),
]
KEYWORD = st.sampled_from(
    [
        "AuthorizedKeysFile .ssh/authorized_keys",
        'AuthorizedKeysFile "/etc/keys of/%u" .ssh/keys # both',
        "authorizedkeysfile=none",
        "  AuthorizedKeysFile\t%h/a\\ b 'c d'",
        'AuthorizedKeysCommand /bin/echo %u "%f x"',
        "AuthorizedKeysCommand none",
        "AuthorizedKeysCommandUser nobody",
        'TrustedUserCAKeys "/etc/ssh/ca keys"',
        "TrustedUserCAKeys none",
        "AuthorizedKeysCommand /bin/echo '%u' # x",
        "LogLevel 'VERBOSE'",
        'LogLevel="ERROR"',
        "LogLevel FATAL # quiet",
        "StrictModes no",
        "StrictModes = yes",
        "PermitRootLogin yes",
        "# AuthorizedKeysFile no",
        "",
    ]
)
CRITERION = st.sampled_from(
    [
        "User root", "User !root,*", "User no*,r??t", "Group root", "Group nogroup,!root", "Host *.example.org", "Host 192.0.2.?",
        "Address 192.0.2.0/24", "Address !192.0.2.7,*", "Address 2001:db8::/32,10.*", "LocalPort 22", "LocalAddress 127.0.0.0/8",
        'User "root"', "User 'root'", "User = root", "Host=*.example.org",
    ]
)  # fmt: skip


@st.composite
def blocks(draw: st.DrawFn) -> str:
    """Return lines, some of them within Match blocks."""
    head = draw(st.lists(KEYWORD, max_size=3))
    criteria = st.one_of(st.just(["all"]), st.lists(CRITERION, min_size=1, max_size=2))
    # StrictModes may not stand there.
    inner = st.lists(KEYWORD.filter(lambda line: "StrictModes" not in line), max_size=3)
    matches = draw(st.lists(st.tuples(criteria, inner), max_size=3))
    return "\n".join([*head, *("\n".join([f"Match {' '.join(criteria)}", *lines]) for criteria, lines in matches)])


@given(blocks(), blocks().filter(lambda text: "StrictModes" not in text), st.booleans())
@examples(60)
def test_it_is_read_as_sshd_reads_it(main: str, included: str, is_first: bool) -> None:  # noqa: FBT001
    """Both ways, for every visit, the settings are the same."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "conf.d").mkdir()
        Path(folder, "conf.d/1.conf").write_text(included)
        include = f"Include {folder}/conf.d/*.conf\n"
        path = Path(folder, "sshd_config")
        # sshd refuses a command without its user.
        user = "AuthorizedKeysCommandUser nobody\n"
        path.write_text(include + user + main if is_first else user + f"{main}\n{include}")
        said, written = SshdConfig(str(path)), SshdConfig(str(path))
        written._program = ""
        for visit in VISITS:
            answer = said._asked(visit)
            assert answer, "sshd refuses the configuration"
            assert written.settings(visit) == said.settings(visit), visit
            (level,) = answer["loglevel"]
            assert written.values(visit).get("loglevel", ["INFO"])[0] == level, visit
