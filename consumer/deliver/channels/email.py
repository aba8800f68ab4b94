"""Mail over SMTP."""

import asyncio
import base64
import email.policy
import os
import re
import secrets
import socket
import ssl
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from email.headerregistry import HeaderRegistry, MessageIDHeader
from email.message import EmailMessage
from email.utils import formatdate
from functools import cache
from typing import TYPE_CHECKING

import aiosmtplib

from consumer.channel_settings import EmailSettings
from consumer.clock import SECOND_US, now_us
from consumer.deliver.channels import LIMIT_S, Delivered, Medium, Message, Rejected, RetryLater, SendResult, reason_of
from consumer.errors import SecretError
from consumer.mailbox import mailbox_of
from consumer.process.threads import Threads
from consumer.secret import read_secret
from consumer.text import N_

if TYPE_CHECKING:
    from consumer.channel_settings import OAuth2
    from consumer.deliver.oauth2 import AccessToken

# How long a connection stays open for the next message of a burst.
IDLE_S = 5.0
_QUIT_S = 2.0
_PORTS = {"starttls": 587, "tls": 465, "none": 25}
# The most remembered messages that some recipients have got and others are still to get.
_PARTIAL_LIMIT = 1000
# Remembered passwords and tokens, in the forms in which sshbell sends them, to conceal them in answers; of tokens, the last few.
_CREDENTIALS_LIMIT = 12
# 5xx that are about sshbell's own login, not about the message: RFC 4954, section 6.
_OURS = frozenset({530, 534, 535, 538})
_CLOSING, _PERMANENT = 421, 500
# As free text, ids that are too long for a line would become encoded words, which mail programs do not recognize as ids.
_HEADERS = HeaderRegistry()
for _name in ("In-Reply-To", "References"):
    _HEADERS.map_to_type(_name, MessageIDHeader)  # type: ignore[arg-type]  # typeshed wants a base that it has not

Work = Callable[[aiosmtplib.SMTP], Awaitable[SendResult]]


class _FaultError(Exception):
    """A server did not accept the message; ``result`` has the outcome."""

    def __init__(self, result: SendResult) -> None:
        super().__init__()
        self.result = result


def _access_token(account: "OAuth2") -> "AccessToken":
    # Imported here, because most channels need no token, and aiohttp takes 10 MiB.
    from consumer.deliver.oauth2 import AccessToken  # noqa: PLC0415

    return AccessToken(account)


class Email:
    """
    Sends mail, one message at a time.

    Args:
        settings: from the configuration.
        limit_s: for one try with all servers; each gets its share of the time left.
        idle_s: how long a connection stays open for the next message.
    """

    medium: Medium = "mail"

    def __init__(self, settings: EmailSettings, *, limit_s: float = LIMIT_S, idle_s: float = IDLE_S) -> None:
        self._settings = settings
        self._limit_s = limit_s
        self._idle_s = idle_s
        self._smtp: aiosmtplib.SMTP | None = None
        self._server = ""
        self._doing = ""
        self._is_uncertain = False
        self._idle: asyncio.TimerHandle | None = None
        self._quitting: set[asyncio.Task[None]] = set()
        self._context: ssl.SSLContext | None = None
        self._password = ""
        self._secrets = Threads()
        self._token = None if settings.oauth2 is None else _access_token(settings.oauth2)
        # By message: the recipients that have it already, while others are still to get it.
        self._has: OrderedDict[str, set[str]] = OrderedDict()
        # In the forms that servers got. A server may repeat its password in any later answer.
        self._credentials: deque[str] = deque(maxlen=_CREDENTIALS_LIMIT)
        with suppress(SecretError):  # reported when the context is needed
            self._tls()

    async def send(self, message: Message) -> SendResult:
        """Send it through the first server that accepts it."""
        try:
            mail = self._mail(message)
        except ValueError as error:
            return RetryLater(
                self._shown(N_("an address of the channel %(fault)s") % {"fault": error}), alone=bool(message.recipients)
            )
        return await self._over(lambda smtp: self._transaction(smtp, message, mail))

    async def check(self) -> SendResult:
        """Connect and log in, but send nothing: Delivered if a server would accept a message."""
        return await self._over(_nothing)

    async def _over(self, work: Work) -> SendResult:
        """Do the work with the first server that can do it."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        result: SendResult = RetryLater(N_("no server"))
        loop = asyncio.get_running_loop()
        end_s = loop.time() + self._limit_s
        servers = self._settings.servers
        self._is_uncertain = False
        for number, server in enumerate(servers):
            share_s = max(0.0, end_s - loop.time()) / (len(servers) - number)
            result = await self._try(server, work, share_s)
            # A server that has got the whole message without answering may have accepted it, so no other server gets it now.
            if not isinstance(result, RetryLater) or self._is_uncertain:
                break
        if self._smtp is not None:
            self._idle = loop.call_later(self._idle_s, self._leave)
        return result

    def close(self) -> None:
        """Close the connection without QUIT."""
        if self._idle is not None:
            self._idle.cancel()
        self._drop()
        for task in self._quitting:
            task.cancel()

    async def _try(self, server: str, work: Work, limit_s: float) -> SendResult:
        """Do the work with one server, and turn its answers, or their absence, into a result."""
        try:
            async with asyncio.timeout(limit_s):
                return await self._with(server, work)
        except _FaultError as fault:
            if self._smtp is not None and not self._smtp.is_connected:
                self._drop()
            return fault.result
        except asyncio.CancelledError:
            self._drop()
            raise
        except (aiosmtplib.SMTPException, SecretError, OSError, ValueError) as error:
            self._drop()
            return self._meaning(error, limit_s)

    async def _with(self, server: str, work: Work) -> SendResult:
        """Do the work over the open connection, or over a new one."""
        if self._server != server:
            self._drop()
        smtp = self._smtp
        if smtp is not None and smtp.is_connected:
            try:
                return await work(smtp)
            except (aiosmtplib.SMTPServerDisconnected, _FaultError) as error:
                # The server may have closed it since the last message; in that case, open another one.
                if self._doing != "MAIL" or (isinstance(error, _FaultError) and smtp.is_connected):
                    raise
        self._drop()
        self._server = server
        self._smtp = await self._connected(server)
        return await work(self._smtp)

    def _meaning(self, error: Exception, limit_s: float) -> RetryLater:
        """Return the result of a failed connection. Only the server or an administrator can correct any of these faults."""
        if isinstance(error, SecretError):
            return RetryLater(self._shown(str(error)))
        cause = error.__cause__ if isinstance(error.__cause__, ssl.SSLCertVerificationError) else error
        if isinstance(cause, ssl.SSLCertVerificationError):
            self._context = None  # read ca_file again next time, like a secret that was refused
            return self._later(
                N_("the server's certificate is not trusted: %(fault)s; ca_file may name its authority's")
                % {"fault": cause.verify_message}
            )
        if isinstance(error, TimeoutError):
            return self._later(
                N_("no answer to %(step)s within %(seconds)s s") % {"step": self._doing, "seconds": f"{limit_s:.3g}"}
            )
        if isinstance(error, aiosmtplib.SMTPResponseException):
            if isinstance(error, aiosmtplib.SMTPAuthenticationError):
                self._password = ""
                if self._token is not None:
                    self._token.forget()
            if self._doing == "AUTH":
                # Only the code, because some servers repeat the command, which contains the password.
                hint = N_("are username and password right?") if self._token is None else N_("are username and oauth2 right?")
                return self._later(_answered("AUTH", error.code), f"; {hint}")
            return self._later(_answered(self._doing, error.code, error.message))
        return self._later(f"{self._doing}: {_system_text(error)}")

    async def _connected(self, server: str) -> aiosmtplib.SMTP:
        """Return a connection that is ready for a message."""
        security = self._settings.security
        port = self._port()
        self._doing = N_("the connection")
        smtp = aiosmtplib.SMTP(
            hostname=server, port=port, timeout=None, use_tls=security == "tls", start_tls=False, local_hostname=_helo_name(),
            tls_context=self._tls(),
        )  # fmt: skip
        try:
            await smtp.connect()
            self._doing = "EHLO"
            await smtp.ehlo()
            if security == "starttls":
                self._doing = "STARTTLS"
                self._need(
                    smtp.supports_extension("starttls"),
                    N_('the server offers no STARTTLS, and sshbell sends nothing without; is security "tls", or "none" here?'),
                )
                await smtp.starttls()
                self._doing = "EHLO"
                await smtp.ehlo()
            if self._settings.username:
                await self._log_in(smtp)
        except BaseException:
            smtp.close()
            raise
        return smtp

    async def _log_in(self, smtp: aiosmtplib.SMTP) -> None:
        self._doing = "AUTH"
        name = self._settings.username
        offered = smtp.server_auth_methods
        if self._token is not None:
            self._need("xoauth2" in offered, N_("the server offers no AUTH XOAUTH2") + self._unencrypted())
            token = await self._token.get()
            self._conceal(token, f"user={name}\1auth=Bearer {token}\1\1")
            await smtp.auth_xoauth2(name, token)
            return
        if self._settings.password is not None and not self._password:
            self._password = await self._secrets.run(read_secret, self._settings.password)
        self._conceal(self._password, f"\0{name}\0{self._password}")
        otherwise = N_("the server offers neither AUTH PLAIN nor AUTH LOGIN") + self._unencrypted()
        self._need("plain" in offered or "login" in offered, otherwise)
        if "plain" in offered:
            await smtp.auth_plain(name, self._password)
        else:
            await self._auth_login(smtp, name)

    def _conceal(self, *credentials: str) -> None:
        """Keep credentials out of all reports about answers, in plain text and in base64."""
        for text in credentials:
            for form in (text, base64.b64encode(text.encode()).decode()):
                if form and form not in self._credentials:
                    self._credentials.append(form)

    async def _auth_login(self, smtp: aiosmtplib.SMTP, name: str) -> None:
        """Answer one question at a time: not all servers accept the name with the command."""
        response = await smtp.execute_command(b"AUTH", b"LOGIN")
        for answer in (name, self._password):
            if response.code != 334:
                break
            response = await smtp.execute_command(base64.b64encode(answer.encode()))
        if response.code != 235:
            raise aiosmtplib.SMTPAuthenticationError(response.code, response.message)

    async def _transaction(self, smtp: aiosmtplib.SMTP, message: Message, mail: EmailMessage) -> SendResult:
        """
        Transfer one message; see RFC 5321, section 3.3.

        aiosmtplib's ``sendmail`` does that in one call, but does not show how far it got. Another server may get the message only
        until this one gets DATA.
        """
        has = self._has.get(message.id, set())
        recipients = [recipient for text in self._to(message) if (recipient := mailbox_of(text).smtp) not in has]
        sender = mailbox_of(self._sender()).smtp
        encoding, options = "ascii", []
        self._doing = "MAIL"
        if not all(map(str.isascii, (sender, *recipients))):
            self._need(
                smtp.supports_extension("smtputf8"), N_("an address is not ASCII, and the server offers no SMTPUTF8"),
                alone=bool(message.recipients),
            )  # fmt: skip
            encoding, options = "utf-8", ["SMTPUTF8"]
        try:
            await smtp.mail(sender, options=options, encoding=encoding)
            refused = await self._recipients(smtp, recipients, encoding)
            taken = [recipient for recipient in recipients if recipient not in refused]
            if not taken:
                return await self._none_taken(smtp, message, refused)
            self._doing = "DATA"
            self._is_uncertain = True
            await smtp.data(_bytes_of(mail, encoding))
            self._is_uncertain = False
        except (aiosmtplib.SMTPSenderRefused, aiosmtplib.SMTPDataError) as error:
            self._is_uncertain = False
            result = self._answer(error.code, _answered(self._doing, error.code, error.message), alone=True)
            await self._reset(smtp)
            raise _FaultError(result) from error
        return self._done(message, taken, refused)

    async def _recipients(
        self, smtp: aiosmtplib.SMTP, recipients: list[str], encoding: str
    ) -> dict[str, aiosmtplib.SMTPRecipientRefused]:
        """Send the recipients; return those that the server refuses."""
        self._doing = "RCPT"
        refused = {}
        for recipient in recipients:
            try:
                await smtp.rcpt(recipient, encoding=encoding)
            except aiosmtplib.SMTPRecipientRefused as error:
                refused[recipient] = error
        return refused

    async def _none_taken(
        self, smtp: aiosmtplib.SMTP, message: Message, refused: dict[str, aiosmtplib.SMTPRecipientRefused]
    ) -> SendResult:
        """Return the result if the server refuses all recipients: retry if it may accept one later."""
        await self._reset(smtp)
        errors = list(refused.values())
        first = next((error for error in errors if error.code < _PERMANENT), errors[0])
        # Recipients of this message alone mean nothing for other messages.
        return self._answer(first.code, f"{first.recipient}: {first.code} {first.message}", alone=bool(message.recipients))

    def _done(self, message: Message, taken: list[str], refused: dict[str, aiosmtplib.SMTPRecipientRefused]) -> SendResult:
        """Return the result if some recipients have it. Retry the others if possible, but send it to none twice within memory."""
        later = [error for error in refused.values() if error.code < _PERMANENT]
        if later:
            self._has.setdefault(message.id, set()).update(taken)
            while len(self._has) > _PARTIAL_LIMIT:
                self._has.popitem(last=False)
            return self._later(f"{later[0].recipient}: {later[0].code} {later[0].message}", alone=True)
        self._has.pop(message.id, None)
        return Delivered(
            self._shown(
                "; ".join(
                    N_("%(recipient)s was refused: %(answer)s")
                    % {"recipient": error.recipient, "answer": f"{error.code} {error.message}"}
                    for error in refused.values()
                )
            )
        )

    def _answer(self, code: int, text: str, *, alone: bool) -> SendResult:
        """Return the result of an answer to one message: retry after 4xx, and after faults that an administrator can correct."""
        if code >= _PERMANENT and code not in _OURS and self._doing != "MAIL":
            return Rejected(self._at(text))
        return self._later(text, alone=alone and self._doing != "MAIL" and code != _CLOSING)

    def _need(self, is_there: bool, otherwise: str, *, alone: bool = False) -> None:  # noqa: FBT001 - the name explains it
        if not is_there:
            raise _FaultError(self._later(otherwise, alone=alone))

    def _unencrypted(self) -> str:
        if self._settings.security != "none":
            return ""
        return "; " + N_("many offer it after STARTTLS only, so see security and username")

    def _later(self, text: str, hint: str = "", *, alone: bool = False) -> RetryLater:
        return RetryLater(self._at(text, hint), alone=alone)

    def _at(self, text: str, hint: str = "") -> str:
        """Return a server's answer, cut, with the server before it and the advice after it."""
        return self._shown(f"{self._server}:{self._port()}: {text}") + hint

    def _shown(self, text: str) -> str:
        """Return a server's answer as one line that is safe for a terminal, not too long, and without passwords."""
        return reason_of(text, self._credentials)

    async def _reset(self, smtp: aiosmtplib.SMTP) -> None:
        """Make the connection ready for the next message, or close it."""
        try:
            await smtp.rset()
        except (aiosmtplib.SMTPException, OSError):
            smtp.close()

    def _mail(self, message: Message) -> EmailMessage:
        mail = EmailMessage(policy=_policy("ascii"))
        # A user name may look like an encoded word (RFC 2047), which this package and mail programs would decode.
        mail["Subject"] = message.subject.replace("=?", "= ?")
        mail["From"] = mailbox_of(self._sender()).header
        mail["To"] = [mailbox_of(text).header for text in self._to(message)]
        mail["Date"] = formatdate(now_us() / SECOND_US, localtime=True)
        mail["Message-ID"] = self._reference(message.id)
        if message.thread:
            mail["In-Reply-To"] = mail["References"] = self._reference(message.thread)
        mail["Auto-Submitted"] = "auto-generated"
        if message.late:
            mail["X-Sshbell-Late"] = message.late
        mail.set_content(message.text)
        mail.add_alternative(message.html, subtype="html")
        # Somebody with many mails could guess the email package's own boundary. And the package cannot avoid a boundary that is
        # in the text: it looks for lines that end in LF, and these end in CRLF.
        mail.set_boundary(f"=_{secrets.token_hex(16)}")
        return mail

    def _reference(self, message_id: str) -> str:
        return f"<{message_id}.{self._settings.name.replace('.', '-')}@sshbell>"

    def _to(self, message: Message) -> Sequence[str]:
        return message.recipients or self._settings.to

    def _sender(self) -> str:
        return self._settings.sender or f"sshbell@{socket.gethostname()}"

    def _port(self) -> int:
        return self._settings.port or _PORTS[self._settings.security]

    def _tls(self) -> ssl.SSLContext | None:
        """Return the context, which is made once; None without TLS."""
        if self._settings.security == "none":
            return None
        if self._context is None:
            path = self._settings.ca_file
            try:
                self._context = ssl.create_default_context(cafile=path or None)
            except (OSError, ssl.SSLError) as error:
                raise SecretError(f"ca_file {path}: {error.strerror or error}") from error
        return self._context

    def _drop(self) -> None:
        if self._smtp is not None:
            self._smtp.close()
            self._smtp = None

    def _leave(self) -> None:
        """Send QUIT to the server, because no message has come for a while."""
        self._idle = None
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            task = asyncio.get_running_loop().create_task(_quit(smtp))
            self._quitting.add(task)
            task.add_done_callback(self._quitting.discard)


def _answered(step: str, code: int, text: str = "") -> str:
    return N_("%(step)s was answered %(answer)s") % {"step": step, "answer": f"{code} {text}".strip()}


async def _nothing(_smtp: aiosmtplib.SMTP) -> SendResult:
    return Delivered()


async def _quit(smtp: aiosmtplib.SMTP) -> None:
    with suppress(aiosmtplib.SMTPException, OSError):
        try:
            await smtp.quit(timeout=_QUIT_S)
        finally:
            smtp.close()


def _system_text(error: Exception) -> str:
    """Return the system's text for an error of the system, otherwise the library's."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    if isinstance(cause, OSError) and cause.errno is not None:
        # asyncio puts all addresses into its text; the resolver has its own error numbers.
        return str(cause.strerror) if isinstance(cause, socket.gaierror | ssl.SSLError) else os.strerror(cause.errno)
    if cause is not error and isinstance(cause, ConnectionError) and not str(cause):
        return N_("the server closed the connection")
    return str(getattr(error, "message", "") or error)


@cache
def _policy(encoding: str) -> "email.policy.EmailPolicy[EmailMessage]":
    """Return the policy for messages: seven bits wherever possible, because not every server on the way accepts eight."""
    return email.policy.SMTP.clone(utf8=encoding != "ascii", cte_type="7bit", header_factory=_HEADERS)


def _bytes_of(mail: EmailMessage, encoding: str) -> bytes:
    """Return a message in the form of SMTP."""
    # A first word that fills a line moves to the next one, whose leading blank would become part of the subject.
    return re.sub(rb"\ASubject:\r\n ", b"Subject: ", mail.as_bytes(policy=_policy(encoding)))


def _helo_name() -> str:
    """Return this machine's name if it is fully qualified, otherwise an address literal. Never asks a name server."""
    name = socket.gethostname()
    return name if "." in name and name.isascii() and not any(map(str.isspace, name)) else "[127.0.0.1]"
