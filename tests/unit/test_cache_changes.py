"""The log as a pool reads it: sketches of proxies, and the values that are made of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.cache.change_feed import CacheChanges, portray
from proxywhirl.cache.record import NEVER_TIMESTAMP, Record, encode_attributes
from proxywhirl.cache.tiers.protocol import Batch, Changes, Sketching
from proxywhirl.cache.tiers.sqlite.tier import SqliteTier
from proxywhirl.models import Attributes, HealthStatus, Proxy

NOW = 1000.0


def record(key: str, **known: object) -> Record:
    """Make a record that is alive."""
    given_too: dict[str, object] = {"source": "test", "expires_at": NEVER_TIMESTAMP, **known}
    return Record(key, "http://192.0.2.1:80", fetched_at=0.0, ttl=0, accessed_at=0.0, **given_too)  # type: ignore[arg-type]


def page(*records: Record) -> CacheChanges:
    """Return these records as a page for a pool."""
    return CacheChanges.of(Changes(7, list(records), ["gone"]), NOW)


@pytest.fixture
def tier(tmp_path: Path) -> Iterator[SqliteTier]:
    """Give an authority in a file."""
    opened = SqliteTier(tmp_path / "a.db", authority=True)
    yield opened
    opened.close()


def test_what_has_expired_is_removed() -> None:
    """An expired record goes, as what was deleted; of the others, those that are retired or dead are told apart."""
    found = page(
        record("alive"),
        record("expired", expires_at=NOW),
        record("retired", retired=True),
        record("retired and expired", retired=True, expires_at=NOW),
        record("dead", status="dead"),
        record("retired and dead", retired=True, status="dead"),
    )
    assert (list(found.sketches), list(found.aside)) == (["alive"], ["retired", "dead", "retired and dead"])
    assert found.removed == ["gone", "expired", "retired and expired"]
    assert (found.revision, found.reset, found.more) == (7, False, False)


def test_a_sketch_stands_for_the_whole_value() -> None:
    """All that a pool knows of a proxy comes back; a label stands for the username, and none for none."""
    named = Attributes(country="DE", city="Köln\n1", tags=("a b", "c"))
    found = page(
        record("0123456789", status="healthy", attributes=encode_attributes(named), sealed="u:x"),
        record("plain", plain=(None, "secret")),
        record("bare", source=""),
    )
    assert found.proxies == [
        Proxy("0123456789", "http", "192.0.2.1", 80, "user-012345", "test", HealthStatus.HEALTHY, named),
        Proxy("plain", "http", "192.0.2.1", 80, "user-plain", "test"),
        Proxy("bare", "http", "192.0.2.1", 80),
    ]
    assert "secret" not in repr(found)


@given(source=st.text(), label=st.text(min_size=1), status=st.sampled_from(HealthStatus))
def test_any_text_passes_through_a_sketch(source: str, label: str, status: HealthStatus) -> None:
    """Sources and attributes may hold whatever separates the parts of a sketch."""
    known = Attributes(label=label, city=source or None)
    found = page(record("a", source=source, status=status.value, attributes=encode_attributes(known)))
    (proxy,) = found.proxies
    assert (proxy.source, proxy.label, proxy.status, proxy.attributes) == (source, label, status, known)


def test_equal_traits_are_one_object_in_memory() -> None:
    """What many proxies of a page share is kept once."""
    found = page(record("a"), record("b"), record("c", source="other"))
    texts = {id(traits) for _, traits in found.sketches.values()}
    assert len(texts) == 2


def test_sqlite_sketches_are_those_of_its_records(tier: SqliteTier) -> None:
    """Page by page, from any revision and in any state of the log, both readings of the log agree."""
    assert isinstance(tier, Sketching)
    odd = 'a "b"\n\x1f ü'
    for n in range(30):
        known = encode_attributes(Attributes(label=odd)) if n % 3 else ""
        entry = record(
            f"k{n % 20}",
            source=odd if n % 2 else "",
            status=[*HealthStatus][n % 5].value,
            expires_at=NOW + n - 10,
            attributes=known,
            sealed="up:x" if n % 7 == 0 else None,
            retired=n % 11 == 0,
        )
        tier.transact([entry.key], lambda _, entry=entry: Batch(puts=[entry]))  # type: ignore[misc]  # bound now
        if n % 4 == 0:
            tier.transact([f"k{n // 2}"], lambda _, n=n: Batch(deletes=[f"k{n // 2}"]))  # type: ignore[misc]  # as above
    last = tier.revision
    for revision in [*range(-last - 1, last + 2)]:
        for limit in (1, 3, 1000):
            assert CacheChanges.of_sketches(tier.sketches_since(revision, limit, NOW)) == CacheChanges.of(
                tier.changes_since(revision, limit), NOW
            )
    tier.clear()
    assert tier.sketches_since(last, 10, NOW).reset


def test_a_value_is_made_of_an_address_in_brackets() -> None:
    """The last colon parts host and port."""
    assert portray("a", ("socks5://[::1]:1080", "dead 0 \n")).url == "socks5://[::1]:1080"
