"""The compact form in which an entry travels between and inside the tiers.

Times are Unix seconds, attributes and the health status are their stored text, credentials are
sealed (see `crypto`) or, before they were first stored, plain. `CacheEntry` is built at the border only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

from proxywhirl.arguments import LAST_MOMENT
from proxywhirl.models import Attributes
from proxywhirl.urls import ProxyURL

__all__ = ["COLUMNS", "NEVER_TIMESTAMP", "Credentials", "Record", "decode_attributes", "encode_attributes", "split_url"]

_PORT_DIGITS = 9  # more are no port, and Python reads no number of thousands
NEVER_TIMESTAMP = LAST_MOMENT

Credentials = tuple[str | None, str | None]


@dataclass(slots=True, repr=False)
class Record:
    """One entry. `revision` is the log position of its last change, `generation` that of its insertion.

    An update that was decided on one generation must not be applied to another: the entry was deleted
    or replaced meanwhile. A retired record is kept for its history and not served.

    `stored_count` is how much of `access_count` the authority has, `saved_count` how much of it was handed on, `noted`
    whether the record waits for that, `snapshot` what copies of its entry are made from: they belong to the first
    tier alone.
    """

    key: str
    url: str
    source: str
    fetched_at: float
    ttl: int
    expires_at: float
    accessed_at: float
    access_count: int = 0
    status: str = "unknown"
    failure_count: int = 0
    last_check_at: float | None = None
    check_failures: int = 0
    check_successes: int = 0
    recovery_attempt: int = 0
    next_check_at: float | None = None
    error: str | None = None
    checks: int = 0
    failed_checks: int = 0
    attributes: str = ""
    sealed: str | None = None
    retired: bool = False
    revision: int = 0
    generation: int = 0
    plain: Credentials | None = None
    stored_count: int = field(default=0, init=False, compare=False)
    saved_count: int = field(default=0, init=False, compare=False)
    noted: bool = field(default=False, init=False, compare=False)
    snapshot: dict[str, Any] | None = field(default=None, init=False, compare=False)

    def __repr__(self) -> str:
        """Name the record without anything that could be a secret."""
        return f"Record({self.key!r}, {self.url!r}, revision={self.revision})"

    @property
    def has_credentials(self) -> bool:
        """Whether there is a username or a password, read or not."""
        return self.sealed is not None or self.plain is not None

    def stored(self) -> dict[str, Any]:
        """Return the fields that a durable tier keeps, by name: all but the plain credentials."""
        return {name: getattr(self, name) for name in COLUMNS}

    def endpoint(self, credentials: Credentials | None) -> ProxyURL:
        """Return the URL to connect to, with the given credential."""
        username, password = credentials or (None, None)
        return ProxyURL(*split_url(self.url), username, password)


def split_url(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a stored URL.

    Never fails, since a tier may hold what is no URL: what has no port gets -1, to which nothing can be connected.
    """
    scheme, _, authority = url.partition("://")
    host, _, port = authority.rpartition(":")
    return scheme, host, int(port) if port.isdecimal() and len(port) <= _PORT_DIGITS else -1


_TAKEN_UNSEEN = {"label", "region", "city", "provider", "anonymity"}
COLUMNS: tuple[str, ...] = tuple(f.name for f in fields(Record) if f.init and f.name != "plain")


@lru_cache(maxsize=4096)
def encode_attributes(attributes: Attributes) -> str:
    """Return the named attributes as compact JSON, "" where there are none."""
    named = attributes.named()
    return json.dumps(named, separators=(",", ":"), ensure_ascii=False) if named else ""


@lru_cache(maxsize=4096)
def decode_attributes(text: str) -> Attributes:
    """Read back what `encode_attributes` wrote."""
    if not text:
        return Attributes()
    named = json.loads(text)
    named["tags"] = tuple(named.get("tags", ()))
    try:
        return Attributes(**named)
    except (TypeError, ValueError):
        return Attributes(**{name: value for name, value in named.items() if not _was_taken(name, value)})


def _was_taken(name: str, value: Any) -> bool:
    """Whether a value is refused now and was not always, so that it may be stored; what ever was is damage."""
    if name == "tags":
        return not all(isinstance(tag, str) for tag in value)
    is_number = isinstance(value, int | float)
    if name in {"asn", "weight", "price_per_gb"}:
        return is_number and value >= 0 and not _is_one(name, value)
    return name in _TAKEN_UNSEEN and not _is_one(name, value)


def _is_one(name: str, value: Any) -> bool:
    try:
        Attributes(**{name: value})
    except (TypeError, ValueError):
        return False
    return True
