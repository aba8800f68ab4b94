"""How long ``sshbell status`` waits for processes that are just starting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from consumer.config_file import load
from consumer.system import status

if TYPE_CHECKING:
    from tests.integration.site import Site


def test_does_not_wait_in_vain(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """If neither rsyslogd nor ``run`` has just begun, nothing is starting."""
    monkeypatch.setattr(status, "_has_young_parent", lambda: False)
    monkeypatch.setattr("time.sleep", lambda _s: pytest.fail("it waits"))
    status.wait_for_start(load(str(site.config)))


@pytest.mark.parametrize(
    ("command", "starts_one"),
    [
        ("/usr/sbin/rsyslogd\0-n\0-iNONE\0", True),
        ("/opt/sshbell/bin/python\0-I\0-m\0consumer\0run\0", True),
        ("/usr/bin/python3\0/usr/local/bin/sshbell\0run\0--plain\0", True),
        ("/usr/bin/python3\0/usr/local/bin/sshbell\0status\0", False),
        ("/usr/bin/npm\0run\0build\0", False),
        ("", False),  # a thread of the kernel
    ],
)
def test_parents(tmp_path: Path, command: str, *, starts_one: bool) -> None:
    """Know rsyslogd, which starts ``run``, and ``run``, which starts ``deliver``."""
    (tmp_path / "cmdline").write_text(command)
    assert status._is_parent(tmp_path) == starts_one


def test_age() -> None:
    """Every process began after the first one; one that has ended is not young."""
    own_s, first_s = (status._age_s(Path("/proc") / name) for name in ("self", "1"))
    assert 0 <= own_s <= first_s
    assert status._age_s(Path("/proc/none")) > status.START_S
