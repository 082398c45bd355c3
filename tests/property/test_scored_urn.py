"""An urn with numbers, against two dicts."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.rotation.strategies.sampling import ScoredSampler

KEYS = [f"k{number}" for number in range(6)]
STEPS = st.lists(st.tuples(st.sampled_from(["add", "remove", "take", "score", "score"]), st.sampled_from(KEYS)))


@given(STEPS)
def test_each_key_keeps_its_own_numbers(steps: list[tuple[str, str]]) -> None:
    """Whoever came, went and changed places between the moment that a key was taken and that in which it is scored."""
    urn = ScoredSampler(random.Random(1), (-1.0, 0.0))
    known: dict[str, tuple[float, float]] = {}
    for number, (what, key) in enumerate(steps):
        if what == "add":
            urn.add((key,))
            known.setdefault(key, (-1.0, 0.0))
        elif what == "remove":
            assert urn.remove(key) == (known.pop(key, None) is not None)
        elif what == "take":
            if key in known:
                assert urn.take(urn.places[key]) == key
        else:
            urn.score(key, float(number), 0.5)
            if key in known:
                known[key] = (float(number), 0.5)
    numbers = urn.numbers
    assert {key: (numbers[2 * place], numbers[2 * place + 1]) for place, key in enumerate(urn.keys)} == known
    assert urn.places == {key: place for place, key in enumerate(urn.keys)}
