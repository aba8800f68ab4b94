"""What ``run`` and ``deliver`` say about themselves: one JSON line an event on standard error, short enough not to be torn."""

import os
import sys
from contextlib import suppress
from traceback import format_exc
from typing import Any

import structlog

# A write of a line up to PIPE_BUF is not mixed with another's.
_LINE_LIMIT = 4000
_TEXT_LIMIT = 500
# Of a fault of ours: where it came from stands at the end.
_TRACEBACK_LIMIT = 2000


def configure() -> None:
    """Send everything to descriptor 2; standard output may be rsyslog's protocol."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _bounded,
            _traced,
            structlog.processors.JSONRenderer(ensure_ascii=True),
        ],
        logger_factory=structlog.WriteLoggerFactory(_Stderr()),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )


def _bounded(_logger: Any, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Cut long texts: they may be from the network."""
    return {key: value[:_TEXT_LIMIT] if isinstance(value, str) else value for key, value in event.items()}


def _traced(_logger: Any, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Add the traceback of a fault, where there is one: lines of code and the error's text, and no values."""
    if event.pop("exc_info", False):
        event["traceback"] = format_exc()[-_TRACEBACK_LIMIT:]
    return event


class _Stderr:
    """Writes whole lines to descriptor 2, and lets nothing that happens there stop us."""

    def write(self, text: str) -> int:
        """Write one line."""
        with suppress(OSError):  # nobody to complain to
            os.write(2, text.encode()[: _LINE_LIMIT - 1].rstrip(b"\n") + b"\n")
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""
        sys.stderr.flush()
