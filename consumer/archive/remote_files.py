"""
Log files on other file systems: S3, Google Cloud Storage, Azure, HDFS. Arrow's library lists and fetches them.

A task copies the files of one host to its own disk, reads the copies, and deletes them: so they can be read twice, as ``replay``
does with files whose lines have no years, and keep the time of their last change.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import msgspec
from pyarrow import fs

from consumer.archive.host_events import HostReport
from consumer.ecs import EcsEvent, FileFields, LogFields
from consumer.errors import InputError, SshbellError

# The names that users of Hadoop know.
_SCHEMES = {"s3a": "s3", "s3n": "s3"}


def is_remote(path: str) -> bool:
    """Return whether a path has a scheme."""
    return "://" in path


def files_below(root: str) -> list[tuple[str, int]]:
    """
    Return the files below a directory with their sizes; "" is the name of ``root`` if that is a file.

    Raises:
        OSError: there is no such directory or file, or the file system does not answer.
    """
    system, path = _opened(root)
    info = system.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        raise OSError("there is no such directory or file")
    files = [info] if info.is_file else system.get_file_info(fs.FileSelector(path, recursive=True))
    return [(file.path.removeprefix(path).strip("/"), file.size) for file in files if file.is_file]


def _opened(path: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a path, and the path on it."""
    scheme, _, rest = path.partition("://")
    try:
        system, found = fs.FileSystem.from_uri(f"{_SCHEMES.get(scheme, scheme)}://{rest}")
    except ValueError as error:  # Arrow does not know the scheme
        raise OSError(str(error)) from error
    return system, found.rstrip("/")


class Copies:
    """Local copies of files, until the end of the context. A file that is local is its own copy."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._names = {path: path for path in paths if not is_remote(path)}
        self._remote = [path for path in paths if is_remote(path)]
        self._errors: list[SshbellError] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = stack.enter_context(TemporaryDirectory(prefix="sshbell-")) if self._remote else ""
            for number, path in enumerate(self._remote):
                try:
                    self._names[_copied(path, f"{folder}/{number}")] = path
                except OSError as error:
                    self._errors.append(InputError(f"{path}: {error.strerror or error}"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *details: object) -> None:
        self._stack.close()

    @property
    def paths(self) -> list[str]:
        """The paths of the copies."""
        return list(self._names)

    def named(self, events: Iterator[EcsEvent]) -> Iterator[EcsEvent]:
        """Yield events with the names of the files in place of those of the copies."""
        if not self._remote:
            return events
        return (
            msgspec.structs.replace(
                event, log=LogFields(file=FileFields(path=self._names[event.log.file.path or ""], line=event.log.file.line))
            )
            for event in events
        )

    def reported(self, report: HostReport) -> HostReport:
        """Return a report with the names of the files, and with the files that could not be fetched."""
        errors = [*self._errors]
        for error in report.errors:
            text = str(error)
            for copy, name in self._names.items():
                text = text.replace(copy, name)
            errors.append(type(error)(text))
        return msgspec.structs.replace(report, errors=tuple(errors))


def _copied(path: str, copy: str) -> str:
    """Copy a file, with the time of its last change; return the path of the copy."""
    system, found = _opened(path)
    modified_ns = system.get_file_info(found).mtime_ns
    # Arrow would unpack a file whose name ends like that of an archive.
    with system.open_input_stream(found, compression=None) as source, Path(copy).open("wb") as sink:
        shutil.copyfileobj(source, sink)
    os.utime(copy, ns=(modified_ns, modified_ns))
    return copy
