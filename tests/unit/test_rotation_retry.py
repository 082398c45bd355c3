"""The back-off and the rule of retries."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.errors import Blame
from proxywhirl.events import AttemptFailed
from proxywhirl.models import Outcome, Proxy, Target
from proxywhirl.rotation.proxy_state import BACKOFF, FAILURES_TO_CAP, HOPELESS_BACKOFF
from proxywhirl.rotation.retries.pursuit import Choose, Failed, NoChoice, Publish, Pursuit, Served, Stop, Try, Wait
from proxywhirl.rotation.retries.send_policy import AttemptRecord, RetryBudget, RetryPolicy, SendPolicy
from proxywhirl.rotation.selection.request_options import NO_OPTIONS
from proxywhirl.rotation.verdicts.response import CUT, SILENT, Verdict
from proxywhirl.testing import ManualClock
from proxywhirl.urls import ProxyURL


class Highest(random.Random):
    """Draws the upper end of every interval."""

    def uniform(self, a: float, b: float) -> float:
        """Return the upper end."""
        return max(a, b)


def test_the_ceiling_triples_with_each_failure_up_to_the_cap() -> None:
    """The longest possible delay is 2, 6, 18… seconds, 300 from the sixth failure on."""
    ceilings = [BACKOFF.jittered(n, Highest()) for n in range(1, 9)]
    assert ceilings == [2, 6, 18, 54, 162, 300, 300, 300]
    assert ceilings[FAILURES_TO_CAP - 2] < BACKOFF.longest == ceilings[FAILURES_TO_CAP - 1]


def test_one_that_never_served_is_tried_ever_less_often_up_to_once_an_hour() -> None:
    """Its longest possible delay is 2, 16, 128… seconds, an hour from the fifth failure on."""
    ceilings = [HOPELESS_BACKOFF.jittered(n, Highest()) for n in range(1, 8)]
    assert ceilings == [2, 16, 128, 1024, HOPELESS_BACKOFF.longest, HOPELESS_BACKOFF.longest, HOPELESS_BACKOFF.longest]


@given(failures=st.integers(1, 10**9), seed=st.integers())
def test_a_delay_is_never_negative_nor_above_the_cap(failures: int, seed: int) -> None:
    """However often a proxy failed, its delay lies between zero and five minutes."""
    assert 0 <= BACKOFF.jittered(failures, random.Random(seed)) <= BACKOFF.longest


def test_the_jitter_is_full() -> None:
    """Delays are spread evenly from zero to the ceiling, so that proxies do not come back as one crowd."""
    rng = random.Random(7)
    quarters = [0, 0, 0, 0]
    for _ in range(4000):
        quarters[min(3, int(BACKOFF.jittered(1, rng) / BACKOFF.first * 4))] += 1
    assert all(850 < count < 1150 for count in quarters)


class Moment:
    """A clock that stands at a time."""

    def __init__(self, time: float = 0.0) -> None:
        self.time = time

    def now(self) -> float:
        """Return the time."""
        return self.time

    def monotonic(self) -> float:
        """Return the time."""
        return self.time


CLOCK = Moment()
TARGET = Target("http", "t.test", 80)


def begun(
    policy: RetryPolicy | None = None, *, method: str = "GET", budget: RetryBudget | None = None, unsafe: bool = False
) -> Pursuit:
    """Begin a request that has 60 seconds."""
    CLOCK.time = 0.0
    sending = SendPolicy(policy or RetryPolicy(), budget or RetryBudget(clock=ManualClock()), rng=Highest())
    return Pursuit(sending, TARGET, NO_OPTIONS, method, 60.0, unsafe=unsafe, clock=CLOCK)


def attempt(pursuit: Pursuit, key: str) -> None:
    """Count an attempt through a proxy."""
    pursuit.attempts += 1
    pursuit.tried.add(key)


def stop(
    pursuit: Pursuit,
    *,
    now: float = 1.0,
    sent: bool = True,
    blame: Blame | None = Blame.PROXY,
    replayable: bool = True,
) -> Stop | None:
    """Ask whether a failed attempt was the last."""
    CLOCK.time = now
    return pursuit.stop(Failed(Outcome(False, blame=blame), sent=sent, replayable=replayable))


def pause(pursuit: Pursuit, now: float, *, free_in: float | None) -> float | None:
    """Ask how long to wait for a proxy."""
    CLOCK.time = now
    return pursuit.pause(free_in=free_in)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
def test_an_idempotent_method_may_be_sent_again(method: str) -> None:
    """The idempotent methods of RFC 9110 may be retried even after they were sent."""
    assert stop(begun(method=method)) is None


@pytest.mark.parametrize("method", ["POST", "PATCH", "CONNECT", "QUERY", "get", "", "PURGE"])
def test_any_other_method_may_be_retried_only_before_it_was_sent(method: str) -> None:
    """A method that may have had an effect is sent once; methods are case-sensitive."""
    assert stop(begun(method=method)) is Stop.UNSAFE
    assert stop(begun(method=method), sent=False) is None


def test_a_request_goes_on_as_long_as_nothing_forbids_it() -> None:
    """Method, body, time and number of attempts each end a request, and each says so."""
    assert stop(begun()) is None
    assert stop(begun(method="POST")) is Stop.UNSAFE
    assert stop(begun(method="POST"), sent=False) is None
    assert stop(begun(), replayable=False) is Stop.SPENT
    assert stop(begun(), now=60.0) is Stop.LATE
    twice = begun(RetryPolicy(attempts=2))
    attempt(twice, "a")
    assert stop(twice) is None
    attempt(twice, "b")
    assert stop(twice) is Stop.ATTEMPTS


def test_the_user_may_call_any_method_repeatable() -> None:
    """For one request or for all, `unsafe` lifts the rule of idempotent methods."""
    assert stop(begun(method="POST", unsafe=True)) is None
    assert stop(begun(RetryPolicy(unsafe=True), method="PATCH")) is None


@pytest.mark.parametrize(
    ("sent", "blame", "pays"),
    [
        (False, Blame.PROXY, False),
        (False, Blame.ACCOUNT, False),
        (False, Blame.US, False),
        (False, Blame.TARGET_THROUGH_PROXY, True),
        (False, Blame.TARGET, True),
        (True, Blame.PROXY, True),
    ],
)
def test_only_what_may_have_burdened_the_target_costs_the_budget(sent: bool, blame: Blame, pays: bool) -> None:
    """A failure at the proxy before anything was sent is followed by another attempt even with an empty budget."""
    budget = RetryBudget(share=0.0, floor=0, clock=ManualClock())
    assert stop(begun(budget=budget), sent=sent, blame=blame) is (Stop.BUDGET if pays else None)


def answer(status: int, rule: str | None = None, *, blame: Blame = Blame.TARGET_THROUGH_PROXY) -> Outcome:
    """Return the outcome of an answer that is a failure."""
    return Outcome(False, blame=blame, status=status, rule=rule)


def last_of(outcomes: list[Outcome], *, page_served: bool = False) -> list[Stop | None]:
    """Return what each failed attempt of a request is followed by; the budget allows all."""
    pursuit = begun(budget=RetryBudget(floor=100, clock=ManualClock()))
    return [pursuit.stop(Failed(outcome, page_served=page_served)) for outcome in outcomes]


def test_four_answers_alike_are_the_answer_of_a_page_that_nobody_was_served() -> None:
    """A page that refuses everybody costs four tries; where somebody was served it, the attempts decide."""
    assert last_of([answer(403)] * 4) == [None, None, None, Stop.OWN]
    assert last_of([answer(403)] * 9, page_served=True) == [None] * 9


def test_answers_that_differ_are_no_answer_of_the_page() -> None:
    """Alike are those that one rule finds, or of one status without a rule."""
    assert last_of([answer(403), answer(429)] * 3) == [None] * 6
    assert last_of([answer(403, f"rule-{number}") for number in range(6)]) == [None] * 6
    assert last_of([answer(status, "block-page") for status in (200, 403, 429, 503)])[-1] is Stop.OWN


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(False, blame=Blame.PROXY, rule=CUT),
        answer(200, CUT, blame=Blame.PROXY),
        answer(200, CUT),
        Outcome(False, blame=Blame.TARGET_THROUGH_PROXY),
        answer(511, "network-login", blame=Blame.PROXY),
        answer(402, "vendor:quota", blame=Blame.ACCOUNT),
    ],
)
def test_what_may_not_have_come_from_the_target_is_no_answer_of_the_page(outcome: Outcome) -> None:
    """Proxies that fail, refuse their account or cannot reach the target leave the request to all the others."""
    assert last_of([outcome] * 9) == [None] * 9


def test_the_targets_own_answer_ends_a_request_at_once_and_costs_nothing() -> None:
    """Where the pool knows that a page answers all alike, nothing is tried for a better answer."""
    pursuit = begun()
    assert pursuit.stop(Failed(answer(403), held=True, targets_own=True)) is Stop.OWN
    assert pursuit.policy.budget.spent() == (0, 1)


@given(answers=st.lists(st.sampled_from([403, 429, 500, 503, None]), max_size=30), owned=st.integers(0, 30))
def test_no_request_goes_on_beyond_what_is_known_of_its_page(answers: list[int | None], owned: int) -> None:
    """No status comes more than four times, and nothing comes after the pool has called an answer the target's own."""
    pursuit = begun(budget=RetryBudget(floor=100, clock=ManualClock()))
    made: list[int | None] = []
    for status in answers:
        made.append(status)
        outcome = REFUSED if status is None else answer(status)
        if pursuit.stop(Failed(outcome, sent=status is not None, targets_own=len(made) > owned)) is not None:
            break
    assert len(made) <= owned + 1
    assert max((made.count(status) for status in set(made) - {None}), default=0) <= 4


def test_what_is_not_spent_goes_back_once() -> None:
    """Where no proxy can be had for an allowed attempt, the budget gets it back, once."""
    budget = RetryBudget(share=0.0, floor=2, clock=ManualClock())
    pursuit = begun(budget=budget)
    assert stop(pursuit) is None
    assert stop(pursuit) is None
    assert stop(pursuit) is Stop.BUDGET
    pursuit.forgo()  # nothing was paid last
    assert budget.spent()[0] == 2
    other = begun(budget=RetryBudget(share=0.0, floor=1, clock=ManualClock()))
    assert stop(other) is None
    other.forgo()
    other.forgo()
    assert stop(other) is None


def test_who_was_not_tried_yet_waits_for_a_busy_proxy_within_the_deadline() -> None:
    """Before the first attempt a request waits as often as it is told that somebody will be free, but not too late."""
    pursuit = begun()
    assert pause(pursuit, 0.0, free_in=5.0) == pytest.approx(5.5)
    assert pause(pursuit, 20.0, free_in=5.0) == pytest.approx(5.5)
    assert pause(pursuit, 50.0, free_in=10.0) is None
    assert pause(pursuit, 50.0, free_in=None) is None


def test_after_an_attempt_a_busy_proxy_is_waited_for_too() -> None:
    """Who becomes free was not tried, and may be another request's by then: it is asked again until the deadline."""
    pursuit = begun()
    attempt(pursuit, "a")
    assert pause(pursuit, 0.0, free_in=1.0) is not None
    assert pause(pursuit, 1.0, free_in=1.0) is not None
    assert pause(pursuit, 59.5, free_in=1.0) is None


def test_a_site_that_rests_is_asked_for_often_within_the_deadline() -> None:
    """It may be back before its time; no further round is begun to wait for a rest that is too long."""
    pursuit = begun(RetryPolicy(rounds=3))
    attempt(pursuit, "a")
    CLOCK.time = 20.0
    assert pursuit.pause(free_in=30.0, resting=True) == 0.25
    assert pursuit.pause(free_in=0.1, resting=True) == pytest.approx(0.11)
    assert pursuit.pause(free_in=40.0, resting=True) is None


def test_a_further_round_goes_among_those_that_were_tried_and_waits() -> None:
    """With rounds left, all are tried again after a wait that grows; with one round, no proxy is tried twice."""
    pursuit = begun(RetryPolicy(rounds=3))
    for seconds in (2.0, 6.0):
        attempt(pursuit, "a")
        assert pause(pursuit, 0.0, free_in=None) == seconds
        assert not pursuit.tried
    attempt(pursuit, "a")
    assert pause(pursuit, 0.0, free_in=None) is None
    alone = begun()
    attempt(alone, "a")
    assert pause(alone, 0.0, free_in=None) is None


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"rounds": 0}])
def test_a_policy_without_an_attempt_is_refused(wrong: dict[str, int]) -> None:
    """No attempts, or no round of them, would mean no request."""
    with pytest.raises(ValueError, match="must be 1 or more"):
        RetryPolicy(**wrong)  # type: ignore[arg-type]  # the fields that are named are integers


PROXIES = [Proxy.of(ProxyURL("http", f"{name}.test", 8080)) for name in ("first", "second", "third")]
REFUSED = Outcome(False, blame=Blame.PROXY)
BANNED = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY)


def played(pursuit: Pursuit, *answers: object) -> list[object]:
    """Answer what a pursuit asks for; return its commands, and how it ended where it did."""
    steps = pursuit.steps()
    commands: list[object] = []
    try:
        commands.append(next(steps))
        for answer in answers:
            command = steps.send(answer)
            commands.append(command)
    except StopIteration as end:
        commands.append(end.value)
    return commands


def chosen(*tried: Proxy) -> Choose:
    """Return the command that chooses a proxy, none of those."""
    return Choose(TARGET, frozenset(proxy.key for proxy in tried))


def test_each_choice_is_told_how_long_the_request_has_left() -> None:
    """The pool hears of the time from now to the deadline, at each attempt anew, and never of none."""
    busy, steps, left = NoChoice("all are busy", 0.1, waits=True), begun().steps(), []
    for answer, seconds in ((None, 0.0), (busy, 3.0), (busy, 56.0)):
        CLOCK.time += seconds
        command = steps.send(answer)
        if isinstance(command, Wait):
            command = steps.send(None)
        assert isinstance(command, Choose)
        left.append(command.within)
    assert left == [60.0, 57.0, 1.0]


def failed(proxy: Proxy, outcome: Outcome, *, final: bool) -> Publish:
    """Return the command that tells of a failed attempt."""
    return Publish(AttemptFailed(proxy, TARGET, outcome, final=final))


def test_a_proxy_that_is_gone_was_no_attempt() -> None:
    """Another one is chosen, nothing is told or counted, and the one that is gone is not chosen again."""
    first, second, _ = PROXIES
    pursuit = begun(RetryPolicy(attempts=1))
    asked = played(pursuit, first, None, second, Served(Outcome(True)))
    assert asked == [chosen(), Try(first), chosen(first), Try(second), None]
    assert pursuit.attempts == 1


def test_an_attempt_is_told_as_the_last_one_or_not_once_that_is_known() -> None:
    """The event comes after the choice of the next proxy, or after it is known that there is none."""
    first, second, _ = PROXIES
    nobody = NoChoice("all were tried")
    asked = played(begun(), first, Failed(REFUSED), second, None, Failed(REFUSED), nobody, None)
    assert asked[:5] == [chosen(), Try(first), chosen(first), failed(first, REFUSED, final=False), Try(second)]
    assert asked[5:] == [chosen(first, second), failed(second, REFUSED, final=True), nobody]


def test_with_a_response_in_hand_no_proxy_is_waited_for() -> None:
    """Without one a busy pool is asked again; with one the pursuit ends, and the budget has its retry back."""
    first, *_ = PROXIES
    busy = NoChoice("all are busy", 1.0, waits=True)
    assert isinstance(played(begun(), busy)[-1], Wait)
    budget = RetryBudget(clock=ManualClock())
    asked = played(begun(budget=budget), first, Failed(BANNED, held=True), busy, None)
    assert asked[-2:] == [failed(first, BANNED, final=True), busy]
    assert budget.spent() == (0, 1)


def test_a_request_that_failed_at_the_site_itself_does_not_wait_for_its_rest() -> None:
    """What it met is why the site is left alone; one whose proxy failed has learnt nothing of the site, and waits."""
    first, *_ = PROXIES
    resting = NoChoice("the site rests", 1.0, waits=True, resting=True)
    assert played(begun(), first, Failed(BANNED, sent=False), resting, None)[-1] == resting
    assert isinstance(played(begun(), first, Failed(REFUSED, sent=False), resting)[-1], Wait)


def test_an_attempt_that_says_nothing_of_its_proxy_leaves_it_to_be_tried() -> None:
    """A kept connection that had been closed meanwhile costs its proxy no round."""
    first, *_ = PROXIES
    asked = played(begun(), first, Failed(REFUSED, counted=False), first, None, Served())
    assert asked[2] == chosen()
    assert asked[-1] is None


def test_a_response_that_was_handed_on_and_is_a_failure_is_told_so() -> None:
    """The client has a ban that came too late to try again: the event says that it was the last attempt."""
    first, *_ = PROXIES
    assert played(begun(), first, Served(BANNED), None)[2:] == [failed(first, BANNED, final=True), None]


def test_how_long_a_silent_attempt_was_waited_for_is_reported() -> None:
    """The pool learns from it how slow a proxy may be; of one that broke it learns nothing by that."""
    for rule, latency in ((SILENT, 3.0), (None, None)):
        clock = ManualClock()
        record = AttemptRecord("a.example", "GET", clock)
        clock.advance(3.0)
        assert record.outcome(Verdict(Blame.PROXY, rule)).latency == latency
