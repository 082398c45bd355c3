"""How deep a probe goes, what it found, and what came of many: plain values.

=============  ====================================================================================
level          what it takes to reach it
=============  ====================================================================================
``tcp``        the proxy takes a connection
``handshake``  it opens a tunnel, with the entry's own credential (an https proxy: after TLS with it)
``http``       a judge answers through it, and to this very question
``tls``        the certificate that the tunnel shows is that of the tunnel's end
``full``       where it comes out, how much it tells of us, in which country and network that is
=============  ====================================================================================
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

from proxywhirl.errors import Blame
from proxywhirl.models import Anonymity, Outcome


class Level(str, Enum):
    """How deep a probe goes; each level includes the ones before it.

    >>> [level.value for level in Level if Level.HTTP.includes(level)]
    ['tcp', 'handshake', 'http']
    """

    TCP = "tcp"
    HANDSHAKE = "handshake"
    HTTP = "http"
    TLS = "tls"
    FULL = "full"

    @property
    def rank(self) -> int:
        """The place in the order, from 0."""
        return _ORDER[self]

    def includes(self, other: Level) -> bool:
        """Whether this level cannot be reached without the other."""
        return self.rank >= other.rank


_ORDER = {level: place for place, level in enumerate(Level)}


@dataclass(frozen=True, slots=True)
class Stage:
    """What one level took: seconds, and bytes on the wire above TCP."""

    level: Level
    seconds: float
    bytes_up: int
    bytes_down: int


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe found out about one proxy.

    `stages` holds every level that was tried, in order: the last one failed where `error` says so. `at` is when the
    probe ended, in Unix seconds. `error` names the redacted proxy and is None exactly where `asked` was reached.
    """

    key: str
    asked: Level
    reached: Level | None
    stages: tuple[Stage, ...]
    at: float
    error: str | None = None
    blame: Blame | None = None
    exit_ip: str | None = None
    anonymity: Anonymity | None = None
    country: str | None = None
    asn: int | None = None

    @property
    def ok(self) -> bool:
        """Whether the level that was asked for was reached."""
        return self.error is None

    @property
    def latency(self) -> float:
        """The seconds of all stages together."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def bytes_up(self) -> int:
        """The bytes sent in all stages."""
        return sum(stage.bytes_up for stage in self.stages)

    @property
    def bytes_down(self) -> int:
        """The bytes received in all stages."""
        return sum(stage.bytes_down for stage in self.stages)


@dataclass(frozen=True, slots=True)
class Report:
    """What a request made of a proxy, by its key, and when (Unix seconds)."""

    key: str
    outcome: Outcome
    at: float

    @property
    def ok(self) -> bool:
        """Whether the proxy served."""
        return self.outcome.ok


@dataclass(slots=True)
class CheckTally:
    """Counts of results: `claimed` were left to another process, `refused` had no budget left.

    Schemes and countries are counted twice: all proxies, and those that work. `failures` counts by who is to blame.
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
