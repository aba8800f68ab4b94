"""A walk through a stack ends as Linux-PAM's own does: pamtester asks the real one, with the same answers."""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from consumer.system.pam_stack import pam_stack
from consumer.system.pam_walk import SUCCESS, action_of, walk
from tests import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumer.system.pam_stack import PamEntry

# Each "?" is a module that the test makes succeed or fail. A module without it is itself.
STACKS = {
    "required": "required ?\nrequired ?\nrequired permit",
    "requisite": "requisite ?\nrequired ?",
    "sufficient": "sufficient ?\nsufficient ?\nrequired deny",
    "optional": "optional ?\nrequired ?",
    "optional alone": "optional ?\noptional ?",
    "jumps": "[success=1 default=ignore] ?\nrequisite deny\nrequired permit",
    "a jump too far": "[success=3 default=ignore] ?\nrequired permit",
    "to the end": "[success=1 default=bad] ?\nrequired ?",
    "die": "[success=ok default=die] ?\nrequired permit",
    "bad": "[success=ok default=bad] ?\nsufficient ?",
    "done after bad": "required ?\n[success=done default=bad] ?\nrequired deny",
    "reset": "required ?\n[success=reset default=ignore] ?\nrequired permit",
    "no default": "[success=ok] ?\nrequired permit",
    "codes": (
        "[success=3 default=ignore] ?\nrequisite ?\n[success=2 default=ignore] ?\n[success=1 default=die] ?\n"
        "requisite ?\nrequired permit"
    ),
    "substack": "required permit\nsubstack below\nrequired ?",
    "jump over a substack": "[success=1 default=ignore] ?\nsubstack below\nrequired permit",
    "include": "required permit\ninclude below\nrequired ?",
    "substack that dies": "substack below\nrequired ?",
}
BELOW = "sufficient ?\nrequisite ?\nrequired permit"
ANSWERS = {True: SUCCESS, False: "system_err"}


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return PAM's folder, and delete what the test has added."""
    needs.root("add PAM services")
    found = Path("/etc/pam.d")
    name = f"sshbell-walk-{os.getpid()}"
    yield found / name
    for path in found.glob(f"{name}*"):
        path.unlink()


def written(service: Path, stack: str, answers: list[bool]) -> None:
    """Write a service whose modules succeed or fail as told."""
    given = iter(answers)
    below = service.with_name(f"{service.name}-below")

    def lines(text: str) -> str:
        found = ""
        for line in text.split("\n"):
            control, _, module = line.rpartition(" ")
            if module == "below":
                found += f"auth {control} {below.name}\n"
                below.write_text(lines(BELOW))
            elif module == "?":
                found += f"auth {control} pam_exec.so quiet {'/bin/true' if next(given) else '/bin/false'}\n"
            else:
                found += f"auth {control} pam_{module}.so\n"
        return found

    service.write_text(lines(stack))


def answer(entry: PamEntry) -> str:
    """Return what a module of the test answers."""
    if entry.module == "pam_exec":
        return ANSWERS[entry.arguments[-1] == "/bin/true"]
    return SUCCESS if entry.module == "pam_permit" else "auth_err"


@pytest.mark.parametrize("name", STACKS)
def test_as_the_real_one(name: str, folder: Path) -> None:
    """Whatever the modules answer."""
    stack = STACKS[name]
    asked = stack.count("?") + (BELOW.count("?") if "below" in stack else 0)
    for answers in itertools.product([True, False], repeat=asked):
        written(folder, stack, list(answers))
        command = [needs.program("pamtester", "pamtester"), folder.name, "root", "authenticate"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert ("successfully authenticated" in done.stdout) is (done.returncode == 0), done
        found = walk(pam_stack(folder.name), answer)
        assert found.lets_in is (done.returncode == 0), (answers, folder.read_text(), [entry.text for entry in found.ran])


@pytest.mark.parametrize(
    ("control", "result", "action"),
    [
        ("required", "success", "ok"), ("required", "auth_err", "bad"), ("requisite", "auth_err", "die"),
        ("sufficient", "success", "done"), ("sufficient", "auth_err", "ignore"), ("optional", "ignore", "ignore"),
        ("[success=2 default=ignore]", "success", "2"), ("[success=2 default=ignore]", "auth_err", "ignore"),
        ("[success=ok auth_err=die default=bad]", "auth_err", "die"), ("[success=ok]", "auth_err", "bad"),
    ],
)  # fmt: skip
def test_action(control: str, result: str, action: str) -> None:
    """A control says what becomes of a module's answer."""
    assert action_of(control, result) == action
