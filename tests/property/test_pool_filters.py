"""The pool's filters and indexes against a plain scan: after any history the same proxies may be chosen."""

from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from proxywhirl.errors import Blame
from proxywhirl.models import Attributes, Outcome, Proxy, Sketch
from proxywhirl.rotation.lease import Lease
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.proxy_state import Limits
from proxywhirl.rotation.selection.chooser import Chooser
from proxywhirl.rotation.selection.filters import _FACETS, NO_FILTER, Filter
from proxywhirl.rotation.strategies.base import Strategy
from proxywhirl.rotation.strategies.registry import strategy_names
from proxywhirl.testing.clock import ManualClock

KEYS = [f"k{number}" for number in range(8)]
KEY = st.sampled_from(KEYS)
KINDS = [
    Attributes(),
    Attributes(country="DE", region="Bavaria", tags=("Fast", "shop"), weight=2.0),
    Attributes(country="DE", asn=3320, price_per_gb=1.0, weight=0.0),
    Attributes(country="FR", city="Lyon", tags=("shop",), anonymity="elite", provider="Acme"),
    Attributes(country="FR", price_per_gb=5.0, anonymity="anonymous", weight=0.1),
]
SCHEMES = ["http", "socks5"]
KIND = st.tuples(st.sampled_from(SCHEMES), st.integers(0, len(KINDS) - 1))
WISHES = st.sampled_from(
    [
        {},
        {"country": "de"},
        {"country": ["DE", "FR"]},
        {"region": "BAVARIA"},
        {"tags": "fast"},
        {"tags": ["shop", "fast"]},
        {"asn": 3320, "country": "DE"},
        {"max_price": 0},
        {"max_price": 2.5, "scheme": "socks5"},
        {"anonymity": "anonymous"},
        {"provider": "acme", "city": "lyon"},
        {"source": "list"},
        {"country": "IT"},
    ]
)
OUTCOMES = st.sampled_from(
    [Outcome(True, latency=0.1), Outcome(False, blame=Blame.PROXY), Outcome(False, blame=Blame.US), None]
)


def proxy(key: str, kind: tuple[str, int]) -> Proxy:
    """Make a proxy of a kind."""
    scheme, number = kind
    return Proxy(key, scheme, "192.0.2.1", 8080, source="List" if number % 2 else "", attributes=KINDS[number])


def portray(key: str, sketch: Sketch) -> Proxy:
    """Make the value of a sketch, whose text is the number of its kind."""
    return proxy(key, (sketch[0].partition("://")[0], int(sketch[1])))


class FilterMachine(RuleBasedStateMachine):
    """Whatever happens to proxies, with filters asked for before and after."""

    strategy = "round_robin"

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.pool = Pool(
            self.strategy,
            resolve=lambda _key: None,
            rng=random.Random(3),
            clock=self.clock,
            portray=portray,
            limits=Limits(requests_per_second=0.1, in_flight=2),
        )
        self.chooser: Chooser = self.pool._chooser
        self.kinds: dict[str, tuple[str, int]] = {}
        self.out: list[Lease] = []

    @rule(key=KEY, kind=KIND)
    def update(self, key: str, kind: tuple[str, int]) -> None:
        """Add a proxy, or say other things of it."""
        self.pool.update([proxy(key, kind)])
        self.kinds[key] = kind

    @rule(kinds=st.dictionaries(KEY, KIND, min_size=1), dead=st.booleans())
    def stock(self, kinds: dict[str, tuple[str, int]], dead: bool) -> None:
        """Do the same with sketches."""
        sketches = {key: (f"{scheme}://192.0.2.1:8080", str(n)) for key, (scheme, n) in kinds.items()}
        self.pool.stock(sketches, aside=dead)
        self.kinds |= kinds

    @rule(key=KEY)
    def discard(self, key: str) -> None:
        """Forget one."""
        self.pool.discard([key])
        self.kinds.pop(key, None)

    @rule(seconds=st.floats(0.1, 400))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), outcome=OUTCOMES)
    def end(self, data: st.DataObject, outcome: Outcome | None) -> None:
        """Report or release a lease."""
        lease = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        if outcome is None:
            lease.release()
        else:
            lease.report(outcome)

    @rule(wishes=WISHES, exclude=st.sets(KEY, max_size=3))
    def ask(self, wishes: dict[str, object], exclude: set[str]) -> None:
        """Choose with a filter: whoever serves is in the pool, fits, and is not excluded, at a limit or declined."""
        wanted = Filter.of(wishes)
        self.chooser.availability.bring_back(self.clock.monotonic(), for_request=True)
        fit = {key for key, kind in self.kinds.items() if wanted.admits(proxy(key, kind)) and key not in exclude}
        if self.strategy == "weighted":
            fit = {key for key in fit if KINDS[self.kinds[key][1]].weight != 0}
        free = {key for key in fit if not self.chooser.availability.at_limit(key)}
        ready = {key for key in free if key not in self.chooser.availability.aside.at}
        told = self.pool.explain(exclude=exclude, **wishes)  # type: ignore[arg-type]  # they are wishes
        assert told.eligible == len(ready)
        assert sum(each.count for each in told.excluded) == len(self.kinds) - len(ready)
        if not free:
            with pytest.raises(Exception, match="pool"):
                self.pool.acquire(exclude=exclude, **wishes)  # type: ignore[arg-type]  # likewise
            assert told.proxy is None
            return
        lease = self.pool.acquire(exclude=exclude, **wishes)  # type: ignore[arg-type]  # likewise
        self.out.append(lease)
        # More may have come back by this request than by the one before, within what may be on trial.
        assert lease.proxy.key in free
        assert lease.proxy.attributes == KINDS[self.kinds[lease.proxy.key][1]]

    @invariant()
    def each_view_has_those_that_are_ready_and_fit(self) -> None:
        """Taken apart by choosing and excluding, a view gives exactly those that a scan finds."""
        for wanted, view in [(NO_FILTER, self.chooser.views.all), *self.chooser.views._views.items()]:
            expected = {
                key
                for key, kind in self.kinds.items()
                if wanted.admits(proxy(key, kind)) and self.chooser.availability.ready(key)
            }
            if self.strategy == "weighted":
                expected = {key for key in expected if KINDS[self.kinds[key][1]].weight != 0}
            assert members(view) == expected, wanted

    @invariant()
    def the_index_has_the_right_keys(self) -> None:
        """Each facet that was asked for has exactly the keys that a scan finds, and no empty ones."""
        for name, held in self.chooser.index._facets.items():
            expected: dict[object, set[str]] = {}
            for key, kind in self.kinds.items():
                for value in _FACETS[name](proxy(key, kind)):
                    expected.setdefault(value, set()).add(key)
            assert {value: set(keys) for value, keys in held.items()} == expected, name


def members(view: Strategy) -> set[str]:
    """Return all whom a strategy would choose, one after another; this may move a turn on."""
    found: set[str] = set()
    while (key := view.choose(found, (), None)) is not None:
        assert key not in found
        found.add(key)
    return found


@pytest.mark.parametrize("name", [*strategy_names(), "composite:chooser=fastest"])
def test_filters_are_a_plain_scan(name: str) -> None:
    """For each strategy, in any history."""

    class Machine(FilterMachine):
        strategy = name

    run_state_machine_as_test(Machine, settings=settings(max_examples=25, stateful_step_count=30))
