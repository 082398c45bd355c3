"""What holds for one proxy on one site: it was found out there, and is left alone for a while."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Ban"]


@dataclass(frozen=True, slots=True)
class Ban:
    """A ban of a proxy by a site. Times are Unix seconds, since bans outlive the process.

    `strikes` counts bans in a row: each makes the next one longer. They are remembered until `forget_at`, which
    is after `until`. One that was lifted has an `until` in the past.
    """

    until: float
    strikes: int
    rule: str
    forget_at: float
