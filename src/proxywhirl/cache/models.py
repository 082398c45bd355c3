"""The public models of the cache: names, types, defaults, bounds and the order of fields are a contract.

Plain values: they hold, check and print; the manager acts on them. A secret never shows: `repr` masks it, JSON reads
`"***"`, and a validation error does not repeat its input. A model can be changed after it was checked, by assignment
or with `model_copy`; the cache checks it again before it stores it.
"""

from __future__ import annotations

import base64
import binascii
import os
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Annotated, Any, Literal, Self

from pydantic import (
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
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticKnownError

from proxywhirl import urls
from proxywhirl.errors import ProxyURLError
from proxywhirl.models import Attributes, HealthStatus

__all__ = [
    "NEVER",
    "WITHHELD",
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

WITHHELD = "***"
"""What stands for a secret in JSON and in an export; it is never a credential itself."""

EVICTION_POLICIES = ("lru", "lfu", "fifo", "sieve")
SECRETS = ("username", "password", "encryption_key", "key_previous")
MOMENTS = ("fetch_time", "last_accessed", "expires_at", "last_health_check", "next_check_time")
FERNET_KEY_BYTES = 32
FRAMES_BELOW_CALLER = 3  # of a validator that runs before the others, and of pydantic's `__init__`
CONSEQUENCE = "default_factory_not_called"  # pydantic's word for a default that another error left without its fields
KEY_VARIABLE = "PROXYWHIRL_CACHE_ENCRYPTION_KEY"
PREVIOUS_VARIABLE = "PROXYWHIRL_CACHE_KEY_PREVIOUS"

Count = Annotated[int, Field(ge=0)]


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
    return moment if moment.tzinfo is None else min(moment, NEVER)  # a naive one is refused by its own name


class _Discreet(BaseModel):
    """A model that holds secrets: what was given to it is in no part of a validation error, and none is shown."""

    model_config = ConfigDict(hide_input_in_errors=True)

    @model_validator(mode="wrap")
    @classmethod
    def _without_inputs(cls, data: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return validate(data)
        except ValidationError as exc:
            errors = [_without_input(error) for error in exc.errors() if error["type"] != CONSEQUENCE]
            raise ValidationError.from_exception_data(exc.title, errors, hide_input=True) from None

    @field_serializer(*SECRETS, when_used="json", check_fields=False)
    def _mask(self, value: object) -> str | None:
        return None if value is None else WITHHELD

    def __setattr__(self, name: str, value: Any) -> None:
        """Take a plain text that is assigned to a secret for one."""
        super().__setattr__(name, SecretStr(value) if name in SECRETS and isinstance(value, str) else value)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Mask what `model_copy` and `model_construct` have let in as it was."""
        for name, value in super().__repr_args__():
            if name in SECRETS and isinstance(value, str):
                yield name, SecretStr(value)
            else:
                yield name, _without_credential(value) if name == "proxy_url" else value


def _without_credential(url: object) -> object:
    try:
        return urls.parse(url).canonical if isinstance(url, str) else url
    except ProxyURLError:
        return urls.redact(str(url))


class _Lenient(BaseModel):
    """A configuration: a field that it does not know is passed over, and said so."""

    @model_validator(mode="before")
    @classmethod
    def _tell_unknown(cls, data: Any) -> Any:
        for name in data if isinstance(data, dict) else ():
            if name not in cls.model_fields:
                import difflib  # noqa: PLC0415  # this is rare

                nearest = difflib.get_close_matches(str(name), cls.model_fields, n=1, cutoff=0.0)[0]
                message = f"{cls.__name__} has no field {name!r}: it is ignored; the nearest is {nearest!r}"
                warnings.warn(message, UserWarning, stacklevel=FRAMES_BELOW_CALLER + issubclass(cls, _Discreet))
        return data


def _without_input(error: ErrorDetails) -> InitErrorDetails:
    return InitErrorDetails(type=error["type"], loc=error["loc"], ctx=error.get("ctx", {}), input="***")


class CacheEntry(_Discreet):
    """A proxy as the cache remembers it: identity, credentials, time to live, health, use.

    Times are timezone-aware and kept in UTC; a naive one is refused. `access_count` counts cache
    hits, `failure_count` failures in a row, by which it is taken out of service.

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

    key: str = Field(description="What the entry is found under: a hash of the proxy's identity, or any other text.")
    proxy_url: str = Field(
        description="The proxy's endpoint as scheme://host:port, in its canonical spelling and without a credential."
    )
    username: SecretStr | None = Field(
        default=None, description="What to log in to the proxy with; a part of its identity, sealed at rest."
    )
    password: SecretStr | None = Field(
        default=None, description="The password that goes with the username; sealed at rest."
    )
    source: str = Field(description="Who gave the proxy: the name of a source, of a file or of an import.")
    fetch_time: datetime = Field(description="When the proxy was fetched: aware of its timezone, kept in UTC.")
    last_accessed: datetime = Field(
        default_factory=_last_accessed,
        description="When the entry was served last; the time of fetching until it has been.",
    )
    access_count: int = Field(default=0, description="How often the entry was served.")
    ttl_seconds: Count = Field(description="For how many seconds after it was fetched the entry lives.")
    expires_at: datetime = Field(
        default_factory=_expires_at,
        description="From when on the entry is a miss: the time to live after fetching, at most the end of year 9999.",
    )
    health_status: HealthStatus = Field(default=HealthStatus.UNKNOWN, description="How well the proxy works.")
    failure_count: Count = Field(
        default=0, description="Failures in a row that checks, requests or invalidate_by_health found."
    )
    evicted_from_l1: bool = Field(
        default=False,
        description="Whether a tier below served the entry after this process had evicted it from the first one.",
    )
    last_health_check: datetime | None = Field(default=None, description="When the proxy was checked last.")
    consecutive_health_failures: Count = Field(
        default=0, description="Failures in a row that checks or requests found; the status goes by it."
    )
    consecutive_health_successes: Count = Field(
        default=0, description="Successes in a row of health checks or requests."
    )
    recovery_attempt: Count = Field(default=0, description="Which trial of its recovery the last health check was.")
    next_check_time: datetime | None = Field(default=None, description="When the next health check is due.")
    last_health_error: str | None = Field(
        default=None, description="Why the last health check failed; nothing after a success."
    )
    total_health_checks: Count = Field(default=0, description="All health checks of the proxy.")
    total_health_check_failures: Count = Field(default=0, description="Those of all its health checks that failed.")
    attributes: Attributes = Field(
        default_factory=Attributes, description="What else is known of the proxy, such as its country."
    )

    @field_validator("key")
    @classmethod
    def _key_is_there(cls, value: str) -> str:
        if not value:
            raise ValueError("a key is a text that is not empty, such as CacheManager.generate_cache_key gives")
        return value

    @field_validator("proxy_url")
    @classmethod
    def _endpoint_only(cls, value: str) -> str:
        if urls.is_plain_canonical(value):
            return value
        url = urls.parse(value)
        if url.username is not None or url.password is not None:
            raise ValueError("proxy_url must be scheme://host:port; pass the credential as username= and password=")
        return url.canonical

    @field_validator("access_count")
    @classmethod
    def _counted(cls, value: int) -> int:
        if value < 0:
            raise PydanticKnownError("greater_than_equal", {"ge": 0})
        return value

    @field_validator(*MOMENTS)
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        if value is None:
            return None
        if value.utcoffset() is None:
            raise PydanticKnownError("timezone_aware")
        try:
            return value.astimezone(UTC)
        except OverflowError as exc:
            raise ValueError("the moment is outside the years 1 to 9999 in UTC") from exc

    @field_serializer(*MOMENTS, when_used="json")
    def _iso(self, value: datetime | None) -> str | None:
        return value.isoformat() if isinstance(value, datetime) else value

    @property
    def is_expired(self) -> bool:
        """Whether the time to live has ended by the machine's clock."""
        return datetime.now(UTC) >= self.expires_at

    @property
    def is_healthy(self) -> bool:
        """Whether the status is HEALTHY."""
        return self.health_status == HealthStatus.HEALTHY


class CacheTierConfig(_Lenient):
    """One tier: whether it is used, how much it holds, what goes first when it is full.

    `eviction_policy` is `lru` (the least recently used goes first), `lfu` (the least often used), `fifo` (the oldest)
    or `sieve` (the oldest that was not used since the queue was last gone through).

    >>> CacheTierConfig(eviction_policy="mru")
    Traceback (most recent call last):
    ...
    pydantic_core._pydantic_core.ValidationError: 1 validation error for CacheTierConfig
    eviction_policy
      Value error, Invalid eviction policy: mru. Must be one of ['lru', 'lfu', 'fifo', 'sieve'] [type=value_error, ...]
        ...
    """

    enabled: bool = Field(default=True, description="Whether the tier is used at all.")
    max_entries: int | None = Field(
        default=None,
        description="How many entries the tier holds: None for any number; with 0 it holds nothing, as if it were off.",
    )
    eviction_policy: str = Field(
        default="lru", description="What leaves a full tier first: one of lru, lfu, fifo and sieve."
    )

    @field_validator("max_entries")
    @classmethod
    def _no_negative_bound(cls, value: int | None) -> int | None:
        if value is not None and value < 0:
            raise ValueError(f"max_entries must be 0 or more, or None for no bound, not {value}")
        return value

    @field_validator("eviction_policy")
    @classmethod
    def validate_policy(cls, value: str) -> str:
        """Return the name of a policy.

        Raises:
            ValueError: there is none of this name.
        """
        if value not in EVICTION_POLICIES:
            raise ValueError(f"Invalid eviction policy: {value}. Must be one of {list(EVICTION_POLICIES)}")
        return value

    @property
    def holds_entries(self) -> bool:
        """Whether the tier is used and has room for anything."""
        return self.enabled and self.max_entries != 0


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
        shape = "it must be 32 bytes in URL-safe base64, as `proxywhirl keys generate` makes them"
        raise ValueError(f"{setting} is not a Fernet key: {shape}")


class CacheConfig(_Discreet, _Lenient):
    """How a cache is built and behaves. Times are in seconds, sizes in entries.

    A cache none of whose tiers holds entries holds nothing: it takes no entry and gives none.
    """

    model_config = ConfigDict(validate_default=True)

    l1_config: CacheTierConfig = Field(
        default_factory=lambda: CacheTierConfig(max_entries=1000), description="The first tier, in memory."
    )
    l2_config: CacheTierConfig = Field(
        default_factory=lambda: CacheTierConfig(max_entries=5000), description="The second tier, in files."
    )
    l2_backend: L2BackendType = Field(
        default=L2BackendType.JSONL, description="How the second tier keeps its files: jsonl or sqlite."
    )
    l3_config: CacheTierConfig = Field(
        default_factory=CacheTierConfig, description="The third tier, a database that holds everything."
    )
    default_ttl_seconds: int = Field(
        default=3600, ge=60, description="Seconds that an entry lives where neither the call nor its source says."
    )
    ttl_cleanup_interval: int = Field(
        default=60, ge=10, description="Seconds between the sweeps of expired entries that calls do as they come."
    )
    enable_background_cleanup: bool = Field(
        default=False, description="Whether a thread removes expired entries, instead of the calls."
    )
    cleanup_interval_seconds: int = Field(default=60, ge=5, description="Seconds between the sweeps of that thread.")
    per_source_ttl: dict[str, int] = Field(
        default_factory=dict,
        description="Seconds that entries live by the name of their source; with 0 they expire at once.",
    )
    l2_cache_dir: str = Field(default=".cache/proxies", description="The directory of the second tier.")
    l3_database_path: str = Field(
        default=".cache/db/proxywhirl.db", description="The file of the third tier's database."
    )
    encryption_key: SecretStr | None = Field(
        default_factory=lambda: _variable(KEY_VARIABLE),
        description=f"The Fernet key that seals credentials at rest; where it is not given, {KEY_VARIABLE}.",
    )
    health_check_invalidation: bool = Field(
        default=True, description="Whether an entry is taken out of service when failure_threshold is reached."
    )
    failure_threshold: int = Field(
        default=3, ge=1, description="How many failures in a row take an entry out of service."
    )
    enable_statistics: bool = Field(default=True, description="Whether hits, misses and movements are counted.")
    statistics_interval: int = Field(
        default=5, ge=1, description="Seconds between the points of the statistics' history."
    )
    flush_interval_seconds: float = Field(
        default=1.0, gt=0, description="Seconds after which access counts and times reach the tiers on disk."
    )
    durability: Literal["process", "power"] = Field(
        default="process",
        description="What an acknowledged write survives: the death of the process, or with power a power cut too.",
    )
    l2_tier: str | None = Field(
        default=None, description="The second tier by the name of its entry point, before l2_backend."
    )
    l3_tier: str | None = Field(
        default=None, description="The third tier by the name of its entry point, before the database."
    )
    key_previous: SecretStr | None = Field(
        default_factory=lambda: _variable(PREVIOUS_VARIABLE),
        description="Keys that stored credentials may still be sealed with, separated by commas; they only open.",
    )
    key_file: str | None = Field(
        default=None, description="Where a key is kept when none is configured; None for beside the database."
    )
    use_keyring: bool = Field(
        default=False, description="Whether a key that has to be made is kept in the keyring of the operating system."
    )

    @field_validator("per_source_ttl")
    @classmethod
    def _no_negative_time(cls, value: dict[str, int]) -> dict[str, int]:
        for source, ttl in value.items():
            if ttl < 0:
                raise ValueError(f"the time to live of source {source!r} must be 0 or more seconds, not {ttl}")
        return value

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


class TierStatistics(BaseModel):
    """What one tier did and holds.

    >>> TierStatistics(hits=3, misses=1, evictions_ttl=2).hit_rate
    0.75
    """

    hits: Count = Field(default=0, description="Questions that the tier answered.")
    misses: Count = Field(default=0, description="Questions that the tier was asked in vain.")
    current_size: Count = Field(default=0, description="Entries that the tier holds and serves now.")
    evictions_lru: Count = Field(default=0, description="Entries that left to make room, by whatever policy.")
    evictions_ttl: Count = Field(default=0, description="Entries that left since their time to live had ended.")
    evictions_health: Count = Field(default=0, description="Entries that were held when they were put out of service.")
    evictions_corruption: Count = Field(default=0, description="Damaged records that were set aside.")

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

    l1_stats: TierStatistics = Field(default_factory=TierStatistics, description="The figures of the first tier.")
    l2_stats: TierStatistics = Field(default_factory=TierStatistics, description="The figures of the second tier.")
    l3_stats: TierStatistics = Field(default_factory=TierStatistics, description="The figures of the third tier.")
    promotions: Count = Field(default=0, description="Tiers that were filled by an entry that was found below them.")
    demotions: Count = Field(default=0, description="Evictions for want of room while a tier below has the entry.")
    l1_degraded: bool = Field(default=False, description="Whether the first tier is left out; memory never is.")
    l2_degraded: bool = Field(default=False, description="Whether the second tier failed and is left out for now.")
    l3_degraded: bool = Field(default=False, description="Whether the third tier failed and is left out for now.")
    requests: Count = Field(default=0, description="Keys that were asked for.")
    requests_served: Count = Field(default=0, description="Keys that were asked for and served, from whichever tier.")

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
