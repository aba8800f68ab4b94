r"""
Commands in pam_abl's form: ``[program] [argument] [%h]``.

Source: pam_abl 0.9 ``pam_functions.c``. Grammar::

    command  = { text | argument }           text outside of brackets means nothing
    argument = "[" { character | escape | place } "]"
    escape   = "\" any                        that character
    place    = "%" ( "u" | "h" | "s" | "%" )  user, host, service, a percent sign

There is no shell: each pair of brackets is one argument, whatever the name of a user holds.
"""

import re
from collections.abc import Mapping, Sequence

# As in pam_abl.
ARGUMENT_LIMIT, ARGUMENTS_LIMIT = 1024, 64
_COMMAND = re.compile(r"(?:(?:[^][\\]|\\.)*\[(?:[^][\\]|\\.)*\])+(?:[^][\\]|\\.)*", re.DOTALL)
_ARGUMENT = re.compile(r"(?:[^][\\]|\\.)*\[((?:[^][\\]|\\.)*)\]", re.DOTALL)
_PART = re.compile(r"\\(.)|(%.?)|([^\\%]+)", re.DOTALL)
_PLACES = frozenset({"%u", "%h", "%s"})


def split_command(text: str) -> list[list[str]]:
    """
    Return the arguments of a command, each as a list of texts and of places such as ``%u``.

    Raises:
        ValueError: the text is not a command.
    """
    if _COMMAND.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a command; write each argument in brackets: [/usr/bin/logger] [blocked %h]")
    arguments = [_parts(argument) for argument in _ARGUMENT.findall(text)]
    if not arguments[0]:
        raise ValueError(f"{text!r}: the first pair of brackets has no program")
    if len(arguments) > ARGUMENTS_LIMIT:
        raise ValueError(f"a command has more than {ARGUMENTS_LIMIT} arguments")
    return arguments


def _parts(argument: str) -> list[str]:
    parts: list[str] = []
    for escaped, place, text in _PART.findall(argument):
        if place and place != "%%" and place not in _PLACES:
            raise ValueError(f"there is no {place!r}; there are %u, %h, %s and %%")
        # A single percent sign is no place.
        parts.append("%" if place == "%%" else escaped or place or text)
    return parts


def filled_command(command: Sequence[Sequence[str]], values: Mapping[str, str]) -> list[str]:
    """
    Return a command with its places filled. A NUL cannot be part of an argument, so it becomes a question mark.

    Args:
        command: from ``split_command``.
        values: by ``%u``, ``%h`` and ``%s``.
    """
    return ["".join([values.get(part, part) for part in argument]).replace("\0", "?")[:ARGUMENT_LIMIT] for argument in command]
