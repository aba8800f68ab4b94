"""Writes the sentences of a message with a one-time code, and of the report that somebody asks for many codes."""

from collections.abc import Iterator

from consumer.codes.messages import CodeRequest
from consumer.deliver.channels import Detail
from consumer.deliver.facts import Facts, details_of, duration_text
from consumer.deliver.sentence_parts import named, named_in, on_host, to_host, way_in
from consumer.deliver.sentences import Sentences
from consumer.text import N_

# The PAM service of logins over SSH.
_SSHD = "sshd"
# The labels of details that only these messages have, by name.
_LABELS = {
    "code": N_("Code"),
    "session number": N_("Session"),
    "service": N_("Service"),
    "to": N_("Connected to"),
    "valid for": N_("Valid for"),
    "codes": N_("Codes"),
    "emergency codes": N_("Emergency codes"),
}


def code_sentences(facts: Facts, request: CodeRequest) -> Sentences:
    """Return the sentences for a request. The texts of ``facts`` are harmless; of ``request``, only digits are used."""
    _ = facts.language.gettext
    user = named_in(facts, facts.user) or _("somebody")
    if not request.code:
        remedy = _(
            "Not you? Somebody may have the password or the key of %(user)s: change them, and pass on no code.", user=user,
        )  # fmt: skip
        title = facts.language.ngettext(
            "Somebody%(way)s has asked for %(num)s code for %(user)s%(host)s. sshbell sends no more for now.",
            "Somebody%(way)s has asked for %(num)s codes for %(user)s%(host)s. sshbell sends no more for now.",
            request.prompts, way=way_in(facts), user=user, host=on_host(facts),
        )  # fmt: skip
        headline = _("MANY CODES for %(user)s%(host)s", user=user, host=on_host(facts))
        return Sentences(
            kind=_("Many codes"), who=user, from_where="", title=title, headline=headline, path="", remedy=remedy, notes=(),
            advice=(remedy,),
        )  # fmt: skip
    notes = (_("This is a trial with `sshbell pam try`: nobody is logging in."),) if request.trial else ()
    if request.service == _SSHD:
        path = _("%(user)s wants to log in%(host)s%(way)s.", user=user, host=to_host(facts), way=way_in(facts))
    else:
        service = named(facts.event.pam.service or "", facts.language)
        path = _(
            "%(user)s wants to use %(service)s%(host)s%(way)s.",
            user=user, service=service, host=on_host(facts), way=way_in(facts),
        )  # fmt: skip
    return Sentences(
        kind=_("One-time code"),
        title=_("%(code)s is the code for session %(session)s.", code=request.code, session=request.session),
        headline=_("Code for session %(session)s: %(user)s%(host)s", session=request.session, user=user, host=on_host(facts)),
        who=user,
        from_where="",
        path=path,
        remedy=_("Not you? Pass it on to nobody."),
        notes=notes,
        advice=(
            _("Type it only if the prompt shows session %(session)s.", session=request.session),
            _(
                "Not you, and nobody you know? Pass it on to nobody: somebody may have the password or the key of %(user)s.",
                user=user,
            ),
        ),
    )


def code_details(facts: Facts, request: CodeRequest, destination: str) -> tuple[Detail, ...]:
    """Return the details of the message, in order. ``destination`` is that of the request, made harmless."""
    language = facts.language

    def lines() -> Iterator[tuple[str, str]]:
        if request.code:
            yield "code", request.code
            yield "session number", request.session
            yield "valid for", duration_text(request.valid_s, language)
        else:
            yield "codes", language.number(request.prompts)

    def more() -> Iterator[tuple[str, str]]:
        yield "service", "" if request.service == _SSHD else facts.event.pam.service or ""
        yield "to", destination
        if request.emergency_left:
            yield "emergency codes", language.ngettext("%(num)s left", "%(num)s left", request.emergency_left)

    def details(found: Iterator[tuple[str, str]]) -> list[Detail]:
        return [Detail(name, value, language.gettext(_LABELS[name])) for name, value in found if value]

    return (*details(lines()), *details_of(facts), *details(more()))


def code_values(facts: Facts, request: CodeRequest, destination: str) -> dict[str, str | int]:
    """Return the values for templates of the user's, by name; all texts are harmless."""
    return {
        "code": request.code,
        "session": request.session,
        "user": facts.user,
        "host": facts.host,
        "address": facts.address,
        "destination": destination,
        "service": facts.event.pam.service or "",
        "method": facts.method,
        "valid_for": duration_text(request.valid_s, facts.language),
        "emergency_left": request.emergency_left,
        "prompts": request.prompts,
        "trial": request.trial,
    }
