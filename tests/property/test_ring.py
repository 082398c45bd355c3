"""Consistent hashing: what a change of the keys moves, and how evenly names fall."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.rotation.affinity.sessions import FARTHEST, HashRing

NAMES = [f"session {n}" for n in range(200)]
keys = st.sets(st.text(max_size=8), min_size=1, max_size=100)


def falls(ring: HashRing) -> dict[str, str | None]:
    """Return where each name falls."""
    return {name: ring.choose(name, lambda _: True) for name in NAMES}


@given(keys, st.data())
def test_a_lost_key_moves_only_its_own(held: set[str], data: st.DataObject) -> None:
    """All names that fell to others still do, whether one or most of the keys are lost."""
    gone = data.draw(st.sets(st.sampled_from(sorted(held))))
    ring = HashRing(held)
    before = falls(ring)
    for key in gone:
        ring.remove(key)
    after = falls(ring)
    assert all(after[name] == key for name, key in before.items() if key not in gone)
    assert after == falls(HashRing(held - gone))


@given(keys, keys)
def test_a_new_key_takes_and_moves_nothing_else(held: set[str], new: set[str]) -> None:
    """A name falls to where it did, or to a new key; keys that are put in twice are in once."""
    ring = HashRing(held)
    before = falls(ring)
    ring.add(new)
    ring.add(new)
    assert len(ring) == len(held | new)
    assert all(key in {before[name], *new} for name, key in falls(ring).items())
    assert falls(ring) == falls(HashRing(held | new))


@given(keys, st.sets(st.text(max_size=8)))
def test_removing_what_is_not_in_changes_nothing(held: set[str], others: set[str]) -> None:
    """Nobody else's point goes."""
    ring = HashRing(held)
    for key in others - held:
        ring.remove(key)
    assert len(ring) == len(held)


@given(keys, st.data())
def test_who_is_admitted_is_found(held: set[str], data: st.DataObject) -> None:
    """However few they are; where there is none, that is told."""
    few = data.draw(st.sets(st.sampled_from(sorted(held))))
    found = HashRing(held).choose("name", few.__contains__)
    assert (found in few) if few else found is None


def test_ten_thousand_names_fall_evenly_on_a_hundred_keys() -> None:
    """The fullest has at most a half more than its share, chance included, and nobody goes without."""
    ring = HashRing([f"key {n}" for n in range(100)])
    load = Counter(ring.choose(f"session {n}", lambda _: True) for n in range(10_000))
    assert len(load) == 100
    assert max(load.values()) <= 150


def test_a_search_in_vain_is_bounded() -> None:
    """Among fifty thousand of which nobody is admitted it asks no more than a thousand or so."""
    asked: list[str] = []

    def admits(key: str) -> bool:
        asked.append(key)
        return False

    ring = HashRing([str(n) for n in range(50_000)])
    assert ring.choose("name", admits) is None
    assert len(asked) <= FARTHEST + 21
