"""
The names of the months in the languages that locales are made for.

journalctl writes the month as ``LC_TIME`` says, and as glibc abbreviates it: ``Mai``, ``mars``, ``févr.``, ``paź``, ``окт``,
`` 1月``, ``de gen.``. The names come from the Unicode CLDR through Babel. glibc's are mostly the same. Others are the beginning
of the CLDR's whole name (``фев`` of ``февраля``).

Babel is imported, and its data read, when the first name is met that is not English: half a second, once in a process.
"""

import re
from collections import defaultdict
from functools import cache, lru_cache
from types import MappingProxyType

Months = MappingProxyType[int, frozenset[str]]

# CLDR knows some languages by little more than the names of their months. Nobody has a locale for them, and their names stand
# for other months in the languages of others. A language that has names for more units than this is one of those in use.
_UNITS = 20
# glibc's shortest beginnings of a name have three letters.
_BEGINNING = 3
# A file has one language, and a hostile one as many names as it likes.
_NAMES_REMEMBERED = 256
_NUMBER = re.compile("[0-9]+")


@lru_cache(_NAMES_REMEMBERED)
def months_of(name: str) -> Months:
    """
    Return the months that a name can mean, 1 to 12, each with the languages (``de``) in which it does.

    It is empty where no language has the name, and nearly always has one month. Only Croatian and its neighbours mean different
    months by the same name: ``lis`` is October in Croatian, and November in Polish and Czech.

    Args:
        name: as the log has it, one character a byte; in any case, with or without a dot.
    """
    try:
        text = name.encode("latin-1").decode()
    except UnicodeDecodeError:
        text = name  # of a locale in ISO 8859-1
    text = _plain(text)
    number = _NUMBER.search(text)
    if number is not None:
        # East Asian locales, Vietnamese and Mongolian ones count the months.
        month = int(number[0]) if len(number[0]) <= 2 else 0
        return MappingProxyType({month: frozenset()} if 1 <= month <= 12 else {})
    names = _names()
    exact = names.get(text)
    # A language that has the very name may have a longer one that begins like it: "jui" of "juin" and "juillet".
    meant = frozenset[str]().union(*exact.values()) if exact is not None else None
    found: defaultdict[int, frozenset[str]] = defaultdict(frozenset, exact or {})
    if len(text) >= _BEGINNING:
        for whole, months in names.items():
            if whole.startswith(text):
                for month, languages in months.items():
                    if shared := languages if meant is None else languages & meant:
                        found[month] |= shared
    if not found and " " in text:
        # Catalan says "of January", and some write the day of the week before the month.
        return months_of(text.rpartition(" ")[2].encode().decode("latin-1"))
    return MappingProxyType(dict(found))


def _plain(name: str) -> str:
    return name.strip().casefold().rstrip(".")


@cache
def _names() -> dict[str, Months]:
    """Return all names, abbreviated and whole, of all languages in use."""
    from babel import localedata  # noqa: PLC0415 - see the module's docstring

    found: defaultdict[str, defaultdict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    in_use = set()
    for locale in sorted(localedata.locale_identifiers()):  # a language before its regions
        own = localedata.load(locale, merge_inherited=False)
        # Babel would keep 170 MB that nobody asks for again.
        getattr(localedata, "_cache", {}).pop(locale, None)
        language = locale.partition("_")[0]
        if locale == language and locale != "root" and len(own.get("unit_patterns") or ()) > _UNITS:
            in_use.add(language)
        if language not in in_use:
            continue
        for context in ("format", "stand-alone"):
            for width in ("abbreviated", "wide"):
                # Where a locale has none of its own, an alias stands here.
                names = (own.get("months") or {}).get(context, {})
                names = names.get(width) if isinstance(names, dict) else None
                for month, name in names.items() if isinstance(names, dict) else ():
                    found[_plain(name)][month].add(language)
    return {
        name: MappingProxyType({month: frozenset(languages) for month, languages in months.items()})
        for name, months in found.items()
    }
