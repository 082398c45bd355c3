"""Who is due first, and whom a session falls to, where there are many: against a plain search."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.rotation.affinity.sessions import HashRing
from proxywhirl.timetable import Timetable


@given(st.dictionaries(st.integers(0, 200).map(str), st.integers(0, 50)), st.sets(st.integers(0, 200).map(str)))
def test_the_first_of_those_that_are_admitted_is_found(due: dict[str, int], refused: set[str]) -> None:
    """However many are passed over, the answer is the smallest moment, and nothing has changed by asking."""
    table: Timetable[str] = Timetable()
    for key, at in due.items():
        table.put(key, float(at))
    admitted = [(at, key) for key, at in due.items() if key not in refused]
    assert table.first(lambda key: key not in refused) == min(admitted, default=(0, None))[1]
    assert [table.pop_due(math.inf) for _ in due] == [key for _, key in sorted((at, key) for key, at in due.items())]


def test_to_pass_over_many_costs_one_look_at_each() -> None:
    """Where none of 10,000 is admitted each is asked about once, beside a constant."""
    table: Timetable[str] = Timetable()
    for number in range(10_000):
        table.put(str(number), float(number))
    asked = 0

    def admits(_key: str) -> bool:
        nonlocal asked
        asked += 1
        return False

    assert table.first(admits) is None
    assert asked < 10_100


@pytest.mark.parametrize("count", [1, 65])
def test_a_key_that_comes_again_has_one_point_on_the_ring(count: int) -> None:
    """Taking in what is in already changes nothing: removed once, it is gone."""
    keys = [f"k{n}" for n in range(count)]
    ring = HashRing(["other", *keys])
    for _ in range(3):
        ring.add(keys)
    assert len(ring) == count + 1
    for key in random.Random(1).sample(keys, count):
        ring.remove(key)
    assert [ring.choose(f"s{n}", lambda _key: True) for n in range(20)] == ["other"] * 20
