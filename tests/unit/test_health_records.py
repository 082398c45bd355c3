"""What health keeps in state: the history of outcomes, the claims of processes, the bytes that probes cost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.errors import TierError
from proxywhirl.health.budget import EXPECTED_BYTES, Budget
from proxywhirl.health.checks import Claims
from proxywhirl.health.levels import Level
from proxywhirl.health.outcome_history import KEPT, History, HistoryFigures, Sample
from proxywhirl.state.store import Change, MemoryStore, StateStore, Store, Written

DAY = 86_400.0


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Each of the stores: they behave alike."""
    made: Store = StateStore(tmp_path / "state.db") if request.param == "file" else MemoryStore()
    yield made
    made.close()


def test_update_sees_what_is_there_and_keeps_what_it_does_not_name(store: Store) -> None:
    """A change is made of the values of its keys; None forgets one, and others stay."""
    store.put_many("k", {"a": "1", "b": "2", "c": "3"})
    seen: list[dict[str, str]] = []

    def change(held: dict[str, str]) -> dict[str, str | None]:
        seen.append(dict(held))
        return {"a": None, "d": "4"}

    store.update("k", ["a", "b", "d"], change)
    assert seen == [{"a": "1", "b": "2"}]
    assert store.items("k") == {"b": "2", "c": "3", "d": "4"}
    assert store.get_many("k", ["b", "d", "x"]) == {"b": "2", "d": "4"}
    store.delete_many("k", ["b", "nothing"])
    assert store.items("k") == {"c": "3", "d": "4"}
    assert store.items("other") == {}


def test_updates_from_threads_lose_nothing(store: Store) -> None:
    """Each thread's additions to one value are all there in the end."""

    def work() -> None:
        for _ in range(50):
            store.update("n", ["x"], lambda held: {"x": str(int(held.get("x", 0)) + 1)})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.items("n") == {"x": "200"}


def test_history_keeps_the_last_outcomes_of_each_proxy(store: Store) -> None:
    """More than `KEPT` outcomes push out the oldest; proxies do not mix, and one that is gone is forgotten."""
    history = History(store)
    history.add(("a", Sample(float(n), n % 2 == 0, 0.25)) for n in range(KEPT))
    history.add([("a", Sample(1000.5, True, None)), ("b", Sample(7.0, False, 2.0)), ("a", Sample(1001.0, False, 0.5))])
    kept = history.of("a")
    assert len(kept) == KEPT
    assert kept[0].at == 2.0
    assert kept[-2:] == [Sample(1000.5, True, None), Sample(1001.0, False, 0.5)]
    assert history.of("b") == [Sample(7.0, False, 2.0)]
    history.forget(["a"])
    assert history.of("a") == []


@given(st.lists(st.tuples(st.integers(0, 1000), st.booleans(), st.none() | st.floats(0, 10)), max_size=60))
def test_a_summary_is_within_its_ranges(rows: list[tuple[int, bool, float | None]]) -> None:
    """Shares are between 0 and 1, the median is not above the 95th percentile, and both were measured."""
    samples = sorted((Sample(float(at), ok, latency) for at, ok, latency in rows), key=lambda sample: sample.at)
    summary = HistoryFigures.of(samples, 1001.0)
    assert summary.samples == len(samples)
    for share in (summary.success_rate, summary.uptime):
        assert (share is None) == (not samples)
        assert share is None or 0.0 <= share <= 1.0
    measured = [sample.latency for sample in samples if sample.ok and sample.latency is not None]
    assert (summary.latency_p50 is None) == (not measured)
    if summary.latency_p50 is not None and summary.latency_p95 is not None:
        assert summary.latency_p50 <= summary.latency_p95
        assert {summary.latency_p50, summary.latency_p95} <= set(measured)


def test_figures_of_a_history() -> None:
    """Two thirds succeeded; it was up from the first outcome to the second and since the last."""
    samples = [Sample(0.0, True, 0.1), Sample(60.0, False, 3.0), Sample(80.0, True, 0.3)]
    summary = HistoryFigures.of(samples, now=100.0)
    assert summary.success_rate == pytest.approx(2 / 3)
    assert summary.uptime == pytest.approx(0.8)
    assert (summary.latency_p50, summary.latency_p95) == (0.3, 0.3)


def test_a_claim_keeps_others_away_until_it_ends(store: Store) -> None:
    """The second owner gets what the first has not, and everything once it is given back or has run out."""
    first, second = Claims(store, "first"), Claims(store, "second")
    assert first.take(["a", "b"], now=0.0, until=10.0) == {"a", "b"}
    assert second.take(["a", "c"], now=5.0, until=20.0) == {"c"}
    second.give_back(["a", "c"])
    assert second.take(["a", "c"], now=6.0, until=20.0) == {"c"}, "the claim of another is not given back"
    first.give_back(["a"])
    assert second.take(["a"], now=7.0, until=20.0) == {"a"}
    assert second.take(["b"], now=10.0, until=20.0) == {"b"}, "the first one's time is over"
    assert first.take(["b"], now=11.0, until=20.0) == set()


def test_claims_that_ran_out_are_swept(store: Store) -> None:
    """What ended by itself is forgotten, what is in force stays."""
    claims = Claims(store, "me")
    claims.take(["old"], now=0.0, until=5.0)
    claims.take(["new"], now=0.0, until=50.0)
    claims.sweep(10.0)
    assert set(store.items("claim")) == {"new"}


def test_two_owners_never_hold_the_same_key(store: Store) -> None:
    """Of many threads that claim the same keys at once, each key goes to one."""
    got: list[set[str]] = []
    keys = [str(n) for n in range(30)]

    def claim(owner: str) -> None:
        got.append(Claims(store, owner).take(keys, now=0.0, until=10.0))

    threads = [threading.Thread(target=claim, args=(f"owner {n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(map(len, got)) == len(keys)
    assert set().union(*got) == set(keys)


def test_a_budget_in_all_is_not_exceeded_by_probes_at_once() -> None:
    """What is under way is reckoned with, and what it did not cost is free again."""
    expected = EXPECTED_BYTES[Level.HTTP]
    budget = Budget(total=2 * expected)
    assert [budget.start(None, Level.HTTP, 0.0) for _ in range(3)] == [True, True, False]
    budget.end(None, Level.HTTP, 10, None)
    assert budget.start(None, Level.HTTP, 0.0) is False
    budget.end(None, Level.HTTP, 10, None)
    assert budget.start(None, Level.HTTP, 0.0) is True
    assert budget.spent == 20


async def test_a_provider_has_its_bytes_for_a_day_whatever_process_spends_them(store: Store) -> None:
    """A second process goes on where the first has stopped, other providers are free, and a new day begins anew."""
    limits = {"acme": 2 * EXPECTED_BYTES[Level.TLS]}
    first = Budget(providers=limits, store=store)
    assert first.start("acme", Level.TLS, 0.0)
    first.end("acme", Level.TLS, 10_000, 2.0)
    await first.save(0.0)
    assert first.money == pytest.approx(10_000 * 2.0 / 1e9)
    second = Budget(providers=limits, store=store)
    assert not second.start("acme", Level.TLS, 1.0)
    assert second.start("other", Level.TLS, 1.0)
    assert second.start(None, Level.TLS, 1.0)
    assert second.start("acme", Level.TLS, DAY + 1.0)
    assert not [name for name in store.items("spent") if name.startswith("1970-01-01")], "yesterday is forgotten"


async def test_what_others_spend_is_learnt_while_running(store: Store) -> None:
    """Two budgets that run side by side see each other's bytes with each save."""
    limits = {"acme": 2 * EXPECTED_BYTES[Level.TLS]}
    mine, other = (Budget(providers=limits, store=store) for _ in range(2))
    assert mine.start("acme", Level.TLS, 0.0)
    assert other.start("acme", Level.TLS, 0.0)
    mine.end("acme", Level.TLS, 12_000, None)
    await mine.save(0.0)
    other.end("acme", Level.TLS, 100, None)
    await other.save(0.0)
    assert not other.start("acme", Level.TLS, 1.0)


class FullStore(MemoryStore):
    """A store that takes nothing while it is full."""

    full = False

    def update(self, kind: str, keys: Iterable[str], change: Change) -> Written:
        """Fail, or do as it should."""
        if self.full:
            raise TierError("no room")
        return super().update(kind, keys, change)


async def test_what_could_not_be_written_is_written_the_next_time() -> None:
    """No byte is forgotten, neither those of a save that failed nor those that are spent while one is under way."""
    store = FullStore()
    budget = Budget(store=store)
    assert budget.start("acme", Level.HTTP, 0.0)
    budget.end("acme", Level.HTTP, 500, None)
    store.full = True
    with pytest.raises(TierError):
        await budget.save(0.0)
    store.full = False
    assert budget.start("acme", Level.HTTP, 0.0)
    saving = asyncio.create_task(budget.save(0.0))
    await asyncio.sleep(0)
    budget.end("acme", Level.HTTP, 70, None)
    await saving
    await budget.save(0.0)
    assert store.items("spent") == {"1970-01-01 acme": "570"}
