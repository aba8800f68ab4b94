"""The configuration of a machine that has nothing for sshbell. The one in the default place is that of the real machine."""

from __future__ import annotations

from pathlib import Path

BARE = Path(__file__).parent / "samples/bare.toml"


def on_a_bare_machine(*arguments: str | Path) -> list[str]:
    """Return arguments with the configuration of a bare machine, if they name none and the command reads one."""
    words = list(map(str, arguments))
    reads = bool(words) and words[0] in {"parse", "replay", "explain", "archive"} and "--config" not in words
    return [words[0], "--config", str(BARE), *words[1:]] if reads else words
