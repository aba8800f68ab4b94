r"""
Lower a finished pyparsing expression to one compiled regular expression with the same meaning.

pyparsing never backtracks: ``Opt(x)`` keeps the ``x`` that it has matched, and ``MatchFirst`` keeps its first match. ``re``
backtracks wherever a pattern leaves it a choice. Possessive quantifiers and atomic groups would prevent that, but Python 3.11.2
has bugs in both. So the lowered pattern leaves no choice:

* It tries an alternative only if no earlier one matches: ``(?:A|(?!A)B)``. Likewise, ``Opt(A)`` becomes ``(?:A|(?!A))``. It
  omits the look-ahead if the first characters already exclude each other.
* A ``Regex`` before another element must be one repeated character class, and the next element must not begin with a character
  of that class. ``lower`` refuses anything else. So free text belongs in the last ``Regex`` of a rule, which stays unchanged.

The lowered set: Literal, Regex, And, MatchFirst, Opt, Suppress, and names. Any other element raises ``LoweringError``.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import pyparsing as pp

from consumer.errors import LoweringError

# Bytes decoded as latin-1 contain only these characters.
_ALPHABET = [chr(code) for code in range(256)]


class Lowered(NamedTuple):
    """A compiled pattern, and the groups of each field of the rule."""

    pattern: re.Pattern[str]
    groups: dict[str, tuple[int, ...]]  # field name -> group numbers; several if alternatives share a name
    absent: int  # a group that never matches: stands for the fields that this rule does not have


class Piece(NamedTuple):
    """One lowered element. ``first``: the characters it can begin with. ``empty``: it can match the empty string."""

    source: str
    first: frozenset[str]
    empty: bool
    tail: frozenset[str] = frozenset()  # the characters that a run at its end could give back
    free: bool = False  # a Regex that may only be the last part


def lower(expression: pp.ParserElement) -> Lowered:
    """
    Lower ``expression``.

    Raises:
        LoweringError: an element is outside the lowered set, or leaves ``re`` a choice.
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
    Return the possible beginnings of a text that ``expression`` can match.

    Each is a list of fixed texts and of runs of a character class; it stops before free text. The matcher uses them to choose
    candidate rules by the first characters of a line.
    """
    return [way for way, _ in _ways(expression)]


def _ways(element: pp.ParserElement) -> Iterator[tuple[list[str | re.Pattern[str]], bool]]:
    """Yield each possible beginning, and whether it covers the whole element."""
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
            hidden: list[tuple[str, str]] = []  # suppressed elements give no fields
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
    """Return the characters of a pattern that repeats one character class without an upper bound; None for others."""
    if not _CLASS.fullmatch(source):
        return None
    one = re.compile(source[:-1])
    return frozenset(char for char in _ALPHABET if one.fullmatch(char))


# Free text that begins with the slash of a path.
_PATH = re.compile(r"\(\?P<\w+>/\[")
# The only repetition allowed before another element: "[...]*" or "[...]+". Escapes are not allowed, as they need more analysis.
_CLASS = re.compile(r"\[\^?[^\[\]\\]+\][*+]")


def _sequence(element: pp.And, names: list[tuple[str, str]], follower: Piece) -> Piece:
    rest = follower
    whole = Piece("", frozenset(), empty=True)
    # Start at the end, because the next element decides what an element may be.
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
    """Join two consecutive pieces."""
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
        # The characters that can come next in this branch. An earlier branch that cannot begin with any of them needs no guard.
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
    """Return the pattern without group names, for a look-ahead: a pattern may define each name only once."""
    return re.sub(r"\(\?P<[^>]+>", "(?:", source)
