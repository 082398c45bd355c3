"""The contract of the cache's models, field by field, as pydantic's own introspection tells it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from proxywhirl.cache import (
    CacheConfig,
    CacheEntry,
    CacheStatistics,
    CacheTierConfig,
    HealthStatus,
    L2BackendType,
    TierStatistics,
)
from proxywhirl.models import Attributes

REQUIRED = PydanticUndefined
MADE = object()
"""Stands for a default that is made anew for each model, or out of other fields."""

Row = tuple[str, Any, Any, dict[str, Any]]
"""Name, type, default and bounds of a field."""


def counts(*names: str) -> list[Row]:
    """Return the rows of fields that count from 0."""
    return [(name, int, 0, {"ge": 0}) for name in names]


CONTRACT: dict[type[BaseModel], list[Row]] = {
    CacheEntry: [
        ("key", str, REQUIRED, {}),
        ("proxy_url", str, REQUIRED, {}),
        ("username", SecretStr | None, None, {}),
        ("password", SecretStr | None, None, {}),
        ("source", str, REQUIRED, {}),
        ("fetch_time", datetime, REQUIRED, {}),
        ("last_accessed", datetime, MADE, {}),
        ("access_count", int, 0, {}),
        ("ttl_seconds", int, REQUIRED, {"ge": 0}),
        ("expires_at", datetime, MADE, {}),
        ("health_status", HealthStatus, HealthStatus.UNKNOWN, {}),
        *counts("failure_count"),
        ("evicted_from_l1", bool, False, {}),
        ("last_health_check", datetime | None, None, {}),
        *counts("consecutive_health_failures", "consecutive_health_successes", "recovery_attempt"),
        ("next_check_time", datetime | None, None, {}),
        ("last_health_error", str | None, None, {}),
        *counts("total_health_checks", "total_health_check_failures"),
        ("attributes", Attributes, MADE, {}),
    ],
    CacheTierConfig: [
        ("enabled", bool, True, {}),
        ("max_entries", int | None, None, {}),
        ("eviction_policy", str, "lru", {}),
    ],
    CacheConfig: [
        ("l1_config", CacheTierConfig, MADE, {}),
        ("l2_config", CacheTierConfig, MADE, {}),
        ("l2_backend", L2BackendType, L2BackendType.JSONL, {}),
        ("l3_config", CacheTierConfig, MADE, {}),
        ("default_ttl_seconds", int, 3600, {"ge": 60}),
        ("ttl_cleanup_interval", int, 60, {"ge": 10}),
        ("enable_background_cleanup", bool, False, {}),
        ("cleanup_interval_seconds", int, 60, {"ge": 5}),
        ("per_source_ttl", dict[str, int], MADE, {}),
        ("l2_cache_dir", str, ".cache/proxies", {}),
        ("l3_database_path", str, ".cache/db/proxywhirl.db", {}),
        ("encryption_key", SecretStr | None, MADE, {}),
        ("health_check_invalidation", bool, True, {}),
        ("failure_threshold", int, 3, {"ge": 1}),
        ("enable_statistics", bool, True, {}),
        ("statistics_interval", int, 5, {"ge": 1}),
        ("flush_interval_seconds", float, 1.0, {"gt": 0}),
        ("durability", Literal["process", "power"], "process", {}),
        ("l2_tier", str | None, None, {}),
        ("l3_tier", str | None, None, {}),
        ("key_previous", SecretStr | None, MADE, {}),
        ("key_file", str | None, None, {}),
        ("use_keyring", bool, False, {}),
    ],
    TierStatistics: counts(
        "hits",
        "misses",
        "current_size",
        "evictions_lru",
        "evictions_ttl",
        "evictions_health",
        "evictions_corruption",
    ),
    CacheStatistics: [
        *((f"l{n}_stats", TierStatistics, MADE, {}) for n in (1, 2, 3)),
        *counts("promotions", "demotions"),
        *((f"l{n}_degraded", bool, False, {}) for n in (1, 2, 3)),
        *counts("requests", "requests_served"),
    ],
}
COMPUTED: dict[type[BaseModel], dict[str, type]] = {
    TierStatistics: {"hit_rate": float, "total_evictions": int},
    CacheStatistics: {"overall_hit_rate": float, "request_hit_rate": float, "total_size": int},
}


@pytest.mark.parametrize("model", CONTRACT, ids=lambda model: model.__name__)
def test_a_model_has_its_fields_in_their_order(model: type[BaseModel]) -> None:
    """Name, type, default and bounds of each field are as the table says, and there is no other."""
    told: list[Row] = []
    for name, field in model.model_fields.items():
        bounds = {word: getattr(part, word) for part in field.metadata for word in ("ge", "gt") if hasattr(part, word)}
        told.append((name, field.annotation, MADE if field.default_factory else field.default, bounds))
    assert told == CONTRACT[model]


@pytest.mark.parametrize("model", CONTRACT, ids=lambda model: model.__name__)
def test_every_field_says_what_it_is_for(model: type[BaseModel]) -> None:
    """Fields and computed fields have a description of their own, a sentence, in the schema too."""
    fields = [*model.model_fields, *model.model_computed_fields]
    descriptions = [field.description for field in model.model_fields.values()]
    descriptions += [field.description for field in model.model_computed_fields.values()]
    assert all(text and text[0].isupper() and text.endswith(".") for text in descriptions)
    assert len(set(descriptions)) == len(descriptions)
    schema = model.model_json_schema(mode="serialization")["properties"]
    assert [schema[name]["description"] for name in fields] == descriptions
    assert list(model.model_json_schema()["properties"]) == list(model.model_fields)


def test_every_attribute_says_what_it_is_for() -> None:
    """The schema of an entry describes what is in its attributes."""
    told = CacheEntry.model_json_schema()["$defs"]["Attributes"]["properties"]
    assert list(told) == list(Attributes.__slots__)
    assert all(field["description"].endswith(".") for field in told.values())


@pytest.mark.parametrize("model", COMPUTED, ids=lambda model: model.__name__)
def test_a_model_computes_what_the_contract_says(model: type[BaseModel]) -> None:
    """The names and types of its computed fields."""
    assert {name: field.return_type for name, field in model.model_computed_fields.items()} == COMPUTED[model]


def test_what_is_made_is_made_as_the_contract_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The defaults that the table cannot show."""
    monkeypatch.delenv("PROXYWHIRL_CACHE_ENCRYPTION_KEY", raising=False)
    monkeypatch.delenv("PROXYWHIRL_CACHE_KEY_PREVIOUS", raising=False)
    config = CacheConfig()
    assert [tier.max_entries for tier in (config.l1_config, config.l2_config, config.l3_config)] == [1000, 5000, None]
    assert (config.per_source_ttl, config.encryption_key, config.key_previous) == ({}, None, None)
    fetched = datetime(2026, 1, 1, tzinfo=UTC)
    entry = CacheEntry(key="k", proxy_url="http://192.0.2.1:80", source="s", fetch_time=fetched, ttl_seconds=60)
    assert (entry.last_accessed, entry.expires_at) == (fetched, fetched.replace(minute=1))
    assert entry.attributes == Attributes()
    assert CacheStatistics().l1_stats == TierStatistics()
