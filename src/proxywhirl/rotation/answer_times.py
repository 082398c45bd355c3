"""How soon a proxy answers, and whether that is soon enough. Pure.

The time to an answer is taken for lognormal, the product of many small factors, with a heavy tail. So all is counted in
logarithms of seconds.

- A proxy has a mean and a deviation, which is learnt from the mean absolute one: a tail that is heavier than that of a
  normal distribution misleads it less. It begins with what is usual in the pool, as if that were a part of an answer
  (`_PRIOR`); later on the newest answer weighs at least a twentieth.
- A site adds a constant of its own (`Site.log_slowness`): all proxies wait for its server alike. Both are learnt from
  what they leave unexplained (the baseline of Koren, Bell and Volinsky, IEEE Computer 42(8), 2009).
- An attempt that brought no answer says that one would have taken longer, if the proxy was to answer at all. It counts
  as the mean of all longer times, by the probability that slowness was the reason (the EM algorithm for censored data:
  Schmee and Hahn, Technometrics 21, 1979; where some never answer: Farewell, Biometrics 38, 1982). Of a proxy that
  never answered it teaches nothing.
"""

from __future__ import annotations

import math
from typing import Protocol

from proxywhirl.models import Outcome

_PRIOR = 0.25  # answers
_FIRST = 1.0 + _PRIOR
_MEMORY = 20.0  # answers
_SITE_WEIGHT = 0.05  # of the newest answer, in what is known of a site
_LEAST = 0.001  # seconds, which are added to all times

_USUAL_WEIGHT = 0.02  # of the newest answer, in what is usual
_FIRST_MEAN, _FIRST_DEVIATION = math.log(0.5), 0.7
_LEAST_DEVIATION = 0.05

_OF_ABSOLUTE = math.sqrt(math.pi / 2.0)  # a normal distribution's standard deviation, in mean absolute ones
_ROOT_2 = math.sqrt(2.0)
_DENSITY = 1.0 / math.sqrt(2.0 * math.pi)
_FAR = 6.0  # standard deviations
_NOTHING = 0.01  # of an answer


class Timed(Protocol):
    """What is known of a proxy's answer times (`ProxyState`)."""

    timed: float
    log_latency: float
    log_deviation: float

    @property
    def chance(self) -> float: ...  # noqa: D102


class Slow(Protocol):
    """What is known of a site's (`Site`)."""

    log_slowness: float


class AnswerTimes:
    """What is usual in a pool; `learn` changes what is known of a proxy and a site, too.

    `usual` is what to believe of a proxy that never answered, as `believed` returns it.
    """

    __slots__ = ("_deviation", "_mean", "usual")

    def __init__(self) -> None:
        self._mean, self._deviation = _FIRST_MEAN, _FIRST_DEVIATION
        self.usual = _FIRST_MEAN - _FIRST_DEVIATION, _FIRST_DEVIATION

    def learn(self, state: Timed, site: Slow | None, outcome: Outcome) -> None:
        """Learn from the outcome of a use, before it is counted, that has a latency."""
        latency = outcome.latency
        if latency is None:
            return
        at = math.log(latency + _LEAST)
        if site is not None:
            at -= site.log_slowness
        timed = state.timed
        if not outcome.ok:
            if timed and outcome.status is None and outcome.counts_against_proxy:
                _learn_silence(state, at)
            return
        mean, deviation = self._mean, self._deviation
        off = at - mean
        self._mean = usual = mean + _USUAL_WEIGHT * off
        self._deviation = spread = deviation + _USUAL_WEIGHT * (abs(off) * _OF_ABSOLUTE - deviation)
        self.usual = usual - spread, spread
        if timed:
            if site is not None:
                site.log_slowness += _SITE_WEIGHT * (at - state.log_latency)
            _note(state, at, 1.0)
        else:
            state.timed, state.log_latency, state.log_deviation = _FIRST, mean + off / _FIRST, deviation


def _learn_silence(state: Timed, at: float) -> None:
    """Learn from an attempt that was given up, or broke, at a moment up to which there was no answer."""
    deviation = state.log_deviation + _LEAST_DEVIATION
    z = min((at - state.log_latency) / deviation, _FAR)
    longer, chance = 1.0 - _normal(z), state.chance
    ever = min(chance / max(1.0 - longer, _NOTHING), 1.0)  # answers sooner or later
    slow = min(ever * longer / (1.0 - chance), 1.0)
    if slow > _NOTHING:
        _note(state, state.log_latency + deviation * _DENSITY * math.exp(-0.5 * z * z) / longer, slow)


def _note(state: Timed, at: float, weight: float) -> None:
    timed = state.timed + weight
    state.timed = timed = timed if timed < _MEMORY else _MEMORY  # noqa: FURB136  # a call costs more
    part, off = weight / timed, at - state.log_latency
    state.log_latency += part * off
    state.log_deviation += part * (abs(off) * _OF_ABSOLUTE * (1.0 - part) - state.log_deviation)


def believed(state: Timed) -> tuple[float, float]:
    """Return what to believe of a proxy that has answered: mean and standard deviation of the logarithm of seconds.

    The mean is by one standard error shorter than what was seen: where little is known, a proxy is tried.
    """
    deviation = state.log_deviation + _LEAST_DEVIATION
    return state.log_latency - deviation / math.sqrt(state.timed + _PRIOR), deviation


def log_deadline(seconds: float, site: Slow | None) -> float:
    """Return a deadline of so many seconds at a site as `in_time` takes it."""
    return math.log(seconds + _LEAST) - (0.0 if site is None else site.log_slowness)


def in_time(deadline: float, mean: float, deviation: float) -> float:
    """Return the probability that an answer comes by then; all in logarithms of seconds."""
    return _normal((deadline - mean) / deviation)


def _normal(z: float) -> float:
    return 0.5 * math.erfc(-z / _ROOT_2)
