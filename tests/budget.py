"""
The number of examples that Hypothesis tries. A test gives the number that it needs; a profile scales the numbers of all tests.

``make test`` uses the profile ``fast``, ``make test-all`` uses ``thorough``, and plain ``pytest`` uses ``standard``, which leaves
the numbers unchanged. ``pytest --hypothesis-profile=NAME`` chooses another one.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

PROFILES = {"fast": 20, "standard": 100, "thorough": 300}  # percent
LEAST = 5


def register_profiles() -> None:
    """Register the profiles, and load ``standard``. None of them fails a test because a machine is slow."""
    for name, percent in PROFILES.items():
        settings.register_profile(
            name, max_examples=percent, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
        )
    settings.load_profile("standard")


def examples(number: int) -> settings:
    """Return the settings of a test that needs more, or fewer, than Hypothesis's usual 100 examples."""
    assert settings.default is not None
    return settings(max_examples=max(LEAST, number * settings.default.max_examples // 100))
