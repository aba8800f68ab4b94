"""
Text of a log: bytes decoded as latin-1, one character a byte, nothing lost, whatever the encoding was.

``text_of_bytes`` and ``readable`` go in and out; ``harmless`` is for terminals.
"""


def text_of_bytes(raw: bytes) -> str:
    """Bytes of a log as text, one character a byte."""
    return raw.decode("latin-1")


def readable(text: str) -> str:
    r"""Text of a log as people write it: UTF-8, other bytes as ``\\xNN``."""
    return text if text.isascii() else text.encode("latin-1", "replace").decode("utf-8", "backslashreplace")


def harmless(text: str) -> str:
    r"""Text from the network, fit for a terminal: what it would obey is shown as ``\\xNN`` or ``\\uNNNN``."""
    return text if text.isprintable() else "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
