"""What came of many checks, added up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from proxywhirl.health.levels import ProbeResult

__all__ = ["Tally"]


@dataclass(slots=True)
class Tally:
    """Counts of results: `claimed` were left to another process, `refused` had no budget left.

    Of schemes and countries those that work are counted beside all; `failures` counts by who is to blame.
    """

    checked: int = 0
    ok: int = 0
    untaught: int = 0
    claimed: int = 0
    refused: int = 0
    bytes: int = 0
    money: float = 0.0
    schemes: Counter[str] = field(default_factory=Counter)
    working_schemes: Counter[str] = field(default_factory=Counter)
    countries: Counter[str] = field(default_factory=Counter)
    working_countries: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, result: ProbeResult, scheme: str, country: str | None) -> None:
        """Count a result; a country that the probe found goes before the one that was known."""
        place = result.country or country or ""
        self.checked += 1
        self.bytes += result.bytes_up + result.bytes_down
        self.schemes[scheme] += 1
        self.countries[place] += 1
        if result.ok:
            self.ok += 1
            self.working_schemes[scheme] += 1
            self.working_countries[place] += 1
        elif result.blame is not None:
            self.failures[result.blame.value] += 1
