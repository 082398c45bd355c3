"""Eviction orders and `admit` against a model that is slow and obviously right; records and entries there and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from proxywhirl.cache.border import Border
from proxywhirl.cache.crypto import Sealer
from proxywhirl.cache.eviction import ORDERS, admit
from proxywhirl.cache.models import NEVER, CacheEntry
from proxywhirl.cache.record import COLUMNS, Record
from proxywhirl.cache.shard import decode_line, encode_line, put_fields, record_of
from proxywhirl.models import Attributes, HealthStatus

KEYS = st.sampled_from("abcdefgh")


class NaiveOrder:
    """What each policy means, as a list of (key, first write, last use, uses) that is searched each time."""

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self.keys: dict[str, list[int]] = {}
        self.tick = 0

    def use(self, key: str, *, write: bool) -> None:
        """Note a use."""
        self.tick += 1
        if key in self.keys:
            self.keys[key][1:] = [self.tick, self.keys[key][2] + 1]
        elif write:
            self.keys[key] = [self.tick, self.tick, 1]

    def victim(self) -> str:
        """Search the one that goes first."""

        def rank(key: str) -> tuple[int, ...]:
            first, last, uses = self.keys[key]
            return {"fifo": (first,), "lru": (last,), "lfu": (uses, last)}[self.policy]

        return min(self.keys, key=rank)


@settings(max_examples=300, deadline=None)
@given(
    policy=st.sampled_from(sorted(ORDERS)),
    bound=st.integers(1, 5),
    steps=st.lists(st.tuples(st.sampled_from(["batch", "touch", "discard"]), st.lists(KEYS, max_size=6)), max_size=30),
)
def test_admit_chooses_the_victims_that_the_model_chooses(
    policy: str, bound: int, steps: list[tuple[str, list[str]]]
) -> None:
    """After any history, `admit` keeps, evicts and orders exactly as the policy says, within the bound."""
    order, model = ORDERS[policy](), NaiveOrder(policy)
    for step, keys in steps:
        if step == "touch":
            for key in keys:
                order.touch(key)
                model.use(key, write=False)
        elif step == "discard":
            for key in keys:
                order.discard(key)
                model.keys.pop(key, None)
        else:
            before = set(model.keys)
            for key in keys:
                if key not in model.keys and len(model.keys) == bound:
                    del model.keys[model.victim()]
                model.use(key, write=True)
            kept, victims = admit([_record(key, place) for place, key in enumerate(keys)], order, bound)
            latest = {key: place for place, key in enumerate(keys)}
            assert {record.key: record.access_count for record in kept} == {
                key: place for key, place in latest.items() if key in model.keys
            }
            assert set(victims) == (before | set(keys)) - set(model.keys)
            assert len(victims) == len(set(victims))
        assert len(order) == len(model.keys) <= bound
        assert all(key in order for key in model.keys)
        if model.keys:
            assert order.victim() == model.victim()


def _record(key: str, place: int) -> Record:
    return Record(key, "http://192.0.2.1:80", "s", 0.0, 0, 0.0, 0.0, access_count=place)


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


@settings(max_examples=150, deadline=None)
@given(entries)
def test_an_entry_comes_back_from_its_record_equal(entry: CacheEntry) -> None:
    """Entry → record → line of a shard → record → entry is the identity, with the credentials sealed on the way."""
    border = Border(Sealer(SecretStr(Fernet.generate_key().decode())))
    record = border.sealed(border.record(entry))
    line = encode_line(put_fields(record))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    fields = decode_line(line[:-1])
    assert fields is not None
    stored = record_of(fields)
    assert all(getattr(stored, name) == getattr(record, name) for name in COLUMNS)
    assert stored.plain is None
    assert border.entry(stored) == entry


@settings(max_examples=100, deadline=None)
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
    border = Border(None)
    assert border.entry(border.record(entry)).expires_at == expected
