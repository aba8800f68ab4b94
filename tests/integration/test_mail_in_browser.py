"""The HTML of a mail in a real browser: narrow and wide, light and dark, with texts as long as they come."""

from __future__ import annotations

import asyncio
import html
import json
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from consumer.deliver.rendering import Renderer
from consumer.ecs import json_line
from tests import needs
from tests.ecs_events import ecs

DEADLINE_S = 120
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
WIDTHS = (320, 900)
# WCAG 2, AA: of text and its background.
CONTRAST = 4.5
# Of each frame: what sticks out, the colours, and what it would load from elsewhere.
LOOK = """
const luminance = ([r, g, b]) => [r, g, b].map(c => c / 255).map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const parts = colour => colour.match(/[0-9.]+/g).map(Number);
function background(element, view) {
    for (; element; element = element.parentElement) {
        const found = parts(view.getComputedStyle(element).backgroundColor);
        if (found.length === 3 || found[3] > 0) return found;
    }
    return [128, 128, 128];
}
function look(frame) {
    const page = frame.contentDocument, view = frame.contentWindow, root = page.documentElement;
    const walker = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT);
    let contrast = 21, worst = "", texts = 0;
    while (walker.nextNode()) {
        if (!walker.currentNode.nodeValue.trim()) continue;
        texts += 1;
        const element = walker.currentNode.parentElement;
        const colours = [parts(view.getComputedStyle(element).color), background(element, view)];
        const [more, less] = colours.map(luminance).sort((a, b) => b - a);
        const found = (more + 0.05) / (less + 0.05);
        if (found < contrast) [contrast, worst] = [found, walker.currentNode.nodeValue.trim().slice(0, 40)];
    }
    return {
        name: frame.title, overflow: root.scrollWidth - root.clientWidth, contrast, worst, texts,
        brightness: luminance(background(page.body, view)), loads: view.performance.getEntriesByType("resource").length,
    };
}
addEventListener("load", () => {
    document.getElementById("found").textContent = JSON.stringify([...document.querySelectorAll("iframe")].map(look));
});
"""


def seen(folder: Path, mails: dict[str, str]) -> list[dict[str, Any]]:
    """Show mails in frames of each width and colour scheme; return what they look like, as ``LOOK`` says it."""
    frames = "".join(
        f'<iframe title="{name} {width} {scheme}" width="{width}" height="900" style="border: 0; color-scheme: {scheme}"'
        f' srcdoc="{html.escape(text)}"></iframe>'
        for name, text in mails.items()
        for width in WIDTHS
        for scheme in ("light", "dark")
    )
    page = folder / "page.html"
    page.write_text(f'<!DOCTYPE html><meta charset="utf-8"><pre id="found"></pre><script>{LOOK}</script>{frames}')
    browser = needs.program("chromium", "chromium")
    done = subprocess.run(
        [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, check=False, timeout=DEADLINE_S, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stderr
    looks: list[dict[str, Any]] = json.loads(html.unescape(found[1]))
    assert len(looks) == len(mails) * 4
    return looks


def faults(look: dict[str, Any]) -> list[str]:
    """Return what is not as it should be."""
    is_dark = look["name"].endswith("dark")
    wrong = {
        "it is wider than its window": look["overflow"] > 0,
        f"contrast {look['contrast']:.1f} of {look['worst']!r}": look["contrast"] < CONTRAST,
        "it is not dark": is_dark and look["brightness"] > 0.1,
        "it is not light": not is_dark and look["brightness"] < 0.9,
        "it loads something": look["loads"] > 0,
        "it is empty": not look["texts"],
    }
    return [f"{look['name']}: {what}" for what, is_so in wrong.items() if is_so]


def long_event(action: str) -> dict[str, Any]:
    """Return an event in which everything is known, and as long as it comes."""
    return {
        "@timestamp": "2026-11-22T10:00:01.5+00:00",
        "event": {"action": action, "id": "0" * 32},
        "host": {"name": "h" * 255},
        "user": {"name": "x" * 400, "full_name": "A" * 300},
        "source": {
            "ip": "9.9.9.9", "address": "9.9.9.9", "port": 40022, "domain": f"{'d' * 62}.{'e' * 62}.{'f' * 62}.example.org",
            "geo": {
                "city_name": "C" * 200, "region_name": "R" * 200, "country_name": "France", "location": {"lat": 45.7, "lon": 4.8},
            },
            "as": {"number": 4294967295, "organization": {"name": "O" * 200}},
            "anonymous": ["hosting", "vpn"],
        },
        "ssh": {
            "method": "publickey", "key": {
                "type": "ED25519", "fingerprint": f"SHA256:{'k' * 43}", "owner": ["o" * 400, "alice@laptop"],
                "options": [f'command="{"c" * 400}"', "restrict"],
            },
            "certificate": {"id": "i" * 300, "serial": 18446744073709551615, "ca_owner": "a" * 300},
            "session": {"kind": "shell"}, "origin": "unverified",
            "via": {"host": {"name": "v" * 255}, "user": {"name": "u" * 100}},
            "claim": "accepted", "claimed_by_uid": 4294967294,
        },
    }  # fmt: skip


def test_mails(tmp_path: Path) -> None:
    """No mail is wider than its window, each text can be read in light and in dark, and nothing is loaded."""
    renderer = Renderer(tmp_path / "none", pytest.fail)
    url = "https://map.example.org/?lat={latitude}&lon={longitude}"
    mails = {
        action: renderer.message("0" * 32, ecs(long_event(action)), queued_us=0, now_us=10**10, map_url=url).html
        for action in ("ssh_login", "ssh_forged", "sshbell_test")
    }
    mails["bare"] = renderer.message("1", ecs({"event": {"action": "ssh_login"}}), queued_us=0, now_us=1).html
    folded = [(0, json_line(long_event("ssh_login")))] * 60
    mails["digest"] = asyncio.run(renderer.digest("held-1", folded, max_per_hour=60, now_us=10**10)).html
    assert "show on a map" in mails["ssh_login"]
    assert [fault for look in seen(tmp_path, mails) for fault in faults(look)] == []


def test_what_is_looked_at_can_fail(tmp_path: Path) -> None:
    """Each fault is one that is found."""
    text = Renderer(tmp_path / "none", pytest.fail).message("0" * 32, ecs(long_event("ssh_login")), queued_us=0, now_us=1).html
    looks = seen(
        tmp_path,
        {
            "stiff": text.replace("overflow-wrap: anywhere", "").replace("word-break: break-word", ""),
            "glaring": re.sub(r"@media \(prefers-color-scheme: dark\)", "@media print", text),
            "grey": text.replace("#59636e", "#a0a0a0"),
            "empty": "",
        },
    )
    found = {fault for look in looks for fault in faults(look)}
    assert {"stiff 320 light: it is wider than its window", "glaring 320 dark: it is not dark"} <= found
    assert {name.partition(":")[0] for name in found if "contrast" in name} >= {"grey 320 light"}
    assert "empty 900 light: it is empty" in found


def test_the_picture_in_the_docs(tmp_path: Path) -> None:
    """The program that draws docs/mail.png draws a picture of that width, and as high as the mail needs."""
    needs.program("chromium", "chromium")
    project, drawn = Path(__file__).parents[2], tmp_path / "mail.png"
    subprocess.run([sys.executable, project / "bench/mail_pictures.py", drawn], cwd=tmp_path, check=True, timeout=2 * DEADLINE_S)
    (width, height), (shown, _) = (struct.unpack(">II", path.read_bytes()[16:24]) for path in (drawn, project / "docs/mail.png"))
    assert width == shown
    assert height > 600
