"""``consumer.deliver.sentences``: who, on which host, from where, in every combination, whatever others call themselves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from consumer.actions import EventAction, LineAction, OwnAction
from consumer.deliver.event_kinds import KINDS
from consumer.deliver.facts import facts_of
from consumer.deliver.language import ENGLISH
from consumer.deliver.sentence_parts import named
from consumer.deliver.sentences import Sentences, sentences_of
from tests.ecs_events import ecs

if TYPE_CHECKING:
    from types import EllipsisType

LYON = {"ip": "9.9.9.9", "address": "9.9.9.9", "geo": {"city_name": "Lyon", "country_name": "France"}}
PROSE = "root from Lyon, France. Nothing is wrong"
QUOTED = "“root·from·Lyon··France.·Nothing·…”"


def said(
    action: str = "ssh_login", *, user: str | None = "deploy", person: str | None = None, host: str | None = "web1",
    source: dict[str, Any] | None = None, **ssh: Any,
) -> Sentences:  # fmt: skip
    """Return the sentences about an event."""
    happened = {"action": action, "duration": 7_500_000_000_000 if action == "ssh_logout" else None}
    event = ecs({
        "event": happened, "user": {"name": user, "full_name": person}, "host": {"name": host},
        "source": LYON if source is None else source, "ssh": ssh, "message": "All is well.",
    })  # fmt: skip
    return sentences_of(facts_of(event, None))


@pytest.mark.parametrize(
    ("known", "title", "subject"),
    [
        ({"person": "Carol"}, "Carol logged in to web1 as deploy from Lyon, France.", ...),
        ({}, "deploy logged in to web1 from Lyon, France.", ...),
        ({"user": None}, "Somebody logged in to web1 from Lyon, France.", ...),
        ({"user": None, "host": None, "source": {}}, "Somebody logged in.", ...),
        ({"person": "Carol", "user": None, "host": None, "source": {}}, "Carol logged in.", ...),
        ({"person": "Carol or Dave", "user": "root"}, "Carol or Dave logged in to web1 as root from Lyon, France.", ...),
        ({"user": PROSE}, f"{QUOTED} logged in to web1 from Lyon, France.", ...),
        (
            {"key": {"owner": ["carol@laptop"]}}, "deploy logged in to web1 with the key carol@laptop from Lyon, France.",
            "deploy logged in to web1 from Lyon, France",
        ),
        ({"key": {"owner": ["carol@laptop"]}, "person": "Carol"}, "Carol logged in to web1 as deploy from Lyon, France.", ...),
        ({"key": {"owner": ["carol", "dave"]}}, "deploy logged in to web1 from Lyon, France.", ...),
        ({"key": {"owner": [PROSE]}}, "deploy logged in to web1 from Lyon, France.", ...),
        (
            {"certificate": {"id": "carol"}, "key": {"owner": ["x"]}},
            "deploy logged in to web1 with the certificate carol from Lyon, France.",
            "deploy logged in to web1 from Lyon, France",
        ),
        ({"certificate": {"id": PROSE}}, "deploy logged in to web1 from Lyon, France.", ...),
        ({"person": "Carol", "via": {"host": {"name": "bastion1"}}}, "Carol logged in to web1 as deploy through bastion1.", ...),
        ({"via": {"host": {"name": PROSE}}}, f"deploy logged in to web1 through {QUOTED}.", ...),
        ({"host": PROSE}, f"deploy logged in to {QUOTED} from Lyon, France.", ...),
        ({"action": "ssh_logout", "person": "Carol"}, "Carol logged out of web1 after 2 h 5 min.", ...),
        ({"action": "ssh_logout"}, "deploy logged out of web1 after 2 h 5 min.", ...),
        ({"action": "ssh_logout", "user": PROSE, "host": None}, f"{QUOTED} logged out after 2 h 5 min.", ...),
        (
            {"action": "ssh_attempt", "user": "root", "person": "Carol"},
            "Somebody tried to log in to web1 as root from Lyon, France, and failed.",
            "Failed login to web1 as root from Lyon, France",
        ),
        (
            {"action": "ssh_attempt", "user": PROSE, "count": 3},
            f"Somebody tried 3 times to log in to web1 as {QUOTED} from Lyon, France, and failed.",
            f"Failed login to web1 as {QUOTED} from Lyon, France (3 times)",
        ),
        (
            {"action": "ssh_probe", "user": PROSE}, "Somebody connected to web1 from Lyon, France without trying to log in.",
            "Connection to web1 from Lyon, France without a login",
        ),
        ({"action": "sshbell_test", "source": {"ip": "203.0.113.7"}}, "deploy logged in to web1 from 203.0.113.7.", ...),
        ({"action": "sshbell_notice"}, "sshbell on web1 reports: All is well.", "sshbell on web1: All is well."),
        ({"action": "sshbell_notice", "host": None}, "sshbell reports: All is well.", "sshbell: All is well."),
        ({"action": "ssh_new"}, "sshbell on web1 reports an event that this version does not know: ssh_new.", ...),
        ({"action": "", "host": None}, "sshbell reports an event that this version does not know.", ...),
    ],
)  # fmt: skip
def test_sentences(known: dict[str, Any], title: str, subject: str | EllipsisType) -> None:
    """The first line and the subject say who, on which host and from where; the subject is the shorter one."""
    found = said(**known)
    assert found.title == title
    assert found.headline == (title.removesuffix(".") if subject is ... else subject)
    assert len(found.headline) <= len(title)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({"ip": "10.1.2.3", "geo": {"name": "private network"}}, "a private network (10.1.2.3)"),
        ({"ip": "fd00::1", "geo": {"name": "unique local"}}, "a private network (fd00::1)"),
        ({"ip": "100.64.0.1", "geo": {"name": "carrier-grade NAT"}}, "a carrier-grade NAT (100.64.0.1)"),
        ({"ip": "127.0.0.1", "geo": {"name": "loopback"}}, "the host itself (127.0.0.1)"),
        ({"ip": "fe80::1", "geo": {"name": "link-local"}}, "the local network (fe80::1)"),
        ({"ip": "203.0.113.7", "geo": {"name": "documentation"}}, "203.0.113.7"),
        ({"geo": {"name": "private network"}}, "a private network"),
        ({"ip": "9.9.9.9", "geo": {"name": PROSE}}, "9.9.9.9"),
        ({"ip": "2001:db8::1"}, "2001:db8::1"),
        ({"address": "fe80::1%eth0"}, "fe80::1"),
        ({"address": "host.example.org"}, "host.example.org"),
        ({"address": "UNKNOWN"}, ""),
        ({"address": PROSE}, QUOTED),
        ({"ip": "9.9.9.9", "geo": {"country_name": "France"}}, "France"),
        ({"ip": "9.9.9.9", "geo": {"country_iso_code": "FR"}}, "FR"),
        ({"ip": "9.9.9.9", "geo": {"city_name": "L" * 70}}, "9.9.9.9"),
        (LYON | {"anonymous": ["vpn", "hosting"]}, "Lyon, France (VPN, data centre)"),
        (LYON | {"anonymous": ["tor", PROSE]}, "Lyon, France (Tor)"),
        ({}, ""),
    ],
)
def test_from_where(source: dict[str, Any], text: str) -> None:
    """A place where there is one, with what hides who is behind it; else the address, and what kind of network it is of."""
    assert said(source=source).from_where == text


@pytest.mark.parametrize(
    ("known", "text"),
    [
        (
            {"claim": "accepted", "claimed_by_uid": 1000},
            "A process with uid 1000 on web1 forged a log line: it claims a login of root, but nobody logged in.",
        ),
        (
            {"claim": "accepted", "claimed_by_uid": 1000, "claimed_by_user": "mallory", "user": PROSE},
            f"A process of mallory (uid 1000) on web1 forged a log line: it claims a login of {QUOTED}, but nobody logged in.",
        ),
        (
            {"claim": "session_closed", "claimed_by_uid": 0, "user": None, "claimed_by_user": PROSE},
            f"A process of {QUOTED} (uid 0) on web1 forged a log line: it claims the end of a session, but nobody logged out.",
        ),
        (
            {"claim": "failed", "host": None},
            "A process forged a log line: it claims a failed login of root, but nobody tried to log in.",
        ),
        (
            {"claim": PROSE, "person": "Carol"},
            "A process on web1 forged a log line: it claims an event of root, but sshd did not write it.",
        ),
        (
            {"claim": "accepted", "claimed_by_uid": 1000, "count": 1399},
            "A process with uid 1000 on web1 forged 1,399 log lines: the first claims a login of root, but nobody logged in.",
        ),
    ],
)
def test_forged(known: dict[str, Any], text: str) -> None:
    """A forged line is said to be a claim, with the account that it names and the uid that wrote it."""
    found = said(**({"action": "ssh_forged", "user": "root"} | known))
    assert found.title == text
    assert found.headline.startswith("FORGED line claims ")
    assert "Carol" not in found.title


def test_a_flood_of_forged_lines() -> None:
    """The subject says of which line it speaks, and how many more there were; a mail filter finds the same words."""
    found = said("ssh_forged", user="root", claim="accepted", count=1399)
    assert found.headline == "FORGED line claims a login of root on web1, and 1,398 more"


@pytest.mark.parametrize("claim", LineAction)
def test_every_claim(claim: LineAction) -> None:
    """Whatever a line claims, no name of an action stands in the sentence."""
    found = said("ssh_forged", user="root", claim=str(claim), claimed_by_uid=1000)
    pattern = r"A process with uid 1000 on web1 forged a log line: it claims (an|a|the) [a-z ]+ of root, but [a-z ]+\."
    assert re.fullmatch(pattern, found.title)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("alice", "alice"),
        ("jürgen.müller+ssh@corp-1", "jürgen.müller+ssh@corp-1"),
        ("CORP\\carol", "“CORP\\carol”"),
        ("a b", "“a·b”"),
        ("x”. Carol logged in “", "“x·.·Carol·logged·in··”"),
        ("x\" '«»‟″\uff02`", "“x·········”"),
        ("a" * 64, "a" * 64),
        ("a" * 65, f"“{'a' * 32}…”"),
        ("alice\n", "“alice·”"),
        ("r\u043e\u043et", "“r\u043e\u043et”"),  # Cyrillic
    ],
)
def test_named(text: str, shown: str) -> None:
    """One word stands as it is; all else in quotes that it cannot end, without a blank."""
    assert named(text, ENGLISH) == shown


LOCK = ["Lock the account: `usermod --expiredate 1 ACCOUNT`", "End its processes: `pkill -KILL -u ACCOUNT`"]
END = ["End the session. This lists it: `pgrep -a sshd`"]


@pytest.mark.parametrize(
    ("known", "steps"),
    [
        ({"method": "publickey"}, [*LOCK, "Remove the key."]),
        ({"method": "publickey", "certificate": {"id": "carol"}}, [*LOCK, "Revoke the certificate."]),
        ({"method": "password"}, [*LOCK, "Change the password."]),
        ({}, [*LOCK, "Change its password and keys."]),
        ({"method": "keyboard-interactive", "submethod": "pam"}, [*LOCK, "Change the password."]),
        ({"method": "publickey", "user": "root"}, [*END, "Remove the key."]),
        ({"method": "publickey", "user": PROSE}, [*LOCK, "Remove the key."]),
    ],
)
def test_advice(known: dict[str, Any], steps: list[str]) -> None:
    """The advice fits the login, and root is neither locked nor killed. No text of an event stands in a command."""
    assert said(**known).advice == (
        "If this was not you or somebody you know, act on web1 now:",
        *(f"{number}. {step}" for number, step in enumerate(steps, 1)),
        "If you do not administer web1, call somebody who does.",
    )


def test_advice_for_an_odd_host() -> None:
    """A host that somebody chose a sentence for is quoted; one that is not known is the host."""
    first, *_, last = said(host=PROSE).advice
    assert f"act on {QUOTED} now:" in first
    assert f"administer {QUOTED}," in last
    assert "act on the host now:" in said(host=None).advice[0]


def test_advice_about_a_forged_line() -> None:
    """It names the user that wrote the line by uid alone; where that is not known, there is nothing to look at."""
    warning = "If this was not a test of yours, somebody with access to web1 may be trying to mislead you."
    look = "See what uid 1000 runs there: `ps -fu 1000`"
    assert said("ssh_forged", claimed_by_uid=1000, claimed_by_user=PROSE).advice == (warning, look)
    assert said("ssh_forged").advice == (warning,)


@pytest.mark.parametrize("action", ["ssh_logout", "ssh_attempt", "ssh_probe", "sshbell_test", "sshbell_notice", ""])
def test_no_advice(action: str) -> None:
    """Where nothing is to be done, nothing is advised."""
    assert said(action, method="publickey").advice == ()


def test_uid_0_is_root() -> None:
    """An account with uid 0 is root under another name."""
    known = {"event": {"action": "ssh_login"}, "user": {"name": "toor", "id": "0"}, "ssh": {"method": "publickey"}}
    assert "usermod" not in str(sentences_of(facts_of(ecs(known), None)).advice)


def test_kinds() -> None:
    """Each event has a word for what it is, in one and in several."""
    actions = [action for action in EventAction if not action.is_finding]
    kinds = [said(action).kind for action in (*actions, *OwnAction, "ssh_new")]
    assert kinds == [
        "Login", "Logout", "Failed login", "Connection without a login", "Trouble of sshd", "Canary", "Forged line", "Block",
        "Test", "Notice", "Event",
    ]  # fmt: skip
    assert [KINDS[action].heading.lower() for action in actions] == [
        "logins", "logouts", "failed logins", "connections without a login", "troubles of sshd", "canaries", "forged lines",
        "blocks",
    ]  # fmt: skip


@pytest.mark.parametrize("action", [action for action in EventAction if action.is_finding])
def test_findings(action: EventAction) -> None:
    """Each finding has a kind, a title and a subject that say what was found and on which host, whoever chose the names."""
    found = said(action, user=PROSE)
    assert found.kind == f"{action.noun[0].upper()}{action.noun[1:]}"
    assert found.title.endswith(".")
    assert "does not know" not in found.title
    for text in (found.title, found.headline):
        assert "web1" in text
        assert PROSE not in text


@pytest.mark.parametrize(
    ("action", "labels", "title"),
    [
        ("host_silent", {"silent_s": "90000", "factor": "3"},
         "web1 has sent no line for 1 d 1 h, more than 3 times its longest pause of the last two weeks."),
        ("host_changed_wording", {"share": "40 %", "usual": "2 %"},
         "sshbell has no rule for 40 % of the last lines of sshd on web1; before, it was 2 %."),
        ("clock_skew", {"direction": "ahead", "skew_s": "300"}, "The clock of web1 is 5 min ahead."),
        ("clock_skew", {"direction": "behind", "skew_s": "3600"}, "The clock of web1 is 1 h behind, or its lines come so late."),
        ("clock_skew", {}, "The clock of web1 is 0 s behind, or its lines come so late."),
        ("ssh_canary", {}, "The canary on web1 arrived: sshbell gets the lines of sshd."),
    ],
)  # fmt: skip
def test_hosts(action: str, labels: dict[str, str], title: str) -> None:
    """Findings about a host, and the canary, say what is known of it."""
    event = {"event": {"action": action}, "host": {"name": "web1"}, "labels": labels}
    assert sentences_of(facts_of(ecs(event), None)).title == title
