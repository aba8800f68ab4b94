"""``consumer.toml``: each value of a file has its line, in whatever form it stands there."""

from __future__ import annotations

import pytest

from consumer.errors import ConfigError
from consumer.toml import KeyPath, TomlDocument, _Lines

TEXT = '''\
# a = 1
a = 1.5  # b = 2
"b c".d = "x # y = ]"
e = """
f = 1
"""
g = [ "1",
  """2
  """, [3,
    4], # 5,
  { h = 6, i.j = 7 },
]
k = 1979-05-27 07:32:00.5
l = { m = [
  8 ], n = "}" }

[o]
p = \'\'\'
\'q\' = \\\'\'\'
[o.'r.s']
t = -inf
[[u]]
v = 1
[u.w]
x = 2
[[u]]
[[u.y]]
[[u.y]]
z = 3
[u.w]
x = 4
'''
LINES: dict[KeyPath, int] = {
    ("a",): 2, ("b c",): 3, ("b c", "d"): 3, ("e",): 4, ("g",): 7, ("g", 0): 7, ("g", 1): 8, ("g", 2): 9, ("g", 2, 0): 9,
    ("g", 2, 1): 10, ("g", 3): 11, ("g", 3, "h"): 11, ("g", 3, "i"): 11, ("g", 3, "i", "j"): 11, ("k",): 13, ("l",): 14,
    ("l", "m"): 14, ("l", "m", 0): 15, ("l", "n"): 15, ("o",): 17, ("o", "p"): 18, ("o", "r.s"): 20, ("o", "r.s", "t"): 21,
    ("u",): 22, ("u", 0): 22, ("u", 0, "v"): 23, ("u", 0, "w"): 24, ("u", 0, "w", "x"): 25, ("u", 1): 26, ("u", 1, "y"): 27,
    ("u", 1, "y", 0): 27, ("u", 1, "y", 1): 28, ("u", 1, "y", 1, "z"): 29, ("u", 1, "w"): 30, ("u", 1, "w", "x"): 31,
}  # fmt: skip


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines(end: str) -> None:
    """Of texts over several lines the first counts; what looks like a key in a text or a remark is none."""
    text = TEXT.replace("\n", end)
    TomlDocument(text.encode(), "x")  # it is right
    assert _Lines(text).found == LINES


def test_faults() -> None:
    """They come in the order of the file; one about a key that is not there has the line of its table."""
    document = TomlDocument(TEXT.encode(), "x.toml")
    document.end()
    document.fault(("u", 1, "w", "missing"), "third")
    document.fault(("a",), "second")
    document.fault(("nothing", "here"), "first")
    assert document.count == 3
    with pytest.raises(ConfigError) as raised:
        document.end()
    assert raised.value.args == ("x.toml: first", "x.toml:2: second", "x.toml:30: third")


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 16 + "1" + "]" * 16, "a." * 16 + "a = 1", "'" + "9" * 5000 + "' = 9223372036854775807"]
)
def test_what_is_near_the_bounds(text: str) -> None:
    """What is within the bounds is read, and has its line."""
    document = TomlDocument(text.encode(), "x.toml")
    document.fault(next(iter((key,) for key in document.tables)), "a fault")
    with pytest.raises(ConfigError, match=r"\Ax\.toml:1: a fault\Z"):
        document.end()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"a = 1\nb = \xff", "x.toml:2: byte 11 of the file is not UTF-8"),
        (b"a = 1\nb", "x.toml:2: Expected '=' after a key in a key/value pair"),
        (b"a = 1\n\nb = [1,\n\n", "x.toml:3: "),
        (b"\na = " + b"[" * 100_000, "x.toml:2: nested more than 16 levels deep"),
        (b"\na = " + b"[" * 17 + b"]" * 17, "x.toml:2: nested more than 16 levels deep"),
        (b"a = 1\nb = " + b"{a=" * 300 + b"1" + b"}" * 300, "x.toml:2: nested more than 16 levels deep"),
        (b"\n\n[" + b"a." * 50_000 + b"a]", "x.toml:3: nested more than 16 levels deep"),
        (b"\n\n" + b"a . 'b'." * 50_000 + b"a = 1", "x.toml:3: nested more than 16 levels deep"),
        (b"# x\na = " + b"9" * 5000, "x.toml:2: a number of more than 4,000 digits"),
        (b'a = """\n\n"""\nb = [1, -' + b"9_" * 5000 + b"9]", "x.toml:4: a number of more than 4,000 digits"),
        (b"a = [1,\n" + b"9" * 20 + b"]", "x.toml:2: a: the number has more than 64 bits"),
        (b"b.c = 0x" + b"f" * 100_000, "x.toml:1: b.c: the number has more than 64 bits"),
        (b'a = ["x",\n"x\\u0000"]\nb = 1', "x.toml:2: a has a NUL character (\\u0000), which no setting can hold"),
        (b"a = 1\na = 2\n", "x.toml:2: Cannot overwrite a value (column 6); the file has this key already"),
    ],
)
def test_what_is_no_toml(text: bytes, says: str) -> None:
    """The line is said, and a hint."""
    with pytest.raises(ConfigError) as raised:
        TomlDocument(text, "x.toml").end()
    assert str(raised.value).startswith(says)
