"""The line of those who are owed a turn: looked at in parts, remembered for each kind of request, never long."""

from __future__ import annotations

from proxywhirl.rotation.strategies.round_robin import LOOKED_AT, RoundRobin, SkippedTurns


def test_each_kind_of_request_goes_along_the_line_by_itself() -> None:
    """Two sites in turn, of which the second admits one proxy only: it is found in one round, not never."""
    line = [f"{number:02}" for number in range(2 * LOOKED_AT)]
    for wanted in line:
        owed = SkippedTurns()
        for key in line:
            owed.put(key)
        first, second = dict.fromkeys(line), dict.fromkeys(set(line) - {wanted})
        found = []
        for _ in range(3):
            assert owed.take((), (first,), []) is None
            found.append(owed.take((), (second,), []))
        assert wanted in found


def test_those_who_come_do_not_put_off_the_end_of_a_round() -> None:
    """However many join the line between two looks, the one at its beginning is looked at again."""
    owed = SkippedTurns()
    refused = {"first": 0.0}
    owed.put("first")
    assert owed.take((), (refused,), []) is None
    del refused["first"]
    for number in range(1000):
        for part in range(2 * LOOKED_AT):
            owed.put(f"{number}-{part}")
            refused[f"{number}-{part}"] = 0.0
        if owed.take((), (refused,), []) == "first":
            break
    assert number < 3


def test_the_line_and_the_rounds_are_bounded() -> None:
    """Who comes and goes for ever leaves no more places than keys and a constant, and old rounds are forgotten."""
    owed = SkippedTurns()
    owed.put("stays")
    bars = [{"stays": 0.0} for _ in range(5000)]
    for number, barred in enumerate(bars):
        owed.put(str(number))
        assert owed.discard(str(number))
        assert owed.take((), (barred,), []) is None
    assert not owed.discard("0")
    assert len(owed._line) <= 2 * len(owed) + 66
    assert len(owed._rounds) <= 4096


def test_who_is_owed_a_turn_and_excluded_by_one_request_serves_the_next() -> None:
    """It goes to the front of the queue, as anyone who is passed over keeps its place."""
    strategy = RoundRobin()
    strategy.add(list("abc"))
    assert strategy.choose((), ({"a": 0.0},), None) == "b"
    assert strategy.choose(("a",), (), None) == "c"
    assert [strategy.choose((), (), None) for _ in range(4)] == list("abca")
