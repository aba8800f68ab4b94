"""Words mean one thing: a class or a function has a name of its own, and the glossary in CONTRIBUTING.md names what exists."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PROJECT_DIR = Path(__file__).parents[1]


def names(source: str) -> Iterator[str]:
    """Yield the public classes, type aliases and functions that a module defines."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node.name
    yield from class_names(source)


def class_names(source: str) -> Iterator[str]:
    """Yield the public classes and type aliases that a module defines."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        else:
            continue
        # A constant has no small letter; a type variable is one letter.
        yield from (name for name in names if name[0].isupper() and not name.isupper())


def defined_twice(modules: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the names that several modules define, out of path and text of each."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path, source in modules:
        for name in names(source):
            places[name].append(path)
    return {name: paths for name, paths in places.items() if len(paths) > 1}


def test_a_name_means_one_thing() -> None:
    """No two modules give a class, a type or a function one name; commands, and rows of ``check``, are named after things."""
    paths = [path for folder in ("consumer", "grammars") for path in sorted((PROJECT_DIR / folder).rglob("*.py"))]
    paths = [path for path in paths if path.parent.name != "commands" and not path.name.startswith("check_")]
    for program in ("keys", "guard"):  # programs of their own, each with a main
        paths.remove(PROJECT_DIR / f"consumer/{program}/process.py")
    paths.remove(PROJECT_DIR / "consumer/__main__.py")  # another one: it starts either the command line or what PAM runs
    assert len(paths) > 100
    assert defined_twice((str(path.relative_to(PROJECT_DIR)), path.read_text("utf-8")) for path in paths) == {}


def test_a_slip_is_found() -> None:
    """Classes, aliases and functions are seen; what is private, a constant or a type variable may have the name that it likes."""
    private = 'T = TypeVar("T")\nLIMIT = 5\n_Text = str\nclass _Config: pass\ndef _text(): pass\n'
    modules = [
        ("a.py", private + "class Entry: pass\ndef read(): pass\n"), ("b.py", private + "Entry = tuple[str, int]\n"),
        ("c.py", private + "async def read(): pass\n"),
    ]  # fmt: skip
    assert defined_twice(modules) == {"Entry": ["a.py", "b.py"], "read": ["a.py", "c.py"]}


def test_the_glossary_names_what_exists() -> None:
    """Each word is defined where the glossary says, and a class is in that module."""
    text = (PROJECT_DIR / "CONTRIBUTING.md").read_text("utf-8")
    rows = re.findall(r"^\| (`?)([\w `-]+?)`? \| .* \| `([\w/.]+)` \|$", text, re.MULTILINE)
    assert len(rows) > 20
    for is_class, word, place in rows:
        path = PROJECT_DIR / "consumer" / place
        assert path.exists(), place
        assert not is_class or word in class_names(path.read_text("utf-8")), word
