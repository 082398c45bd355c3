"""An sampler with numbers, against two dicts."""

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
    sampler = ScoredSampler(random.Random(1), (-1.0, 0.0))
    known: dict[str, tuple[float, float]] = {}
    for number, (what, key) in enumerate(steps):
        if what == "add":
            sampler.add((key,))
            known.setdefault(key, (-1.0, 0.0))
        elif what == "remove":
            assert sampler.remove(key) == (known.pop(key, None) is not None)
        elif what == "take":
            if key in known:
                assert sampler.take(sampler.places[key]) == key
        else:
            sampler.score(key, float(number), 0.5)
            if key in known:
                known[key] = (float(number), 0.5)
    numbers = sampler.numbers
    assert {key: (numbers[2 * place], numbers[2 * place + 1]) for place, key in enumerate(sampler.keys)} == known
    assert sampler.places == {key: place for place, key in enumerate(sampler.keys)}
