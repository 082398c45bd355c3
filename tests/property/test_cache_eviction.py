"""Eviction orders and `admit` against a model that is slow and obviously right; records and entries there and back."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from proxywhirl.cache.entries import EntryMapping
from proxywhirl.cache.keys.sealing import Sealer
from proxywhirl.cache.manager import CacheManager
from proxywhirl.cache.models import EVICTION_POLICIES, NEVER, CacheConfig, CacheEntry, CacheTierConfig
from proxywhirl.cache.record import COLUMNS, Record
from proxywhirl.cache.tiers.eviction import POLICIES as TABLE
from proxywhirl.cache.tiers.eviction import EvictionOrder, admit, order_for
from proxywhirl.cache.tiers.jsonl.format import decode_line, decode_record, encode_line, encode_record
from proxywhirl.cache.tiers.jsonl.tier import JsonlTier
from proxywhirl.cache.tiers.memory import MemoryTier
from proxywhirl.cache.tiers.protocol import Access, Batch, Stretch, Tier
from proxywhirl.cache.tiers.sqlite.tier import SqliteTier
from proxywhirl.models import Attributes, HealthStatus
from proxywhirl.testing.tier_clauses.base import hit_times

POLICIES = sorted(TABLE)
KEYS = st.sampled_from("abcdefgh")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "promote", "change", "get", "get_many", "remove"]),
        st.lists(KEYS, max_size=6, unique=True),
    ),
    max_size=20,
)


class NaiveOrder:
    """What each policy means, over lists that are searched each time.

    `keys` has (first write, last use, uses) of each key. For `sieve` there are the keys from the oldest to the newest,
    those that were used since the hand was there, and which of them the hand is at.
    """

    def __init__(self, policy: str, bound: int) -> None:
        self.policy, self.bound = policy, bound
        self.keys: dict[str, tuple[int, int, int]] = {}
        self.queue: list[str] = []
        self.used: set[str] = set()
        self.hand = 0
        self.tick = 0

    def write(self, keys: Sequence[str]) -> set[str]:
        """Write keys one by one, each unknown one in the place of a victim; return those that are out at the end."""
        before = set(self.keys)
        for key in keys:
            if key not in self.keys and len(self.keys) == self.bound:
                self.remove(self.victim())
            if key in self.keys:
                self.use(key)
                first, last, uses = self.keys[key]
                self.keys[key] = (first, last, 1 if self.policy == "lfu" else uses)  # it is written with no use
            else:
                self.tick += 1
                self.keys[key] = (self.tick, self.tick, 1)
                self.queue.append(key)
        return (before | set(keys)) - set(self.keys)

    def use(self, key: str) -> None:
        """Note a use; unknown keys have none."""
        if key in self.keys:
            self.tick += 1
            first, _, uses = self.keys[key]
            self.keys[key] = (first, self.tick, uses + 1)
            self.used.add(key)

    def remove(self, key: str) -> None:
        """Forget a key."""
        if self.keys.pop(key, None):
            place = self.queue.index(key)
            self.queue.remove(key)
            self.used.discard(key)
            self.hand -= place < self.hand
            self.hand %= len(self.queue) or 1

    def victim(self) -> str:
        """Search the one that goes first."""
        if self.policy == "sieve":
            while self.queue[self.hand] in self.used:
                self.used.remove(self.queue[self.hand])
                self.hand = (self.hand + 1) % len(self.queue)
            return self.queue[self.hand]

        def rank(key: str) -> tuple[int, ...]:
            first, last, uses = self.keys[key]
            return {"fifo": (first,), "lru": (last,), "lfu": (uses, last)}[self.policy]

        return min(self.keys, key=rank)


@settings(max_examples=400)
@given(
    policy=st.sampled_from(POLICIES),
    bound=st.integers(1, 5),
    steps=st.lists(st.tuples(st.sampled_from(["batch", "touch", "discard"]), st.lists(KEYS, max_size=6)), max_size=30),
)
def test_admit_chooses_the_victims_that_the_model_chooses(
    policy: str, bound: int, steps: list[tuple[str, list[str]]]
) -> None:
    """After any history, `admit` keeps, evicts and orders exactly as the policy says, within the bound."""
    order, model = order_for(policy, bound), NaiveOrder(policy, bound)
    for step, keys in steps:
        if step == "touch":
            for key in keys:
                order.touch(key)
                model.use(key)
        elif step == "discard":
            for key in keys:
                order.discard(key)
                model.remove(key)
        else:
            left = model.write(keys)
            kept, victims = admit([_record(key, place) for place, key in enumerate(keys)], order, bound)
            latest = {key: place for place, key in enumerate(keys)}
            assert {record.key: record.failure_count for record in kept} == {
                key: place for key, place in latest.items() if key in model.keys
            }
            assert set(victims) == left
            assert len(victims) == len(set(victims))
        assert len(order) == len(model.keys) <= bound
        assert all(key in order for key in model.keys)
        if model.keys:
            assert order.victim() == model.victim()
    assert _drained(order) == _drained_model(model)


@pytest.mark.parametrize("policy", POLICIES)
def test_touches_may_come_while_another_thread_changes_the_order(policy: str) -> None:
    """They raise nothing, disturb nobody, and no key is lost: all that are in can still be taken out."""
    bound, keys = 50, [f"k{n}" for n in range(150)]
    order, done = order_for(policy, bound), threading.Event()

    def touch() -> None:
        while not done.is_set():
            for key in keys:
                order.touch(key)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(3) as threads:
            touching = [threads.submit(touch) for _ in range(3)]
            try:
                for n in range(200):
                    size = (3, 3, 3, 140)[n % 4]
                    records = [_record(keys[(7 * n + place) % len(keys)], place) for place in range(size)]
                    kept, victims = admit(records, order, bound)
                    assert not {record.key for record in kept} & set(victims)
                    assert len(order) <= bound
                    order.discard(keys[n % len(keys)])
            finally:
                done.set()
            for task in touching:
                task.result(timeout=120)
    finally:
        sys.setswitchinterval(interval)
    held = {key for key in keys if key in order}
    assert set(_drained(order)) == held


def test_a_rank_that_shrinks_loses_no_key() -> None:
    """Of two touches at once the slower one may write an older rank; the key leaves all the same, and once."""
    order = cast("Any", order_for("lfu", 9))
    order.add("a")
    order.touch("a")
    rank = order._ranks["a"]
    older = rank.copy()
    order.touch("a")
    assert order.victim() == "a"
    rank[:] = older
    assert _drained(order) == ["a"]
    order.add("b")
    assert _drained(order) == ["b"]


def test_settling_the_same_key_for_ever_takes_no_memory() -> None:
    """What a settled rank replaces is forgotten in time."""
    order = cast("Any", order_for("lfu", 9))
    order.add("a")
    for n in range(1000):
        order.set_uses("a", n, float(n))
    assert len(order._heap) < 100
    assert _drained(order) == ["a"]


def test_without_a_bound_there_is_no_order() -> None:
    """A tier that never evicts remembers no use and refuses no record."""
    order = order_for("lru", None)
    kept, victims = admit([_record("a", 1), _record("b", 2), _record("a", 3)], order, None)
    order.touch("a")
    assert [(record.key, record.failure_count) for record in kept] == [("a", 3), ("b", 2)]
    assert (victims, len(order)) == ([], 0)


def test_the_configuration_offers_what_there_is() -> None:
    """Each policy that a tier may be configured with is there in memory and on disk, and each can be configured."""
    assert set(EVICTION_POLICIES) == set(TABLE)


@pytest.mark.parametrize("authority", [True, False], ids=["authority", "window"])
@pytest.mark.parametrize("kind", ["memory", "jsonl", "sqlite"])
@settings(max_examples=40)
@given(policy=st.sampled_from(POLICIES), bound=st.integers(1, 4), steps=STEPS)
def test_a_tier_evicts_as_the_model_says(
    kind: str, authority: bool, policy: str, bound: int, steps: list[tuple[str, list[str]]]
) -> None:
    """Puts, promotions, changes that are followed, reads and removals: a tier holds what the policy says, no more."""
    model = NaiveOrder(policy, bound)
    written: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder, _opened(kind, Path(folder), authority, policy, bound) as tier:
        for place, (step, keys) in enumerate(steps, start=1):
            if step == "get":
                assert [tier.get(key) is not None for key in keys] == [key in model.keys for key in keys]
            elif step == "get_many":
                assert set(tier.get_many(keys)) == set(keys) & set(model.keys)
            if step in {"get", "get_many"}:
                for key in keys:
                    model.use(key)
                    _tell(tier, key)
            elif step == "remove":
                _remove(tier, keys, authority=authority)
                for key in keys:
                    model.remove(key)
            else:
                known = step == "change" and not authority
                left = model.write([key for key in keys if not known or key in model.keys])
                written.update(dict.fromkeys(keys, place))
                assert _write(tier, step, [_record(key, place) for key in keys], authority=authority) == left
            assert len(tier) == len(model.keys) <= bound
            held = {record.key: record.failure_count for record in tier.scan("", 99)}
            assert held == {key: written[key] for key in model.keys}


def _write(tier: Tier, step: str, records: list[Record], *, authority: bool) -> set[str]:
    """Let records into a tier in the way of its part; return what left."""
    if authority:
        return set(tier.transact([], lambda _: Batch(puts=records)).evicted)
    for number, record in enumerate(records):
        record.revision = record.generation = 10 * record.failure_count + number  # news, each time
    if step == "promote":
        evicted = tier.fill(records, max([tier.revision, *(record.revision for record in records)]))
    else:
        revision = max([tier.revision, *(record.revision for record in records)])
        stretch = Stretch(tier.revision, revision, records, admit=step == "put")
        followed = tier.follow(stretch)
        evicted = None if followed is None else followed.evicted
    assert evicted is not None
    return set(evicted)


def _tell(tier: Tier, key: str) -> None:
    """Tell of a hit, as the cache does of what it served from a durable tier."""
    found = tier.peek(key)
    if found is not None and not isinstance(tier, MemoryTier):
        tier.touch_many([Access(key, found.generation, 1, next(hit_times))])


def _remove(tier: Tier, keys: list[str], *, authority: bool) -> None:
    if authority:
        tier.transact([], lambda _: Batch(deletes=keys))
    else:
        tier.drop(keys)


@contextlib.contextmanager
def _opened(kind: str, folder: Path, authority: bool, policy: str, bound: int) -> Iterator[Tier]:
    tier: Tier
    if kind == "memory":
        tier = MemoryTier(max_entries=bound, policy=policy, authority=authority)
    elif kind == "jsonl":
        tier = JsonlTier(folder / "shards", max_entries=bound, policy=policy, authority=authority)
    else:
        tier = SqliteTier(folder / "tier.db", max_entries=bound, policy=policy, authority=authority)
    with contextlib.closing(tier):
        yield tier


@pytest.mark.parametrize("policy", POLICIES)
def test_the_bound_of_l1_holds_at_every_moment_under_threads(policy: str, tmp_path: Path) -> None:
    """Whatever threads put, read and delete, each of them sees at most `max_entries` in L1 after every step."""
    bound, keys = 5, [f"k{n}" for n in range(15)]
    config = CacheConfig(
        l1_config=CacheTierConfig(max_entries=bound, eviction_policy=policy),
        l2_config=CacheTierConfig(enabled=False),
        l3_database_path=str(tmp_path / "l3.db"),
        encryption_key=SecretStr(Fernet.generate_key().decode()),
    )
    with CacheManager(config) as cache, ThreadPoolExecutor(4) as threads:

        def work(number: int) -> int:
            most = 0
            for n in range(100):
                key = keys[(n * (number + 1) + number) % len(keys)]
                if n % 7 == 6:
                    cache.delete(key)
                elif n % 3 == number % 3:
                    cache.put(key, _entry(key))
                else:
                    cache.get(key)
                most = max(most, cache.get_statistics().l1_stats.current_size)
            return most

        assert max(threads.map(work, range(4))) == bound
        cache.put_many([_entry(key) for key in keys])
        assert cache.get_statistics().l1_stats.current_size == bound


def _entry(key: str) -> CacheEntry:
    fetched = datetime.now(UTC)
    return CacheEntry(key=key, proxy_url="http://192.0.2.1:80", source="s", fetch_time=fetched, ttl_seconds=3600)


def _drained(order: EvictionOrder) -> list[str]:
    """Take all keys out as they go."""
    gone = []
    while len(order):
        gone.append(order.victim())
        order.discard(gone[-1])
    return gone


def _drained_model(model: NaiveOrder) -> list[str]:
    gone = []
    while model.keys:
        gone.append(model.victim())
        model.remove(gone[-1])
    return gone


def _record(key: str, place: int) -> Record:
    return Record(key, "http://192.0.2.1:80", "s", 0.0, 0, 0.0, 0.0, failure_count=place)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
counts = st.integers(0, 2**40)
moments = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # given there
attributes = st.builds(
    Attributes,
    label=st.none() | texts,
    country=st.none() | st.sampled_from(["DE", "us"]),
    city=st.none() | texts,
    asn=st.none() | counts,
    anonymity=st.sampled_from([None, "elite"]),
    tags=st.lists(texts, max_size=3).map(tuple),
    weight=st.none() | st.floats(0, 10),
)
entries = st.builds(
    CacheEntry,
    key=texts.filter(bool),
    proxy_url=st.sampled_from(["http://192.0.2.1:80", "socks5://[2001:db8::1]:1080", "https://proxy.example:443"]),
    username=st.none() | texts.map(SecretStr),
    password=st.none() | texts.map(SecretStr),
    source=texts,
    fetch_time=moments,
    ttl_seconds=counts,
    last_accessed=moments,
    expires_at=moments | st.just(NEVER),
    access_count=counts,
    health_status=st.sampled_from(HealthStatus),
    failure_count=counts,
    last_health_check=st.none() | moments,
    consecutive_health_failures=counts,
    consecutive_health_successes=counts,
    recovery_attempt=counts,
    next_check_time=st.none() | moments,
    last_health_error=st.none() | texts,
    total_health_checks=counts,
    total_health_check_failures=counts,
    attributes=attributes,
)


@settings(max_examples=150)
@given(entries)
def test_an_entry_comes_back_from_its_record_equal(entry: CacheEntry) -> None:
    """Entry → record → line of a shard → record → entry is the identity, with the credentials sealed on the way."""
    mapping = EntryMapping(Sealer(SecretStr(Fernet.generate_key().decode())))
    record = mapping.sealed(mapping.record(entry))
    line = encode_record(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    stored = decode_record(line, record.key)
    assert stored is not None
    assert all(getattr(stored, name) == getattr(record, name) for name in COLUMNS)
    assert stored.plain is None
    assert mapping.entry(stored) == entry


@settings(max_examples=100)
@given(st.data())
def test_a_damaged_line_is_known_for_what_it_is(data: st.DataObject) -> None:
    """No line with one changed byte, and no beginning of a line, reads as a line."""
    line = encode_line({"op": "put", "key": "k", "source": data.draw(texts)})[:-1]
    place = data.draw(st.integers(0, len(line) - 1))
    flipped = line[place] ^ data.draw(st.integers(1, 255))
    assert decode_line(line) is not None
    assert decode_line(line[:place] + bytes([flipped]) + line[place + 1 :]) is None
    assert decode_line(line[:place]) is None


@given(st.integers(0, 10**12))
def test_a_moment_past_the_end_of_time_is_the_end_of_time(ttl: int) -> None:
    """A time to live that ends after the year 9999 is one that never ends, in the entry and through the record."""
    fetched = datetime(2025, 1, 1, tzinfo=UTC)
    entry = CacheEntry(key="k", proxy_url="http://192.0.2.1:80", source="s", fetch_time=fetched, ttl_seconds=ttl)
    expected = NEVER if ttl > (NEVER - fetched).total_seconds() else fetched + timedelta(seconds=ttl)
    assert entry.expires_at == expected
    mapping = EntryMapping(None)
    assert mapping.entry(mapping.record(entry)).expires_at == expected
