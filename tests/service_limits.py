"""
What web services accept: the limits that they publish, and the forms of text in which they obey nothing.

Each function returns the fault that a service would find in a body, or "". The numbers stand here a second time, on purpose: they
come from the services' pages, not from the code that they test.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SLACK_TEXTS = {"plain_text", "mrkdwn"}
# What Markdown of Discord obeys: each of these, unless a backslash stands before it.
_DISCORD_MARKS = r"\*_~`|<>#[]()@:+-"


def units(text: str) -> int:
    """Return the length in UTF-16 units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def texts_in(value: Any) -> Iterator[str]:
    """Yield every text in a JSON value, without the keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts_in(inner)


def _slack_text(found: Any, limit: int) -> str:
    if not isinstance(found, dict) or found.get("type") not in _SLACK_TEXTS or not 1 <= units(found.get("text", "")) <= limit:
        return f"text of a wrong type or length: {str(found)[:80]}"
    if found["type"] == "mrkdwn" and not re.fullmatch(r"\*[^\W\d_][\w .-]*\*", found["text"]):
        return f"Markdown that is no label: {found['text'][:80]}"
    return "" if found["type"] == "mrkdwn" or found.get("emoji") is False else "emoji in a text"


def slack(body: Any) -> str:
    """Judge a message in Slack's blocks."""
    if body.get("mrkdwn") is not False or not 0 < units(body["text"]) <= 40_000:
        return "text"
    if any(re.search(r"[<>]|&(?!(?:amp|lt|gt);)", text) for text in texts_in(body)):
        return "a character that begins a command"
    if not 1 <= len(body["blocks"]) <= 50:
        return "number of blocks"
    for block in body["blocks"]:
        match block:
            case {"type": "header", "text": {"type": "plain_text"} as text}:
                faults = [_slack_text(text, 150)]
            case {"type": "section", "text": text}:
                faults = [_slack_text(text, 3000)]
            case {"type": "section", "fields": [_, *_] as fields}:
                faults = [_slack_text(field, 2000) for field in fields] + ["too many fields"] * (len(fields) > 10)
            case _:
                return f"block {block}"
        if any(faults):
            return "; ".join(filter(None, faults))
    return ""


def teams(body: Any) -> str:
    """Judge a card for a workflow of Teams."""
    if len(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()) > 28_000:
        return "size"
    if body["type"] != "message" or [one["contentType"] for one in body["attachments"]] != [
        "application/vnd.microsoft.card.adaptive"
    ]:
        return "form"
    card = body["attachments"][0]["content"]
    if (card["type"], card["version"]) != ("AdaptiveCard", "1.4") or not card["body"]:
        return "card"
    for item in card["body"]:
        # TextBlock and FactSet would read Markdown.
        if item["type"] != "RichTextBlock" or not item["inlines"] or any(run["type"] != "TextRun" for run in item["inlines"]):
            return f"item {item}"
        if any(not run["text"] or "{{" in run["text"] for run in item["inlines"]):
            return f"text {item}"
    return ""


def discord(body: Any) -> str:
    """Judge a message with embeds for Discord."""
    if body.get("allowed_mentions") != {"parse": []}:
        return "mentions"
    total = 0
    for embed in body["embeds"]:
        found = [(embed["title"], 256), (embed.get("description", " "), 4096)]
        for field in embed["fields"]:
            if not field["name"] or not field["value"]:
                return "empty field"
            found += [(field["name"], 256), (field["value"], 1024)]
        if len(embed["fields"]) > 25:
            return "number of fields"
        for text, limit in found:
            total += units(text)
            if units(text) > limit:
                return f"{units(text)} units where {limit} are the limit"
            if any(mark in _DISCORD_MARKS for mark in re.sub(r"\\[!-/:-@[-`{-~]", "", text)):
                return f"Markdown: {text[:80]}"
    return "" if 0 < total <= 6000 and body["embeds"] else f"{total} units in all"


def telegram(body: Any) -> str:
    """Judge a message for Telegram."""
    text = body["text"]
    if "parse_mode" in body or body["link_preview_options"] != {"is_disabled": True} or not body["chat_id"]:
        return "form"
    if not text.strip() or units(text) > 4096:
        return "length"
    if re.search(r"@\w", text):
        return "a mention"
    (bold,) = body["entities"]
    lines = text.encode("utf-16-le")[: 2 * bold["length"]].decode("utf-16-le")
    return "" if (bold["type"], bold["offset"]) == ("bold", 0) and "\n" not in lines else "entities"


def ntfy(body: Any) -> str:
    """Judge a message for ntfy."""
    if not re.fullmatch(r"[-_A-Za-z0-9]{1,64}", body["topic"]) or body.get("markdown"):
        return "form"
    if not body["message"] or len(body["message"].encode()) > 4096:
        return "length"
    # The server reads twice the limit at most, because JSON needs more than the text.
    return "" if len(json.dumps(body, ensure_ascii=False).encode()) <= 8192 else "size"


JUDGES: dict[str, Callable[[Any], str]] = {
    "slack": slack, "teams": teams, "discord": discord, "telegram": telegram, "ntfy": ntfy,
}  # fmt: skip
