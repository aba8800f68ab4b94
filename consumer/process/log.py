"""The log of ``run`` and ``deliver``: one JSON line per event on standard error, short enough to be written in one piece."""

import logging
import os
import sys
from contextlib import suppress
from traceback import format_exc
from typing import Any

# If rich is there, structlog imports it for a printer that sshbell does not use. That would be a quarter of the start of ``run``.
# So every module that logs gets structlog from here.
_loaded = sys.modules.get("rich")
sys.modules["rich"] = None  # type: ignore[assignment]  # Python then raises ImportError
import structlog  # noqa: E402

if _loaded is None:
    del sys.modules["rich"]
else:
    sys.modules["rich"] = _loaded

get_logger = structlog.get_logger
bind_contextvars = structlog.contextvars.bind_contextvars

# The kernel does not mix writes of up to PIPE_BUF bytes from several processes.
_LINE_LIMIT = 4000
_TEXT_LIMIT = 500
# For a fault of sshbell itself: its origin is at the end of the traceback.
_TRACEBACK_LIMIT = 2000


def configure() -> None:
    """Send everything to descriptor 2; rsyslog may read standard output as its protocol."""
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


def silence() -> None:
    """Log nothing: the caller reports all faults itself."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _bounded(_logger: Any, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Cut long texts: they may come from the network."""
    return {key: value[:_TEXT_LIMIT] if isinstance(value, str) else value for key, value in event.items()}


def _traced(_logger: Any, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Add the traceback of a fault, if there is one: lines of code and the error's text, no values."""
    if event.pop("exc_info", False):
        event["traceback"] = format_exc()[-_TRACEBACK_LIMIT:]
    return event


class _Stderr:
    """Writes whole lines to descriptor 2, and ignores all errors."""

    def write(self, text: str) -> int:
        """Write one line."""
        with suppress(OSError):  # an error of the log has nowhere to go
            os.write(2, text.encode()[: _LINE_LIMIT - 1].rstrip(b"\n") + b"\n")
        return len(text)

    def flush(self) -> None:
        """Flush standard error, although ``write`` does not buffer."""
        sys.stderr.flush()
