"""``consumer.recent``: what is remembered, and what a snapshot writes of it."""

from __future__ import annotations

from consumer.recent import Recent


def digest(number: int) -> bytes:
    """Return a digest."""
    return number.to_bytes(8, "big")


def stored(recent: Recent, store: dict[str, bytes]) -> int:
    """Write what has changed; return how many bytes that was."""
    changed = list(recent.changed())
    for name, body in changed:
        store[name] = body
        if not body:
            del store[name]
    recent.kept()
    return sum(len(body) for _, body in changed)


def restored(store: dict[str, bytes], generations: int) -> Recent:
    """Return what another process knows."""
    recent = Recent(generations)
    for name in sorted(store):
        recent.restore(name, store[name])
    return recent


def test_the_oldest_generation_goes() -> None:
    """A digest is known for as many generations as there are, and its last number counts."""
    recent = Recent(2)
    recent.put(digest(1), 5)
    recent.turn()
    assert recent.get(digest(1)) == 5
    recent.put(digest(1), 6)
    recent.turn()
    assert recent.get(digest(1)) == 6
    recent.turn()
    assert recent.get(digest(1)) is None


def test_another_process_takes_over() -> None:
    """After each step the store has the whole memory, and no chunk of a generation that is gone."""
    recent, store = Recent(3), dict[str, bytes]()
    for number in range(3000):
        recent.put(digest(number % 1700), number)
        if number % 600 == 599:
            recent.turn()
        if number % 170 == 0:
            stored(recent, store)
            other = restored(store, 3)
            assert [other.get(digest(each)) for each in range(1700)] == [recent.get(digest(each)) for each in range(1700)]
            assert {name.partition(".")[0] for name in store} <= {f"{each:012}" for each in recent._entries}


def test_two_processes_in_turn() -> None:
    """A process that has taken over goes on where its predecessor was, chunk by chunk."""
    store: dict[str, bytes] = {}
    recent, one = Recent(2), Recent(2)
    for number in range(2000):
        for each in (recent, one):
            each.put(digest(number))
            if number % 700 == 699:
                each.turn()
        if number % 30 == 0:
            stored(one, store)
            one = restored(store, 2)
    stored(one, store)
    whole: dict[str, bytes] = {}
    stored(recent, whole)
    assert store == whole


def test_a_snapshot_costs_what_is_new() -> None:
    """However much is remembered, a few new digests cost one chunk."""
    recent, store = Recent(2), dict[str, bytes]()
    for number in range(8000):
        recent.put(digest(number))
    assert stored(recent, store) > 80_000
    recent.put(digest(8001))
    assert stored(recent, store) < 4000
    assert stored(recent, store) == 0


def test_a_lost_store_gets_everything() -> None:
    """A new store gets the whole memory again."""
    recent, store = Recent(2), dict[str, bytes]()
    for number in range(1000):
        recent.put(digest(number), number)
        if number == 500:
            recent.turn()
            stored(recent, store)
    recent.forget_snapshot()
    anew: dict[str, bytes] = {}
    stored(recent, anew)
    assert [restored(anew, 2).get(digest(number)) for number in range(1000)] == list(range(1000))


def test_it_forgets_all() -> None:
    """The store forgets, too."""
    recent, store = Recent(2), dict[str, bytes]()
    recent.put(digest(1))
    stored(recent, store)
    recent.forget()
    assert recent.get(digest(1)) is None
    stored(recent, store)
    assert not store
