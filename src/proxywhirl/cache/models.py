"""The public models of the cache: names, types, defaults and bounds are a contract.

Plain values: they hold, check and print; the manager acts on them. A secret never shows: `repr`
masks it, JSON reads `"***"`, and a validation error does not repeat its input.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    computed_field,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails

from proxywhirl import urls
from proxywhirl.models import Attributes, HealthStatus

__all__ = [
    "NEVER",
    "CacheConfig",
    "CacheEntry",
    "CacheStatistics",
    "CacheTierConfig",
    "CacheTierType",
    "HealthStatus",
    "L2BackendType",
    "TierStatistics",
]

NEVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""The `expires_at` of an entry that does not expire."""

EVICTION_POLICIES = ("lru", "lfu", "fifo", "sieve")
FERNET_KEY_BYTES = 32
CONSEQUENCE = "default_factory_not_called"  # pydantic's word for a default that another error left without its fields
KEY_VARIABLE = "PROXYWHIRL_CACHE_ENCRYPTION_KEY"
PREVIOUS_VARIABLE = "PROXYWHIRL_CACHE_KEY_PREVIOUS"

_CANONICAL_URL = re.compile(r"(?:http|https|socks4a?|socks5h?)://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\]):[1-9][0-9]{0,4}")


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as exc:
        raise ValueError("the moment is outside the years 1 to 9999 in UTC") from exc


Count = Annotated[int, Field(ge=0)]
UTCDatetime = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class CacheTierType(str, Enum):
    """The three tiers, fastest first."""

    L1 = "l1"
    L2 = "l2"
    L3 = "l3"


class L2BackendType(str, Enum):
    """How the second tier is kept on disk: JSONL below 10,000 entries, SQLite above."""

    JSONL = "jsonl"
    SQLITE = "sqlite"


def _last_accessed(data: dict[str, Any]) -> datetime:
    moment: datetime = data.get("fetch_time", NEVER)
    return moment


def _expires_at(data: dict[str, Any]) -> datetime:
    try:
        moment: datetime = data["fetch_time"] + timedelta(seconds=data["ttl_seconds"])
    except (KeyError, OverflowError):  # a field failed its own check, or the sum is past the year 9999
        return NEVER
    return min(moment, NEVER)


class _Discreet(BaseModel):
    """A model that holds secrets: what was given to it is in no part of a validation error."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="wrap")
    @classmethod
    def _without_inputs(cls, data: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return validate(data)
        except ValidationError as exc:
            errors = [_without_input(error) for error in exc.errors() if error["type"] != CONSEQUENCE]
            raise ValidationError.from_exception_data(exc.title, errors, hide_input=True) from None


def _without_input(error: ErrorDetails) -> InitErrorDetails:
    return InitErrorDetails(type=error["type"], loc=error["loc"], ctx=error.get("ctx", {}), input="***")


class CacheEntry(_Discreet):
    """A proxy as the cache remembers it: identity, credentials, time to live, health, use.

    Times are timezone-aware and kept in UTC; a naive one is refused. `access_count` counts cache
    hits, `failure_count` consecutive failures.

    >>> from datetime import datetime, timezone
    >>> entry = CacheEntry(
    ...     key="3f1c", proxy_url="http://192.0.2.7:8080", source="docs",
    ...     fetch_time=datetime(2026, 1, 1, tzinfo=timezone.utc), ttl_seconds=3600,
    ...     username="alice", password="s3cret",
    ... )
    >>> entry.expires_at.isoformat()
    '2026-01-01T01:00:00+00:00'
    >>> entry.password
    SecretStr('**********')
    >>> entry.model_dump(mode="json")["password"]
    '***'
    """

    key: str = Field(min_length=1)
    proxy_url: str
    username: SecretStr | None = None
    password: SecretStr | None = None
    source: str
    fetch_time: UTCDatetime
    ttl_seconds: Count
    last_accessed: UTCDatetime = Field(default_factory=_last_accessed)
    expires_at: UTCDatetime = Field(default_factory=_expires_at)
    access_count: Count = 0
    health_status: HealthStatus = HealthStatus.UNKNOWN
    failure_count: Count = 0
    evicted_from_l1: bool = False
    last_health_check: UTCDatetime | None = None
    consecutive_health_failures: Count = 0
    consecutive_health_successes: Count = 0
    recovery_attempt: Count = 0
    next_check_time: UTCDatetime | None = None
    last_health_error: str | None = None
    total_health_checks: Count = 0
    total_health_check_failures: Count = 0
    attributes: Attributes = Field(default_factory=Attributes)

    @field_validator("proxy_url")
    @classmethod
    def _endpoint_only(cls, value: str) -> str:
        if _CANONICAL_URL.fullmatch(value):
            return value
        url = urls.parse(value)
        if url.username is not None or url.password is not None:
            raise ValueError("proxy_url must be scheme://host:port; pass the credential as username= and password=")
        return url.canonical

    @field_serializer("username", "password", when_used="json")
    def _mask(self, value: SecretStr | None) -> str | None:
        return None if value is None else "***"

    @property
    def is_expired(self) -> bool:
        """Whether the time to live has ended by the machine's clock."""
        return datetime.now(UTC) >= self.expires_at

    @property
    def is_healthy(self) -> bool:
        """Whether the status is HEALTHY."""
        return self.health_status is HealthStatus.HEALTHY


class CacheTierConfig(BaseModel):
    """One tier: whether it is used, how much it holds (None = unlimited), what goes first when it is full.

    `eviction_policy` is `lru` (the least recently used goes first), `lfu` (the least often used), `fifo` (the oldest)
    or `sieve` (the oldest that was not used since the queue was last gone through).

    >>> CacheTierConfig(eviction_policy="mru")
    Traceback (most recent call last):
    ...
    pydantic_core._pydantic_core.ValidationError: 1 validation error for CacheTierConfig
    eviction_policy
      Value error, Invalid eviction policy: mru; use one of lru, lfu, fifo, sieve [type=value_error, ...]
        ...
    """

    model_config = ConfigDict(extra="forbid")

    enabled: bool = True
    max_entries: Annotated[int, Field(ge=1)] | None = None
    eviction_policy: str = "lru"

    @field_validator("eviction_policy")
    @classmethod
    def _known_policy(cls, value: str) -> str:
        if value not in EVICTION_POLICIES:
            raise ValueError(f"Invalid eviction policy: {value}; use one of {', '.join(EVICTION_POLICIES)}")
        return value


def _key_from_environment() -> SecretStr | None:
    return _variable(KEY_VARIABLE)


def _previous_from_environment() -> SecretStr | None:
    return _variable(PREVIOUS_VARIABLE)


def _variable(name: str) -> SecretStr | None:
    value = os.environ.get(name, "").strip()
    return SecretStr(value) if value else None


def _split(keys: SecretStr | None) -> list[SecretStr]:
    parts = [] if keys is None else keys.get_secret_value().split(",")
    return [SecretStr(part.strip()) for part in parts if part.strip()]


def check_key(text: str, setting: str) -> None:
    """Raise `ValueError`, without the text, where it is no Fernet key."""
    try:
        raw = base64.urlsafe_b64decode(text.encode())
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != FERNET_KEY_BYTES:
        raise ValueError(
            f"{setting} is not a Fernet key: it must be 32 bytes in URL-safe base64, as `proxywhirl keys generate` "
            "makes them"
        )


class CacheConfig(_Discreet):
    """How a cache is built and behaves. Times are in seconds, sizes in entries.

    `l2_tier` and `l3_tier` name a tier by its entry point, before `l2_backend` and the database. `per_source_ttl`
    maps the name of a source to the time to live of what it gives. `key_previous` holds keys, separated by commas, that
    stored credentials may still be sealed with. `key_file` is where a key is kept when none is configured (None: beside
    the database); with `use_keyring` one that is missing is made in the keyring of the operating system instead.
    `durability` is `process` (an acknowledged write survives the process) or `power` (and a power cut).
    """

    model_config = ConfigDict(validate_default=True)

    l1_config: CacheTierConfig = Field(default_factory=lambda: CacheTierConfig(max_entries=1000))
    l2_config: CacheTierConfig = Field(default_factory=lambda: CacheTierConfig(max_entries=5000))
    l2_backend: L2BackendType = L2BackendType.JSONL
    l2_tier: str | None = None
    l3_config: CacheTierConfig = Field(default_factory=CacheTierConfig)
    l3_tier: str | None = None
    default_ttl_seconds: int = Field(default=3600, ge=60)
    ttl_cleanup_interval: int = Field(default=60, ge=10)
    enable_background_cleanup: bool = False
    cleanup_interval_seconds: int = Field(default=60, ge=5)
    per_source_ttl: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    l2_cache_dir: str = ".cache/proxies"
    l3_database_path: str = ".cache/db/proxywhirl.db"
    encryption_key: SecretStr | None = Field(default_factory=_key_from_environment)
    key_previous: SecretStr | None = Field(default_factory=_previous_from_environment)
    key_file: str | None = None
    use_keyring: bool = False
    health_check_invalidation: bool = True
    failure_threshold: int = Field(default=3, ge=1)
    enable_statistics: bool = True
    statistics_interval: int = Field(default=5, ge=1)
    flush_interval_seconds: float = Field(default=1.0, gt=0)
    durability: Literal["process", "power"] = "process"

    @field_validator("encryption_key")
    @classmethod
    def _fernet_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_key(value.get_secret_value(), f"encryption_key (or {KEY_VARIABLE})")
        return value

    @field_validator("key_previous")
    @classmethod
    def _fernet_keys(cls, value: SecretStr | None) -> SecretStr | None:
        for key in _split(value):
            check_key(key.get_secret_value(), f"key_previous (or {PREVIOUS_VARIABLE})")
        return value

    @property
    def previous_keys(self) -> list[SecretStr]:
        """The keys of `key_previous`, one by one."""
        return _split(self.key_previous)

    @model_validator(mode="after")
    def _some_tier(self) -> Self:
        if not any(tier.enabled for tier in (self.l1_config, self.l2_config, self.l3_config)):
            raise ValueError("a cache needs at least one enabled tier")
        return self


class TierStatistics(BaseModel):
    """What one tier did and holds.

    >>> TierStatistics(hits=3, misses=1, evictions_ttl=2).hit_rate
    0.75
    """

    hits: Count = 0
    misses: Count = 0
    current_size: Count = 0
    evictions_lru: Count = 0
    evictions_ttl: Count = 0
    evictions_health: Count = 0
    evictions_corruption: Count = 0

    @computed_field  # type: ignore[prop-decorator]  # pydantic's documented use over a property
    @property
    def hit_rate(self) -> float:
        """Hits per question, 0.0 where nothing was asked."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0

    @computed_field  # type: ignore[prop-decorator]  # as above
    @property
    def total_evictions(self) -> int:
        """Evictions for whatever reason."""
        return self.evictions_lru + self.evictions_ttl + self.evictions_health + self.evictions_corruption


class CacheStatistics(BaseModel):
    """What the three tiers did and hold, and what moved between them.

    >>> stats = CacheStatistics(l1_stats=TierStatistics(hits=8, misses=2), l2_stats=TierStatistics(misses=2))
    >>> stats.overall_hit_rate
    0.8
    """

    l1_stats: TierStatistics = Field(default_factory=TierStatistics)
    l2_stats: TierStatistics = Field(default_factory=TierStatistics)
    l3_stats: TierStatistics = Field(default_factory=TierStatistics)
    promotions: Count = 0
    demotions: Count = 0
    requests: Count = 0
    requests_served: Count = 0
    l1_degraded: bool = False
    l2_degraded: bool = False
    l3_degraded: bool = False

    @computed_field  # type: ignore[prop-decorator]  # as above
    @property
    def overall_hit_rate(self) -> float:
        """Hits of all tiers / (those + the largest tier's misses), 0.0 where nothing was asked."""
        tiers = (self.l1_stats, self.l2_stats, self.l3_stats)
        hits = sum(tier.hits for tier in tiers)
        asked = hits + max(tier.misses for tier in tiers)
        return hits / asked if asked else 0.0

    @computed_field  # type: ignore[prop-decorator]  # as above
    @property
    def request_hit_rate(self) -> float:
        """Requests served / requests asked, 0.0 where nothing was asked."""
        return self.requests_served / self.requests if self.requests else 0.0

    @computed_field  # type: ignore[prop-decorator]  # as above
    @property
    def total_size(self) -> int:
        """The sum of the tiers' sizes: an entry in three tiers counts three times."""
        return self.l1_stats.current_size + self.l2_stats.current_size + self.l3_stats.current_size

    def to_metrics_dict(self) -> dict[str, float]:
        """Return the figures under the names that a metrics system expects."""
        return {
            "cache.l1.hit_rate": self.l1_stats.hit_rate,
            "cache.l2.hit_rate": self.l2_stats.hit_rate,
            "cache.l3.hit_rate": self.l3_stats.hit_rate,
            "cache.overall.hit_rate": self.overall_hit_rate,
            "cache.total_size": float(self.total_size),
            "cache.promotions": float(self.promotions),
            "cache.demotions": float(self.demotions),
            "cache.l1.size": float(self.l1_stats.current_size),
            "cache.l2.size": float(self.l2_stats.current_size),
            "cache.l3.size": float(self.l3_stats.current_size),
        }
