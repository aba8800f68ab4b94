r"""
Lower a finished pyparsing expression to one compiled regular expression with the same meaning.

pyparsing never goes back: once ``Opt(x)`` has taken ``x``, it stays taken, and once a ``MatchFirst`` has chosen, it has
chosen. ``re`` does go back, unless nothing is left to choose. Python 3.11.2's possessive quantifiers and atomic groups are
broken, so the lowered pattern has no choice instead:

* an alternative is tried only where no earlier one matches: ``(?:A|(?!A)B)``; likewise ``Opt(A)`` is ``(?:A|(?!A))``. The
  look-ahead is left out where the first characters already exclude each other;
* a ``Regex`` that something follows must be one character class, repeated, and what follows must not begin with a character of
  that class. Anything else is refused, so a rule's free text belongs into its last ``Regex``, which is taken as it stands.

The lowered set: Literal, Regex, And, MatchFirst, Opt, Suppress, and names. Any other element raises ``LoweringError``.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import pyparsing as pp

from consumer.errors import LoweringError

# A bytes text decoded as latin-1 holds these characters and no others.
_ALPHABET = [chr(code) for code in range(256)]


class Lowered(NamedTuple):
    """A compiled pattern and where each field of the rule stands in it."""

    pattern: re.Pattern[str]
    groups: dict[str, tuple[int, ...]]  # field name -> group numbers; several where alternatives share a name
    absent: int  # a group that never takes part: what an optional field of another rule reads as


class Piece(NamedTuple):
    """One lowered element. ``first``: the characters it can begin with; ``empty``: it can match nothing."""

    source: str
    first: frozenset[str]
    empty: bool
    tail: frozenset[str] = frozenset()  # what a run of characters at its end could give back
    free: bool = False  # a Regex that may only stand last


def lower(expression: pp.ParserElement) -> Lowered:
    """
    Lower ``expression``.

    Raises:
        LoweringError: an element outside the lowered set, or one whose choice cannot be proved unique.
    """
    names: list[tuple[str, str]] = []
    piece = _lower(expression, names, _NOTHING)
    pattern = re.compile(f"(?:{piece.source})|(?P<absent>(?!))")
    index = pattern.groupindex
    groups: dict[str, tuple[int, ...]] = {}
    for name, group in names:
        groups[name] = (*groups.get(name, ()), index[group])
    return Lowered(pattern, groups, index["absent"])


def leading_pieces(expression: pp.ParserElement) -> list[list[str | re.Pattern[str]]]:
    """
    What a text must begin with so that ``expression`` can match: for each way in, fixed texts and character-class runs.

    Used to pick candidate rules by the first characters of a line; a way stops where free text begins.
    """
    return [way for way, _ in _ways(expression)]


def _ways(element: pp.ParserElement) -> Iterator[tuple[list[str | re.Pattern[str]], bool]]:
    """Yield (what must come, whether the element was described to its end)."""
    match element:
        case pp.And():
            ways: list[tuple[list[str | re.Pattern[str]], bool]] = [([], True)]
            for part in element.exprs:
                further = list(_ways(part))
                ways = [
                    (way + more, whole_more) if whole else (way, False)
                    for way, whole in ways
                    for more, whole_more in (further if whole else [([], False)])
                ]
            yield from ways
        case pp.MatchFirst():
            for part in element.exprs:
                yield from _ways(part)
        case pp.Opt():
            yield from _ways(element.expr)
            yield [], True
        case pp.Suppress():
            yield from _ways(element.expr)
        case pp.Literal():
            yield [element.match], True
        case pp.Regex() if _repeated_class(str(element.pattern)) is not None:
            yield [re.compile(str(element.pattern))], True
        case pp.Regex() if _PATH.match(str(element.pattern)):
            yield ["/"], False
        case _:
            yield [], False


def _lower(element: pp.ParserElement, names: list[tuple[str, str]], follower: Piece) -> Piece:
    match element:
        case pp.And():
            piece = _sequence(element, names, follower)
        case pp.MatchFirst():
            piece = _first_of([_lower(part, names, follower) for part in element.exprs], element, follower)
        case pp.Opt():
            piece = _first_of([_lower(element.expr, names, follower), Piece("", frozenset(), empty=True)], element, follower)
        case pp.Suppress():
            hidden: list[tuple[str, str]] = []  # what is suppressed gives no field
            piece = _lower(element.expr, hidden, follower)
            piece = piece._replace(source=_unnamed(piece.source))
        case pp.Literal() if element.match:
            piece = Piece(re.escape(element.match), frozenset(element.match[0]), empty=False)
        case pp.Regex():
            piece = _regex(element, names)
        case _:
            raise LoweringError(f"{type(element).__name__} {element} is not in the lowered set")
    name = element.resultsName
    if not name or isinstance(element, pp.Suppress):
        return piece
    return piece._replace(source=f"(?P<{_group(name, names)}>{piece.source})")


_NOTHING = Piece("", frozenset(), empty=True)


def _group(name: str, names: list[tuple[str, str]]) -> str:
    group = f"{name}__{len(names)}"
    names.append((name, group))
    return group


def _regex(element: pp.Regex, names: list[tuple[str, str]]) -> Piece:
    source = str(element.pattern)
    repeated = _repeated_class(source)
    for name in re.compile(source).groupindex:
        source = source.replace(f"(?P<{name}>", f"(?P<{_group(name, names)}>")
    if repeated is None:
        return Piece(source, frozenset(_ALPHABET), empty=re.match(source, "") is not None, free=True)
    return Piece(source, repeated, empty=source.endswith("*"), tail=repeated)


@cache
def _repeated_class(source: str) -> frozenset[str] | None:
    """Return the characters of a pattern that is one character class repeated without an upper bound, else None."""
    if not _CLASS.fullmatch(source):
        return None
    one = re.compile(source[:-1])
    return frozenset(char for char in _ALPHABET if one.fullmatch(char))


# Free text that begins with the slash of a path.
_PATH = re.compile(r"\(\?P<\w+>/\[")
# The only repetition that may stand before something else: "[...]*" or "[...]+", without escapes that would need a closer look.
_CLASS = re.compile(r"\[\^?[^\[\]\\]+\][*+]")


def _sequence(element: pp.And, names: list[tuple[str, str]], follower: Piece) -> Piece:
    rest = follower
    whole = Piece("", frozenset(), empty=True)
    # From the end, since what follows decides what an element may be.
    for part in reversed(element.exprs):
        piece = _lower(part, names, rest)
        if whole.source and piece.free:
            raise LoweringError(f"{element}: the free text {piece.source} is not the last part")
        if piece.tail & rest.first:
            raise LoweringError(f"{element}: what follows {piece.source} can begin with a character of it")
        whole = _before(piece, whole)
        rest = _before(piece, rest)
    return whole


def _before(piece: Piece, rest: Piece) -> Piece:
    """Return two pieces in a row as one."""
    return Piece(
        piece.source + rest.source,
        piece.first | rest.first if piece.empty else piece.first,
        empty=piece.empty and rest.empty,
        tail=rest.tail | piece.tail if rest.empty else rest.tail,
        free=rest.free or piece.free,
    )


def _first_of(pieces: list[Piece], element: pp.ParserElement, follower: Piece) -> Piece:
    if any(piece.free for piece in pieces):
        raise LoweringError(f"{element}: free text inside a choice")
    branches: list[str] = []
    for position, piece in enumerate(pieces):
        # What comes next where this branch is chosen: if no earlier branch can begin so, none could have been chosen instead.
        first = piece.first | follower.first if piece.empty else piece.first
        decides = not piece.empty or not follower.empty
        earlier = [other for other in pieces[:position] if not (decides and other.first.isdisjoint(first) and not other.empty)]
        guard = "".join(f"(?!{_unnamed(other.source)})" for other in earlier)
        branches.append(guard + piece.source)
    return Piece(
        f"(?:{'|'.join(branches)})",
        frozenset[str]().union(*(piece.first for piece in pieces)),
        empty=any(piece.empty for piece in pieces),
        tail=frozenset[str]().union(*(piece.tail for piece in pieces)),
    )


def _unnamed(source: str) -> str:
    """The same pattern without named groups, for a look-ahead: a name may stand only once in a pattern."""
    return re.sub(r"\(\?P<[^>]+>", "(?:", source)
