"""
The languages of messages.

English is the language of the source. Each other language has a catalogue in the format of gettext, in ``locale``. Babel reads
it, and knows how the language writes times, numbers, lists and the names of countries. Both are loaded only if the configuration
asks for such a language, so a host with English messages alone does not pay for them. Babel makes the binary form of a catalogue
in memory, within some milliseconds. So no step of the build can forget it, and no stale file can take its place.

Texts take values by name, as in ``"%(who)s logged in"``. A value may come from the network, because Python looks for names in the
text alone.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from functools import cache, partial
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from pathlib import Path

from consumer.text import listed

# The modules whose texts are the reasons for faults of channels.
_CHANNELS = "consumer/deliver/channels/"
REASON_MODULES = frozenset({
    "consumer/deliver/http_faults.py", "consumer/deliver/oauth2.py", "consumer/deliver/worker.py",
    "consumer/deliver/xmpp_connection.py", "consumer/process/command.py", "consumer/secret.py",
})  # fmt: skip
_VALUE = re.compile(r"%\(\w+\)s")
CATALOGUES = Path(__file__).with_name("locale")


class Language:
    """
    A language of messages. This class is English.

    Attributes:
        code: as in the setting ``language``.
        translations: for templates.
    """

    code = "en"
    translations = NullTranslations()

    def gettext(self, text: str, **values: object) -> str:
        """Return a text with its values, in this language."""
        return self.translations.gettext(text) % values

    def ngettext(self, one: str, several: str, number: int, **values: object) -> str:
        """Return the form of a text for a number; ``%(num)s`` is the number itself."""
        return self.translations.ngettext(one, several, number) % {"num": self.number(number), **values}

    def number(self, number: int) -> str:
        """Return a number, with its thousands apart."""
        return f"{number:,}"

    def listed(self, words: Sequence[str]) -> str:
        """Return words as a list in a sentence."""
        return listed(words)

    def day(self, moment: datetime) -> str:
        """Return the date of a time."""
        return f"{moment:%Y-%m-%d}"

    def clock(self, moment: datetime) -> str:
        """Return the time of the day, with seconds."""
        return f"{moment:%H:%M:%S}"

    def moment(self, moment: datetime) -> str:
        """Return date and time of the day."""
        return f"{moment:%Y-%m-%d %H:%M:%S}"

    def reason(self, text: str) -> str:
        """Return the reason for a fault of a channel in this language. The store has it in English, as the log does."""
        return text

    def country(self, code: str) -> str:
        """Return the name of a country by its code in ISO 3166; "" for the name that the database of places has."""
        del code
        return ""


class _Translated(Language):
    """
    A language with a catalogue.

    Args:
        code: also the name of the catalogue's folder.
    """

    def __init__(self, code: str) -> None:
        from babel import Locale  # noqa: PLC0415 - see the module's docstring
        from babel.messages.mofile import write_mo  # noqa: PLC0415
        from babel.messages.pofile import read_po  # noqa: PLC0415

        self.code = code
        self._locale = Locale.parse(code)
        with (CATALOGUES / code / "LC_MESSAGES" / "sshbell.po").open("rb") as file:
            catalogue = read_po(file, code)
        binary = BytesIO()
        write_mo(binary, catalogue)
        self.translations = GNUTranslations(BytesIO(binary.getvalue()))
        texts = [str(each.id) for each in catalogue if not each.pluralizable and any(map(_is_of_reasons, each.locations))]
        # The one with the most words first, without its values: another one may fit a part of it.
        texts.sort(key=lambda text: len(_VALUE.sub("", text)), reverse=True)
        self._reasons = [(_pattern_of(text), text) for text in texts]

    def number(self, number: int) -> str:
        from babel.numbers import format_decimal  # noqa: PLC0415

        return format_decimal(number, locale=self._locale)

    def listed(self, words: Sequence[str]) -> str:
        from babel.lists import format_list  # noqa: PLC0415

        return format_list(words, locale=self._locale)

    def day(self, moment: datetime) -> str:
        from babel.dates import format_date  # noqa: PLC0415

        return format_date(moment, "medium", self._locale)

    def clock(self, moment: datetime) -> str:
        from babel.dates import format_time  # noqa: PLC0415

        return format_time(moment.replace(tzinfo=None), "medium", locale=self._locale)

    def moment(self, moment: datetime) -> str:
        from babel.dates import format_datetime  # noqa: PLC0415

        return format_datetime(moment.replace(tzinfo=None), "medium", locale=self._locale)

    def reason(self, text: str) -> str:
        for pattern, original in self._reasons:
            text = pattern.sub(partial(self._filled, original), text)
        return text

    def _filled(self, original: str, found: re.Match[str]) -> str:
        return self.gettext(original, **{name: self.reason(value) for name, value in found.groupdict().items()})

    def country(self, code: str) -> str:
        return str(self._locale.territories.get(code, ""))


def _is_of_reasons(location: tuple[str, int]) -> bool:
    """Return whether a text of the catalogue is in a module that writes reasons."""
    return location[0] in REASON_MODULES or location[0].startswith(_CHANNELS)


def _pattern_of(text: str) -> re.Pattern[str]:
    """Return a pattern that finds a text with its values, as a part of a reason: "mail.example.org:25: no answer; ..."."""
    inner = re.sub(r"%\\\((\w+)\\\)s", r"(?P<\1>.+?)", re.escape(text))
    return re.compile(rf"(?:^|(?<=: )|(?<=; )){inner}(?=$|: |; | \()")


ENGLISH = Language()


@cache
def language_of(code: str) -> Language:
    """Return a language by its code, which ``config_values.LanguageCode`` lists."""
    return ENGLISH if code == ENGLISH.code else _Translated(code)
