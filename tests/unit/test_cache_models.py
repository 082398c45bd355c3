"""The public models of the cache: names, types, defaults, bounds, computed fields, JSON form, error texts."""

from __future__ import annotations

import json
import re
import traceback
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import BaseModel, SecretStr, ValidationError

from proxywhirl.cache import (
    NEVER,
    CacheConfig,
    CacheEntry,
    CacheStatistics,
    CacheTierConfig,
    CacheTierType,
    HealthStatus,
    L2BackendType,
    TierStatistics,
)
from proxywhirl.models import Attributes
from proxywhirl.models import HealthStatus as SharedHealthStatus

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
VARIABLE = "PROXYWHIRL_CACHE_ENCRYPTION_KEY"
SECRET = "hunter2-secret"


def entry(**fields: Any) -> CacheEntry:
    """Make an entry of the least that is needed, and what is given."""
    least = {"key": "k", "proxy_url": "http://192.0.2.7:8080", "source": "s", "fetch_time": NOW, "ttl_seconds": 3600}
    return CacheEntry.model_validate({**least, **fields})


@pytest.fixture(autouse=True)
def _without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def test_the_enums_have_their_values() -> None:
    """The enums are strings with the values of the contract."""
    assert [status.value for status in HealthStatus] == ["unknown", "healthy", "degraded", "unhealthy", "dead"]
    assert {tier.name: tier.value for tier in CacheTierType} == {"L1": "l1", "L2": "l2", "L3": "l3"}
    assert {kind.name: kind.value for kind in L2BackendType} == {"JSONL": "jsonl", "SQLITE": "sqlite"}
    assert HealthStatus is SharedHealthStatus
    assert all(issubclass(kind, str) for kind in (HealthStatus, CacheTierType, L2BackendType))


def test_an_entry_has_its_defaults() -> None:
    """The least that names an entry is enough; everything else has its default."""
    assert entry().model_dump() == {
        "key": "k",
        "proxy_url": "http://192.0.2.7:8080",
        "username": None,
        "password": None,
        "source": "s",
        "fetch_time": NOW,
        "last_accessed": NOW,
        "access_count": 0,
        "ttl_seconds": 3600,
        "expires_at": NOW + timedelta(hours=1),
        "health_status": HealthStatus.UNKNOWN,
        "failure_count": 0,
        "evicted_from_l1": False,
        "last_health_check": None,
        "consecutive_health_failures": 0,
        "consecutive_health_successes": 0,
        "recovery_attempt": 0,
        "next_check_time": None,
        "last_health_error": None,
        "total_health_checks": 0,
        "total_health_check_failures": 0,
        "attributes": {name: getattr(Attributes(), name) for name in Attributes.__slots__},
    }


@pytest.mark.parametrize(
    "field",
    [
        "ttl_seconds",
        "failure_count",
        "access_count",
        "consecutive_health_failures",
        "consecutive_health_successes",
        "recovery_attempt",
        "total_health_checks",
        "total_health_check_failures",
    ],
)
def test_the_counts_of_an_entry_are_not_negative(field: str) -> None:
    """Zero is allowed, less is not."""
    assert getattr(entry(**{field: 0}), field) == 0
    with pytest.raises(ValidationError, match=f"(?s){field}.*greater than or equal to 0"):
        entry(**{field: -1})


@pytest.mark.parametrize("field", ["fetch_time", "last_accessed", "expires_at", "last_health_check", "next_check_time"])
def test_a_naive_datetime_is_an_error_that_says_so(field: str) -> None:
    """A datetime needs its timezone; one of another zone is kept in UTC."""
    with pytest.raises(ValidationError, match=f"(?s){field}.*timezone") as caught:
        entry(**{field: datetime(2026, 1, 1)})  # noqa: DTZ001  # the error under test
    assert caught.value.error_count() == 1
    east = datetime(2026, 1, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    kept = getattr(entry(**{field: east}), field)
    assert (kept, kept.tzinfo) == (NOW, UTC)


def test_a_moment_that_no_calendar_holds_in_utc_is_refused() -> None:
    """The year 9999 in the far west is past the end in UTC: a ValidationError, nothing else."""
    west = datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5)))
    with pytest.raises(ValidationError, match="years 1 to 9999"):
        entry(expires_at=west)


@pytest.mark.parametrize("ttl", [10**9 * 400, 10**30])
def test_a_time_to_live_past_the_year_9999_never_ends(ttl: int) -> None:
    """`expires_at` is at most the end of time."""
    assert entry(ttl_seconds=ttl).expires_at == NEVER
    assert NEVER.year == 9999


def test_expiry_is_inclusive_and_asks_the_real_clock() -> None:
    """An entry is expired from `expires_at` on."""
    now = datetime.now(UTC)
    assert entry(expires_at=now).is_expired
    assert not entry(expires_at=now + timedelta(hours=1)).is_expired
    assert not entry(expires_at=NEVER).is_expired


def test_healthy_is_one_status_alone() -> None:
    """`is_healthy` is true of HEALTHY only, by its value."""
    assert entry().model_copy(update={"health_status": "healthy"}).is_healthy
    assert [status for status in HealthStatus if entry(health_status=status).is_healthy] == [HealthStatus.HEALTHY]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://192.0.2.7:8080", "http://192.0.2.7:8080"),
        ("HTTP://Proxy.Example:8080/", "http://proxy.example:8080"),
        ("socks5://[2001:DB8::1]:1080", "socks5://[2001:db8::1]:1080"),
    ],
)
def test_the_url_is_kept_canonical(given: str, kept: str) -> None:
    """One endpoint has one text."""
    assert entry(proxy_url=given).proxy_url == kept


@pytest.mark.parametrize(
    "fields",
    [
        {"proxy_url": f"http://bob:{SECRET}@192.0.2.7:8080"},
        {"proxy_url": f"http://{SECRET}@192.0.2.7:8080"},
        {"proxy_url": f"http://bob:{SECRET}@192.0.2.7:99999"},
        {"proxy_url": "nonsense", "password": SECRET},
        {"password": SECRET, "ttl_seconds": -1},
        {"password": [SECRET]},
        {"key": "", "username": SECRET},
        {"key": SECRET.encode(), "health_status": SECRET},
    ],
)
def test_no_secret_is_in_any_part_of_an_error(fields: dict[str, Any]) -> None:
    """Text, repr, structured errors and JSON of a ValidationError repeat nothing that was given."""
    with pytest.raises(ValidationError) as caught:
        entry(**fields)
    error = caught.value
    for told in (str(error), repr(error), repr(error.errors()), error.json(), repr(error.__cause__)):
        assert SECRET not in told
    assert SECRET not in "".join(traceback.format_exception_only(error))


def test_no_secret_shows_in_any_form_of_an_entry() -> None:
    """`repr`, `str` and JSON mask the credential; reading it takes a call by name."""
    made = entry(username="bob", password=SECRET)
    told = made.model_dump_json()
    assert SECRET not in repr(made) + str(made) + told + repr(made.model_dump())
    fields = json.loads(told)
    assert (fields["username"], fields["password"]) == ("***", "***")
    assert json.loads(entry().model_dump_json())["password"] is None
    assert made.password == SecretStr(SECRET)


def test_a_text_that_is_assigned_to_a_secret_is_taken_for_one() -> None:
    """No form of a model shows it, whatever way it came in."""
    told = entry()
    told.username, told.password = "bob", SECRET  # type: ignore[assignment]  # what is under test
    assert (told.username, told.password) == (SecretStr("bob"), SecretStr(SECRET))
    config = CacheConfig()
    config.encryption_key = SECRET  # type: ignore[assignment]  # as above
    assert config.encryption_key == SecretStr(SECRET)
    least = {name: getattr(told, name) for name in ("key", "proxy_url", "source", "fetch_time", "ttl_seconds")}
    made = (
        told,
        config,
        told.model_copy(update={"password": SECRET}),
        CacheEntry.model_construct(**least, password=SECRET),  # type: ignore[arg-type]  # as above
        told.model_copy(update={"proxy_url": f"http://bob:{SECRET}@192.0.2.7:80"}),
        told.model_copy(update={"proxy_url": f"http://bob:{SECRET}@192.0.2.7:99999"}),
    )
    for model in made:
        assert SECRET not in repr(model) + str(model)
        assert SECRET not in json.dumps(model.model_dump(mode="json", exclude={"proxy_url"}))


def test_json_has_times_in_isoformat_and_reads_other_forms() -> None:
    """A moment reads `+00:00`, with microseconds where there are some; `Z` and other zones are read as well."""
    moment = NOW + timedelta(microseconds=20)
    made = entry(fetch_time=moment, last_health_check=NOW)
    told = json.loads(made.model_dump_json())
    assert told == made.model_dump(mode="json")
    assert told["fetch_time"] == moment.isoformat() == "2026-01-01T12:00:00.000020+00:00"
    assert told["last_health_check"] == "2026-01-01T12:00:00+00:00"
    assert told["next_check_time"] is None
    assert CacheEntry.model_validate_json(made.model_dump_json()) == made
    for text in ("2026-01-01T12:00:00Z", "2026-01-01T14:00:00+02:00"):
        assert CacheEntry.model_validate({**told, "fetch_time": text}).fetch_time == NOW


def test_what_a_later_release_adds_is_passed_over() -> None:
    """Entries, their attributes and statistics ignore fields that they do not know, without a word."""
    told = json.loads(entry(attributes=Attributes(country="DE")).model_dump_json())
    told["colour"] = told["attributes"]["colour"] = "red"
    assert CacheEntry.model_validate_json(json.dumps(told)) == entry(attributes=Attributes(country="DE"))
    assert TierStatistics.model_validate({"hits": 1, "colour": "red"}).hits == 1
    assert (
        CacheStatistics.model_validate({"l1_stats": {"hits": 1, "colour": "red"}, "colour": "red"}).l1_stats.hits == 1
    )


@pytest.mark.parametrize(
    ("model", "fields", "said"),
    [
        (CacheTierConfig, {"max_entires": 5}, "CacheTierConfig has no field 'max_entires'.*'max_entries'"),
        (CacheConfig, {"failure_treshold": 5}, "CacheConfig has no field 'failure_treshold'.*'failure_threshold'"),
        (CacheConfig, {"l1_config": {"enable": 1}}, "CacheTierConfig has no field 'enable'.*'enabled'"),
    ],
)
def test_a_configuration_warns_of_what_it_does_not_know(
    model: type[BaseModel], fields: dict[str, Any], said: str
) -> None:
    """It is passed over, and the nearest known field is named, at the line that made it."""
    with pytest.warns(UserWarning, match=said) as told:
        made = model(**fields)
    assert made.model_fields_set <= {"l1_config"}
    assert "l1_config" in fields or told[0].filename == __file__


def test_a_tier_has_its_defaults_and_bounds() -> None:
    """A tier is on, unlimited and evicts the least recently used; a bound of 0 holds nothing, one below is none."""
    assert CacheTierConfig().model_dump() == {"enabled": True, "max_entries": None, "eviction_policy": "lru"}
    for policy in ("lru", "lfu", "fifo", "sieve"):
        assert CacheTierConfig(eviction_policy=policy).eviction_policy == policy
        assert CacheTierConfig.validate_policy(policy) == policy
    said = re.escape("Invalid eviction policy: mru. Must be one of ['lru', 'lfu', 'fifo', 'sieve']")
    with pytest.raises(ValidationError, match=said):
        CacheTierConfig(eviction_policy="mru")
    with pytest.raises(ValueError, match=f"^{said}$"):
        CacheTierConfig.validate_policy("mru")
    assert CacheTierConfig(max_entries=0).max_entries == 0
    with pytest.raises(ValidationError, match="max_entries must be 0 or more, or None for no bound, not -1"):
        CacheTierConfig(max_entries=-1)
    held = [CacheTierConfig(), CacheTierConfig(max_entries=1), CacheTierConfig(max_entries=0)]
    assert [tier.holds_entries for tier in (*held, CacheTierConfig(enabled=False))] == [True, True, False, False]


def test_the_configuration_has_its_defaults() -> None:
    """Every setting has the default of the contract."""
    tiers = {"enabled": True, "eviction_policy": "lru"}
    assert CacheConfig().model_dump() == {
        "l1_config": {**tiers, "max_entries": 1000},
        "l2_config": {**tiers, "max_entries": 5000},
        "l2_backend": L2BackendType.JSONL,
        "l2_tier": None,
        "l3_tier": None,
        "l3_config": {**tiers, "max_entries": None},
        "default_ttl_seconds": 3600,
        "ttl_cleanup_interval": 60,
        "enable_background_cleanup": False,
        "cleanup_interval_seconds": 60,
        "per_source_ttl": {},
        "l2_cache_dir": ".cache/proxies",
        "l3_database_path": ".cache/db/proxywhirl.db",
        "encryption_key": None,
        "key_previous": None,
        "key_file": None,
        "use_keyring": False,
        "health_check_invalidation": True,
        "failure_threshold": 3,
        "enable_statistics": True,
        "statistics_interval": 5,
        "flush_interval_seconds": 1.0,
        "durability": "process",
    }


@pytest.mark.parametrize(
    ("field", "least"),
    [
        ("default_ttl_seconds", 60),
        ("ttl_cleanup_interval", 10),
        ("cleanup_interval_seconds", 5),
        ("failure_threshold", 1),
        ("statistics_interval", 1),
    ],
)
def test_the_settings_have_their_bounds(field: str, least: int) -> None:
    """The bound itself is allowed, one less is not."""
    assert getattr(CacheConfig.model_validate({field: least}), field) == least
    with pytest.raises(ValidationError, match=f"(?s){field}.*greater than or equal to {least}"):
        CacheConfig.model_validate({field: least - 1})


@pytest.mark.parametrize(
    "fields",
    [
        {"durability": "sometimes"},
        {"flush_interval_seconds": 0},
        {"l2_backend": "xml"},
        {"per_source_ttl": {"s": -1}},
    ],
)
def test_an_impossible_configuration_is_refused(fields: dict[str, Any]) -> None:
    """Unknown and impossible values are errors."""
    with pytest.raises(ValidationError):
        CacheConfig.model_validate(fields)


def test_the_key_comes_from_the_environment_where_it_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is the default alone; an empty one is none."""
    one, other = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    monkeypatch.setenv(VARIABLE, f" {one}\n")
    assert CacheConfig().encryption_key == SecretStr(one)
    assert CacheConfig(encryption_key=SecretStr(other)).encryption_key == SecretStr(other)
    assert one not in repr(CacheConfig()) + CacheConfig().model_dump_json()
    assert json.loads(CacheConfig().model_dump_json())["encryption_key"] == "***"
    assert CacheConfig(key_previous=SecretStr(one)).model_dump(mode="json")["key_previous"] == "***"
    monkeypatch.setenv(VARIABLE, "")
    assert CacheConfig().encryption_key is None


@pytest.mark.parametrize("key", [SECRET, "A" * 43, "", "\udcff"])
def test_a_key_that_is_none_is_refused_without_being_repeated(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names setting and variable, and shows no part of what was given."""
    with pytest.raises(ValidationError, match=rf"encryption_key \(or {VARIABLE}\) is not a Fernet key") as caught:
        CacheConfig(encryption_key=SecretStr(key))
    assert SECRET not in str(caught.value) + repr(caught.value.errors()) + caught.value.json()
    monkeypatch.setenv(VARIABLE, SECRET)
    with pytest.raises(ValidationError, match=VARIABLE) as caught:
        CacheConfig()
    assert SECRET not in str(caught.value) + repr(caught.value.errors())


@pytest.mark.parametrize("model", [TierStatistics, CacheStatistics])
def test_statistics_start_at_zero_and_are_not_negative(model: type[BaseModel]) -> None:
    """All counts are zero by default; a negative one is refused."""
    counts = [name for name, value in model().model_dump().items() if isinstance(value, int) and value is not False]
    assert counts
    for name in counts:
        assert getattr(model(), name) == 0
        if name in model.model_fields:
            with pytest.raises(ValidationError):
                model.model_validate({name: -1})


def test_a_tier_computes_its_rates() -> None:
    """`hit_rate` is 0.0 where nothing was asked; `total_evictions` adds all four reasons."""
    assert TierStatistics().hit_rate == 0.0
    counts = TierStatistics(
        hits=1, misses=3, evictions_lru=1, evictions_ttl=2, evictions_health=4, evictions_corruption=8
    )
    assert (counts.hit_rate, counts.total_evictions) == (0.25, 15)
    dumped = counts.model_dump()
    assert (dumped["hit_rate"], dumped["total_evictions"]) == (0.25, 15)


def test_the_cache_computes_its_rates_and_names_its_metrics() -> None:
    """The overall rate divides all hits by those and the largest tier's misses."""
    assert CacheStatistics().overall_hit_rate == 0.0
    assert CacheStatistics().request_hit_rate == 0.0
    told = CacheStatistics(
        l1_stats=TierStatistics(hits=6, misses=4, current_size=1),
        l2_stats=TierStatistics(hits=2, misses=2, current_size=2),
        l3_stats=TierStatistics(hits=1, misses=1, current_size=4),
        promotions=5,
        demotions=7,
        requests=10,
        requests_served=9,
    )
    assert told.overall_hit_rate == pytest.approx(9 / 13)
    assert told.request_hit_rate == 0.9
    assert told.total_size == 7
    assert told.to_metrics_dict() == {
        "cache.l1.hit_rate": 0.6,
        "cache.l2.hit_rate": 0.5,
        "cache.l3.hit_rate": 0.5,
        "cache.overall.hit_rate": told.overall_hit_rate,
        "cache.total_size": 7.0,
        "cache.promotions": 5.0,
        "cache.demotions": 7.0,
        "cache.l1.size": 1.0,
        "cache.l2.size": 2.0,
        "cache.l3.size": 4.0,
    }
    assert all(isinstance(value, float) for value in told.to_metrics_dict().values())
    dumped = told.model_dump()
    assert dumped["total_size"] == 7
    assert dumped["l1_degraded"] is dumped["l2_degraded"] is dumped["l3_degraded"] is False
