"""What became of a source in one fetch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["SourceOutcome", "SourceReport"]


class SourceOutcome(StrEnum):
    """How a source's part of a fetch ended."""

    FETCHED = "fetched"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    RESTING = "resting"  # it failed before, and is left alone for a while
    SKIPPED = "skipped"  # enough proxies were found without it


@dataclass(frozen=True, slots=True)
class SourceReport:
    """The proxies of one source, each counted once: `new`, `known` before, or `removed` by the user and kept out.

    `rejected` counts wrong lines, `reason` says what is wrong with the first. `error` says why nothing came. `keys`
    are those of the new proxies.
    """

    name: str
    outcome: SourceOutcome
    keys: tuple[str, ...] = ()
    known: int = 0
    removed: int = 0
    rejected: int = 0
    reason: str | None = None
    error: str | None = None

    @property
    def new(self) -> int:
        """How many proxies are new."""
        return len(self.keys)

    @property
    def ok(self) -> bool:
        """Whether the source did what it should, if it was asked."""
        return self.outcome not in (SourceOutcome.FAILED, SourceOutcome.RESTING)
