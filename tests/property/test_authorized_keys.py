"""authorized_keys: any bytes are read without an exception, and lines as the real ssh-keygen reads them."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumer.keys.authorized_keys import COMMENT_LIMIT, LINE_LIMIT, _read, parsed
from tests.budget import examples

LABELS = {
    "ssh-ed25519": "ED25519",
    "ssh-rsa": "RSA",
    "ssh-dss": "DSA",
    "ecdsa-sha2-nistp256": "ECDSA",
    "ecdsa-sha2-nistp384": "ECDSA",
    "ecdsa-sha2-nistp521": "ECDSA",
    "sk-ssh-ed25519@openssh.com": "ED25519-SK",
    "sk-ecdsa-sha2-nistp256@openssh.com": "ECDSA-SK",
}


def string(raw: bytes) -> bytes:
    """Write a string as RFC 4251 does."""
    return len(raw).to_bytes(4, "big") + raw


def made() -> dict[bytes, bytes]:
    """Return a blob of each type: real keys, and what a security key would have given of two."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, bits in [("ed25519", 0), ("rsa", 2048), ("ecdsa", 256), ("ecdsa", 384), ("ecdsa", 521)]:
            path = Path(folder, f"{kind}{bits}")
            size = ["-b", str(bits)] if bits else []
            subprocess.run(["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-f", path], check=True)  # noqa: S607
            name, blob = path.with_suffix(".pub").read_bytes().split()[:2]
            found[name] = base64.b64decode(blob)
    point = found[b"ecdsa-sha2-nistp256"][-65:]
    for name, fields in {
        b"sk-ssh-ed25519@openssh.com": [bytes(range(32)), b"ssh:"],
        b"sk-ecdsa-sha2-nistp256@openssh.com": [b"nistp256", point, b"ssh:carol@laptop"],
    }.items():
        found[name] = string(name) + b"".join(map(string, fields))
    return found


KEYS = made()
BLANKS = st.sampled_from([b" ", b"\t", b"  ", b" \t "])
QUOTABLE = st.one_of(
    st.sampled_from([rb"echo \"a, b\"", rb"a\\b", rb"trailing\\ ", b"#no comment", b"ssh-ed25519 AAAA", b"", b"a=b,c", b"'"]),
    st.text("ab ,=\t#'é", max_size=20).map(str.encode),
)
GOOD_OPTION = st.one_of(
    st.sampled_from(
        [b"restrict", b"", b"no-pty", b"pty", b"Port-Forwarding", b"no-X11-forwarding", b"cert-authority", b"verify-required",
         b"no-touch-required", b'environment="A_1=x y"', b'permitopen="*:22"', b'permitopen="[::1]:80"', b'permitlisten="8080"',
         b'tunnel="0"', b'expiry-time="20330401"', b'expiry-time="20330401123456Z"'],
    ),
    QUOTABLE.map(lambda value: b'command="' + value + b'"'),
    QUOTABLE.map(lambda value: b'From="' + value + b'"'),
)  # fmt: skip
GOOD_OPTIONS = st.lists(GOOD_OPTION, min_size=1, max_size=4, unique_by=lambda option: option.partition(b"=")[0].lower()).map(
    b",".join
)
BAD_OPTIONS = st.one_of(
    st.sampled_from(
        [b"no-restrict", b"future", b'from="a",from="b"', b"ssh-rsa", b'command="a"b', b"command", b"command=x",
         b'command="open', b'expiry-time="soon"', b"@marker", b"12x", b'environment="a-b=c"', b'principals="a"', b"-1;"],
    ),
    st.text('ab,="\\', min_size=1, max_size=12).map(str.encode),
)  # fmt: skip
COMMENT = st.one_of(
    st.sampled_from(
        [b"", b"carol@laptop", b"two  words", b"#hash", "Zoë 🔑".encode(), b"\xff\xfe", b"a\x1b[31m", b"\0hidden", b"x\r"]
    ),
    st.text(max_size=20).map(lambda text: text.replace("\n", "").encode("utf-8", "surrogatepass")),
)


class Made(NamedTuple):
    """A line, and whether its options are such as sshd takes."""

    text: bytes
    is_good: bool


@st.composite
def damaged(draw: st.DrawFn, text: bytes) -> bytes:
    """Return base64 that may be cut, longer, or not base64."""
    at = draw(st.integers(0, len(text)))
    how = draw(st.sampled_from(["as it is", "as it is", "as it is", "cut", "padded", "odd", "white", "swapped"]))
    if how == "swapped":
        return text[: at - 1] + b"/" + text[at:] if at else text
    inserted = {"padded": b"=", "odd": b"*", "white": b"\r\v"}.get(how, b"")
    return text[:at] if how == "cut" else text[:at] + inserted + text[at:]


@st.composite
def lines(draw: st.DrawFn) -> Made:
    """Return a line of a file, mostly a good one."""
    kind = draw(st.sampled_from(["key", "key", "key", "key", "empty", "comment", "bytes"]))
    if kind != "key":
        text = {"empty": b" \t", "comment": b" # ssh-ed25519", "bytes": draw(st.binary(max_size=40)).replace(b"\n", b"")}[kind]
        return Made(text, is_good=True)
    type_ = draw(st.sampled_from(sorted(KEYS)))
    blob = base64.b64encode(KEYS[type_])
    # What a damaged point or number is worth is not for us to tell.
    blob = draw(damaged(blob)) if b"ed25519" in type_ else blob
    name = draw(st.sampled_from([type_] * 8 + [b"ssh-ed25519", b"ssh-foo", type_.upper()]))
    good = draw(st.sampled_from(["none", "none", "good", "good", "bad"]))
    options = draw({"none": st.just(b""), "good": GOOD_OPTIONS, "bad": BAD_OPTIONS}[good])
    before = draw(st.sampled_from([b"", b"", b" ", b"\t "]))
    end = draw(st.sampled_from([b"", b"", b"\r", b" "]))
    # One blank: sshd takes more, ssh-keygen does not.
    head = before + (options + draw(st.sampled_from([b" ", b"\t"])) if options else b"")
    return Made(head + name + draw(BLANKS) + blob + draw(BLANKS) + draw(COMMENT) + end, good != "bad")


def keygen(path: str, kind: str) -> list[tuple[str, str, str]]:
    """Return fingerprint, comment and label of each key that the real ssh-keygen finds."""
    done = subprocess.run(
        ["ssh-keygen", "-E", kind, "-lf", path],  # noqa: S607
        capture_output=True, check=False, env=os.environ | {"LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    # A comment that it finds in its memory may have line feeds.
    return re.findall(r"^\d+ ([A-Z0-9]+:\S+) (.*?) \(([A-Z0-9-]+)\)$", done.stdout.decode(), re.DOTALL | re.MULTILINE)


@given(st.lists(lines(), min_size=1, max_size=12))
@examples(150)
@example([Made(b"ssh-ed25519 " + base64.b64encode(KEYS[b"ssh-ed25519"]), is_good=True)])
@example([Made(b"rsa-sha2-512 " + base64.b64encode(KEYS[b"ssh-rsa"]) + b" alias", is_good=True)])
@example([Made(b'command="a \\" b",no-pty\tssh-ed25519 ' + base64.b64encode(KEYS[b"ssh-ed25519"]) + b"\r", is_good=True)])
def test_lines_are_read_as_ssh_keygen_reads_them(found: list[Made]) -> None:
    """The same lines are keys, with the same fingerprints, comments and types."""
    text = b"\n".join(line.text for line in found)
    with tempfile.NamedTemporaryFile() as file:
        file.write(text)
        file.flush()
        by_sha256, by_md5 = keygen(file.name, "sha256"), keygen(file.name, "md5")
    # ssh-keygen does not ask whether sshd takes the options.
    read = [line for line in map(_read, text.split(b"\n")) if line is not None]
    ours = [key for line in read for key in parsed(line.type + b" " + base64.b64encode(line.blob) + b" " + line.comment)]
    assert [(key.sha256, LABELS[key.type]) for key in ours] == [(fingerprint, label) for fingerprint, _, label in by_sha256]
    assert [key.md5 for key in ours] == [fingerprint for fingerprint, _, _ in by_md5]
    for key, (_, comment, _) in zip(ours, by_sha256, strict=True):
        # Where there is none, ssh-keygen 9.2 shows the options, or what it finds in its memory.
        if key.comment and key.comment.isprintable() and "\\" not in key.comment and not key.comment.startswith("#"):
            assert comment.strip() == key.comment
    good = [line for made in found for line in [_read(made.text)] if line is not None and made.is_good]
    allowed = [key.sha256 for key in parsed(b"\n".join(made.text for made in found if made.is_good))]
    assert allowed == [next(parsed(line.type + b" " + base64.b64encode(line.blob))).sha256 for line in good]


@given(st.binary(max_size=300))
def test_any_bytes_are_read(raw: bytes) -> None:
    """Nothing raises, and what is found has bounds."""
    for key in parsed(raw):
        assert len(key.comment) <= COMMENT_LIMIT


@given(BAD_OPTIONS)
def test_a_line_with_bad_options_allows_nothing(options: bytes) -> None:
    """As with sshd: see the test against a real one."""
    line = options + b" ssh-ed25519 " + base64.b64encode(KEYS[b"ssh-ed25519"])
    if options.strip(b","):
        assert not list(parsed(line))


@pytest.mark.parametrize("extra", [LINE_LIMIT, 1_000_000])
def test_a_line_that_is_too_long_is_passed_over(extra: int) -> None:
    """The next one counts, with its right number."""
    line = b"ssh-ed25519 " + base64.b64encode(KEYS[b"ssh-ed25519"]) + b" carol"
    assert [key.comment for key in parsed(line + b"x" * extra + b"\n" + line)] == ["carol"]
