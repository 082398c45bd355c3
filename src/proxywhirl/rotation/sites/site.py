"""One site that requests go to: which proxies may not go there now, and whether the site itself is down. Pure.

Rules:

- a ban bars one proxy from one site, and from no other; so does a cool-down, which is no ban and is kept apart;
- a proxy comes back from a ban with one request. Until that is told of it gets no other. If nobody knows whether so
  short a ban is over, one proxy at a time finds out, and the others wait for what it finds;
- who fails is found out in `pages`: a failure is the proxy's, the page's or the site's;
- a 429 limits the proxy that met it (RFC 6585 section 4), and says nothing of the site. With Retry-After it stays
  banned for so long, whoever else is refused;
- a site that is out of order (it fails, is overloaded or cannot be reached) rests: one request at a time tries it, at
  once and then after waits that double, and a success ends all. What was sent before it rested tells nothing new. One
  that answers and refuses (403 and the like) is not out of order: to everybody's 403 the answer is a 403.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus

from proxywhirl.backoff import Backoff
from proxywhirl.errors import Blame
from proxywhirl.models import Outcome
from proxywhirl.rotation.proxy_state import DECAY_STEP, HALF_LIFE
from proxywhirl.rotation.sites.bans import EVEN, SURELY, BanLengths
from proxywhirl.rotation.sites.groups import NOBODY, Members, SiteGroups
from proxywhirl.rotation.sites.networks import Networks
from proxywhirl.rotation.sites.pages import Evidence
from proxywhirl.rotation.sites.rate_limit import LearnedRateLimit, SiteUses
from proxywhirl.rotation.sites.sharing import SiteSharing
from proxywhirl.timetable import Timetable

_BYTES_WEIGHT = 0.05
_WEAK = 0.5  # a proxy that never served and brought no answer is half a witness
_REST = Backoff(1.0, 60.0)
_LONGEST_ASKED = 3600.0
_RETURNS_AT_ONCE = 64
TRIAL_SECONDS = 10.0
"""Seconds that a request may take to find out whether a resting site is back, or a ban is over."""

_NEARLY = 0.9  # of a wait: the jitter of bans only ever lengthens, but the length that is believed in changes
LIKELY = 0.05
"""Where an early use is refused for coming early with a greater probability, the load is spread."""

_AGAIN = 0.25  # seconds after which to ask whether a trial has ended

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
        mean: What to believe of it, with `spread` (see `estimate`), as of its last outcome there or a little longer.
    """

    good: float = 0.0
    bad: float = 0.0
    stamp: float = 0.0
    uses: SiteUses = field(default_factory=SiteUses)
    served: bool = False
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


@dataclass(slots=True, eq=False)
class Site:
    """One site. Times are on the pool's monotonic clock.

    Attributes:
        all_well: Nothing has failed there yet, and nobody was kept from it: most that could be asked needs no look.
        barred: The keys that are banned there, with the moment at which that ends.
        returning: Those whose ban is over, until they were served there again.
        refused_at: When each of those that are barred or returning was refused first.
        lengths: How long bans last there.
        prober: The key of the proxy that finds out whether so short a ban is over, and until when it may.
        cooling: The keys that were used there a moment ago.
        evidence: Whose failures those there are.
        at_fault: The sign by which all fail there; empty where they do not.
        rests: How often the site was tried while it is out of order, and one more; 0 where it is not.
        trying: The key of the proxy that finds out whether a resting site is back.
        rate_limit: How often a proxy may come, as far as bans have taught that.
        sharing: What other processes know of it, and which proxies they take.
        tells_apart: Whether it is kept what each proxy achieved there: from the first refusal on.
        next_turn: The moment that was told to the last request for which nobody had rested.
        log_slowness: By how much the logarithm of a latency is greater here than elsewhere (see `answer_times`).
        bytes_of_use: A moving mean; None before the first use.
        first_uses: Which share of the first uses by a proxy were not refused, decayed; from its first refusal on.
        welcome: How many proxies were not.
        turn: The place of the proxy whose turn it was last here: so each comes back to the site as late as it can.
        closed: It was forgotten.
    """

    name: str
    all_well: bool = True
    barred: Timetable[str] = field(default_factory=Timetable)
    returning: set[str] = field(default_factory=set)
    refused_at: dict[str, float] = field(default_factory=dict)
    lengths: BanLengths = field(default_factory=BanLengths)
    prober: tuple[str, float] = ("", 0.0)
    cooling: Timetable[str] = field(default_factory=Timetable)
    groups: SiteGroups = field(default_factory=SiteGroups)
    networks: Networks = field(default_factory=Networks)
    members: Members = NOBODY
    arms: dict[str, Arm] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=Evidence)
    at_fault: str = ""
    rests: int = 0
    rest_until: float = 0.0
    trying: str = ""
    rate_limit: LearnedRateLimit = field(default_factory=LearnedRateLimit)
    sharing: SiteSharing = field(default_factory=SiteSharing)
    tells_apart: bool = False
    next_turn: float = 0.0
    log_slowness: float = 0.0
    bytes_of_use: float | None = None
    first_uses: float = 1.0
    welcome: int = 0
    turn: int = -1
    closed: bool = False

    # Bans.

    def bar(self, key: str, until: float, since: float) -> None:
        """Keep a proxy out that was refused first at `since`."""
        self.barred.put(key, until)
        self.refused_at[key] = since
        self.returning.discard(key)

    def let_in(self, key: str) -> None:
        """Let a proxy in as any other."""
        self.barred.discard(key)
        self.returning.discard(key)
        self.refused_at.pop(key, None)
        if self.prober[0] == key:
            self.prober = ("", 0.0)

    def bars_any(self, now: float) -> bool:
        """Whether any proxy is barred, once those have left whose time is over.

        Thousands may be due at once: no single request pays for the return of them all.
        """
        barred = self.barred
        for _ in range(_RETURNS_AT_ONCE):
            key = barred.pop_due(now) if barred.at else None
            if key is None:
                break
            self._come_back(key, now)
        return bool(barred.at)

    def _come_back(self, key: str, now: float) -> None:
        """Let a proxy return, unless others find out or have found out that it is too early."""
        since = self.refused_at.get(key)
        if since is None:
            return
        lengths, elapsed = self.lengths, now - since
        if lengths.over(elapsed) < SURELY:
            prober, until = self.prober
            if prober and prober != key and now < until:
                at = min(until, since + lengths.wait(elapsed, SURELY))
                self.barred.put(key, max(at, now + _AGAIN))
                return
            least = lengths.wait(0.0, EVEN)
            if elapsed < _NEARLY * least:
                self.barred.put(key, since + least)
                return
            self.prober = key, now + TRIAL_SECONDS
        self.returning.add(key)

    def begin_return(self, key: str, now: float) -> None:
        """Keep others from a returning proxy while its first request is under way."""
        self.barred.put(key, now + TRIAL_SECONDS)

    def end_return(self, key: str, began: float) -> None:
        """Let a returning proxy be tried again where its first request ends, which began then, whatever that told."""
        if key in self.returning and self.barred.at.get(key) == began + TRIAL_SECONDS:
            self.barred.discard(key)

    @property
    def suspects_any(self) -> bool:
        """Whether there are failures that are not resolved, here or elsewhere."""
        return bool(self.evidence.suspects or self.sharing.refused.at)

    def avoided(self, now: float) -> tuple[Collection[str], ...]:
        """Return the keys of those that others are chosen before, since failures of theirs are not resolved."""
        own, elsewhere = self.evidence.avoided, self.sharing.refused
        of_both = (own.at,) if self.evidence.suspects and keeps_any(own, now) else ()
        return (*of_both, elsewhere.at) if keeps_any(elsewhere, now) else of_both

    # Uses.

    def cool_down(self, key: str, until: float) -> None:
        """Keep a proxy out for a moment."""
        self.all_well = False
        self.cooling.put(key, until)

    def note_bytes(self, moved: int) -> None:
        """Take note of how many bytes a use moved."""
        known = self.bytes_of_use
        self.bytes_of_use = moved if known is None else known + _BYTES_WEIGHT * (moved - known)

    def uses_of(self, key: str) -> SiteUses | None:
        """Return the uses that the site counts together with those of a proxy, None where there are none."""
        arm = self.arms.get(key)
        if arm is not None:
            return arm.uses
        network = self.members.network(key) if self.networks.together else ""
        if network:
            return self.networks.uses_of(network)
        return self.sharing.uses.get(key, self.sharing.before)

    @property
    def learnt(self) -> int:
        """How many outcomes have told something of the site as a whole."""
        return self.rate_limit.learnt + self.lengths.learnt

    @property
    def limits(self) -> bool:
        """Whether there is probably a limit by rate."""
        return self.rate_limit.known and self.rate_limit.refuses_early > LIKELY

    def early(self, key: str, now: float) -> bool:
        """Whether a proxy comes sooner than the site may allow."""
        uses = self.uses_of(key)
        return uses is not None and self.rate_limit.rested(uses.all(), now) < 1.0

    def tired(self, key: str, now: float) -> bool:
        """Whether a proxy should not come yet, since the site has a limit that it keeps to, or perhaps has one."""
        return self.rate_limit.holds(now) and self.early(key, now)

    def next_rested(self, keys: Iterable[str], now: float) -> float | None:
        """Return when the first of some proxies has had its rest; None where nobody has to rest.

        Those who ask one after another are told of different moments, so that they do not all come at once.
        """
        if not self.rate_limit.holds(now):
            return None
        known = [uses.all() for key in keys if (uses := self.uses_of(key)) is not None]
        if not known:
            return None
        if not self.rate_limit.kept:
            return now + _AGAIN
        soonest, gap = min(map(self.rate_limit.rested_at, known)), self.rate_limit.gap
        self.next_turn = min(max(self.next_turn, now) + gap / len(known), now + gap)
        return max(soonest, self.next_turn)

    # Rests.

    def rest(self, key: str, now: float, rng: random.Random, retry_after: float | None) -> None:
        """Let the site rest: the first trial comes at once, further ones after a time that doubles, or as it asked."""
        if not self.rests or self.trying == key:
            self.rests += 1
            self.trying = ""
            self.rest_until = now + (_REST.jittered(self.rests - 1, rng, least=0.5) if self.rests > 1 else 0.0)
        if retry_after is not None:
            self.rest_until = max(self.rest_until, now + min(retry_after, _LONGEST_ASKED))

    def resting(self, now: float) -> float:
        """Return for how many seconds to leave the site alone; 0 where a request may try it."""
        if self.rest_until <= now:
            return 0.0
        return _AGAIN if self.trying else self.rest_until - now

    def try_out(self, key: str, now: float) -> None:
        """Let one request find out whether the site is back; no other may until it tells, or for a while."""
        self.trying = key
        self.rest_until = now + TRIAL_SECONDS

    def untried(self, now: float) -> None:
        """Let another request try: the last trial told nothing of the site."""
        self.trying = ""
        self.rest_until = now

    def recover(self) -> None:
        """End the rest: the site answers."""
        self.rests, self.rest_until, self.trying = 0, 0.0, ""


def keeps_any(table: Timetable[str], now: float) -> bool:
    """Whether a table has any key, once those have left whose time is over; see `Site.bars_any`."""
    for _ in range(_RETURNS_AT_ONCE):
        if not table.at or table.pop_due(now) is None:
            break
    return bool(table.at)


def alike(outcome: Outcome) -> str:
    """Return the sign by which failures are alike: the rule that found them, else the status, else the blame."""
    return outcome.rule or (str(outcome.status) if outcome.status is not None else f"{outcome.blame}")


def out_of_order(outcome: Outcome) -> bool:
    """Whether a failure that everybody meets says that the site fails, not that it refuses."""
    if outcome.blame is Blame.TARGET or outcome.status is None:
        return True
    return outcome.status >= HTTPStatus.INTERNAL_SERVER_ERROR or outcome.status == HTTPStatus.REQUEST_TIMEOUT


def limits_each(outcome: Outcome) -> bool:
    """Whether a site says to one client how long it has to wait, which tells nothing of the others."""
    return outcome.status == HTTPStatus.TOO_MANY_REQUESTS and outcome.retry_after is not None


def weight_of(outcome: Outcome, *, proven: bool) -> float:
    """Return how much a failure says of the site: all where an answer came, or the proxy is known to work."""
    answered = outcome.status is not None and outcome.blame is not Blame.PROXY
    return 1.0 if proven or answered or outcome.blame is Blame.TARGET else _WEAK
