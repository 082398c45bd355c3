"""How figures are taken, judged and shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.cache.homes import Home, key_of, served_by
from benchmarks.cache.table import BEGIN, END, in_page, markdown, plain
from benchmarks.measure import Figure, Side, compare, percentile
from proxywhirl.cache import CacheTierType


def test_sides_take_turns() -> None:
    """Each round is one turn of the reference and one of ours, and arguments are made for each turn."""
    turns: list[str] = []

    def side(name: str) -> Side[str]:
        def work(arguments: Sequence[str]) -> None:
            turns.extend(arguments)

        return Side(lambda: [name], work)

    compared = compare(side("reference"), side("ours"), 2)
    assert turns == ["reference", "ours"] * 3
    assert min(compared.ours, compared.reference, compared.ratio) > 0


@pytest.mark.parametrize(
    ("figure", "passed"),
    [
        (Figure("a", "a", 6.0, "times", at_most=6.0), True),
        (Figure("a", "a", 6.1, "times", at_most=6.0), False),
        (Figure("a", "a", 5_000, "/s", at_least=5_000), True),
        (Figure("a", "a", 4_999, "/s", at_least=5_000), False),
        (Figure("a", "a", 2_600, "/s", at_least=5_000, slowdown=0.5), True),
        (Figure("a", "a", 2_400, "/s", at_least=5_000, slowdown=0.5), False),
        (Figure("a", "a", 99, "times"), True),
    ],
)
def test_a_figure_is_judged_by_its_limit(figure: Figure, *, passed: bool) -> None:
    """A ceiling may be reached and not passed, a floor likewise; a slow machine lowers the floor by as much."""
    assert figure.passed is passed
    assert figure.as_json()["passed"] is passed


def test_percentile_is_a_sample() -> None:
    """The share of samples that lie at or below is at least what was asked for."""
    samples = [float(n) for n in range(1, 1001)]
    assert percentile(samples, 0.99) == 991.0
    assert percentile([7.0], 0.99) == 7.0


def test_both_tables_show_a_missed_limit(tmp_path: Path) -> None:
    """The table names cost, reference, limit and verdict, and replaces an older one in a page."""
    row = Figure("get", "get, hit", 7.5, "times", cost=1.5, reference="peer", reference_cost=0.2, at_most=6.0).as_json()
    assert markdown([row]).splitlines()[-1] == "| get, hit | 1.5 µs | peer | 0.2 µs | 7.5× | ≤ 6× | 125% (missed) |"  # noqa: RUF001  # the sign that tables use
    assert "125% (missed)" in plain([row])
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}old\n{END}after\n", encoding="utf-8")
    in_page(page, [row])
    assert page.read_text(encoding="utf-8") == f"before\n{BEGIN}\n{markdown([row])}\n{END}after\n"


def test_a_read_that_another_tier_serves_is_refused(tmp_path: Path) -> None:
    """What is measured as a read of L3 must not have been served by L1."""
    home = Home(tmp_path)
    home.fill(range(3), sealed=True)
    with home.open() as manager:
        with served_by(manager, CacheTierType.L2):
            manager.get(key_of(1, sealed=True))
        with pytest.raises(RuntimeError, match="instead of"), served_by(manager, CacheTierType.L2):
            manager.get(key_of(1, sealed=True))
