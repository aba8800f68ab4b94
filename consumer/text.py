"""
Text of a log: bytes decoded as latin-1, one character per byte, without loss, whatever the encoding was.

``text_of_bytes`` and ``readable`` convert to and from this form; the others make texts for people. ``N_`` and ``NN_`` mark the
texts that ``deliver`` translates.
"""

from collections.abc import Sequence


def text_of_bytes(raw: bytes) -> str:
    """Return the bytes of a log as text, one character per byte."""
    return raw.decode("latin-1")


def readable(text: str) -> str:
    r"""Return text of a log for people: UTF-8, with other bytes as ``\\xNN``."""
    return text if text.isascii() else text.encode("latin-1", "replace").decode("utf-8", "backslashreplace")


# Characters that count as printable and show nothing: fillers, the blank of Braille, joiners, variation selectors.
_INVISIBLE = frozenset(
    map(chr, (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10)))
) | frozenset(map(chr, range(0xE0100, 0xE01F0)))


def harmless(text: str) -> str:
    r"""
    Return text from the network for a terminal.

    Characters that a terminal would obey, and those that nobody would see, become ``\\xNN`` or ``\\uNNNN``.
    """
    if text.isprintable() and (text.isascii() or _INVISIBLE.isdisjoint(text)):
        return text
    return "".join(char if char.isprintable() and char not in _INVISIBLE else _escaped(char) for char in text)


def quoted(text: str) -> str:
    """Return a text from the network for a row whose parts are separated by commas: in quotes if it contains a comma."""
    return repr(text) if "," in text else text


def counted(number: int, one: str, several: str = "") -> str:
    """Return a number of things: "1 line", "2,000 lines"; ``several`` is the plural if it is not ``one`` with an s."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def listed(words: Sequence[str]) -> str:
    """Return words as a list in a sentence: "a, b and c"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def N_(text: str) -> str:  # noqa: N802 - the name by which Babel and every translator know it
    """Return a text unchanged. The call shows Babel that the text is translated elsewhere."""
    return text


def NN_(one: str, several: str) -> tuple[str, str]:  # noqa: N802 - as above, of a text with a plural
    """Return singular and plural of a text. The call shows Babel that they are translated elsewhere."""
    return one, several


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
