"""
``sshbell run``, ``sshbell deliver`` and ``guard`` that die by signal 9 at an armed place.

Its arguments are a folder and sshbell's arguments. A process that reaches a place whose file is in the folder deletes the file,
records its death, and dies. The places are before and after each step: journal, pipeline, store, reply; route, send, record.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

DEATHS = "deaths"
# The modules that run starts, with the words that stand for them here.
MODULES = {"consumer": [], "consumer.guard.process": ["guard"]}
STEPS = {
    "run": (
        "Journal.append", "Journal.turn", "Journal.drop_before", "Pipeline.feed", "State.record", "State.keep_snapshot",
        "Replies.ok", "GuardChild.order",
    ),
    "deliver": ("Delivery.route", "Delivery.close_hold", "Email.send", "Delivery.sent"),
    "guard": ("Guard._take", "Blocks.add", "AccessFiles.write"),
}  # fmt: skip
PLACES = {who: [f"{when} {step}" for step in steps for when in ("before", "after")] for who, steps in STEPS.items()}
# In the mail server: the message is on its disk, but deliver has got no answer.
TAKEN = "after taking"
PLACES["smtp"] = [TAKEN]


def write_down(folder: Path, who: str, place: str) -> None:
    """Record which process dies, when and where."""
    with (folder / DEATHS).open("ab", buffering=0) as deaths:
        deaths.write(f"{time.time_ns()} {who} {place}\n".encode())


def perhaps(folder: Path, who: str, place: str) -> None:
    """Die here if the place is armed."""
    try:
        (folder / f"{who} {place}").unlink()
    except FileNotFoundError:
        return
    # While its disk is away, it could not record its death.
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    write_down(folder, who, place)
    os.kill(os.getpid(), signal.SIGKILL)


def surround(folder: Path, who: str, owner: type, name: str) -> None:
    """Make the beginning and the end of a method places to die at."""
    method = getattr(owner, name)
    step = f"{owner.__name__}.{name}"

    def surrounded(*args: Any, **kwargs: Any) -> Any:
        perhaps(folder, who, f"before {step}")
        result = method(*args, **kwargs)
        perhaps(folder, who, f"after {step}")
        return result

    async def surrounded_coroutine(*args: Any, **kwargs: Any) -> Any:
        perhaps(folder, who, f"before {step}")
        result = await method(*args, **kwargs)
        perhaps(folder, who, f"after {step}")
        return result

    setattr(owner, name, surrounded_coroutine if method.__code__.co_flags & 0x80 else surrounded)  # CO_COROUTINE


def prepare(folder: Path, who: str) -> None:
    """Make the places of a process, and make ``run`` start children that have them, too."""
    import subprocess  # noqa: PLC0415 - only this process loads these modules

    from consumer.deliver.channels.email import Email  # noqa: PLC0415
    from consumer.guard.enforcer import AccessFiles  # noqa: PLC0415
    from consumer.guard.process import Guard  # noqa: PLC0415
    from consumer.intake.journal import Journal  # noqa: PLC0415
    from consumer.intake.omprog import Replies  # noqa: PLC0415
    from consumer.pipeline import Pipeline  # noqa: PLC0415
    from consumer.run import children  # noqa: PLC0415
    from consumer.run import service as runtime  # noqa: PLC0415
    from consumer.store.block import Blocks  # noqa: PLC0415
    from consumer.store.delivery import Delivery  # noqa: PLC0415
    from consumer.store.state import State  # noqa: PLC0415

    parts = (Journal, Pipeline, State, Replies, children.GuardChild, Delivery, Email, Guard, Blocks, AccessFiles)
    owners = {owner.__name__: owner for owner in parts}
    for step in STEPS[who]:
        owner, _, name = step.partition(".")
        surround(folder, who, owners[owner], name)

    def popen(command: list[str], **how: Any) -> subprocess.Popen[bytes]:
        at = command.index("-m")
        if command[at + 1] in MODULES:
            command = [command[0], __file__, str(folder), *MODULES[command[at + 1]], *command[at + 2 :]]
        return subprocess.Popen(command, **how)

    vars(children)["subprocess"] = SimpleNamespace(Popen=popen, DEVNULL=subprocess.DEVNULL)
    runtime.SNAPSHOT_BYTES = 20_000  # to have many snapshots


if __name__ == "__main__":
    prepare(Path(sys.argv.pop(1)), sys.argv[1])
    if sys.argv[1] == "guard":
        from consumer.guard.process import main as guard

        guard(int(sys.argv[2]), sys.argv[3])
    from consumer.cli import main

    main()
