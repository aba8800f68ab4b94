"""An object of ``run`` and ``deliver`` is complete once it is made: no attribute appears later, and nothing asks for one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

CONSUMER = Path(__file__).parents[3] / "consumer"
MODULES = [path for room in ("run", "deliver") for path in sorted((CONSUMER / room).rglob("*.py"))]


def attributes(node: ast.AST) -> set[str]:
    """Return the attributes of ``self`` to which something is assigned."""
    return {
        each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store)
        if isinstance(each.value, ast.Name) and each.value.id == "self"
    }


def late(text: str) -> dict[str, set[str]]:
    """Return, by class, the attributes that do not exist once an object is made; "" for calls of ``hasattr``."""
    tree = ast.parse(text)
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            methods = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
            made = set().union(*(attributes(each) for each in methods if each.name == "__init__"))
            found[node.name] = set().union(*map(attributes, methods)) - made
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hasattr":
            found.setdefault("", set()).add(ast.unparse(node))
    return {name: missing for name, missing in found.items() if missing}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CONSUMER)))
def test_objects_are_complete(path: Path) -> None:
    """``__init__`` shows all that an object holds."""
    assert late(path.read_text(encoding="utf-8")) == {}


def test_a_late_attribute_is_found() -> None:
    """The test can fail."""
    text = (
        "class A:\n    def __init__(self):\n        self.a = 1\n\n    def b(self):\n        self.a, (self.b, *self.c) = 1, [2]\n"
    )
    assert late(text) == {"A": {"b", "c"}}
    assert late("hasattr(x, 'y')") == {"": {"hasattr(x, 'y')"}}
