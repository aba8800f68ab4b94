"""Sentences about sshbell itself, for scheduled digests."""

from consumer.deliver.language import Language
from consumer.errors import StoreError
from consumer.store.reader import Store
from consumer.store.status_queries import delivered, stored


def health_of(store: Store, language: Language) -> tuple[str, ...]:
    """Return what sshbell has read and not understood, and what its channels could not send. Never raises a StoreError."""
    _ = language.gettext
    try:
        seq, channels = delivered(store)
        state = stored(store, seq)
    except StoreError as error:
        return (_("sshbell cannot read its database: %(error)s", error=str(error)),)
    figures = state.figures
    lines, unmatched = figures.get("lines_total", 0), figures.get("unmatched_total", 0)
    example = state.notes.get("unmatched", "")
    counts = {"lines": language.number(lines), "unmatched": language.number(unmatched)}
    texts = [_("sshbell has read %(lines)s lines so far. No rule reads %(unmatched)s of them.", **counts)]
    if unmatched and example:
        texts.append(_("For example: %(line)s", line=repr(example)))
    for name, channel in sorted(channels.items()):
        if channel.dead:
            texts.append(
                language.ngettext(
                    "The channel %(name)s has given up %(num)s message; see sshbell outbox.",
                    "The channel %(name)s has given up %(num)s messages; see sshbell outbox.",
                    channel.dead, name=name,
                )
            )  # fmt: skip
        if (channel.last_error_us or 0) > (channel.last_success_us or 0):
            texts.append(
                _(
                    "The last try of the channel %(name)s failed: %(error)s",
                    name=name,
                    error=language.reason(channel.last_error or ""),
                )
            )
    return tuple(texts)
