"""The last outcomes of each proxy, and their figures.

The outcomes are kept in `state`, by key, at most `KEPT` of a proxy, written in batches.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from proxywhirl.state.store import Store

KEPT = 50
_KIND = "history"
_ENCODER = json.JSONEncoder(separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Sample:
    """One outcome: when it was seen (Unix seconds), and how long it took (seconds; None where that is not known)."""

    at: float
    ok: bool
    latency: float | None = None


@dataclass(frozen=True, slots=True)
class HistoryFigures:
    """Figures of some outcomes. Shares are from 0 to 1, latencies of the good ones in seconds; None where unknown.

    `uptime` is the share of the time since the first outcome that began with a good one.
    """

    samples: int = 0
    success_rate: float | None = None
    latency_p50: float | None = None
    latency_p95: float | None = None
    uptime: float | None = None

    @classmethod
    def of(cls, samples: Sequence[Sample], now: float) -> Self:
        """Sum up outcomes, oldest first, as they stand at `now`.

        >>> HistoryFigures.of([Sample(0.0, True, 0.5), Sample(90.0, False)], now=100.0).uptime
        0.9
        """
        if not samples:
            return cls()
        good = [sample for sample in samples if sample.ok]
        taken = sorted(sample.latency for sample in good if sample.latency is not None)
        spans = [
            (max(0.0, until - sample.at), sample.ok)
            for sample, until in zip(samples, [*(later.at for _, later in pairwise(samples)), now], strict=True)
        ]
        whole = sum(span for span, _ in spans)
        return cls(
            samples=len(samples),
            success_rate=len(good) / len(samples),
            latency_p50=_percentile(taken, 0.50),
            latency_p95=_percentile(taken, 0.95),
            uptime=sum(span for span, ok in spans if ok) / whole if whole else float(samples[-1].ok),
        )


class History:
    """The last outcomes by key. Thread-safe; each call is one transaction.

    Raises:
        TierError: the store cannot be read or written (from every method).
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, samples: Iterable[tuple[str, Sample]]) -> None:
        """Append outcomes to those of their keys."""
        new: dict[str, list[object]] = {}
        for key, sample in samples:
            latency = None if sample.latency is None else round(sample.latency, 4)
            new.setdefault(key, []).append([round(sample.at, 3), int(sample.ok), latency])

        def merged(known: Mapping[str, str]) -> dict[str, str | None]:
            kept: dict[str, str | None] = {}
            for key, added in new.items():
                before = json.loads(known.get(key, "[]"))
                kept[key] = _ENCODER.encode([*before, *added][-KEPT:])
            return kept

        if new:
            self._store.update(_KIND, new, merged)

    def of(self, key: str) -> list[Sample]:
        """Return the last outcomes of a proxy, oldest first."""
        rows = json.loads(self._store.get_many(_KIND, [key]).get(key, "[]"))
        return [Sample(at, bool(ok), latency) for at, ok, latency in rows]

    def forget(self, keys: Iterable[str]) -> None:
        """Forget proxies that are gone."""
        self._store.delete_many(_KIND, keys)


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None
