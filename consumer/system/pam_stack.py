"""
PAM's stack of a service, from ``/etc/pam.d``, with ``@include``, ``include`` and ``substack``.

Source: ``pam.conf(5)``. Rule::

    line    = "@include" blanks file | ["-"] type blanks control blanks module *(blanks argument)
    control = word | "[" any but "]" "]"
"""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

PAM_FOLDER = Path("/etc/pam.d")
# An administrator writes these files, but a file that includes itself must not run for ever.
_DEPTH_LIMIT = 8
_FILE_LIMIT = 256 * 1024
_ENTRIES_LIMIT = 1_000

_LINE = re.compile(r"-?(auth|account|password|session)[ \t]+(\[[^\]]*\]|[^ \t]+)[ \t]+([^ \t]+)[ \t]*(.*)")


class PamEntry(NamedTuple):
    """
    A line that runs a module.

    Attributes:
        type: ``auth``, ``account``, ``password`` or ``session``.
        module: its name without folder and suffix: ``pam_unix``.
        arguments: as in the file.
        place: file and number of the line: ``/etc/pam.d/common-auth:17``.
        text: the line as in the file, without blanks around it.
        substacks: the places of the ``substack`` lines around it, from the outermost on.
    """

    type: str
    module: str
    arguments: list[str]
    place: str
    text: str
    substacks: tuple[str, ...] = ()

    @property
    def control(self) -> str:
        """``requisite``, or ``[success=1 default=die]``."""
        found = _LINE.fullmatch(self.text)
        return found[2] if found else ""


def pam_stack(service: str, folder: Path = PAM_FOLDER) -> list[PamEntry]:
    """
    Return the lines of a service in their order, at most ``_ENTRIES_LIMIT``.

    Raises:
        OSError: the file of the service, or one that it includes, cannot be read.
    """
    return list(islice(_entries(folder, service, "", (), 0), _ENTRIES_LIMIT))


def _entries(folder: Path, name: str, wanted: str, substacks: tuple[str, ...], depth: int) -> Iterator[PamEntry]:
    """Yield the lines of a file; those of one type, or all if ``wanted`` is ""."""
    if depth > _DEPTH_LIMIT:
        return
    path = folder / name
    with path.open(encoding="utf-8", errors="backslashreplace") as file:
        text = file.read(_FILE_LIMIT)
    number = 0
    rest = ""
    for line in text.split("\n"):
        number += 1
        if line.endswith("\\"):
            rest += line[:-1] + " "
            continue
        whole, rest = (rest + line).partition("#")[0].strip(), ""
        if whole.startswith("@include"):
            yield from _entries(folder, whole.removeprefix("@include").strip(), wanted, substacks, depth + 1)
        elif found := _LINE.fullmatch(whole):
            kind, control, module, arguments = found.groups()
            if wanted and kind != wanted:
                continue
            place = f"{path}:{number}"
            if control in ("include", "substack"):
                below = (*substacks, place) if control == "substack" else substacks
                yield from _entries(folder, module, kind, below, depth + 1)
            else:
                name_of_module = Path(module).name.removesuffix(".so")
                yield PamEntry(kind, name_of_module, arguments.split(), place, whole, substacks)
