#!/usr/bin/env python3
"""
Draw messages in Slack, Teams and Discord roughly as these services show them. Needs the Debian package ``chromium``.

::

    bench/chat_pictures.py FOLDER       each kind of message in each service, as FOLDER/KIND.png
    bench/chat_pictures.py --language de FOLDER

It reads the JSON that sshbell sends, and nothing else. The looks are ours: they show the order, the weight and the length of the
texts, not every detail of a service.
"""

import argparse
import asyncio
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from mail_pictures import EVENTS, ZONE, draw, event

from consumer.config_values import LANGUAGES
from consumer.deliver.channels import Message
from consumer.deliver.channels.payloads import discord, slack, teams
from consumer.deliver.language import language_of
from consumer.deliver.rendering import Renderer
from consumer.ecs import EcsEvent, json_line

PAGE = '<!DOCTYPE html><meta charset="utf-8"><style>{style}</style><body>{body}</body>'
FONT = "font: 15px/1.46 Lato, 'Segoe UI', Helvetica, Arial, sans-serif; margin: 16px; overflow-wrap: anywhere;"
SLACK = (
    f"body {{ {FONT} color: #1d1c1d }} h1 {{ font-size: 18px; margin: 0 0 8px }} p {{ margin: 0 0 8px; white-space: pre-wrap }}"
)
SLACK += "dl { display: grid; grid-template-columns: 1fr 1fr; gap: 8px; margin: 0 0 8px } dt, dd { margin: 0 }"
TEAMS = f"body {{ {FONT} font-size: 14px; color: #242424 }} p {{ margin: 0 0 8px; white-space: pre-wrap }} p.none {{ margin: 0 }}"
TEAMS += ".bolder { font-weight: 600 } .medium { font-size: 17px }"
DISCORD = f"body {{ {FONT} background: #313338; color: #dbdee1 }} article {{ border-left: 4px solid #1e1f22; border-radius: 4px;"
DISCORD += "background: #2b2d31; padding: 12px 16px; max-width: 480px; font-size: 14px } h1 { font-size: 16px; margin: 0 0 8px }"
DISCORD += "p { white-space: pre-wrap; margin: 0 0 8px } dl { display: grid; grid-template-columns: 1fr 1fr 1fr; gap: 8px;"
DISCORD += "margin: 0 } dt { font-weight: 600 } dd { margin: 0 } .wide { grid-column: 1 / -1 }"


def shown(text: str) -> str:
    """Return a text of Slack, whose entities it shows as characters."""
    return html.escape(html.unescape(text))


def bold(text: str) -> str:
    """Return a label of Slack's Markdown as HTML."""
    return re.sub(r"^\*(.*)\*$", r"<b>\1</b>", text)


def slack_page(message: Message) -> str:
    """Return the blocks as a page."""

    def parts() -> Iterator[str]:
        for block in parsed(slack(message))["blocks"]:
            if block["type"] == "header":
                yield f"<h1>{shown(block['text']['text'])}</h1>"
            elif "text" in block:
                yield f"<p>{shown(block['text']['text'])}</p>"
            else:
                cells = (shown(field["text"]) for field in block["fields"])
                yield f"<dl>{''.join(f'<dt>{bold(cell)}</dt>' for cell in cells)}</dl>"

    return PAGE.format(style=SLACK, body="".join(parts()))


def teams_page(message: Message) -> str:
    """Return the card as a page."""
    card = parsed(teams(message))["attachments"][0]["content"]
    rows = []
    for item in card["body"]:
        runs = "".join(
            f'<span class="{run.get("weight", "")} {run.get("size", "")}">{html.escape(run["text"])}</span>'
            for run in item["inlines"]
        )
        rows.append(f'<p class="{item.get("spacing", "")}">{runs}</p>')
    return PAGE.format(style=TEAMS, body="".join(rows))


def discord_page(message: Message) -> str:
    """Return the embed as a page; a backslash before a sign is not shown."""

    def plain(text: str) -> str:
        return html.escape(re.sub(r"\\(\W)", r"\1", text))

    (embed,) = parsed(discord(message))["embeds"]
    fields = "".join(
        f'<div class="{"" if field["inline"] else "wide"}"><dt>{plain(field["name"])}</dt><dd>{plain(field["value"])}</dd></div>'
        for field in embed["fields"]
    )
    body = f"<article><h1>{plain(embed['title'])}</h1><p>{plain(embed['description'])}</p><dl>{fields}</dl></article>"
    return PAGE.format(style=DISCORD, body=body)


def parsed(payload: dict[str, Any]) -> Any:
    """Return a payload as the service gets it."""
    return json.loads(msgspec.json.encode(payload))


def messages(code: str) -> Iterator[tuple[str, Message]]:
    """Yield a message of each kind."""
    renderer, language = Renderer(Path("/nonexistent"), print), language_of(code)
    for name, fields in EVENTS.items():
        yield (
            name,
            renderer.message(
                "1", msgspec.convert(fields, EcsEvent), queued_us=0, now_us=0, zone=ZONE, medium="chat", language=language
            ),
        )
    tries = [event("ssh_attempt", user={"name": f"user{number}"}, ssh={"method": "password"}) for number in range(40)]
    rows = [(0, json_line(msgspec.convert(fields, EcsEvent))) for fields in [EVENTS["login"], *tries]]
    yield (
        "fold",
        asyncio.run(renderer.digest("fold-1", rows, max_per_hour=60, now_us=1, zone=ZONE, medium="chat", language=language)),
    )


def main() -> None:
    """Draw what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--language", choices=LANGUAGES, default="en")
    parser.add_argument("--only", default="", metavar="TEXT", help="only kinds with TEXT in their name")
    options = parser.parse_args()
    options.folder.mkdir(exist_ok=True)
    for name, message in messages(options.language):
        if options.only in name:
            frames = [
                (slack_page(message), 620, "light"),
                (teams_page(message), 520, "light"),
                (discord_page(message), 520, "dark"),
            ]
            draw(frames, options.folder / f"{name}.png")


if __name__ == "__main__":
    main()
