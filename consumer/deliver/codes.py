"""
Sends one-time codes, at once, ahead of the outbox and apart from it: a code that waits is worth nothing.

A code is in the memory of this process only, and only until a channel has it: not in a database, and not in the log. Each message
has a connection of its own, so that neither a message of the outbox nor another code is in its way.
"""

import asyncio
import secrets
from collections.abc import Callable
from zoneinfo import ZoneInfo

import msgspec

from consumer.addresses import ip_text
from consumer.channel_settings import ChannelSettings, FileSettings, SyslogSettings
from consumer.clock import isoformat, now_us
from consumer.codes.messages import CodeAnswer, CodeRequest
from consumer.config import Config
from consumer.deliver.channels import Delivered, SendResult, channel_of, reason_of
from consumer.deliver.language import Language, language_of
from consumer.deliver.rendering import Renderer
from consumer.deliver.route_facts import RouteFacts
from consumer.ecs import EcsEvent, HostFields, KeyFields, PamFields, SourceFields, SshFields, UserFields
from consumer.enrich.enricher import Enricher
from consumer.errors import StoreError
from consumer.people.people import People, Person
from consumer.process.log import get_logger

# The longest wait for name servers and web services, which a message can do without.
ENRICH_S = 0.5
# Codes that are being sent at a time; there is no more work than this even if somebody asks for very many.
CODES_LIMIT = 16
# A fault that a server has cut may end in the first digits of a code.
_CUT_DIGITS = 3

_log = get_logger()


class CodeSender:
    """
    Sends codes through the channels.

    Args:
        config: the current configuration; ``configure`` takes another one.
        people: the owners of accounts.
        renderer, enricher: shared with the outbox.
        clock: the wall clock, in microseconds.
    """

    def __init__(
        self, config: Config, people: People, renderer: Renderer, enricher: Enricher, *, clock: Callable[[], int] = now_us
    ) -> None:
        self._renderer, self._enricher, self._clock = renderer, enricher, clock
        self._free = asyncio.Semaphore(CODES_LIMIT)
        self._facts: RouteFacts | None = None
        self._config, self._people = config, people
        self._channels: dict[str, ChannelSettings] = {}
        self.configure(config, people)

    def configure(self, config: Config, people: People) -> None:
        """Use another configuration from the next code on."""
        self.close()
        self._config, self._people = config, people
        self._channels = {settings.name: settings for settings in config.channel}

    def close(self) -> None:
        """Close the files."""
        if self._facts is not None:
            self._facts.close()
            self._facts = None

    async def send(self, request: CodeRequest) -> CodeAnswer:
        """Send a code, unless ``new`` says that none is needed; return how, or why not, within ``timeout_s``."""
        end_s = asyncio.get_running_loop().time() + request.timeout_s
        event = self._with_places(_event_of(request, self._clock()))
        if request.new and not self._is_new(event, request):
            return CodeAnswer(not_needed=True)
        try:
            # To refuse at once would let somebody with a few accounts cause the fault that on_failure = "safe" waits for.
            async with asyncio.timeout_at(end_s):
                await self._free.acquire()
        except TimeoutError:
            return CodeAnswer(fault=f"sshbell is sending {CODES_LIMIT} codes already")
        try:
            return await self._answer(event, request, end_s)
        finally:
            self._free.release()

    async def _answer(self, event: EcsEvent, request: CodeRequest, end_s: float) -> CodeAnswer:
        loop = asyncio.get_running_loop()
        event = await self._enriched(event, min(ENRICH_S, request.timeout_s / 4))
        message_id = f"code-{secrets.token_hex(14)}"
        faults = []
        for number, name in enumerate(request.channels):
            # A channel that hangs leaves the others their shares.
            share_s = (end_s - loop.time()) / (len(request.channels) - number)
            fault = await self._through(name, message_id, event, request, share_s)
            if not fault:
                _log.info("code_sent", channel=name, session=request.session)
                return CodeAnswer(channel=name)
            fault = _without(request.code, fault)
            _log.warning("code_not_sent", channel=name, session=request.session, reason=fault)
            faults.append(f"{name}: {fault}")
        return CodeAnswer(fault=reason_of("; ".join(faults)))

    def _with_places(self, event: EcsEvent) -> EcsEvent:
        """Return the event with its place, of local files only."""
        if self._facts is None:
            self._facts = RouteFacts(
                self._config, self._people, frozenset({"new"}), lambda what: _log.error("code_facts", reason=what)
            )
        return self._facts.with_places(event)

    def _is_new(self, event: EcsEvent, request: CodeRequest) -> bool:
        """Return whether the login is new in a respect that was asked for. If sshbell cannot find out, it is."""
        assert self._facts is not None
        try:
            return self._facts.is_new(event, request.new)
        except StoreError as error:
            _log.error("code_facts", reason=str(error))
            return True

    async def _enriched(self, event: EcsEvent, limit_s: float) -> EcsEvent:
        try:
            async with asyncio.timeout(limit_s):
                return await self._enricher.enrich(event)
        except TimeoutError:
            return event

    async def _through(self, name: str, message_id: str, event: EcsEvent, request: CodeRequest, limit_s: float) -> str:
        """Send the code through a channel; return the fault, "" for none."""
        settings = self._channels.get(name)
        if settings is None:
            return "there is no such channel"
        if isinstance(settings, FileSettings | SyslogSettings):
            return "this channel keeps a log, and no code belongs in a log"
        person = self._people.person_of(event) if request.to == "owner" else None
        recipients = _contacts_of(person, settings)
        if request.to == "owner" and not recipients:
            return "people.toml has nobody with this account whom a channel of this type reaches"
        language = language_of((person and person.language) or settings.language)
        try:
            async with asyncio.timeout(limit_s):
                result = await self._sent(settings, message_id, event, request, recipients, language)
        except TimeoutError:
            return f"no answer within {limit_s:.3g} s"
        except Exception as error:  # noqa: BLE001 - the next channel must get its turn
            # Neither the text of the error nor a traceback: they could show the code.
            return f"a fault of sshbell: {type(error).__name__}"
        return "" if isinstance(result, Delivered) else result.reason

    async def _sent(
        self, settings: ChannelSettings, message_id: str, event: EcsEvent, request: CodeRequest, recipients: tuple[str, ...],
        language: Language,
    ) -> SendResult:  # fmt: skip
        """Send the code over a connection of its own."""
        channel = channel_of(settings)
        try:
            message = self._renderer.code(
                message_id, event, request, zone=ZoneInfo(settings.timezone) if settings.timezone else None,
                map_url=self._config.map_url, medium=channel.medium, language=language,
            )  # fmt: skip
            return await channel.send(msgspec.structs.replace(message, recipients=recipients))
        finally:
            channel.close()


def _event_of(request: CodeRequest, now_us: int) -> EcsEvent:
    """Return the login that wants a code, as an event."""
    return EcsEvent(
        timestamp=isoformat(now_us),
        host=HostFields(name=request.host or None),
        user=UserFields(name=request.user or None),
        source=SourceFields(ip=ip_text(request.address) if request.address else None, address=request.address or None),
        ssh=SshFields(method=request.method or None, key=KeyFields(fingerprint=request.key or None)),
        pam=PamFields(service=request.service or None),
    )


def _contacts_of(person: Person | None, settings: ChannelSettings) -> tuple[str, ...]:
    """Return the addresses of a person on a channel. The fields of contacts have the names of the types of channels."""
    if person is None:
        return ()
    found: tuple[str, ...] = getattr(person.contacts, str(settings.__struct_config__.tag), ())
    return found


def _without(code: str, fault: str) -> str:
    """Return a fault without the code, which a server may have repeated, nor its beginning at the end of a text that is cut."""
    if not code:
        return fault
    fault = fault.replace(code, "***")
    for length in range(len(code) - 1, _CUT_DIGITS - 1, -1):
        fault = fault.replace(f"{code[:length]}…", "***…")
    return fault
