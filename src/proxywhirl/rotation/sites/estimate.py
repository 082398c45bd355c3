"""What to believe of a chance, from what was counted: a mean, and how far from it the truth may lie. Pure."""

from __future__ import annotations

import math

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
