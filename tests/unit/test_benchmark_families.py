"""Families of worlds do what they say, requests are pursued as clients do it, and `bandit` is judged rightly."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.yields.contestants import BLIND, ORACLE, own_contestants
from benchmarks.yields.families import FAMILIES
from benchmarks.yields.judge import FLOORS, aligned, best_learners, judge, judgement_table, notes, overall, rows, table
from benchmarks.yields.laws import (
    BREAKS_OFF,
    FailingPages,
    Law,
    Outage,
    RateLimit,
    Refusals,
    SoftBlocks,
    Taste,
    Use,
    as_network,
)
from benchmarks.yields.race import Arena, Choice, Wait, race
from benchmarks.yields.reality import Reality
from benchmarks.yields.runs import LEARNERS, Run, entrants, family_runs, recovery, stalls
from benchmarks.yields.scenario import Arrival, Event, Kind, Scenario, Site, TrueProxy
from proxywhirl.errors import Blame
from proxywhirl.models import Outcome, Proxy, Target
from proxywhirl.urls import parse

ROOT = Path(__file__).parents[2]
QUICK = "three-proxies"


def at(now: float, *, proxy: int = 0, exit_: int = 0, network: int = 0, page: int = 0) -> Use:
    """Make a use of a site."""
    return Use(proxy, exit_, network, page, now)


def scenario(
    *laws: Law,
    count: int = 1,
    moments: Sequence[float] = (0.0,),
    scheme: str = "https",
    patience: float = 5.0,
    longest: float | None = None,
    away: tuple[tuple[float, float], ...] = (),
    events: tuple[Event, ...] = (),
    tail: float = 0.0,
) -> Scenario:
    """Make a scenario of proxies that never fail and take half a second, and one site."""
    urls = [f"http://198.18.0.{place}:8080" for place in range(count)]
    proxies = tuple(TrueProxy(Proxy.of(parse(url)), url, Kind.GOOD, 1.0, 0.5, False, tail=tail) for url in urls)
    sites = (Site(Target(scheme, "site.example", 443), 1.0, laws),)
    arrivals = tuple(Arrival(moment, 0, number) for number, moment in enumerate(moments))
    return Scenario("made", 1, proxies, sites, arrivals, patience=patience, longest=longest, away=away, events=events)


class Scripted:
    """Does what it is told, one pick after another, and keeps what it learns."""

    def __init__(self, picks: Sequence[Choice | Wait | None], *, final: bool = False) -> None:
        self.picks = list(picks)
        self.outcomes: list[Outcome] = []
        self.asked_at: list[float] = []
        self.final = final
        self.arena: Arena | None = None

    def enter(self, arena: Arena) -> Scripted:
        """Take part."""
        self.arena = arena
        return self

    def pick(self, request: Arrival, tried: Sequence[int]) -> Choice | Wait | None:  # noqa: ARG002  # as told
        """Take the next pick."""
        assert self.arena is not None
        self.asked_at.append(self.arena.clock.monotonic())
        return self.picks.pop(0) if self.picks else None

    def learn(self, choice: Choice, outcome: Outcome) -> bool:  # noqa: ARG002  # as told
        """Keep it."""
        self.outcomes.append(outcome)
        return self.final


def test_a_limit_counts_a_network_as_one() -> None:
    """Two proxies of one /24 share its limit; another network has its own."""
    limit = RateLimit(1, 10.0, 60.0, whom=as_network)
    assert limit.answer(at(0.0, proxy=1, network=5)) is None
    refused = limit.answer(at(1.0, proxy=2, network=5))
    assert refused is not None
    assert refused.status == 403
    assert limit.answer(at(2.0, proxy=3, network=6)) is None
    assert limit.bans == 1


def test_a_night_makes_the_limit_stricter() -> None:
    """In the last part of each cycle the window is longer."""
    limit = RateLimit(1, 10.0, 1.0, 1.0, night=(100.0, 0.5, 4.0))
    assert [limit.answer(at(now)) is None for now in (0.0, 10.0, 60.0, 75.0)] == [True, True, True, False]
    assert limit.chance(at(115.0)) == 1.0


def test_refusals_hold_for_their_span() -> None:
    """A bad address is refused for ever, a network from one moment to another."""
    law = Refusals(frozenset({3}), {7: (10.0, 20.0)}, status=999)
    assert law.chance(at(0.0, proxy=3)) == 0.0
    assert [law.chance(at(now, network=7)) for now in (9.0, 10.0, 20.0)] == [1.0, 0.0, 1.0]


def test_taste_is_the_same_for_the_same_exit() -> None:
    """An exit is refused always or never, and about the share is."""
    taste = Taste(0.3, "seed")
    first = [taste.chance(at(0.0, proxy=proxy, exit_=2)) for proxy in range(400)]
    assert [taste.chance(at(50.0, proxy=proxy, exit_=2)) for proxy in range(400)] == first
    assert 0.2 < first.count(0.0) / 400 < 0.4


def test_soft_blocks_come_as_often_as_they_say() -> None:
    """Through each proxy at its own rate, with the status 200."""
    law = SoftBlocks((0.0, 0.5), random.Random(1))
    assert all(law.answer(at(0.0)) is None for _ in range(100))
    blocked = sum(law.answer(at(0.0, proxy=1)) is not None for _ in range(400))
    assert 150 < blocked < 250
    assert law.chance(at(0.0, proxy=1)) == 0.5


def test_a_page_fails_always_or_never() -> None:
    """Whoever asks; about the share of the pages does."""
    law = FailingPages(0.25, (500,), "seed")
    ways = [law.way(page) for page in range(400)]
    assert [law.way(page) for page in range(400)] == ways
    assert 0.18 < ways.count(500) / 400 < 0.32


@pytest.mark.parametrize(
    ("way", "scheme", "said"),
    [
        (404, "https", (True, None, 404)),
        (403, "https", (False, Blame.TARGET_THROUGH_PROXY, 403)),
        (451, "https", (False, Blame.TARGET_THROUGH_PROXY, 451)),
        (500, "https", (False, Blame.TARGET, 500)),
        (503, "https", (False, Blame.TARGET, 503)),
        (503, "http", (False, Blame.TARGET_THROUGH_PROXY, 503)),
        (999, "https", (False, Blame.TARGET_THROUGH_PROXY, 999)),
        (BREAKS_OFF, "https", (False, Blame.PROXY, None)),
    ],
)
def test_outcomes_are_those_of_the_edges(way: int, scheme: str, said: tuple[bool, Blame | None, int | None]) -> None:
    """The built-in rules judge a status; what a proxy forwarded may be its own word."""
    made = scenario(FailingPages(1.0, (way,), "seed"), scheme=scheme)
    outcome = Reality(made).use(0, made.arrivals[0], 0.0)
    assert (outcome.ok, outcome.blame, outcome.status) == said


def test_a_slow_answer_is_late() -> None:
    """After the deadline of the request an attempt ends without an answer, and the site has seen it."""
    made = scenario(longest=0.001, tail=0.5)
    reality = Reality(made)
    outcome = reality.use(0, made.arrivals[0], 0.0)
    assert (outcome.blame, outcome.rule, outcome.latency) == (Blame.PROXY, "silent", 0.001)
    assert reality.reached == 1


def test_nothing_is_reached_while_our_network_is_away() -> None:
    """Every use fails as a proxy's failure does."""
    made = scenario(away=((5.0, 10.0),))
    reality = Reality(made)
    assert [reality.use(0, made.arrivals[0], now).ok for now in (4.0, 5.0, 10.0)] == [True, False, True]
    assert reality.reached == 2


def test_a_request_waits_and_asks_again() -> None:
    """Where there is no proxy, it comes back after about the time it was told; that is no attempt."""
    script = Scripted([Wait(2.0), (0, None)])
    whole = race(scenario(), script.enter).whole()
    assert (whole.first, whole.attempts) == (1.0, 1.0)
    assert 2.0 <= script.asked_at[1] <= 2.2


def test_a_request_is_given_up_when_its_patience_is_over() -> None:
    """It does not wait for what comes too late."""
    script = Scripted([Wait(3.0), Wait(3.0), (0, None)])
    tally = race(scenario(), script.enter)
    assert tally.whole().served == 0.0
    assert dict(tally.lost) == {"not sent": 1}


def test_a_resting_site_is_asked_for_sooner() -> None:
    """It may be back before its time."""
    script = Scripted([Wait(2.0, resting=True), (0, None)])
    race(scenario(), script.enter)
    assert script.asked_at[1] == 0.25


@pytest.mark.parametrize(("way", "final", "tries"), [(403, False, 3), (403, True, 1), (500, False, 1), (404, False, 1)])
def test_another_attempt_follows_as_with_the_clients(way: int, final: bool, tries: int) -> None:
    """Not where the target itself failed, where the answer is well, or where the contestant knows it is no use."""
    script = Scripted([(0, None), (1, None), (2, None)], final=final)
    tally = race(scenario(FailingPages(1.0, (way,), "seed"), count=3), script.enter)
    assert len(script.outcomes) == tries
    assert tally.whole().served == 0.0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_drawn_from_its_seed(family: str) -> None:
    """The same seed draws the same proxies and requests, in order; another seed draws others."""
    first, again, other = FAMILIES[family](1), FAMILIES[family](1), FAMILIES[family](2)
    assert (first.proxies, first.arrivals, first.events) == (again.proxies, again.arrivals, again.events)
    assert first.arrivals != other.arrivals
    assert first.name == family
    assert list(first.arrivals) == sorted(first.arrivals, key=lambda arrival: arrival.at)
    assert len({true.value.key for true in first.proxies}) == len(first.proxies)
    assert 2_000 <= len(first.arrivals) <= 60_000


@pytest.mark.parametrize("name", [BLIND, "bandit", *LEARNERS])
def test_nobody_beats_the_oracle_of_a_family(name: str) -> None:
    """Not in first attempts, but by chance."""
    best = race(FAMILIES[QUICK](3), own_contestants()[ORACLE]).whole()
    assert race(FAMILIES[QUICK](3), entrants()[name]).whole().first <= best.first + 0.02


@pytest.mark.parametrize("name", ["bandit-two", "bandit-restarted", "bandit-updated", "bandit-priced"])
def test_variants_serve_as_one_pool_does(name: str) -> None:
    """Two processes, one after another, filled in another way or told a worth: nothing is lost where nobody bans."""
    served = race(FAMILIES[QUICK](3), entrants()[name]).whole().served
    assert served == pytest.approx(race(FAMILIES[QUICK](3), entrants()["bandit"]).whole().served, abs=0.02)


def test_a_ban_is_known_to_the_other_process() -> None:
    """A proxy that one of the two was banned through is not tried by the other."""
    made = scenario(Refusals(frozenset({0})), count=2, moments=[float(second) for second in range(400)])
    tally = race(made, entrants()["bandit-two"])
    assert tally.whole().first > 0.97


def test_the_oracle_meets_no_limit() -> None:
    """It never comes too early, and serves nearly all though the load is near the limit."""
    tally = race(FAMILIES["dc-90-30min"](1), own_contestants()[ORACLE])
    assert tally.bans == 0
    assert tally.whole().served > 0.93  # waits of some requests are longer than their patience


def test_a_stall_is_a_window_in_which_nearly_nobody_is_served() -> None:
    """It counts where the oracle serves, and not elsewhere."""
    made = scenario(moments=[float(second) for second in range(200)])
    dead = "2" * 100 + "0" * 100
    assert stalls(made, dead, "2" * 200) > 0
    assert stalls(made, dead, dead) == 0
    assert stalls(made, "2" * 200, "2" * 200) == 0


def test_recovery_is_the_time_until_first_attempts_succeed_again() -> None:
    """Of the next ten requests nine have to; those that nobody can serve do not count."""
    made = scenario(moments=[float(second) for second in range(60)], events=(Event(20.0),))
    assert recovery(made, "2" * 20 + "1" * 5 + "2" * 35, "2" * 60) == [4.0]
    assert recovery(made, "2" * 60, "2" * 60) == [0.0]
    assert recovery(made, "2" * 20 + "0" * 5 + "2" * 35, "2" * 20 + "0" * 5 + "2" * 35) == [5.0]


def _runs(mine: float, best: float) -> Run:
    others = {name: {"first/oracle second_half": best} for name in LEARNERS}
    run = {
        "first/oracle second_half": mine,
        "first/oracle whole": mine,
        "served/oracle second_half": 1.0,
        "floor": 0.85,
        "stalls": 0,
        "recovery": [],
        "p50": 0.5,
        "money for each": 0.002,
    }
    return {"bandit": run, "oracle": run, **others}


def test_what_is_missed_is_said() -> None:
    """Each floor that is missed makes a sentence; where none is, there is none."""
    best = {"dc-90": "paced"}
    fine = judge({"dc-90": [_runs(0.97, 0.96), _runs(0.96, 0.97)]}, best)
    assert [one["missed"] for one in fine] == [[]]
    assert overall(fine) == []
    assert notes(fine) == ["dc-90: a thousand requests cost 2.00, with the oracle 2.00"]
    poor = judge({"dc-90": [_runs(0.6, 0.9), _runs(0.62, 0.9)]}, best)
    assert len(poor[0]["missed"]) == 3
    assert poor[0]["behind"] == pytest.approx(-0.29)
    assert len(overall(poor)) == 1
    assert aligned(judgement_table(poor)).splitlines()[1].startswith("dc-90")
    assert FLOORS["behind"] == -0.02


def test_the_best_learner_is_found_on_the_tuning_seeds() -> None:
    """The one whose mean is the highest there."""
    runs = _runs(0.9, 0.5)
    runs["epsilon"] = {"first/oracle second_half": 0.8}
    assert best_learners({"dc-90": [runs, _runs(0.9, 0.6)]}) == {"dc-90": "epsilon"}


def test_what_the_oracle_reached_is_remembered(tmp_path: Path) -> None:
    """The second time it is read, and the figures are the same."""
    with ThreadPoolExecutor(1) as workers:
        first = family_runs({QUICK: [ORACLE, BLIND]}, [5], tmp_path, workers)
        assert len(list(tmp_path.iterdir())) == 1
        again = family_runs({QUICK: [ORACLE, BLIND]}, [5], tmp_path, workers)
    assert first == again
    assert table(rows(first, [ORACLE, BLIND])).splitlines()[1].split()[:3] == [QUICK, ORACLE, "1.000"]


def test_the_command_races_through_families(tmp_path: Path) -> None:
    """It prints a line for each family and contestant, and refuses what it does not know."""
    command = [sys.executable, "-m", "benchmarks.yield", "--families", QUICK, "--seeds", "1..1", "--jobs", "1"]
    done = subprocess.run(
        [*command, "--contestants", "bandit,oracle", "--results", str(tmp_path)],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:]] == [[QUICK, "bandit"], [QUICK, "oracle"]]
    assert (tmp_path / "families.json").exists()
    bad = subprocess.run(
        [*command, "--contestants", "nobody"], check=False, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert bad.returncode == 2
    assert "there is no nobody" in bad.stderr


def test_an_outage_ends() -> None:
    """Between an odd and an even moment the site is down for all."""
    law = Outage((10.0, 20.0, 30.0))
    assert [law.chance(at(now)) for now in (9.0, 10.0, 20.0, 31.0)] == [1.0, 0.0, 1.0, 0.0]
