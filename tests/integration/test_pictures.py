"""The pictures of the documentation show what the commands write."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.waiting import DEADLINE_S

PROJECT_DIR = Path(__file__).parents[2]
NAMESPACE = "{http://www.w3.org/2000/svg}"
NAMES = {"who.svg": "Carol", "replay.svg": "Carol", "audit.svg": "prohibit-password"}


def texts(path: Path) -> list[str | None]:
    """Return what a picture says, row by row."""
    return [element.text for element in ET.parse(path).iter(f"{NAMESPACE}text")]  # noqa: S314 - our own


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with pictures of now."""
    folder = tmp_path_factory.mktemp("pictures")
    command = [sys.executable, "bench/terminal_pictures.py", str(folder)]
    env = os.environ | {"PYTHONPATH": str(PROJECT_DIR)}
    subprocess.run(command, cwd=PROJECT_DIR, env=env, check=True, timeout=DEADLINE_S)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_of_now(drawn: Path, name: str) -> None:
    """They show what the commands show; if not, draw them again: see CONTRIBUTING.md."""
    shown = texts(PROJECT_DIR / "docs" / name)
    assert shown == texts(drawn / name)
    assert any(NAMES[name] in (text or "") for text in shown)


@pytest.mark.parametrize("name", NAMES)
def test_pictures_need_no_other_host(name: str) -> None:
    """Whoever looks at a picture fetches nothing from elsewhere."""
    text = (PROJECT_DIR / "docs" / name).read_text(encoding="utf-8")
    assert text.count("://") == text.count("http://www.w3.org/2000/svg") == 1
    assert [word for word in ("@font-face", "@import", "href", "<script", "<image") if word in text] == []
