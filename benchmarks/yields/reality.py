"""What happens when a proxy is used: the only code that decides it, for every contestant alike."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from functools import cache

from benchmarks.yields.laws import BREAKS_OFF, Answer, RateLimit, Use
from benchmarks.yields.scenario import Arrival, Kind, Scenario, TrueProxy
from proxywhirl.errors import Blame
from proxywhirl.models import Outcome
from proxywhirl.rotation.retries.send_policy import as_forwarded
from proxywhirl.rotation.verdicts.response import CUT, SILENT, Evidence, Verdict
from proxywhirl.rotation.verdicts.rule_file import built_in_rules
from proxywhirl.rotation.verdicts.rules import Classifier

__all__ = ["BROKEN", "LATE", "UNREACHABLE", "Reality"]

BROKEN = "closed the connection"
LATE = "gave no answer in time"
UNREACHABLE = "cannot reach the target"
"""How the edges' words for what went wrong begin."""

REFUSED = 0.1
"""Seconds until a refused connection is noticed."""

CAPTCHA_RULE = "captcha-page"

_CLASSIFIER = Classifier(built_in_rules())


class Reality:
    """One run of a scenario. What a use leads to is told at once, and learnt when it has taken its time.

    Attributes:
        reached: How many uses reached a site.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.reached = 0
        self._rng = random.Random(f"luck of {scenario.seed}")

    @property
    def bans(self) -> int:
        """How many bans began."""
        laws = (law for site in self.scenario.sites for law in site.laws)
        return sum(law.bans for law in laws if isinstance(law, RateLimit))

    def use(self, proxy: int, request: Arrival, now: float) -> Outcome:
        """Send a request; return what its edge will report, whose `latency` is how long that takes."""
        true = self.scenario.proxies[proxy]
        timeout = self._timeout(request, now)
        if self._is_away(now):
            return _unreached(timeout) if true.silent else _broken(min(REFUSED, timeout))
        if not true.alive(now) or self._rng.random() >= true.success:
            return self._fails(true, true.kind is Kind.DEAD or not true.alive(now), timeout)
        latency = self._latency(true)
        self.reached += 1
        use = Use(proxy, true.exit(now), true.network, request.page, now)
        answer = None
        for law in self.scenario.sites[request.site].laws:
            answer = law.answer(use)
            if answer is not None:
                break
        if latency > timeout:
            return _late(timeout)
        if answer is None:
            return Outcome(ok=True, latency=latency, status=200, bytes_down=self.scenario.size)
        return self._refused(answer, latency, forwarded=self.scenario.sites[request.site].target.scheme == "http")

    def chance(self, proxy: int, request: Arrival, now: float) -> float:
        """Return with which probability a use at this moment would succeed. Only the oracle may ask."""
        true = self.scenario.proxies[proxy]
        if not true.alive(now) or self._is_away(now):
            return 0.0
        chance = true.success
        laws = self.scenario.sites[request.site].laws
        if laws:
            use = Use(proxy, true.exit(now), true.network, request.page, now)
            for law in laws:
                chance *= law.chance(use)
                if not chance:
                    return 0.0
        if true.tail:
            chance *= _within(true, self._timeout(request, now))
        return chance

    def _timeout(self, request: Arrival, now: float) -> float:
        """Return how long an attempt may take that begins now."""
        timeout, longest = self.scenario.timeout, self.scenario.longest
        return timeout if longest is None else max(0.0, min(timeout, request.at + longest - now))

    def _is_away(self, now: float) -> bool:
        return any(begins <= now < ends for begins, ends in self.scenario.away)

    def _latency(self, true: TrueProxy) -> float:
        if true.tail:
            return true.latency * math.exp(self._rng.gauss(0.0, true.tail))
        return true.latency * self._rng.gammavariate(4.0, 0.25)

    def _fails(self, true: TrueProxy, away: bool, timeout: float) -> Outcome:
        if true.kind is Kind.FAST_FAILING:
            words = "answered with an error of its own"
            return Outcome(ok=False, blame=Blame.PROXY, latency=true.latency, status=502, error=words)
        if true.silent:
            return _unreached(timeout)
        return _broken(min(REFUSED if away else true.latency, timeout))

    def _refused(self, answer: Answer, latency: float, *, forwarded: bool) -> Outcome:
        if answer.status == BREAKS_OFF:
            return Outcome(ok=False, blame=Blame.PROXY, latency=latency, error=BROKEN, rule=CUT)
        if answer.gone:
            blame = Blame.TARGET_THROUGH_PROXY
            return Outcome(ok=False, blame=blame, latency=latency, status=answer.status, error=UNREACHABLE)
        if answer.soft:
            verdict = Verdict(Blame.TARGET_THROUGH_PROXY, CAPTCHA_RULE)
        else:
            verdict = judged(answer.status, forwarded=forwarded, asks=answer.retry_after is not None)
            if answer.through:
                verdict = replace(verdict, blame=Blame.TARGET_THROUGH_PROXY)
        return Outcome(
            ok=verdict.blame is None,
            blame=verdict.blame,
            latency=latency,
            status=answer.status,
            rule=verdict.rule,
            retry_after=answer.retry_after,
            bytes_down=self.scenario.size // 10,  # a refusal is shorter than a page
        )


@cache
def judged(status: int, *, forwarded: bool, asks: bool) -> Verdict:
    """Judge a status by the built-in rules, as the edges do; `asks` says that it came with `Retry-After`."""
    headers = ((b"retry-after", b"10"),) if asks else ()
    verdict = _CLASSIFIER.verdict(Evidence("site.example", "GET", status, headers, length=1_000, latency=1.0))
    return as_forwarded(verdict, status) if forwarded else verdict


def _late(timeout: float) -> Outcome:
    return Outcome(ok=False, blame=Blame.PROXY, latency=timeout, error=LATE, rule=SILENT)


def _unreached(timeout: float) -> Outcome:
    return Outcome(ok=False, blame=Blame.PROXY, latency=timeout, error=LATE)


def _broken(latency: float) -> Outcome:
    return Outcome(ok=False, blame=Blame.PROXY, latency=latency, error=BROKEN)


def _within(true: TrueProxy, seconds: float) -> float:
    """Return with which probability an answer comes within so many seconds."""
    if seconds <= 0.0:
        return 0.0
    return 0.5 * (1.0 + math.erf(math.log(seconds / true.latency) / (true.tail * math.sqrt(2.0))))
