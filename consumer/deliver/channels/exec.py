"""Messages to a command of the user's."""

import os
import shutil
from functools import partial

import msgspec

from consumer.channel_settings import ExecSettings
from consumer.deliver.channels import Delivered, Medium, Message, Rejected, RetryLater, SendResult, reason_of
from consumer.deliver.channels.payloads import payload_of
from consumer.process.command import run_command
from consumer.process.threads import Threads
from consumer.text import N_

# For one run of the command. It is less than ``LIMIT_S``, which has to suffice for starting and ending it, too.
EXEC_LIMIT_S = 25.0
# For each of its two outputs; one that prints more is killed.
_OUTPUT_LIMIT = 64 * 1024
# The whole environment. That of rsyslogd may hold secrets for other channels.
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class Exec:
    """
    Runs a command for each message, one at a time.

    Args:
        settings: from the configuration.
        limit_s: for one run.
    """

    medium: Medium = "chat"

    def __init__(self, settings: ExecSettings, *, limit_s: float = EXEC_LIMIT_S) -> None:
        self._command = settings.command
        self._limit_s = limit_s
        self._threads = Threads()

    async def send(self, message: Message) -> SendResult:
        """Run the command, with the message as JSON on its standard input. Status 0 accepts it, and 65 rejects it."""
        run = partial(
            run_command, self._command, limit_s=self._limit_s, output_limit=_OUTPUT_LIMIT, env=_ENVIRONMENT, with_errors=True,
            stdin=msgspec.json.encode(payload_of(message)) + b"\n",
        )  # fmt: skip
        try:
            done = await self._threads.run(run)
        except OSError as error:
            return RetryLater(self._shown(str(error)))
        if not done.fault:
            return Delivered()
        said = (done.errors.strip() or done.output.strip()).decode("utf-8", "replace")
        reason = self._shown(f"{done.fault}: {said}" if said else done.fault)
        return Rejected(reason) if done.status == os.EX_DATAERR else RetryLater(reason)

    async def check(self) -> SendResult:
        """Look whether the command is there, but do not run it."""
        if shutil.which(self._command[0]) is None:
            return RetryLater(self._shown(N_("does not exist or is not executable")))
        return Delivered()

    def close(self) -> None:
        """Nothing is open between two messages."""

    def _shown(self, text: str) -> str:
        return reason_of(f"{self._command[0]}: {text}")
