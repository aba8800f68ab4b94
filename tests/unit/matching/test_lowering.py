"""``consumer.matching.lowering``: a lowered pattern means what pyparsing means, or is refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pyparsing as pp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.errors import LoweringError
from consumer.matching.lowering import leading_pieces, lower
from tests.budget import examples

if TYPE_CHECKING:
    from collections.abc import Iterator

Fields = dict[str, str]


def ready(expression: pp.ParserElement) -> pp.ParserElement:
    """Finish an expression as ``grammars.rule`` does."""
    return expression.leave_whitespace().parse_with_tabs()


def by_pyparsing(expression: pp.ParserElement, text: str) -> Fields | None:
    """Run an expression as it is written; None where the whole text does not match."""
    try:
        return {name: str(value) for name, value in expression.parse_string(text, parse_all=True).as_dict().items()}
    except pp.ParseException:
        return None


def by_lowering(expression: pp.ParserElement, text: str) -> Fields | None:
    """Run the lowered pattern; None where it does not match the whole text."""
    lowered = lower(expression)
    match = lowered.pattern.fullmatch(text)
    if match is None:
        return None
    found = {
        name: next((match[group] for group in groups if match[group] is not None), None)
        for name, groups in lowered.groups.items()
    }
    return {name: value for name, value in found.items() if value is not None}


def lit(text: str) -> pp.Literal:
    """Return a literal."""
    return pp.Literal(text)


def rest() -> pp.Regex:
    """Return a free text to the end of the line."""
    return pp.Regex(r"(?P<rest>.*)\Z")


#: What is promised, an expression, a text, and what both engines must say.
MEANINGS: list[tuple[str, pp.ParserElement, str, Fields | None]] = [
    ("an optional part that is there is taken", pp.Opt(lit("ab")("x")) + lit("c"), "abc", {"x": "ab"}),
    ("an optional part may be missing", pp.Opt(lit("ab")("x")) + lit("c"), "c", {}),
    ("what an optional part took it keeps", pp.Opt(lit("a")("x")) + lit("ab"), "ab", None),
    ("twice is enough for both", pp.Opt(lit("a")("x")) + lit("ab"), "aab", {"x": "a"}),
    ("also where the optional part has two elements", pp.Opt(lit("a") + lit("b")) + lit("abc"), "abc", None),
    ("a part of an optional part is none", pp.Opt(lit("a") + lit("c")) + lit("ab"), "ab", {}),
    ("nested optional parts keep what they took", pp.Opt(lit("a") + pp.Opt(lit("b"))) + lit("bc"), "abc", None),
    (
        "the first alternative that fits is taken",
        pp.MatchFirst([lit("a"), lit("ab")])("x") + rest(),
        "abc",
        {"x": "a", "rest": "bc"},
    ),
    ("and stays taken", pp.MatchFirst([lit("a"), lit("ab")]) + lit("c"), "abc", None),
    ("a longer one that comes first is taken", pp.MatchFirst([lit("ab"), lit("a")])("x") + lit("c"), "abc", {"x": "ab"}),
    ("a choice may end in an optional part", pp.MatchFirst([lit("a") + pp.Opt(lit("b")), lit("c")]) + lit("b"), "ab", None),
    ("what is suppressed gives no field", pp.Suppress(lit("a")("x")) + lit("b")("y"), "ab", {"y": "b"}),
    (
        "a run of characters ends before what follows",
        pp.Regex("[a-z]*")("x") + lit("(") + rest(),
        "ab(c",
        {"x": "ab", "rest": "c"},
    ),
    ("an empty run is empty", pp.Regex("[a-z]*")("x") + lit("("), "(", {"x": ""}),
    ("a run needs one character", pp.Regex("[a-z]+")("x") + lit("("), "(", None),
    ("blanks and tabs are text", lit("a ")("x") + pp.Regex(r"(?P<rest>.*)\Z"), "a \t b ", {"x": "a ", "rest": "\t b "}),
    (
        "a name of two alternatives is one field",
        pp.MatchFirst([lit("a")("x"), lit("b")("x")]) + rest(),
        "bc",
        {"x": "b", "rest": "c"},
    ),
    (
        "names inside a regular expression are fields",
        lit("-") + pp.Regex(r"(?P<x>[ab]*) (?P<y>.*)\Z"),
        "-a b",
        {"x": "a", "y": "b"},
    ),
    ("special characters are text", lit("a.(b)[c]*")("x"), "a.(b)[c]*", {"x": "a.(b)[c]*"}),
    ("and nothing but that text", lit("a.c"), "abc", None),
]


@pytest.mark.parametrize(("expression", "text", "expected"), [case[1:] for case in MEANINGS], ids=[case[0] for case in MEANINGS])
def test_lowered_means_the_same(expression: pp.ParserElement, text: str, expected: Fields | None) -> None:
    """Each element of the lowered set keeps pyparsing's meaning, which never goes back."""
    finished = ready(expression)
    assert (by_pyparsing(finished, text), by_lowering(finished, text)) == (expected, expected)


#: What is refused, and the word that the error must hold.
REFUSED: list[tuple[str, pp.ParserElement, str]] = [
    ("one or more", pp.OneOrMore(lit("a")), "OneOrMore"),
    ("zero or more", lit("a") + pp.ZeroOrMore(lit("b")), "ZeroOrMore"),
    ("repetition", lit("a") * 3 + pp.OneOrMore(lit("b")), "OneOrMore"),
    ("at least two", lit("a")[2, ...], "OneOrMore|And|ZeroOrMore"),
    ("skip to", pp.SkipTo(lit("a")) + lit("a"), "SkipTo"),
    ("word", pp.Word("ab") + lit("c"), "Word"),
    ("forward", pp.Forward(), "Forward"),
    ("longest alternative", lit("a") ^ lit("ab"), "Or"),
    ("each, in any order", lit("a") & lit("b"), "Each"),
    ("negative look-ahead", ~lit("a") + lit("b"), "NotAny"),
    ("look-ahead", pp.FollowedBy(lit("a")) + lit("a"), "FollowedBy"),
    ("literal without case", pp.CaselessLiteral("a") + pp.CaselessKeyword("b"), "Caseless"),
    ("keyword", pp.Keyword("a"), "Keyword"),
    ("group", pp.Group(lit("a")), "Group"),
    ("combine", pp.Combine(lit("a") + lit("b")), "Combine"),
    ("end of the text", lit("a") + pp.StringEnd(), "StringEnd"),
    ("empty", pp.Empty() + lit("a"), "Empty"),
    ("white space", pp.White() + lit("a"), "White"),
    ("characters that are none of", pp.CharsNotIn("a"), "CharsNotIn"),
    ("free text that is not the last part", pp.Regex(".*") + lit("a"), "free text"),
    ("free text before an optional part", pp.Regex("(?:ab)?") + pp.Opt(lit("a")), "free text"),
    ("a class with an upper bound that something follows", pp.Regex("[a-z]{1,3}") + lit("("), "free text"),
    ("a lazy class that something follows", pp.Regex("[a-z]*?") + lit("("), "free text"),
    ("a class that something of its own follows", pp.Regex("[ab]+") + lit("b"), "can begin with"),
    ("also behind an optional part", pp.Regex("[ab]+") + pp.Opt(lit("c")) + lit("b"), "can begin with"),
    ("also inside an optional part", pp.Regex("[ab]+") + pp.Opt(lit("b")) + lit("c"), "can begin with"),
    ("also inside a choice", pp.Regex("[ab]+") + pp.MatchFirst([lit("c"), lit("a")]), "can begin with"),
    ("also inside what is nested", pp.And([lit("-"), pp.Regex("[ab]+")]) + lit("b"), "can begin with"),
    ("also at the end of an alternative", pp.MatchFirst([pp.Regex("[ab]+"), lit("c")]) + lit("b"), "can begin with"),
    ("a class before another free text", pp.Regex("[ab]+") + pp.Regex(".*"), "can begin with"),
    ("free text inside a choice", pp.MatchFirst([pp.Regex("a.*"), lit("b")]), "free text"),
    ("free text inside an optional part", pp.Opt(pp.Regex("a.*")), "free text"),
]


@pytest.mark.parametrize(("expression", "word"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_anything_else_is_refused(expression: pp.ParserElement, word: str) -> None:
    """An element outside the lowered set, or one that might have to give something back, raises an error that names it."""
    with pytest.raises(LoweringError, match=word):
        lower(ready(expression))


def test_an_optional_field_is_absent_in_a_lowered_pattern() -> None:
    """``absent`` is a group that never takes part, so that a field that a rule does not have reads as one that was not there."""
    lowered = lower(ready(pp.Opt(lit("a")("x")) + lit("b")))
    match = lowered.pattern.match("b")
    assert match is not None
    assert match[lowered.absent] is None
    assert match[lowered.groups["x"][0]] is None


def test_no_possessive_and_no_atomic_group_is_used() -> None:
    """Python 3.11.2 has broken possessive quantifiers and atomic groups: a lowered pattern holds none."""
    expression = pp.Opt(lit("maximum ") + pp.Opt(lit("authentication ")) + lit("attempts ")) + lit("maximum x")
    lowered = lower(ready(expression))
    assert not re.search(r"\(\?>|[*+?}]\+", lowered.pattern.pattern)
    assert lowered.pattern.fullmatch("maximum x")
    assert lowered.pattern.fullmatch("maximum attempts maximum x")


LEADING: list[tuple[str, pp.ParserElement, list[str]]] = [
    ("a literal", lit("abc") + rest(), ["abc"]),
    ("an optional part", pp.Opt(lit("x")) + lit("abc") + rest(), ["xabc", "abc"]),
    ("a choice", pp.MatchFirst([lit("a"), lit("b")]) + lit("c") + rest(), ["ac", "bc"]),
    ("free text", rest(), [""]),
]


@pytest.mark.parametrize(("expression", "ways"), [case[1:] for case in LEADING], ids=[case[0] for case in LEADING])
def test_leading_pieces(expression: pp.ParserElement, ways: list[str]) -> None:
    """The texts that a rule can begin with are all told, so that no candidate is left out."""
    assert ["".join(str(piece) for piece in way) for way in leading_pieces(ready(expression))] == ways


def elements(names: st.SearchStrategy[str]) -> st.SearchStrategy[pp.ParserElement]:
    """Return small expressions of the lowered set, over the letters a, b and c."""
    texts = st.text("ab", min_size=1, max_size=3)
    classes = st.sampled_from(["[ab]*", "[ab]+", "[a]*", "[^a]*", "[b]+", "[c]*", "[^bc]+"])
    leaves = st.one_of(texts.map(pp.Literal), texts.map(pp.Literal), classes.map(pp.Regex))

    def grow(inner: st.SearchStrategy[pp.ParserElement]) -> st.SearchStrategy[pp.ParserElement]:
        several = st.lists(inner, min_size=1, max_size=3)
        return st.one_of(
            several.map(pp.And),
            several.map(pp.MatchFirst),
            inner.map(pp.Opt),
            inner.map(pp.Suppress),
            st.tuples(inner, names).map(lambda pair: pair[0].copy().set_results_name(pair[1])),
        )

    return st.recursive(leaves, grow, max_leaves=6)


EXPRESSIONS = st.tuples(
    st.lists(elements(st.sampled_from(["x", "y", "z"])), min_size=1, max_size=3),
    st.sampled_from([r"(?P<rest>.*)\Z", r"c*\Z", r"(?P<rest>[ab]*)(?P<x>c?)\Z", r"\Z"]),
).map(lambda parts: pp.And([*parts[0], pp.Regex(parts[1])]))


def walk(element: Any) -> Iterator[Any]:
    """Yield an element and all it is made of."""
    yield element
    for part in getattr(element, "exprs", None) or ([element.expr] if getattr(element, "expr", None) is not None else []):
        yield from walk(part)


def named_once(expression: pp.ParserElement) -> bool:
    """
    Tell whether names stand where the grammars put them: on single texts, no name twice in a row.

    pyparsing keeps the last of two equal names, and the parts of a named sequence as a list; no grammar relies on that.
    """
    for element in walk(expression):
        is_plain = isinstance(element, (pp.Literal, pp.Regex))
        is_choice = isinstance(element, pp.MatchFirst) and all(isinstance(part, pp.Literal) for part in element.exprs)
        if element.resultsName and not is_plain and not is_choice:
            return False
        if isinstance(element, pp.And):
            names = [name for part in element.exprs for name in names_of(part)]
            if len(names) != len(set(names)):
                return False
    return True


def names_of(element: pp.ParserElement) -> set[str]:
    """Return the names that stand anywhere in an element."""
    names = {part.resultsName for part in walk(element) if part.resultsName}
    for part in walk(element):
        if isinstance(part, pp.Regex):
            names |= set(part.re.groupindex)
    return names


@examples(1500)
@given(EXPRESSIONS, st.lists(st.text("abc", max_size=7), min_size=6, max_size=12))
def test_any_expression_means_the_same_or_is_refused(expression: pp.ParserElement, texts: list[str]) -> None:
    """Whatever is written in the lowered set: pyparsing and the lowered pattern match the same texts, with the same fields."""
    finished = ready(expression)
    try:
        lower(finished)
    except LoweringError:
        return
    compares_fields = named_once(finished)
    for text in texts:
        expected, found = by_pyparsing(finished, text), by_lowering(finished, text)
        assert (found is None) == (expected is None), text
        if compares_fields and expected is not None and found is not None:
            assert found == expected, text
