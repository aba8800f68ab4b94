r"""
The JSON that each web service takes for a message: pure functions, one for each service.

The lead of a message, which is its text up to the first blank line, answers who, where, from where and what to do. Services with
a form for tables get the details in that form; the others get the text.

Names in a message may be hostile. Each function uses a form of text in which its service obeys nothing, or else escapes every
character that the service obeys. It also keeps the limits that the service publishes, and marks each text that it cuts.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from jinja2 import ChainableUndefined
from jinja2.sandbox import SandboxedEnvironment

from consumer.clock import isoformat, now_us
from consumer.deliver.channels import Message
from consumer.deliver.language import language_of

Payload = dict[str, Any]
_Escape = Callable[[str], str]

# docs.slack.dev, "Blocks": header, section, fields of a section, and blocks of a message. The text for notifications has no
# limit that a title could reach.
SLACK_HEADER, SLACK_TEXT, SLACK_FIELD, SLACK_FIELDS, SLACK_BLOCKS = 150, 3000, 2000, 10, 50
# discord.com/developers, "Embed Limits"; the last is for all texts of a message together.
DISCORD_TITLE, DISCORD_TEXT, DISCORD_NAME, DISCORD_VALUE, DISCORD_FIELDS, DISCORD_TOTAL = 256, 4096, 256, 1024, 25, 6000
# learn.microsoft.com: a webhook of Teams takes 28 KB. This is for the items of a card; the rest is for what surrounds them.
TEAMS_BYTES = 24_000
# core.telegram.org/bots/api, "sendMessage".
TELEGRAM_TEXT = 4096
# docs.ntfy.sh, "Limitations": a longer message becomes an attachment, or is refused. The title has no published limit.
NTFY_BYTES = 4096
_NTFY_TITLE = 250

# The parts of a message that a template of the user's, or a command, gets; and those of ``Message.code``.
FIELDS = ("id", "subject", "title", "text", "details", "closing", "thread", "late", "event", "language")
_EXPRESSION = re.compile(r"\s*\{\{((?:[^{}]|\{(?!\{)|\}(?!\}))+)\}\}\s*")

# The most characters of the lead's further lines and of the advice, so that a template of the user's leaves room for the facts.
_DISCORD_LEAD = 2000


def slack(message: Message) -> Payload:
    """
    Return a message in blocks.

    Only labels of ours are Markdown. All other text has the type ``plain_text``, in which Slack shows Markdown as it is. In both,
    ``<!channel>`` would be a command, so ``&``, ``<`` and ``>`` are entities everywhere.
    """
    cut = _cut_mark(message)
    head, rest = _head_and_rest(message)
    blocks: list[Payload] = [{"type": "header", "text": _slack_text(head, SLACK_HEADER, cut)}]
    if _size(_slack_escaped(head)) > SLACK_HEADER:
        rest = f"{head}\n{rest}"
    blocks += [{"type": "section", "text": _slack_text(part, SLACK_TEXT, cut)} for part in _parts(rest, SLACK_TEXT // 2)]
    details = message.details
    for start in range(0, len(details), SLACK_FIELDS // 2):
        fields: list[Payload] = []
        for _, value, label in details[start : start + SLACK_FIELDS // 2]:
            shown = _fitted(label, SLACK_FIELD - 2, cut, _slack_escaped)
            fields += [{"type": "mrkdwn", "text": f"*{shown}*", "verbatim": True}, _slack_text(value, SLACK_FIELD, cut)]
        blocks.append({"type": "section", "fields": fields})
    blocks += [{"type": "section", "text": _slack_text(part, SLACK_TEXT, cut)} for part in _parts(_end(message), SLACK_TEXT // 2)]
    if len(blocks) > SLACK_BLOCKS:
        blocks[SLACK_BLOCKS - 1 :] = [{"type": "section", "text": _slack_text(cut, SLACK_TEXT, cut)}]
    # "text" is for notifications.
    return {
        "text": _fitted(head, SLACK_TEXT, cut, _slack_escaped), "blocks": blocks, "mrkdwn": False, "unfurl_links": False,
        "unfurl_media": False,
    }  # fmt: skip


def teams(message: Message) -> Payload:
    """Return an Adaptive Card. Its texts are TextRuns, in which Teams shows Markdown as it is."""
    cut = _cut_mark(message)
    head, rest = _head_and_rest(message)
    items = [_teams_item([_teams_run(head, cut, weight="bolder", size="medium")])]
    items += [_teams_item([_teams_run(line, cut)]) for line in rest.split("\n") if line]
    items += [
        _teams_item([_teams_run(f"{label}: ", cut, weight="bolder"), _teams_run(value, cut)], spacing="none")
        for _, value, label in message.details
    ]
    items += [_teams_item([_teams_run(line, cut)]) for line in _end(message).split("\n") if line]
    left = TEAMS_BYTES
    body: list[Payload] = []
    for item in items:
        left -= len(msgspec.json.encode(item)) + 1
        if left < 0:
            body.append(_teams_item([_teams_run(cut, cut)]))
            break
        body.append(item)
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
        "fallbackText": _fitted(head, 500, cut), "msteams": {"width": "Full"}, "body": body,
    }  # fmt: skip
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def discord(message: Message) -> Payload:
    """Return an embed, with every character that Discord's Markdown obeys escaped. It mentions nobody."""
    cut = _cut_mark(message)
    head, rest = _head_and_rest(message)
    title = _fitted(head, DISCORD_TITLE, cut, _discord_escaped)
    if _size(_discord_escaped(head)) > DISCORD_TITLE:
        rest = f"{head}\n{rest}"
    end = _end(message)
    limit = _DISCORD_LEAD if message.details else DISCORD_TEXT
    text = _fitted("\n\n".join(filter(None, (rest, end))), limit, cut, _discord_escaped)
    left = DISCORD_TOTAL - _size(title) - _size(text)
    fields: list[Payload] = []
    more = len(message.details)
    for _, value, label in message.details:
        name = _fitted(label, DISCORD_NAME, cut, _discord_escaped)
        shown = _fitted(value, DISCORD_VALUE, cut, _discord_escaped)
        left -= _size(name) + _size(shown)
        # The last place, and a few characters, are for the number of those without one.
        if left < 50 or (len(fields) == DISCORD_FIELDS - 1 and more > 1):
            language = language_of(message.language)
            note = language.ngettext("%(num)s more fact", "%(num)s more facts", more)
            fields.append({"name": language.gettext("More"), "value": f"{note} {_discord_escaped(cut)}", "inline": False})
            break
        fields.append({"name": name, "value": shown, "inline": len(value) < 40})
        more -= 1
    embed = {"title": title, "description": text, "fields": fields}
    return {"embeds": [embed], "allowed_mentions": {"parse": []}}


def telegram(message: Message, chat_id: int | str) -> Payload:
    """Return plain text with a bold first line. Telegram would still find ``@name`` in it, and call that user."""
    cut = _cut_mark(message)
    head, line_end, rest = message.text.partition("\n")
    head = _fitted(head, TELEGRAM_TEXT // 4, cut, _telegram_escaped)
    text = head + _fitted(line_end + rest, TELEGRAM_TEXT - _size(head), cut, _telegram_escaped)
    return {
        "chat_id": chat_id, "text": text, "entities": [{"type": "bold", "offset": 0, "length": _size(head)}],
        "link_preview_options": {"is_disabled": True},
    }  # fmt: skip


def ntfy(message: Message, topic: str) -> Payload:
    """Return plain text, in which ntfy obeys nothing."""
    cut = _cut_mark(message)
    head, line_end, rest = message.text.partition("\n")
    # A message of one line has it as its text; ntfy would write "triggered" for none.
    found = {"topic": topic, "message": _fitted(rest.lstrip("\n") or head, NTFY_BYTES, cut, size=_json_bytes)}
    return {"title": _fitted(head, _NTFY_TITLE, cut, size=_json_bytes), **found} if line_end else found


class Skeleton:
    """
    The user's own JSON: objects and lists stay as they are, and each text in it is a template.

    A text that is one expression and nothing else, such as ``{{ event }}``, becomes the value itself, with its type. Every other
    text becomes a text, whatever the message contains.

    Args:
        body: as configured; {} for the whole message.
    """

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._environment = SandboxedEnvironment(undefined=ChainableUndefined, finalize=_no_none)
        self._made = self._compiled(body) if body else dict

    def of(self, message: Message) -> Any:
        """Return the JSON of a message. A template can raise anything."""
        return self._made(payload_of(message))

    def _compiled(self, value: Any) -> Callable[[Payload], Any]:
        match value:
            case str():
                if found := _EXPRESSION.fullmatch(value):
                    expression = self._environment.compile_expression(found[1])
                    return lambda fields: expression(**fields)
                return self._environment.from_string(value).render
            case dict():
                members = {key: self._compiled(inner) for key, inner in value.items()}
                return lambda fields: {key: member(fields) for key, member in members.items()}
            case list():
                items = [self._compiled(inner) for inner in value]
                return lambda fields: [item(fields) for item in items]
        return lambda _fields: value


def _no_none(value: Any) -> Any:
    return "" if value is None else value


def payload_of(message: Message) -> Payload:
    """Return the parts of a message by their names, for templates and for commands."""
    found = msgspec.structs.asdict(message)
    found["details"] = [detail._asdict() for detail in message.details]
    return {name: found[name] for name in FIELDS} | dict(message.code)


def ecs_line(message: Message) -> bytes:
    """Return a line of JSON: the event in ECS, with the first sentence in ``message``; of a digest, its text."""
    event: Payload = dict(message.event) or {
        "@timestamp": isoformat(now_us()), "event": {"kind": "event", "action": "sshbell_digest", "id": message.id},
        "message": message.text,
    }  # fmt: skip
    return msgspec.json.encode({"message": message.title} | event) + b"\n"


def _head_and_rest(message: Message) -> tuple[str, str]:
    """Return the first line of a text, and the rest: of the lead if the details follow in another form, or of all of it."""
    text = message.text.partition("\n\n")[0] if message.details else message.text
    head, _, rest = text.partition("\n")
    return head or message.subject, rest.strip("\n")


def _end(message: Message) -> str:
    """Return what follows the details."""
    late = language_of(message.language).gettext("This message is %(late)s late.", late=message.late) if message.late else ""
    return "\n".join(filter(None, (*message.closing, late))) if message.details else ""


def _parts(text: str, limit: int) -> Iterator[str]:
    """Yield a text in parts of whole lines, each of at most ``limit`` characters unless one line is longer."""
    part = ""
    for line in text.split("\n"):
        if part and len(part) + 1 + len(line) > limit:
            yield part
            part = line
        else:
            part = f"{part}\n{line}" if part else line
    if part.strip():
        yield part


def _size(text: str) -> int:
    """Return the length in UTF-16 units, as JavaScript and Telegram count; never less than the number of characters."""
    return len(text) + sum(char > "\uffff" for char in text)


def _json_bytes(text: str) -> int:
    """Return the length in JSON, in bytes, which is never less than that of the text alone."""
    return len(msgspec.json.encode(text)) - 2


def _same(text: str) -> str:
    return text


def _cut_mark(message: Message) -> str:
    """Return what ends a text that is cut."""
    return language_of(message.language).gettext("… (cut)")


def _fitted(text: str, limit: int, cut: str, escaped: _Escape = _same, size: Callable[[str], int] = _size) -> str:
    """Return a text, escaped; if that is longer than ``limit``, as much of it as there is room for, with ``cut`` at its end."""
    whole = escaped(text)
    if size(whole) <= limit:
        return whole
    mark = escaped(cut)
    left = limit - size(mark)
    taken = []
    for char in text:
        piece = escaped(char)
        left -= size(piece)
        if left < 0:
            break
        taken.append(piece)
    return "".join(taken) + mark


def _slack_escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _slack_text(text: str, limit: int, cut: str) -> Payload:
    return {"type": "plain_text", "text": _fitted(text, limit, cut, _slack_escaped), "emoji": False}


def _discord_escaped(text: str) -> str:
    # The colon is that of a URL, or of an emoji's name.
    return re.sub(r"([\\*_~`|<>#\[\]()@:+-])", r"\\\1", text)


def _telegram_escaped(text: str) -> str:
    # A word joiner, which is invisible, ends the mention before it begins.
    return text.replace("@", "@\u2060")


def _teams_run(text: str, cut: str, **style: str) -> Payload:
    # A card turns {{DATE(...)}} and {{TIME(...)}} into a time.
    return {"type": "TextRun", "text": _fitted(re.sub(r"\{(?=\{)", "{ ", text), 4000, cut), **style}


def _teams_item(runs: list[Payload], **style: str) -> Payload:
    return {"type": "RichTextBlock", "inlines": runs, **style}
