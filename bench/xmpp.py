#!/usr/bin/env python3
"""
Measure how fast an XMPP channel drains waiting messages, and how long a single one takes.

The server is the real prosody on loopback, over STARTTLS. A message counts as sent when the server of its reader has it::

    bench/xmpp.py --messages 500

Needs the Debian package ``prosody``, and the dependencies of the tests.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median

import msgspec
import structlog
from webhook import drain, login

sys.path.insert(0, str(Path(__file__).parent.parent))  # for the tests' prosody

from consumer.channel_settings import ChannelSettings
from consumer.deliver.channels import channel_of
from consumer.deliver.decide import budget_of
from consumer.deliver.rendering import Renderer
from consumer.deliver.worker import Common, Worker
from consumer.ecs import event_of
from consumer.enrich.enricher import Enricher
from consumer.store.delivery import Delivery
from consumer.store.delivery_rows import Routed
from tests.integration.chat_server import Prosody, chat_channel

SINGLE = 50


def put(delivery: Delivery, first: int, number: int) -> None:
    """Queue messages."""
    queued = [login(each) for each in range(first, first + number)]
    delivery.route([Routed(each, ("chat",), budget_of(event_of(each.body))) for each in queued], 0)


async def one_by_one(delivery: Delivery, settings: ChannelSettings, first: int, folder: Path) -> list[float]:
    """Send messages one by one on a connection that is up; return the seconds of each."""
    worker = Worker(settings, channel_of(settings), delivery, Renderer(folder, print), Enricher(), Common(give_up_s=3600))
    waits = []
    for number in range(SINGLE + 1):
        put(delivery, first + number, 1)
        start = time.perf_counter()
        while await worker.step() == 0:
            pass
        waits.append(time.perf_counter() - start)
    worker.stop()
    await worker.run()  # closes the channel
    return waits[1:]


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=500)
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with (
        tempfile.TemporaryDirectory() as name,
        Prosody(Path(name) / "prosody") as prosody,
        closing(Delivery(Path(name), print)) as delivery,
    ):
        for kinds, known in (("a person", {"rooms": []}), ("a person and a room", {})):
            settings = msgspec.convert(chat_channel(prosody, **known), ChannelSettings)
            first = 1 if known else 1_000_000
            put(delivery, first, options.messages)
            seconds, cpu_seconds = asyncio.run(drain(delivery, settings, Path(name) / "none"))
            waits = asyncio.run(one_by_one(delivery, settings, first + 100_000, Path(name) / "none"))
            waiting = len(delivery.entries(("pending",), 10, channel="chat"))
            if waiting:
                raise SystemExit(f"messages wait: {delivery.standing('chat')}")
            print(f"to {kinds}: {options.messages} messages in {seconds:.2f} s, {options.messages / seconds:.0f} a second")
            print(f"  milliseconds of CPU for each: {1000 * cpu_seconds / options.messages:.1f}")
            print(f"  one by one: median {1000 * median(waits):.0f} ms, worst {1000 * max(waits):.0f} ms")


if __name__ == "__main__":
    main()
