"""``consumer.keys.fields``: what an event gets to say of who has its key."""

import pytest

from consumer.addresses import is_same_host
from consumer.keys.fields import of_owners
from tests.ecs_events import fields_of


@pytest.mark.parametrize(
    ("name", "here", "is_so"),
    [("web1", "web1.example.net", True), ("WEB1.example.net", "web1", True), ("web1.example.org", "web1.example.net", False),
     ("web1", "web2", False), ("web1.example.net", "web1.example.net", True)],
)  # fmt: skip
def test_same_host(name: str, here: str, *, is_so: bool) -> None:
    """A relay has other hosts' lines, and this host's users say nothing about theirs."""
    assert is_same_host(name, here) is is_so


def test_owners() -> None:
    """Each name and option once; of an authority, what its line restricts, too; what is not known is left out."""
    assert fields_of(of_owners([])) == {}
    assert fields_of(of_owners([("", [], False), ("", [], True)])) == {}
    own = of_owners([("desk", ["restrict"], False), ("laptop", ["restrict"], False), ("desk", [], False)])
    assert fields_of(own) == {"ssh": {"key": {"owner": ["desk", "laptop"], "options": ["restrict"]}}}
    authorities = of_owners([("their CA", ['principals="alice"'], True), ("our CA", [], True)])
    assert fields_of(authorities) == {
        "ssh": {"key": {"options": ['principals="alice"']}, "certificate": {"ca_owner": "their CA, our CA"}}
    }
