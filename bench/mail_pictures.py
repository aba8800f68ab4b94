#!/usr/bin/env python3
"""
Draw mails as people see them. Needs the Debian package ``chromium``.

::

    bench/mail_pictures.py docs/mail.png    the mail about a login, wide and light beside narrow and dark
    bench/mail_pictures.py --all FOLDER     each kind of mail in all four looks, as FOLDER/KIND.png
    bench/mail_pictures.py --looks docs/mail-looks.png
                                            the mail about a login in all four looks, 800 and 390 pixels wide
    bench/mail_pictures.py --looks --of CHECKOUT docs/mail-before.png
                                            the same by the renderer of another commit, before there were languages
"""

import argparse
import asyncio
import html
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from consumer.deliver.rendering import Renderer
from consumer.ecs import EcsEvent, json_line

DEADLINE_S = 120
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=2000",
]
WIDE, NARROW = 700, 375
# Of --looks: a window on a desk, and a telephone.
LOOKS = 800, 390
ZONE = ZoneInfo("Europe/Paris")
LINE = "Accepted publickey for root from 203.0.113.7 port 40022 ssh2: ED25519 SHA256:lj7ZkpHJrXEKLvBHm9iyVhHSZbIXMRVzPQZPPMTQX5Q"
# Each frame becomes as high as its mail. The page then says how high it is itself.
FIT = """
addEventListener("load", () => {
    for (const frame of document.querySelectorAll("iframe"))
        frame.style.height = frame.contentDocument.documentElement.scrollHeight + "px";
    document.getElementById("height").textContent = document.body.offsetHeight;
});
"""


def event(action: str, **more: Any) -> dict[str, Any]:
    """Return an event that is known as well as events are."""
    return {
        "@timestamp": "2026-11-22T10:00:01.5+00:00",
        "event": {"action": action, "id": "3f2c9a5d1e8b7046a1b2c3d4e5f60718"} | more.pop("event", {}),
        "host": {"name": "web1"},
        "user": {"name": "deploy", "full_name": "Carol"},
        "source": {
            # A map shows real addresses alone; the mail shows the address for examples.
            "ip": "9.9.9.9", "address": "203.0.113.7", "port": 40022, "domain": "lyon.example.net",
            "geo": {
                "city_name": "Lyon", "region_name": "Auvergne-Rhône-Alpes", "country_name": "France",
                "location": {"lat": 45.7485, "lon": 4.8467},
            },
            "as": {"number": 64500, "organization": {"name": "Example Net"}},
        },
        "ssh": {
            "method": "publickey", "origin": "verified", "key": {
                "type": "ED25519", "fingerprint": "SHA256:lj7ZkpHJrXEKLvBHm9iyVhHSZbIXMRVzPQZPPMTQX5Q", "owner": ["carol@laptop"],
            },
        } | more.pop("ssh", {}),
    } | more  # fmt: skip


EVENTS = {
    "login": event("ssh_login"),
    "login-unverified": event("ssh_login", user={"name": "deploy"}, ssh={"origin": "unverified"}),
    "login-jump-host": event(
        "ssh_login", user={"name": "root", "full_name": "Carol"},
        source={"ip": "10.1.2.3", "address": "10.1.2.3", "port": 40022, "geo": {"name": "private network"}},
        ssh={"via": {"host": {"name": "bastion1"}, "user": {"name": "carol"}}},
    ),
    "logout": event("ssh_logout", event={"start": "2026-11-22T07:55:01+00:00", "duration": 7_500_000_000_000}),
    "failed": event(
        "ssh_attempt", user={"name": "admin"}, ssh={"method": "password", "key": {}, "count": 3, "invalid_user": True}
    ),
    "forged": event(
        "ssh_forged", event={"original": LINE}, user={"name": "root"}, source={"ip": "203.0.113.7", "address": "203.0.113.7"},
        ssh={
            "claim": "accepted", "claimed_by_uid": 1012, "claimed_by_user": "mallory", "origin": "forged",
            "method": None, "key": {},
        },
    ),
    "test": event("sshbell_test", user={"name": "alice"}),
}  # fmt: skip


# Renders an event from standard input with the renderer of the current directory.
OTHER = """
import json, sys
from pathlib import Path
from zoneinfo import ZoneInfo
import msgspec
from consumer.deliver.rendering import Renderer
from consumer.ecs import EcsEvent
given = json.load(sys.stdin)
renderer = Renderer(Path("/nonexistent"), print)
renderer.map_url = given["map_url"]
event = msgspec.convert(given["event"], EcsEvent)
print(renderer.message("1", event, queued_us=0, now_us=0, zone=ZoneInfo(given["zone"])).html)
"""
MAP_URL = "https://www.openstreetmap.org/?mlat={latitude}&mlon={longitude}"


def mail_of(checkout: Path) -> str:
    """Return the HTML of the mail about a login by the renderer of another commit."""
    given = {"event": EVENTS["login"], "map_url": MAP_URL, "zone": ZONE.key}
    return subprocess.run(
        [sys.executable, "-c", OTHER], cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout.absolute())},
        input=json.dumps(given), capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def mails() -> dict[str, str]:
    """Return the HTML of a mail of each kind."""
    renderer = Renderer(Path("/nonexistent"), print)
    made = {
        name: renderer.message(
            "1", msgspec.convert(fields, EcsEvent), queued_us=0, now_us=7_500_000_000 if "unverified" in name else 0, zone=ZONE,
            map_url=MAP_URL,
        ).html
        for name, fields in EVENTS.items()
    }  # fmt: skip
    held = [EVENTS[name] for name in ("login", "login", "login-jump-host", "failed", "failed", "logout", "forged")]
    held += [event("ssh_attempt", user={"name": f"user{number}"}, ssh={"method": "password"}) for number in range(40)]
    rows = [
        (0, json_line(msgspec.convert(fields | {"@timestamp": f"2026-11-22T10:{number:02}:01Z"}, EcsEvent)))
        for number, fields in enumerate(held)
    ]
    made["digest"] = asyncio.run(renderer.digest("held-1", rows, max_per_hour=60, now_us=1, zone=ZONE)).html
    return made


def draw(frames: Iterable[tuple[str, int, str]], path: Path) -> None:
    """Draw mails side by side: HTML, width in pixels and colour scheme of each."""
    frames = list(frames)
    shown = "".join(
        f'<iframe width="{width}" style="border: 0; vertical-align: top; margin: 0 10px; color-scheme: {scheme}"'
        f' srcdoc="{html.escape(text)}"></iframe>'
        for text, width, scheme in frames
    )
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(
            '<!DOCTYPE html><meta charset="utf-8">'
            '<body style="margin: 0; padding: 20px 10px; background: #d5d9df; white-space: nowrap">'
            f'{shown}<pre id="height" style="position: absolute; visibility: hidden"></pre><script>{FIT}</script>'
        )
        width = 20 + sum(each + 20 for _, each, _ in frames)
        found = re.search(r'id="height"[^>]*>(\d+)<', _browser(folder, page, f"--window-size={width},800", "--dump-dom"))
        if found is None:
            raise SystemExit("chromium has not drawn the page")
        _browser(folder, page, f"--window-size={width},{found[1]}", f"--screenshot={path.absolute()}")


def _browser(folder: str, page: Path, *arguments: str) -> str:
    return subprocess.run(
        ["chromium", *FLAGS, f"--user-data-dir={folder}/profile", *arguments, page.as_uri()],  # noqa: S607 - of Debian
        capture_output=True, text=True, check=True, timeout=DEADLINE_S, stdin=subprocess.DEVNULL,
    ).stdout  # fmt: skip


def main() -> None:
    """Draw what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--looks", action="store_true")
    parser.add_argument("--of", type=Path, metavar="CHECKOUT")
    arguments = parser.parse_args()
    path: Path = arguments.path
    if arguments.looks:
        text = mails()["login"] if arguments.of is None else mail_of(arguments.of)
        draw(((text, width, scheme) for width in LOOKS for scheme in ("light", "dark")), path)
        return
    made = mails()
    if not arguments.all:
        draw([(made["login"], WIDE - 60, "light"), (made["login"], NARROW, "dark")], path)
        return
    path.mkdir(exist_ok=True)
    for name, text in made.items():
        looks = ((text, width, scheme) for width in (WIDE, NARROW) for scheme in ("light", "dark"))
        draw(looks, path / f"{name}.png")


if __name__ == "__main__":
    main()
