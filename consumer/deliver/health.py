"""Sentences about sshbell itself, for scheduled digests."""

from pathlib import Path

from consumer.errors import StoreError
from consumer.store.queries import delivered, stored


def health_of(state_dir: Path) -> tuple[str, ...]:
    """Return what sshbell has read and not understood, and what its channels could not send. Never raises a StoreError."""
    try:
        seq, channels = delivered(state_dir)
        state = stored(state_dir, seq)
    except StoreError as error:
        return (str(error),)
    figures = state.figures
    lines, unmatched = figures.get("lines_total", 0), figures.get("unmatched_total", 0)
    example = state.notes.get("unmatched", "")
    texts = [
        f"sshbell has read {lines:,} lines so far. No rule reads {unmatched:,} of them"
        + (f", such as {example!r}." if unmatched and example else ".")
    ]
    for name, channel in sorted(channels.items()):
        if channel.dead:
            texts.append(f"The channel {name} has given up {channel.dead:,} messages; see sshbell outbox.")
        if (channel.last_error_us or 0) > (channel.last_success_us or 0):
            texts.append(f"The last try of the channel {name} failed: {channel.last_error}")
    return tuple(texts)
