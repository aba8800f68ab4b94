"""The benches import names that exist: nobody runs all of them often, and they use private names, too."""

from __future__ import annotations

import ast
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
BENCHES = sorted(BENCH.glob("*.py"))


def missing(source: str) -> list[str]:
    """Return the names of ours that a program imports and that do not exist."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.partition(".")[0] in {"consumer", "grammars", "tests"}
        ):
            module = import_module(node.module)
            found += [
                f"{node.module}.{alias.name}"
                for alias in node.names
                if not hasattr(module, alias.name)
                and not (hasattr(module, "__path__") and find_spec(f"{node.module}.{alias.name}") is not None)
            ]
    return found


@pytest.mark.parametrize("bench", BENCHES, ids=lambda bench: bench.stem)
def test_what_benches_import(bench: Path) -> None:
    """Each name exists."""
    assert missing(bench.read_text(encoding="utf-8")) == []


def test_a_missing_name() -> None:
    """The test finds it, and takes a module for a name."""
    assert missing("from consumer.store.state import State, _nothing\nfrom consumer.store import state, nothing") == [
        "consumer.store.state._nothing", "consumer.store.nothing",
    ]  # fmt: skip
