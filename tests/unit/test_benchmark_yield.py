"""The simulated world does what its numbers say, and who chooses in it is judged rightly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks.yields.contestants import BLIND, ORACLE, own_contestants
from benchmarks.yields.laws import Law, Outage, RateLimit, Standing
from benchmarks.yields.peers import ScrapyChoice, peer_contestants
from benchmarks.yields.population import populate
from benchmarks.yields.race import Arena, Choice, race
from benchmarks.yields.reality import Reality
from benchmarks.yields.report import contestants, markdown, measure, plain, run, shortfalls
from benchmarks.yields.scenario import Arrival, Kind, Scenario, Site, TrueProxy
from benchmarks.yields.tally import Tally
from benchmarks.yields.world import World
from benchmarks.yields.worlds import STANDARD, WORLDS
from proxywhirl.errors import Blame
from proxywhirl.models import Outcome, Proxy, Target
from proxywhirl.rotation.strategies.registry import strategy_names
from proxywhirl.testing import ManualClock
from proxywhirl.urls import parse

SMALL = World("small", proxies=60, sites=6, banning=2, outages=1, requests=1_500, rate=5.0)


ASKED = Arrival(0.0, 0)


def lone(*laws: Law, **about: object) -> Reality:
    """Make the reality of one proxy that never fails and one site."""
    url = "http://198.18.0.0:8080"
    values: dict[str, object] = {"kind": Kind.GOOD, "success": 1.0, "latency": 0.5, "silent": False} | about
    proxy = TrueProxy(Proxy.of(parse(url)), url, **values)  # type: ignore[arg-type]  # the test names the fields
    site = Site(Target("https", "site.example", 443), 1.0, laws)
    return Reality(Scenario("lone", 1, (proxy,), (site,), (ASKED,)))


def test_the_population_is_that_of_the_numbers() -> None:
    """Each kind has its share, each proxy its own key, and the rates of success are those of its kind."""
    population = populate(STANDARD)
    kinds = [proxy.kind for proxy in population.proxies]
    assert [kinds.count(kind) for kind in Kind] == [350, 300, 200, 50, 100]
    assert len({proxy.value.key for proxy in population.proxies}) == 1_000
    assert all(0.4 <= proxy.success <= 0.7 for proxy in population.proxies if proxy.kind is Kind.FLAKY)
    assert all(0.97 <= proxy.success <= 0.995 for proxy in population.proxies if proxy.kind is Kind.GOOD)
    assert sum(isinstance(law, RateLimit) for site in population.sites for law in site.laws) == 5
    assert sum(isinstance(law, Outage) for site in population.sites for law in site.laws) == 2


def test_arrivals_come_at_the_rate_asked_for() -> None:
    """All requests arrive, in order, in about the time that the rate says, and at sites by their share."""
    drawn = populate(STANDARD).arrivals
    assert len(drawn) == STANDARD.requests
    assert list(drawn) == sorted(drawn, key=lambda arrival: arrival.at)
    assert drawn[-1].at == pytest.approx(STANDARD.duration, rel=0.02)
    assert {arrival.site for arrival in drawn} == set(range(STANDARD.sites))


def test_a_site_bans_exactly_by_its_rule() -> None:
    """One use too many in the window is refused, as is all until the ban is over; the next ban is twice as long."""
    reality = lone(RateLimit(2, 10.0, 60.0, tells=True))

    def use(now: float) -> tuple[int | None, float | None]:
        outcome = reality.use(0, ASKED, now)
        return outcome.status, outcome.retry_after

    assert [use(0.0), use(9.0)] == [(200, None), (200, None)]
    assert use(10.0) == (200, None)  # the first has left the window
    assert use(11.0) == (429, 60.0)
    assert use(70.0) == (429, 1.0)
    assert [use(71.0), use(72.0)] == [(200, None), (200, None)]
    assert use(73.0) == (429, 120.0)
    assert reality.bans == 2
    assert [use(193.0 + 5.0 * n)[0] for n in range(20)] == [200] * 20


def test_what_never_reached_the_site_is_no_use_of_it() -> None:
    """A proxy that fails brings nobody nearer to a ban."""
    reality = lone(RateLimit(1, 10.0, 60.0), success=0.0)
    assert {reality.use(0, ASKED, 0.0).blame for _ in range(5)} == {Blame.PROXY}
    assert reality.bans == 0


def test_a_proxy_dies_and_comes_back() -> None:
    """Between an odd and an even turn it cannot serve, and fails as a dead one does."""
    reality = lone(kind=Kind.RETURNING, turns=(10.0, 20.0, 30.0))
    assert [reality.use(0, ASKED, now).ok for now in (9.9, 10.0, 19.9, 20.0, 30.0)] == [True, False, False, True, False]
    true = reality.scenario.proxies[0]
    assert true.alive_throughout(20.0, 29.0)
    assert not true.alive_throughout(5.0, 25.0)
    assert not true.alive_throughout(12.0, 15.0)


def test_standing_forgets_what_left_the_window() -> None:
    """Only uses within the window count."""
    standing = Standing()
    standing.used.extend((1.0, 2.0, 3.0))
    assert standing.would_ban(2, 2.0, 3.0) is True
    assert standing.would_ban(2, 2.0, 4.5) is False


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("proxies = 0", "proxies is 0, must be more than 0"),
        ("dead = 0.8\nflaky = 0.4", "dead is 0.8, must be with the others at most 1"),
        ("sites = 3", "sites is 3, must be at least `banning` and `outages` together"),
        ("window = [5]", "window is (5,), must be a pair"),
        ("uses = [3, 2]", "uses is (3, 2), must be a pair"),
        ("good_success = [0.9, 1.5]", "good_success is (0.9, 1.5), must be at most 1"),
        ("requests = 1.5", "requests is 1.5, must be a whole number"),
        ('rate = "fast"', "a value is of the wrong kind"),
        ("speed = 3", "a world has no speed; it has name, seed, proxies"),
    ],
)
def test_an_impossible_world_is_refused(tmp_path: Path, told: str, message: str) -> None:
    """The error names the attribute, its value and what it must be."""
    path = tmp_path / "mine.toml"
    path.write_text(told + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r".+") as caught:
        World.read(path)
    assert message in str(caught.value)


def test_a_world_is_read_from_a_file(tmp_path: Path) -> None:
    """It has the standard world's numbers but for those that the file gives, and the file's name."""
    path = tmp_path / "mine.toml"
    path.write_text("proxies = 50\nwindow = [5, 6.5]\n", encoding="utf-8")
    assert World.read(path) == World("mine", proxies=50, window=(5, 6.5))


def test_the_same_seed_gives_the_same_table() -> None:
    """Every contestant, peers included, has the same figures again; another seed gives others."""
    for name in contestants():
        assert run(SMALL, name) == run(SMALL, name)
    assert run(SMALL, BLIND) != run(replace(SMALL, seed=2), BLIND)


def test_nobody_beats_the_oracle() -> None:
    """Nobody has more first attempts than the oracle but by chance, nor fewer bans: it has none."""
    for world in (SMALL, replace(SMALL, banning=5, seed=3), replace(SMALL, dead=0.0, flaky=0.9, returning=0.0, seed=4)):
        best = run(world, ORACLE)["whole"]
        assert best["bans"] == 0
        for name in contestants():
            assert run(world, name)["whole"]["first"] <= best["first"] + 0.02, name


def test_each_request_ends_once() -> None:
    """A request is served, or out of attempts, or there was nobody to try: none is lost or counted twice."""
    seen: list[tuple[int, bool]] = []

    class Noting:
        """Takes each proxy in turn and gives up now and then."""

        def __init__(self, arena: Arena) -> None:
            self.arena = arena
            self.turn = 0

        def pick(self, request: Arrival, tried: Sequence[int]) -> Choice | None:
            """Take the next one, but give up every tenth time."""
            assert request.site < len(self.arena.scenario.sites)
            assert len(tried) < self.arena.scenario.attempts
            self.turn += 1
            return None if self.turn % 10 == 0 else (self.turn % len(self.arena.scenario.proxies), self.turn)

        def learn(self, choice: Choice, outcome: Outcome) -> None:
            """Take down the turn."""
            seen.append((choice[1], outcome.ok))

    tally = race(populate(SMALL), Noting)
    whole = tally.whole()
    assert len({turn for turn, _ in seen}) == len(seen)
    assert sum(ok for _, ok in seen) == round(whole.served * SMALL.requests)
    assert len(seen) == round(whole.attempts * whole.served * SMALL.requests)


def test_who_is_left_alone_after_a_failure_is_given_up() -> None:
    """A healthy proxy that is not used after a failure counts; one left after a success is idle alone."""
    world = World(proxies=3, dead=0.0, flaky=0.0, fast_failing=0.0, returning=0.0, requests=10)
    scenario = populate(world)
    tally = Tally(scenario, Reality(scenario))
    served, failed = Outcome(ok=True), Outcome(ok=False)
    for proxy, outcome, cause in ((0, failed, "bad luck"), (1, served, None)):
        tally.used(proxy, 1.0)
        tally.attempt(proxy, proxy, 1.0, outcome, cause)
    tally.used(2, 5_000.0)
    tally.attempt(2, 2, 5_000.0, failed, "bad luck")
    whole = tally.whole()
    assert (whole.idle, whole.given_up) == (2, 1)


def test_learning_pays_in_short() -> None:
    """With 200 proxies and 5,000 requests `bandit` beats taking each in turn, and gives up no healthy proxy."""
    world = replace(STANDARD, proxies=200, requests=5_000)
    learnt, blind = run(world, "bandit"), run(world, BLIND)
    assert learnt["second_half"]["first"] > blind["second_half"]["first"] + 0.25
    assert learnt["second_half"]["attempts"] < blind["second_half"]["attempts"]
    assert learnt["whole"]["given_up"] == 0


def test_tables_name_everybody_and_floors_are_told() -> None:
    """Each contestant has a line, the best first, and what is missed is said in words."""
    with ThreadPoolExecutor(1) as workers:
        (result,) = measure([SMALL], contestants(), workers)
    assert json.loads(json.dumps(result)) is not None
    assert len(markdown(result).splitlines()) == len(contestants()) + 2
    assert plain(result).splitlines()[1].startswith(ORACLE)


def test_floors_are_judged() -> None:
    """Each floor that is missed makes a sentence, and one that is kept makes none."""

    def of(first: float, attempts: float, given_up: int) -> dict[str, Any]:
        return {
            "first_of_oracle": first,
            "attempts_of_oracle": attempts,
            "whole": {"given_up": given_up},
            "second_half": {"first": first},
        }

    fine = {"contestants": {"bandit": of(0.95, 1.1, 0), "random": of(0.8, 1.2, 5)}}
    assert shortfalls(fine, "bandit") == []
    assert shortfalls(fine, "random") == ["bandit wins, and the default is random"]
    assert len(shortfalls({"contestants": {"bandit": of(0.89, 1.2, 1)}}, "bandit")) == 3


def test_worlds_differ() -> None:
    """The benchmark has the standard world first and others by other names."""
    assert WORLDS[0] is STANDARD
    assert len({world.name for world in WORLDS}) == len(WORLDS) >= 8


@pytest.mark.skipif(not find_spec("rotating_proxies"), reason="the peers come with the group bench")
def test_a_peer_is_itself() -> None:
    """The peer's own container decides: who fails is among its dead ones, until it reanimates them."""
    population = populate(SMALL)
    arena = Arena(population, Reality(population), ManualClock())
    peer = ScrapyChoice(arena)
    choice = peer.pick(ASKED, [])
    assert choice is not None
    peer.learn(choice, Outcome(ok=False, blame=Blame.PROXY))
    assert peer._proxies.dead == {choice[1]}
    arena.clock.advance(3_600.0)
    peer.pick(ASKED, [])
    assert not peer._proxies.dead
    assert len(peer_contestants()) >= 1


def test_everybody_takes_part() -> None:
    """The strategies, the blind one and the oracle are there, whatever is installed."""
    assert {BLIND, ORACLE, *strategy_names()} <= set(own_contestants())
