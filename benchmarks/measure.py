"""Measure two things in turns, so that a machine whose speed drifts slows both alike.

A side prepares its arguments outside the clock and then works through them. A round is one turn of each side; the
first one warms up and is thrown away, the median of the others counts.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Generic, TypeVar

__all__ = ["Comparison", "Figure", "Side", "compare", "cost", "percentile"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Side(Generic[T]):
    """One of the things that are compared: what makes the arguments of a round, what works through them."""

    prepare: Callable[[], Sequence[T]]
    run: Callable[[Sequence[T]], object]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Microseconds per operation of each side, and the median of the rounds' ratios."""

    ours: float
    reference: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the results.

    `cost` and `reference_cost` are microseconds per operation. `reached` is what is judged, in `unit`: times the
    reference, operations per second, seconds or kilobytes; without a limit it is only shown. `slowdown` (at most 1)
    scales a floor in operations per second by how much slower the reference ran here than where the floor was set.
    """

    name: str
    operation: str
    reached: float
    unit: str
    cost: float | None = None
    reference: str | None = None
    reference_cost: float | None = None
    at_most: float | None = None
    at_least: float | None = None
    slowdown: float = 1.0

    @property
    def used(self) -> float | None:
        """How much of what the limit allows is used up: 1.0 is the limit itself; None where there is none.

        >>> Figure("get", "get", reached=3.0, unit="times", at_most=6.0).used
        0.5
        >>> Figure("put", "put", reached=8_000, unit="/s", at_least=4_000).used
        0.5
        """
        if self.at_most is not None:
            return self.reached / self.at_most
        return None if self.at_least is None else self.at_least * self.slowdown / self.reached

    @property
    def passed(self) -> bool:
        """Whether the limit is kept; true where there is none."""
        return self.used is None or self.used <= 1.0

    @classmethod
    def ratio(
        cls, name: str, operation: str, comparison: Comparison, reference: str, *, at_most: float | None = None
    ) -> Figure:
        """Make a figure of how many times the reference an operation costs."""
        return cls(
            name,
            operation,
            comparison.ratio,
            "times",
            cost=comparison.ours,
            reference=reference,
            reference_cost=comparison.reference,
            at_most=at_most,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the fields by name, rounded to four digits, with the verdict."""
        values = {name: getattr(self, name) for name in self.__slots__} | {"used": self.used}
        rounded = {name: float(f"{v:.4g}") if isinstance(v, float) else v for name, v in values.items()}
        return rounded | {"passed": self.passed}


def cost(side: Side[T]) -> float:
    """Let a side work once; return microseconds per operation."""
    arguments = side.prepare()
    gc.collect()
    began = time.perf_counter_ns()
    side.run(arguments)
    return (time.perf_counter_ns() - began) / 1000 / len(arguments)


def compare(reference: Side[Any], ours: Side[Any], rounds: int) -> Comparison:
    """Let both sides work in turns, after one turn each that does not count."""
    pairs = [(cost(reference), cost(ours)) for _ in range(rounds + 1)][1:]
    return Comparison(
        ours=median(our for _, our in pairs),
        reference=median(other for other, _ in pairs),
        ratio=median(our / other for other, our in pairs),
    )


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the sample that a share of all (0 to 1) does not exceed.

    >>> percentile([5, 1, 4, 2, 3], 0.5)
    3
    """
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * share))]
