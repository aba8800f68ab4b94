"""``consumer.people.check``: what differs between ``people.toml`` and the keys in use."""

from consumer.keys.fingerprints import Fingerprints
from consumer.people.check import Allowed, findings
from consumer.people.people import People


def test_a_key_with_a_flood_of_comments() -> None:
    """A user lists a key ten thousand times, each time with another comment: the finding names a few, and how many more."""
    key = Fingerprints("SHA256:abc", "MD5:aa")
    allowed = [Allowed(key, "eve", "web1", f"owner{number}" + "x" * 200) for number in range(10_000)]
    (found,) = findings(People(), allowed, [], [], None, 1)
    assert found.finding == "unowned"
    assert "owner0" in found.text
    assert "9,995 more" in found.text
    assert len(found.text) < 2000
