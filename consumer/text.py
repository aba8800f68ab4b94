"""
Text of a log: bytes decoded as latin-1, one character per byte, without loss, whatever the encoding was.

``text_of_bytes`` and ``readable`` convert to and from this form; ``harmless`` is for terminals.
"""


def text_of_bytes(raw: bytes) -> str:
    """Return the bytes of a log as text, one character per byte."""
    return raw.decode("latin-1")


def readable(text: str) -> str:
    r"""Return text of a log for people: UTF-8, with other bytes as ``\\xNN``."""
    return text if text.isascii() else text.encode("latin-1", "replace").decode("utf-8", "backslashreplace")


def harmless(text: str) -> str:
    r"""Return text from the network for a terminal: characters that it would obey become ``\\xNN`` or ``\\uNNNN``."""
    return text if text.isprintable() else "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
