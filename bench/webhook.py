#!/usr/bin/env python3
"""
Measure how fast a channel to a web service drains waiting messages.

The server on loopback accepts everything::

    bench/webhook.py --messages 1000 --type slack

Everything is real but the service: the queue on disk, the worker, the templates and the connection.
"""

import argparse
import asyncio
import multiprocessing
import tempfile
import time
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import structlog
from aiohttp import web

from consumer.channel_settings import ChannelSettings
from consumer.clock import isoformat, now_us
from consumer.deliver.channels import channel_of
from consumer.deliver.decide import budget_of
from consumer.deliver.rendering import Renderer
from consumer.deliver.worker import Common, Worker
from consumer.ecs import event_of
from consumer.enrich.enricher import Enricher
from consumer.store.delivery import Delivery
from consumer.store.delivery_rows import Routed
from consumer.store.outbox import Queued

PATHS = {
    "slack": "/services/x",
    "teams": "/x",
    "discord": "/x",
    "telegram": "/bot1/sendMessage",
    "ntfy": "/logins",
    "webhook": "/x",
}


def serve(reports: Connection) -> None:
    """Run the server for ever; first send its port through the pipe."""

    async def accept(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response(text="ok")

    async def forever() -> None:
        runner = web.ServerRunner(web.Server(accept))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        reports.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(forever())


def login(number: int) -> Queued:
    """Return a login as the outbox has it."""
    event = {
        "@timestamp": isoformat(now_us()), "event": {"action": "ssh_login", "id": f"{number:032x}"}, "host": {"name": "web1"},
        "user": {"name": f"u{number % 50}"}, "source": {"ip": "203.0.113.7", "address": "203.0.113.7", "port": 4711},
        "ssh": {"method": "publickey", "key": {"type": "ED25519", "fingerprint": "SHA256:" + "x" * 43}},
    }  # fmt: skip
    return Queued(number, f"{number:032x}", "ssh_login", now_us(), msgspec.json.encode(event))


async def drain(delivery: Delivery, settings: ChannelSettings, folder: Path) -> tuple[float, float]:
    """Send all messages; return the seconds, and those of them on a CPU."""
    worker = Worker(settings, channel_of(settings), delivery, Renderer(folder, print), Enricher(), Common(give_up_s=3600))
    start, cpu = time.perf_counter(), time.process_time()
    while await worker.step() == 0:
        pass
    seconds = time.perf_counter() - start, time.process_time() - cpu
    worker.stop()
    await worker.run()  # closes the channel
    return seconds


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--type", choices=PATHS, default="slack")
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    with tempfile.TemporaryDirectory() as name, closing(Delivery(Path(name), print)) as delivery:
        url = Path(name) / "url"
        url.write_text(f"http://127.0.0.1:{ours.recv()}{PATHS[options.type]}")
        url.chmod(0o600)
        table = {"name": "ops", "type": options.type, "url": {"file": str(url)}, "max_per_hour": 100_000}
        settings = msgspec.convert(table | ({"chat_id": 1} if options.type == "telegram" else {}), ChannelSettings)
        queued = [login(number) for number in range(1, options.messages + 1)]
        delivery.route([Routed(each, ("ops",), budget_of(event_of(each.body))) for each in queued], 0)
        seconds, cpu_seconds = asyncio.run(drain(delivery, settings, Path(name) / "none"))
        sent = len(delivery.entries(("sent",), options.messages + 1, channel="ops"))
    server.terminate()
    print(f"{options.type}: {sent} of {options.messages} messages in {seconds:.2f} s, {sent / seconds:.0f} a second")
    print(f"milliseconds of CPU for each: {1000 * cpu_seconds / sent:.1f}")


if __name__ == "__main__":
    main()
