"""Spans of time, as ``sshbell.toml`` has them: "90s", "10m", "36h", "90d", "4w"."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def seconds_of(span: str) -> float:
    """Return the seconds of a span such as ``90d``: a number of seconds, minutes, hours, days or weeks."""
    return float(int(span[:-1]) * _SECONDS[span[-1]])


def micros_of(span: str) -> int:
    """Return the microseconds of a span, as ``seconds_of`` reads it."""
    return round(seconds_of(span) * 1_000_000)
