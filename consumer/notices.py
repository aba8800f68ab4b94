"""
Notices: messages in which sshbell reports something about itself. Each is an event in the outbox.

Its ``message`` is English, for programs that take the event as JSON. Its ``labels`` are the notice and the values, with which
``deliver`` writes the same text in the reader's language.
"""

import socket
from collections.abc import Sequence
from enum import Enum

from consumer.actions import OwnAction
from consumer.clock import isoformat, now_us
from consumer.ecs import EcsEvent, EventFields, FoundFields, HostFields, NoticeFields, json_line
from consumer.text import N_

# The label with the name of the notice.
NOTICE_LABEL = "notice"

# Id, action and JSON of a message about sshbell itself.
OwnMessage = tuple[str, str, bytes]


class Notice(Enum):
    """What a notice reports: its text in English."""

    LINES_LOST = N_("only %(file)s had %(events)s events; rsyslogd had lost their lines.")
    KAFKA_STOPPED = N_(
        "Kafka has deleted lines of partition %(partition)s of %(topic)s, from offset %(offset)s on, before sshbell read them. "
        "sshbell worker has stopped."
    )
    KAFKA_SKIPPED = N_(
        "Kafka has deleted lines of partition %(partition)s of %(topic)s, from offset %(offset)s on, before sshbell read them. "
        "sshbell worker goes on with the oldest line that is left."
    )
    KAFKA_ANOTHER = N_(
        "Partition %(partition)s of %(topic)s has another line before offset %(offset)s than the one that sshbell read there: "
        "the topic was deleted and created again. sshbell worker has stopped."
    )
    KAFKA_ANOTHER_SKIPPED = N_(
        "Partition %(partition)s of %(topic)s has another line before offset %(offset)s than the one that sshbell read there: "
        "the topic was deleted and created again. sshbell worker goes on with the oldest line that is left."
    )
    KAFKA_STORE_LOST = N_(
        "The store has no place in partition %(partition)s of %(topic)s, but workers of this group have read it up to offset "
        "%(offset)s. So the store was damaged or replaced. sshbell worker goes on at that offset, and knows nothing about the "
        "connections that were open then."
    )


def notice_message(notice: Notice, event_id: str, values: dict[str, str], found: Sequence[FoundFields] = ()) -> OwnMessage:
    """
    Return a notice of this host.

    Args:
        notice: what it reports.
        event_id: a notice with the id of an earlier one is the same notice.
        values: of the text, by name.
        found: the events that it reports together.
    """
    action = str(OwnAction.NOTICE)
    body = EcsEvent(
        timestamp=isoformat(now_us()),
        event=EventFields(kind="event", action=action, id=event_id),
        message=notice.value % values,
        labels={NOTICE_LABEL: notice.name.lower(), **values},
        sshbell=NoticeFields(found=tuple(found)),
        host=HostFields(name=socket.gethostname()),
    )
    return event_id, action, json_line(body)
