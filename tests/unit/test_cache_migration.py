"""Moving the second tier from one backend to the other, wherever it is cut off."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proxywhirl.cache import CacheConfig, CacheEntry, CacheManager, CacheTierConfig, L2BackendType
from proxywhirl.cache.maintenance import migrate as migration
from proxywhirl.cache.maintenance.migrate import migrate
from proxywhirl.cache.models import EVICTION_POLICIES
from proxywhirl.cache.opening import open_tiers
from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.directory_lock import moved_to
from proxywhirl.errors import CacheError, TierError
from proxywhirl.models import Attributes, HealthCheck, HealthStatus
from proxywhirl.testing import ManualClock

BACKENDS = ("jsonl", "sqlite")
OTHER = {"jsonl": "sqlite", "sqlite": "jsonl"}


def config(home: Path, backend: str, *, l3: bool = False, **more: Any) -> CacheConfig:
    """Configure a store whose second tier is its lowest one, unless `l3`."""
    return CacheConfig(
        l2_backend=L2BackendType(backend),
        l2_cache_dir=str(home / "cache"),
        l3_database_path=str(home / "db" / "proxywhirl.db"),
        key_file=str(home / "key"),
        l3_config=CacheTierConfig(enabled=l3),
        **more,
    )


def fill(cache: CacheManager, number: int = 30) -> None:
    """Give a cache entries of every kind: with credentials, attributes, history, use, taken out of service."""
    for n in range(number):
        cache.add(
            f"http://192.0.2.{n + 1}:80",
            source=f"list-{n % 3}",
            username=f"user-{n}" if n % 2 else None,
            password=f"s3cret-{n}" if n % 2 else None,
            ttl=float("inf") if n % 5 else 3600,
            attributes=Attributes(country="DE", tags=("näher", "paid")) if n % 3 else Attributes(),
        )
    keys = [entry.key for entry in cache.scan()]
    cache.record_check(keys[0], HealthCheck(True, HealthStatus.HEALTHY, 1_000_000.0, next_check=1_000_060.0))
    cache.record_check(keys[1], HealthCheck(False, HealthStatus.UNHEALTHY, 1_000_000.0, error="refused\tby it"))
    for key in keys[2:4]:
        for _ in range(3):
            cache.invalidate_by_health(key)
    for key in keys[4:8]:
        for _ in range(7):
            cache.get(key)
    cache.delete(keys[9])


def whole(cache: CacheManager) -> list[dict[str, Any]]:
    """Return all that a cache tells of its entries, in service and out of it, with their secrets."""
    entries: list[CacheEntry] = [*cache.scan(), *cache.scan(retired=True)]
    return [
        entry.model_dump(exclude={"username", "password"})
        | {name: secret.get_secret_value() for name in ("username", "password") if (secret := getattr(entry, name))}
        for entry in entries
    ]


def stored(configured: CacheConfig) -> list[dict[str, Any]]:
    """Return the records of the second tier, with their revisions and generations."""
    tiers = dict(open_tiers(configured))
    try:
        records: list[Record] = tiers["l2"].scan("", 10_000)
        return [record.stored() for record in records]
    finally:
        for tier in tiers.values():
            tier.close()


@pytest.mark.parametrize("source", BACKENDS)
@pytest.mark.parametrize("l3", [False, True])
def test_everything_arrives_and_comes_back(tmp_path: Path, source: str, *, l3: bool) -> None:
    """Entries, retired ones, counts, secrets, revisions and generations are the same there, and after the way back."""
    to = OTHER[source]
    clock = ManualClock(now=1_000_000.0)
    with CacheManager(config(tmp_path, source, l3=l3), clock=clock) as cache:
        fill(cache)
    with CacheManager(config(tmp_path, source, l3=l3), clock=clock) as cache:
        before = whole(cache)
    records = stored(config(tmp_path, source, l3=l3))
    assert len(before) == 29
    done = migrate(config(tmp_path, source, l3=l3), to)
    assert (done.source, done.moved, done.damaged) == (source, len(records), 0)
    assert stored(config(tmp_path, to, l3=l3)) == records
    with CacheManager(config(tmp_path, to, l3=l3), clock=clock) as cache:
        assert whole(cache) == before
        assert cache.add("http://192.0.2.200:80", source="later") is not None
    assert migrate(config(tmp_path, to, l3=l3), source).moved == len(records) + 1
    with CacheManager(config(tmp_path, source, l3=l3), clock=clock) as cache:
        after = whole(cache)
        assert [entry for entry in after if entry["source"] != "later"] == before
        assert len(after) == len(before) + 1
        assert cache.process_statistics()


@pytest.mark.parametrize("policy", EVICTION_POLICIES)
@pytest.mark.parametrize("source", BACKENDS)
def test_who_leaves_is_the_same_in_the_other_backend(tmp_path: Path, source: str, policy: str) -> None:
    """Arrivals, uses and the hand of `sieve` move along."""
    left: list[list[set[str]]] = []
    for moved in (False, True):
        clock, backend, home = ManualClock(), source, tmp_path / str(moved)
        more: dict[str, Any] = {"l1_config": CacheTierConfig(enabled=False), "l2_config": bounded(4, policy)}
        with CacheManager(config(home, backend, **more), clock=clock) as cache:
            for what, key in zip("pppgpgpgpgg", "dbabcdeabeb", strict=True):
                clock.advance(1.0)
                use(cache, clock, what, key)
        if moved:
            backend = OTHER[source]
            migrate(config(home, source, **more), backend)
        with CacheManager(config(home, backend, **more), clock=clock) as cache:
            held = []
            for key in "fghi":
                clock.advance(1.0)
                use(cache, clock, "p", key)
                held.append({entry.key for entry in cache.scan()})
        left.append(held)
    assert left[1] == left[0]


def bounded(number: int, policy: str) -> CacheTierConfig:
    """Configure a tier that is soon full."""
    return CacheTierConfig(max_entries=number, eviction_policy=policy)


def use(cache: CacheManager, clock: ManualClock, what: str, key: str) -> None:
    """Put an entry of three uses (p), or get it (g)."""
    now = datetime.fromtimestamp(clock.now(), UTC)
    entry = CacheEntry(key=key, proxy_url="http://192.0.2.1:80", source="s", fetch_time=now, ttl_seconds=9999)
    if what == "g":
        cache.get(key)
    else:
        assert cache.put(key, entry.model_copy(update={"access_count": 3}))


@pytest.mark.parametrize("source", BACKENDS)
def test_what_was_left_is_gone_and_is_not_opened_as_an_empty_store(tmp_path: Path, source: str) -> None:
    """The old files go; who is still configured for them is told what to set, and writes nothing."""
    to = OTHER[source]
    with CacheManager(config(tmp_path, source)) as cache:
        fill(cache)
    migrate(config(tmp_path, source), to)
    files = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert ("l2.db" in files, "shard-00.jsonl" in files) == (to == "sqlite", to == "jsonl")
    with pytest.raises(TierError, match=f"moved from {source} to {to}: set cache.l2_backend"):
        CacheManager(config(tmp_path, source))
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == files
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "cache").iterdir())
    assert migrate(config(tmp_path, to), to).moved == 0


def test_an_open_store_is_not_moved(tmp_path: Path) -> None:
    """Another user of the directory makes the move fail before anything is done; so does one in another process."""
    with CacheManager(config(tmp_path, "jsonl")) as cache:
        fill(cache)
        with pytest.raises(TierError, match="another process has the store open"):
            migrate(config(tmp_path, "jsonl"), "sqlite")
        assert not (tmp_path / "cache" / "l2.db").exists()
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    process = context.Process(target=hold_open, args=(tmp_path, held, done))
    process.start()
    try:
        assert held.wait(30)
        with pytest.raises(TierError, match="another process has the store open"):
            migrate(config(tmp_path, "jsonl"), "sqlite")
    finally:
        process.kill()
        process.join()
    assert migrate(config(tmp_path, "jsonl"), "sqlite").moved == 29


def hold_open(home: Path, held: Any, done: Any) -> None:
    """Keep a cache open until told otherwise."""
    with CacheManager(config(home, "jsonl")):
        held.set()
        done.wait(60)


def test_nothing_is_opened_while_it_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that is opened in the middle fails at once, and says why."""
    with CacheManager(config(tmp_path, "jsonl")) as cache:
        fill(cache)
    copy = migration._copy

    def look(*arguments: Any) -> None:
        for backend in BACKENDS:
            with pytest.raises(TierError, match="being moved"):
                CacheManager(config(tmp_path, backend))
        copy(*arguments)

    monkeypatch.setattr(migration, "_copy", look)
    assert migrate(config(tmp_path, "jsonl"), "sqlite").moved == 29


STEPS = ("note_backend", "_remove", "_copy", "_compared", "make_tier")


@pytest.mark.parametrize("source", BACKENDS)
@pytest.mark.parametrize("when", range(12))
def test_a_move_that_is_cut_off_loses_nothing(
    tmp_path: Path, source: str, when: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before or after any of its steps: one of the two backends opens and has everything, and the move can be ended."""
    to = OTHER[source]
    with CacheManager(config(tmp_path, source)) as cache:
        fill(cache)
    with CacheManager(config(tmp_path, source)) as cache:
        before = whole(cache)
    left = [when]
    for step in STEPS:
        monkeypatch.setattr(migration, step, dying(getattr(migration, step), left))
    with contextlib.suppress(KeyboardInterrupt):
        migrate(config(tmp_path, source), to)
    ended = left[0] >= 0
    monkeypatch.undo()
    there = moved_to(tmp_path / "cache") or source
    with CacheManager(config(tmp_path, there)) as cache:
        assert [entry["proxy_url"] for entry in whole(cache)] == [entry["proxy_url"] for entry in before]
        if there == source:  # what is done before it is run again is not lost either
            assert cache.delete(before[0]["key"])
            before = whole(cache)
    again = migrate(config(tmp_path, there), to)
    assert again.moved == (len(before) if there == source else 0)
    with CacheManager(config(tmp_path, to)) as cache:
        assert whole(cache) == before
    assert ended is (when > 8)


def dying(step: Callable[..., Any], left: list[int]) -> Callable[..., Any]:
    """Return a step that is cut off when it is the one that it falls to, as Ctrl-C would."""

    def act(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == -1:
            raise KeyboardInterrupt
        return step(*arguments, **named)

    return act


@pytest.mark.parametrize("source", BACKENDS)
def test_two_stores_are_not_made_one(tmp_path: Path, source: str) -> None:
    """Where somebody has used both, neither is overwritten; with the database below, the other is only a window."""
    to = OTHER[source]
    for backend in BACKENDS:
        with CacheManager(config(tmp_path, backend)) as cache:
            cache.add("http://192.0.2.1:80", source=backend)
    with pytest.raises(CacheError, match="both backends hold entries"):
        migrate(config(tmp_path, source), to)
    for backend in BACKENDS:
        with CacheManager(config(tmp_path, backend)) as cache:
            assert [entry.source for entry in cache.scan()] == [backend]


def test_windows_on_a_database_are_no_two_stores(tmp_path: Path) -> None:
    """With the third tier on, what the new backend held of it is replaced, and everything is still there."""
    for backend in BACKENDS:
        with CacheManager(config(tmp_path, backend, l3=True)) as cache:
            cache.add(f"http://192.0.2.{len(backend)}:80", source=backend)
    assert migrate(config(tmp_path, "jsonl", l3=True), "sqlite").moved == 1
    with CacheManager(config(tmp_path, "sqlite", l3=True)) as cache:
        assert sorted(entry.source for entry in cache.scan()) == ["jsonl", "sqlite"]


def test_an_empty_store_is_only_told(tmp_path: Path) -> None:
    """Nothing to move is no error, and makes no files of the old backend."""
    assert migrate(config(tmp_path, "jsonl"), "sqlite").moved == 0
    with CacheManager(config(tmp_path, "sqlite")) as cache:
        assert len(cache) == 0
    assert not (tmp_path / "cache" / "shard-00.jsonl").exists()


def test_entries_beyond_the_bound_go_along(tmp_path: Path) -> None:
    """A smaller bound evicts when the store is opened for use, not when it is moved."""
    with CacheManager(config(tmp_path, "jsonl", l2_config=CacheTierConfig())) as cache:
        fill(cache)
    small = config(tmp_path, "jsonl", l2_config=CacheTierConfig(max_entries=5))
    assert migrate(small, "sqlite").moved == 29


def test_damaged_entries_are_counted_and_kept_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line with a wrong byte costs that entry; the others arrive."""
    with CacheManager(config(tmp_path, "jsonl")) as cache:
        cache.put_many(
            CacheEntry(
                key=f"k{n}",
                proxy_url=f"http://192.0.2.{n + 1}:80",
                source="s",
                fetch_time=datetime.now(UTC),
                ttl_seconds=3600,
            )
            for n in range(20)
        )
    shard = max((tmp_path / "cache").glob("shard-*"), key=lambda path: path.stat().st_size)
    shard.write_bytes(shard.read_bytes().replace(b'"source":"s"', b'"source":"x"', 1))
    done = migrate(config(tmp_path, "jsonl"), "sqlite")
    assert (done.moved, done.damaged) == (19, 1)
    assert b'"source":"x"' in (tmp_path / "cache" / "damaged.jsonl").read_bytes()
    assert "damaged.jsonl" in caplog.text


def test_a_tier_that_is_off_or_of_another_package_is_not_moved(tmp_path: Path) -> None:
    """The message says so."""
    off = config(tmp_path, "jsonl", l3=True, l2_config=CacheTierConfig(enabled=False))
    foreign = config(tmp_path, "jsonl", l2_tier="shelf")
    for configured in (off, foreign):
        with pytest.raises(CacheError, match="nothing to move"):
            migrate(configured, "sqlite")


def test_a_damaged_note_is_not_guessed_at(tmp_path: Path) -> None:
    """Opening says what to write into it."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "backend").write_text("sq\x00lite")
    with pytest.raises(TierError, match="write jsonl or sqlite into it"):
        CacheManager(config(tmp_path, "jsonl"))
