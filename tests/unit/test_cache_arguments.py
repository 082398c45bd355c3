"""Arguments of the cache of the wrong kind: the error names them, and no tier takes them for its own fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from proxywhirl.cache import CacheConfig, CacheEntry, CacheManager, CacheTierConfig
from proxywhirl.models import Attributes
from proxywhirl.testing import ManualClock
from tests.unit.stores import START, Opener

URL = "http://192.0.2.1:80"
OFF = {"enabled": False}
NONE = {"max_entries": 0}


def entry(key: str, **fields: Any) -> CacheEntry:
    """Make an entry that is fetched at `START`."""
    least = {"key": key, "proxy_url": URL, "source": "s", "fetch_time": START, "ttl_seconds": 3600}
    return CacheEntry.model_validate({**least, **fields})


WRONG: dict[str, tuple[Callable[[CacheManager, Any], object], Any, str]] = {
    "get_many of a key": (lambda cache, wrong: cache.get_many(wrong), "abc", "keys must be several keys, not one str"),
    "get_many of None": (lambda cache, wrong: cache.get_many(wrong), None, "keys must be several keys"),
    "delete_many of a key": (lambda cache, wrong: cache.delete_many(wrong), "abc", "keys must be several keys"),
    "known of a key": (lambda cache, wrong: cache.known(wrong), "abc", "keys must be several keys"),
    "known of numbers": (lambda cache, wrong: cache.known(wrong), [7], "a key is a str"),
    "to_check of a key": (lambda cache, wrong: cache.to_check(wrong), b"abc", "keys must be several keys"),
    "to_check of numbers": (lambda cache, wrong: cache.to_check(wrong), [7], "a key is a str"),
    "look of a number": (lambda cache, wrong: cache.look(wrong), 7, "a key is a str"),
    "put of a dict": (lambda cache, wrong: cache.put("a", wrong), {"key": "a"}, "entry must be a CacheEntry, not dict"),
    "put_many of a dict": (
        lambda cache, wrong: cache.put_many(wrong),
        {"a": entry("a")},
        "each of entries must be a CacheEntry, not str",
    ),
    "put_many of a text": (lambda cache, wrong: cache.put_many(wrong), "abc", "entries must be several entries"),
    "put_many of an entry": (lambda cache, wrong: cache.put_many(wrong), entry("a"), "each of entries must be"),
    "add of a number": (lambda cache, wrong: cache.add(wrong, source="s"), 7, "proxy_url must be a text, not int"),
    "add with a number as password": (
        lambda cache, wrong: cache.add(URL, source="s", password=wrong),
        7,
        "password must be a text, a SecretStr of one, or None, not int",
    ),
    "add with bytes as username": (
        lambda cache, wrong: cache.add(URL, source="s", username=wrong),
        b"bob",
        "username must be a text, a SecretStr of one, or None, not bytes",
    ),
    "add with a dict of attributes": (
        lambda cache, wrong: cache.add(URL, source="s", attributes=wrong),
        {"country": "DE"},
        "attributes must be Attributes or None, not dict",
    ),
    "add with a text as time": (
        lambda cache, wrong: cache.add(URL, source="s", ttl=wrong),
        "60",
        "ttl must be a number of seconds or None, not str",
    ),
    "scan of a number as country": (
        lambda cache, wrong: list(cache.scan(country=wrong)),
        5,
        "country must be a text or None, not int",
    ),
    "rotate_keys with a text": (
        lambda cache, wrong: cache.rotate_keys(wrong),
        "key",
        "new_key must be a SecretStr or None, not str",
    ),
    "changes_since a text": (
        lambda cache, wrong: cache.changes_since(wrong),
        "5",
        "revision must be a whole number, not str",
    ),
    "check_times_since a text": (
        lambda cache, wrong: cache.check_times_since(wrong),
        "5",
        "revision must be a whole number, not str",
    ),
    "generate_cache_key of a number": (
        lambda cache, wrong: cache.generate_cache_key(wrong),
        5,
        "proxy_url must be a text, not int",
    ),
    "add without a source": (lambda cache, wrong: cache.add(URL, source=wrong), None, "source must be a text"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_argument_of_the_wrong_kind_is_a_type_error_that_names_it(opened: Opener, case: str) -> None:
    """Nothing is written, and every tier works on."""
    cache = opened()
    call, wrong, said = WRONG[case]
    with pytest.raises(TypeError, match=said):
        call(cache, wrong)
    told = cache.get_statistics()
    assert (told.l1_degraded, told.l2_degraded, told.l3_degraded, len(cache)) == (False, False, False, 0)


def test_a_status_is_asked_for_by_its_value_as_well(opened: Opener) -> None:
    """One that is none is an error, and not an empty answer."""
    cache = opened()
    cache.put_many([entry("a", health_status="healthy"), entry("b")])
    wanted: Any = "healthy"
    assert [found.key for found in cache.scan(status=wanted)] == ["a"]
    wanted = "well"
    with pytest.raises(ValueError, match="'well' is not a valid HealthStatus"):
        list(cache.scan(status=wanted))


def test_a_manager_is_made_of_a_configuration() -> None:
    """A dictionary is none."""
    wrong: Any = {"l1_config": {}}
    with pytest.raises(TypeError, match="config must be a CacheConfig or None, not dict"):
        CacheManager(wrong)


def test_credentials_are_added_as_the_entry_has_them(opened: Opener) -> None:
    """A secret is taken as well as its text, one that is sealed at rest too."""
    cache = opened(l1_config=OFF)
    one = cache.add(URL, source="s", username=SecretStr("bob"), password=SecretStr("hunter2"))
    assert one is not None
    sealed = cache.get(one.key)
    assert sealed is not None
    other = cache.add("http://192.0.2.2:80", source="s", username=sealed.username, password=sealed.password)
    assert other is not None
    assert (other.username, other.password) == (SecretStr("bob"), SecretStr("hunter2"))


@pytest.mark.parametrize("off", [{}, {"l1_config": OFF}, {"l1_config": OFF, "l2_config": OFF}])
def test_many_come_in_the_order_in_which_they_were_asked_for(opened: Opener, off: dict[str, Any]) -> None:
    """Wherever they come from, all of them or some."""
    cache = opened(**off)
    cache.put_many([entry(key) for key in "abcd"])
    cache.close()
    again = opened(**off)
    asked = ["d", "a", "missing", "c", "a", "b"]
    for _ in range(2):
        assert list(again.get_many(asked)) == ["d", "a", "c", "b"]
    again.get("b")
    assert list(again.get_many(["c", "b", "a"])) == ["c", "b", "a"]


@pytest.mark.parametrize(
    "fields",
    [
        {"l1_config": OFF, "l2_config": OFF, "l3_config": OFF},
        {"l1_config": NONE, "l2_config": NONE, "l3_config": NONE},
        {"l1_config": NONE, "l2_config": OFF, "l3_config": NONE},
    ],
)
def test_a_cache_without_a_tier_holds_nothing(
    opened: Opener, tmp_path: Path, caplog: pytest.LogCaptureFixture, fields: dict[str, Any]
) -> None:
    """It says so each time that it is opened, takes no entry, and fails no call; no file is made."""
    for _ in range(2):
        caplog.clear()
        cache = opened(**fields)
        assert caplog.text.count("this cache holds nothing") == 1
        assert cache.put("a", entry("a")) is False
        assert cache.put_many([entry("a"), entry("b")]) == 0
        assert cache.add(URL, source="s") is None
        assert f"{URL} ({CacheManager.generate_cache_key(URL)}) was not added: no tier of this cache" in caplog.text
        assert cache.get("a") is None
        assert cache.get_many(["a"]) == {}
        assert (len(cache), "a" in cache, list(cache.scan()), cache.delete("a"), cache.clear()) == (0, False, [], 0, 0)
        told = tmp_path / "one.jsonl"
        told.write_text(entry("a").model_dump_json())
        assert cache.warm_from_file(told) == {"loaded": 0, "skipped": 0, "failed": 1}
        assert cache.get_statistics().total_size == 0
        assert cache.verify() == []
        cache.flush()
        cache.close()
    assert [path.name for path in tmp_path.iterdir()] == ["one.jsonl"]


EMPTY: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "L1": ({"l1_config": NONE}, (0, 1, 1)),
    "L2": ({"l2_config": NONE}, (1, 0, 1)),
    "L3": ({"l3_config": NONE}, (1, 1, 0)),
    "L2 and L3": ({"l2_config": NONE, "l3_config": NONE}, (1, 0, 0)),
    "L1 and L3": ({"l1_config": NONE, "l3_config": NONE}, (0, 1, 0)),
}


@pytest.mark.parametrize("which", EMPTY)
@pytest.mark.parametrize("when", ["made", "changed"])
def test_a_tier_with_room_for_nothing_is_none(opened: Opener, which: str, when: str) -> None:
    """The others hold the entry; the lowest of them decides, whether the bound was given or set since."""
    fields, sizes = EMPTY[which]
    if when == "made":
        cache = opened(**fields)
    else:
        config = opened().config
        for name in fields:
            getattr(config, name).max_entries = 0
        cache = CacheManager(config, clock=ManualClock(now=START.timestamp()))
    with cache:
        assert cache.put("a", entry("a"))
        told = cache.get_statistics()
        assert (told.l1_stats.current_size, told.l2_stats.current_size, told.l3_stats.current_size) == sizes
        got = cache.get("a")
        assert got is not None
        assert got.access_count == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda config: setattr(config.l1_config, "max_entries", -1), "(?s)l1_config.*max_entries must be 0 or more"),
        (lambda config: setattr(config, "l2_config", CacheTierConfig.model_construct(eviction_policy="mru")), "mru"),
        (lambda config: setattr(config, "failure_threshold", 0), "failure_threshold"),
        (lambda config: config.per_source_ttl.update(s=-1), "source 's' must be 0 or more"),
        (lambda config: setattr(config, "encryption_key", "short"), "not a Fernet key"),
    ],
)
def test_what_is_set_later_means_what_it_means_when_it_is_made(
    tmp_path: Path, change: Callable[[CacheConfig], object], said: str
) -> None:
    """A configuration that was changed to the impossible opens nothing."""
    config = CacheConfig(l2_cache_dir=str(tmp_path / "l2"), l3_database_path=str(tmp_path / "l3.db"))
    change(config)
    with pytest.raises(ValueError, match=said):
        CacheManager(config)
    assert list(tmp_path.iterdir()) == []


def test_a_time_to_live_of_nothing_is_over_at_once(opened: Opener) -> None:
    """A source may be given 0 seconds: what it gives is stored and not served."""
    cache = opened(per_source_ttl={"s": 0})
    made = cache.add(URL, source="s")
    assert made is not None
    assert made.expires_at == START
    assert cache.get(made.key) is None


def test_what_is_not_added_is_said_with_its_reason(opened: Opener, caplog: pytest.LogCaptureFixture) -> None:
    """No durable tier took it, or it was gone again at once."""
    cache = opened(l1_config=OFF, l2_config=OFF)
    breaker = cache._running().stack.authority
    breaker.degraded = breaker.sick = True
    breaker._asking.fail()
    assert cache.add(URL, source="s", attributes=Attributes(country="DE")) is None
    assert "was not added: tier l3 is degraded" in caplog.text
