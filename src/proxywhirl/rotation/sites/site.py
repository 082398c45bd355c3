"""One site that requests go to: which proxies may not go there now, and whether the site itself is down. Pure.

Rules:

- a ban bars one proxy from one site, and from no other; so does a cool-down, which is no ban and is kept apart;
- when several distinct proxies fail alike there, one after another, and none serves in between, the site is at fault:
  the bans of that run are taken back, and while the site is at fault nobody is banned for failing in the same way;
- a 429 with Retry-After limits the proxy that met it (RFC 6585 section 4): it stays banned for so long. The site rests
  no longer than any other, so that proxies which it does serve are found soon;
- a proxy that was banned there before, or came too early for what is known of the site's limit, is no witness against
  it: its own past explains that it is refused;
- how many make "several" depends on how often requests to the site fail anyway: as many as chance would hardly bring;
- a site that is out of order (it fails, is overloaded or cannot be reached) is also left alone, for a time that
  doubles; then one request at a time tries it, and a success ends all. What was sent before it was left alone tells
  nothing new. One that answers and refuses (403 and the like) is not out of order: to everybody's 403 the answer is a
  403.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from http import HTTPStatus

from proxywhirl.backoff import Backoff
from proxywhirl.errors import Blame
from proxywhirl.models import Outcome
from proxywhirl.rotation.proxy_state import DECAY_STEP, HALF_LIFE
from proxywhirl.rotation.sites.bans import FIRST_BAN, Ban
from proxywhirl.rotation.sites.rate_limit import LearnedRateLimit, SiteUses
from proxywhirl.timetable import Timetable

_SHORT_RUN, _LONG_RUN = 3, 12
_CHANCE = 0.001  # the probability of so long a run by mere chance
_RATE_WEIGHT = 0.05
_FIRST_RATE = 0.1
_BYTES_WEIGHT = 0.05
_WINDOW = 300.0  # seconds within which failures belong to one run
_WEAK = 0.5  # a proxy that never served and brought no answer is half a witness
_REST = Backoff(1.0, 60.0)
_LONGEST_ASKED = 3600.0
_RETURNS_AT_ONCE = 64
_TRIAL = 10.0  # seconds that a request may take to find out whether a resting site is back

_OVERLOADED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT)

_LEAST_SPREAD = 0.02
_WIDTH = 0.3  # a narrower one than Bayes' explores less, and is paid back sooner: section 3 of Chapelle and Li, 2011
_FROM_ELSEWHERE = 4.0  # outcomes that a record on all sites counts for on one, at most

_PRIOR = 0.7  # outcomes that the first guess counts for


def estimate(
    good: float, bad: float, here_good: float = 0.0, here_bad: float = 0.0, *, guess: float = 0.7
) -> tuple[float, float]:
    """Return mean and standard deviation of the chance of success, both in 0..1.

    Args:
        good: Successes everywhere, decayed.
        bad: Failures everywhere, decayed.
        here_good: Successes on one site; where there were any here, what was elsewhere counts for little.
        here_bad: Failures on one site.
        guess: What to believe of a proxy that nothing is known of.
    """
    count = good + bad + _PRIOR
    good += guess * _PRIOR
    here = here_good + here_bad
    if here:
        if count > _FROM_ELSEWHERE:
            good, count = good * _FROM_ELSEWHERE / count, _FROM_ELSEWHERE
        good += here_good
        count += here
    mean = good / count
    return mean, _WIDTH * math.sqrt(mean * (1.0 - mean) / (count + 1.0)) + _LEAST_SPREAD


@dataclass(slots=True, eq=False)
class Arm:
    """What a proxy achieved on a site: decayed counts since `stamp`.

    Attributes:
        uses: Its last ones there.
        served: Whether its last outcome there was a success.
        banned_for: How many seconds its last ban was to last.
        mean: What to believe of it, with `spread` (see `estimate`), as of its last outcome there or a little longer.
    """

    good: float = 0.0
    bad: float = 0.0
    stamp: float = 0.0
    uses: SiteUses = field(default_factory=SiteUses)
    served: bool = False
    banned_for: float = 0.0
    mean: float = 0.0
    spread: float = 0.0

    def age(self, now: float) -> None:
        """Let what was counted weigh less."""
        if now - self.stamp > DECAY_STEP:
            kept = 0.5 ** ((now - self.stamp) / HALF_LIFE)
            self.good *= kept
            self.bad *= kept
            self.stamp = now

    def update_estimate(self, good: float, bad: float) -> None:
        """Note what to believe, where so much was good and bad on all sites."""
        self.mean, self.spread = estimate(good, bad, self.good, self.bad)


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure of a run: whose, what its ban was before it, and whether it was `banned` for what may be the site's."""

    key: str
    before: Ban | None
    banned: bool
    weight: float


@dataclass(slots=True, eq=False)
class Site:
    """One site. Times are on the pool's monotonic clock.

    Attributes:
        barred: The keys that are banned there, with the moment at which that ends.
        cooling: The keys that were used there a moment ago.
        trying: The key of the proxy that finds out whether a resting site is back.
        rate_limit: How often a proxy may come, as far as bans have taught that.
        first_ban: For how many seconds a first ban lasts, as far as bans have taught that.
        log_slowness: By how much the logarithm of a latency is greater here than elsewhere (see `answer_times`).
        bytes_of_use: A moving mean; None before the first use.
        closed: It was forgotten.
    """

    name: str
    barred: Timetable[str] = field(default_factory=Timetable)
    cooling: Timetable[str] = field(default_factory=Timetable)
    arms: dict[str, Arm] = field(default_factory=dict)
    run: dict[str, Failure] = field(default_factory=dict)
    run_of: str = ""
    run_began: float = 0.0
    rate: float = _FIRST_RATE
    at_fault: str = ""
    rests: int = 0
    rest_until: float = 0.0
    trying: str = ""
    rate_limit: LearnedRateLimit = field(default_factory=LearnedRateLimit)
    first_ban: float = FIRST_BAN
    log_slowness: float = 0.0
    bytes_of_use: float | None = None
    closed: bool = False

    def succeed(self) -> None:
        """Take note of a success: failures before it say nothing of the site any more."""
        rate = self.rate
        for _ in range(len(self.run)):
            rate += _RATE_WEIGHT * (1.0 - rate)
        self.rate = rate - _RATE_WEIGHT * rate
        if self.run:
            self.run.clear()
        if self.at_fault:
            self.at_fault = ""
        if self.rests:
            self.recover()

    def note_bytes(self, moved: int) -> None:
        """Take note of how many bytes a use moved."""
        known = self.bytes_of_use
        self.bytes_of_use = moved if known is None else known + _BYTES_WEIGHT * (moved - known)

    def fail(self, failure: Failure, sign: str, now: float, *, proxies: int) -> list[Failure]:
        """Take note of a failure; return the run that shows the site to be at fault, once it is long enough."""
        if sign != self.run_of or now - self.run_began > _WINDOW:
            self.run.clear()
            self.run_of, self.run_began = sign, now
        self.run.setdefault(failure.key, failure)
        needed = min(witnesses_needed(self.rate), max(2, proxies))
        if sum(f.weight for f in self.run.values()) < needed:
            return []
        self.at_fault = sign
        ended, self.run = list(self.run.values()), {}
        return ended

    def rest(self, now: float, rng: random.Random, retry_after: float | None) -> None:
        """Leave the site alone for a time that doubles, or for as long as it asked for."""
        if self.trying or now >= self.rest_until:
            self.rests += 1
            self.trying = ""
            self.rest_until = now + _REST.jittered(self.rests, rng, least=0.5)
        if retry_after is not None:
            self.rest_until = max(self.rest_until, now + min(retry_after, _LONGEST_ASKED))

    def tired(self, key: str, now: float) -> bool:
        """Whether a proxy should not come yet, since the site has a limit that it keeps to."""
        arm = self.arms.get(key) if self.rate_limit.kept else None
        return arm is not None and self.rate_limit.rested(arm.uses.all(), now) < 1.0

    def resting(self, now: float) -> float:
        """Return for how many seconds to leave the site alone; 0 where a request may try it."""
        return max(self.rest_until - now, 0.0)

    def try_out(self, key: str, now: float) -> None:
        """Let one request find out whether the site is back; no other may until it tells, or for a while."""
        self.trying = key
        self.rest_until = now + _TRIAL

    def untried(self, now: float) -> None:
        """Let another request try: the last trial told nothing of the site."""
        self.trying = ""
        self.rest_until = now

    def recover(self) -> None:
        """End the rest: the site answers."""
        self.rests, self.rest_until, self.trying = 0, 0.0, ""


def keeps_any(table: Timetable[str], now: float) -> bool:
    """Whether a table has any key, once those have left whose time is over.

    Thousands may be due at once: no single request pays for the return of them all.
    """
    for _ in range(_RETURNS_AT_ONCE):
        if not table.at or table.pop_due(now) is None:
            break
    return bool(table.at)


def witnesses_needed(rate: float) -> int:
    """Return how many distinct proxies have to fail in a row where requests fail at a rate in 0..1 anyway.

    >>> witnesses_needed(0.1), witnesses_needed(0.5)
    (3, 10)
    """
    bounded = min(max(rate, 0.01), 0.9)
    return min(max(math.ceil(math.log(_CHANCE) / math.log(bounded)), _SHORT_RUN), _LONG_RUN)


def alike(outcome: Outcome) -> str:
    """Return the sign by which failures are alike: the rule that found them, else the status, else the blame."""
    return outcome.rule or (str(outcome.status) if outcome.status is not None else f"{outcome.blame}")


def out_of_order(outcome: Outcome) -> bool:
    """Whether a failure that everybody meets says that the site fails, not that it refuses."""
    if outcome.blame is Blame.TARGET or outcome.status is None or outcome.retry_after is not None:
        return True
    return outcome.status >= HTTPStatus.INTERNAL_SERVER_ERROR or outcome.status in _OVERLOADED


def limits_each(outcome: Outcome) -> bool:
    """Whether a site says to one client how long it has to wait, which tells nothing of the others."""
    return outcome.status == HTTPStatus.TOO_MANY_REQUESTS and outcome.retry_after is not None


def weight_of(outcome: Outcome, *, proven: bool) -> float:
    """Return how much a failure says of the site: all where an answer came, or the proxy is known to work."""
    return 1.0 if proven or outcome.status is not None or outcome.blame is Blame.TARGET else _WEAK
