"""What ``run`` and ``deliver`` say about themselves: one JSON line an event on standard error, short enough not to be torn."""

import os
import sys
from typing import Any

import structlog

# A write of a line up to PIPE_BUF is not mixed with another's.
_LINE_LIMIT = 4000
_TEXT_LIMIT = 500


def configure() -> None:
    """Send everything to descriptor 2; standard output may be rsyslog's protocol."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _bounded,
            structlog.processors.JSONRenderer(ensure_ascii=True),
        ],
        logger_factory=structlog.WriteLoggerFactory(_Stderr()),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )


def _bounded(_logger: Any, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Cut long texts: they may be from the network."""
    return {key: value[:_TEXT_LIMIT] if isinstance(value, str) else value for key, value in event.items()}


class _Stderr:
    """Writes whole lines to descriptor 2, and lets nothing that happens there stop us."""

    def write(self, text: str) -> int:
        """Write one line."""
        try:
            os.write(2, text.encode()[:_LINE_LIMIT])
        except OSError:
            pass  # nobody to complain to
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""
        sys.stderr.flush()
