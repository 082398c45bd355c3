"""Answer times: what is believed of a proxy's time to an answer comes near to the truth, and never breaks."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.errors import Blame
from proxywhirl.models import Outcome, Proxy
from proxywhirl.rotation.answer_times import AnswerTimes, believed, in_time, log_deadline
from proxywhirl.rotation.proxy_state import ProxyState
from proxywhirl.rotation.sites.site import Site

NAMES = "ab"
OUTCOMES = st.builds(
    Outcome,
    st.booleans(),
    latency=st.none() | st.floats(0.0, 1e6),
    blame=st.sampled_from([None, Blame.PROXY, Blame.TARGET]),
    status=st.none() | st.just(200),
)


def state_of(key: str = "a") -> ProxyState:
    """Return the state of a proxy that was never used."""
    return ProxyState(key, Proxy(key, "http", "192.0.2.1", 8080))


def tell(times: AnswerTimes, state: ProxyState, site: Site | None, outcome: Outcome) -> None:
    """Do as the pool does with an outcome: time first, then the count."""
    times.learn(state, site, outcome)
    state.learn(0.0, outcome.latency, ok=outcome.ok)


def cut(seconds: float, timeout: float) -> Outcome:
    """Return the outcome of an attempt that would take so long."""
    if seconds > timeout:
        return Outcome(False, blame=Blame.PROXY, rule="silent", latency=timeout)
    return Outcome(True, latency=seconds, status=200)


@given(st.lists(st.tuples(st.sampled_from(NAMES), OUTCOMES), max_size=40), st.floats(1e-6, 1e6), st.floats(1.0, 1e3))
def test_a_longer_time_is_never_less_likely_to_be_enough(
    told: list[tuple[str, Outcome]], seconds: float, factor: float
) -> None:
    """Whatever was reported, probabilities are such, grow with the time, and nothing that is kept is infinite."""
    times, site, states = AnswerTimes(), Site("a.example"), {name: state_of(name) for name in NAMES}
    for name, outcome in told:
        tell(times, states[name], site, outcome)
    for state in states.values():
        known = believed(state) if state.timed else times.usual
        short, long = (in_time(log_deadline(time, site), *known) for time in (seconds, seconds * factor))
        assert 0.0 <= short <= long <= 1.0
        assert all(map(math.isfinite, (*known, site.log_slowness, state.timed)))


@pytest.mark.parametrize("timeout", [100.0, 3.0, 2.0])
def test_the_time_is_learnt_though_the_longest_are_cut_off(timeout: float) -> None:
    """Of a proxy with a median of 1 s a median of 1 s is believed, with up to a fifth of its answers cut off.

    The mean of those that came is 0.76 s where all above 2 s are cut off.
    """
    rng, times, state = random.Random(1), AnswerTimes(), state_of()
    found = []
    for number in range(2000):
        tell(times, state, None, cut(math.exp(rng.gauss(0.0, 0.8)), timeout))
        if number > 100:
            found.append(state.log_latency)
    assert math.exp(sum(found) / len(found)) == pytest.approx(1.0, rel=0.12)


def test_an_attempt_without_an_answer_tells_of_the_slow_and_not_of_the_quick() -> None:
    """One that took 5 s before is believed slower after 5 s of silence; one that took 0.1 s is not: it broke."""
    for usual, slower in ((5.0, True), (0.1, False)):
        times, state = AnswerTimes(), state_of()
        for _ in range(10):
            tell(times, state, None, Outcome(True, latency=usual, status=200))
        before = state.log_latency
        tell(times, state, None, cut(100.0, 5.0))
        assert (state.log_latency > before) == slower


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(False, blame=Blame.PROXY, latency=10.0),
        Outcome(True),
        Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, latency=0.1, status=403),
    ],
)
def test_what_is_no_answer_time_teaches_none(outcome: Outcome) -> None:
    """Silence of a proxy that never answered, an answer that nobody timed, and a refusal leave a proxy unknown."""
    times, state = AnswerTimes(), state_of()
    before = times.usual
    tell(times, state, Site("a.example"), outcome)
    assert not state.timed
    assert times.usual == before


def test_a_slow_site_makes_no_proxy_slow() -> None:
    """Where one site takes ten times as long, proxies that are used there alone are believed as quick as the others."""
    rng, times = random.Random(1), AnswerTimes()
    quick, slow = Site("quick.example"), Site("slow.example")
    states = [state_of(str(number)) for number in range(20)]
    for _ in range(3000):
        number, on_slow = rng.randrange(20), rng.random() < 0.5
        on_slow = number < 10 if rng.random() < 0.5 else on_slow
        seconds = (0.1 if number % 2 else 0.3) * (10.0 if on_slow else 1.0) * math.exp(rng.gauss(0.0, 0.2))
        tell(times, states[number], slow if on_slow else quick, Outcome(True, latency=seconds, status=200))
    assert slow.log_slowness - quick.log_slowness == pytest.approx(math.log(10.0), abs=0.4)
    worst_of_quick = max(states[number].log_latency for number in range(20) if number % 2)
    assert worst_of_quick < min(states[number].log_latency for number in range(20) if not number % 2)


def test_of_one_that_never_answered_the_usual_is_believed() -> None:
    """After answers of others in 0.2 s, a new proxy is expected to answer in 1 s, and not in 0.02 s."""
    times = AnswerTimes()
    for number in range(200):
        tell(times, state_of(str(number)), None, Outcome(True, latency=0.2, status=200))
    assert in_time(log_deadline(1.0, None), *times.usual) > 0.95
    assert in_time(log_deadline(0.02, None), *times.usual) < 0.05
