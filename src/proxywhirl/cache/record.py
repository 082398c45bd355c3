"""The compact form in which an entry travels between and inside the tiers, and what may be in it. Pure.

Times are Unix seconds, attributes and the health status are their stored text, credentials are sealed (see `sealing`)
or, before they were first stored, plain. `CacheEntry` is built at the border only.

- `check_storable`: whether every tier can hold a record.
- `brought_in_range`: a record that an earlier release stored and this one refuses, with the nearest values.
- `fault_of`: whether a reader can make sense of a record. The tables of SQLite have no checksums.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any

from proxywhirl.errors import TierError, UnstorableValue
from proxywhirl.models import Attributes, HealthStatus
from proxywhirl.urls import SCHEMES, ProxyURL
from proxywhirl.validation import FIRST_MOMENT, LARGEST, LAST_MOMENT, require, require_count, require_moment

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

    A new field that is to be stored stands right before `plain`, since rows are read by place (`COLUMNS`).
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

    Never fails, since a tier may hold what is no URL: without a port it gets -1, which cannot be connected to.
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
    """Whether a value is refused now and was not always, so that it may be stored; any other refused one is damage."""
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


VALUE_FAULTS = (OverflowError, TypeError, ValueError)
"""The errors of a library for a value that it cannot read."""

NO_CREDENTIALS = (None, None)
COUNTS = {  # by the names of the fields of an entry, which messages say
    "ttl": "ttl_seconds",
    "access_count": "access_count",
    "failure_count": "failure_count",
    "check_failures": "consecutive_health_failures",
    "check_successes": "consecutive_health_successes",
    "recovery_attempt": "recovery_attempt",
    "checks": "total_health_checks",
    "failed_checks": "total_health_check_failures",
}
_MOMENTS = {"fetched_at": "fetch_time", "accessed_at": "last_accessed", "expires_at": "expires_at"}
_CHECKS = {"last_check_at": "last_health_check", "next_check_at": "next_check_time"}
_TEXTS = {"key": "key", "url": "proxy_url", "source": "source", "attributes": "attributes"}
_STATUSES = {status.value for status in HealthStatus}


def check_storable(record: Record) -> Record:
    """Return the record; integers are of 64 bits in a database, times of the years 1 to 9999, texts in UTF-8.

    Raises:
        TypeError: a field is of another kind.
        UnstorableValue: a number is too large, a time is of no year, or a text has half a character (a lone surrogate).
    """
    try:
        if _is_plainly_storable(record):
            return record
    except TypeError:  # it is named below
        pass
    try:
        _check(record)
    except ValueError as exc:  # without its cause, which might show a secret
        raise _fault(record.key, exc) from None
    return record


def refused(records: Iterable[Record], why: Exception) -> Exception:
    """Return the error that names what of records a library could not take; `why` where all are well."""
    for record in records:
        try:
            check_storable(record)
        except UnstorableValue as exc:
            return exc
        except TypeError as exc:
            return _fault(record.key, exc)
    return why


def brought_in_range(record: Record) -> Record:
    """Return a record with the nearest numbers and times to those that an earlier release stored and this one refuses.

    What is no number stays as it is.
    """
    try:
        check_storable(record)
    except (TypeError, UnstorableValue):
        near = {name: _nearest_count(getattr(record, name)) for name in COUNTS}
        near |= {name: _nearest_moment(getattr(record, name)) for name in (*_MOMENTS, *_CHECKS)}
        return replace(record, **near)
    return record


def _nearest_count(number: Any) -> Any:
    if not isinstance(number, int | float) or number != number:  # noqa: PLR0124  # none (NaN)
        return number
    return int(min(max(number, 0), LARGEST)) if number < LARGEST else LARGEST


def _nearest_moment(at: Any) -> Any:
    if not isinstance(at, int | float):
        return at
    return None if at != at else min(max(at, FIRST_MOMENT), LAST_MOMENT)  # noqa: PLR0124  # as above


def storable_attributes(key: str, attributes: Attributes) -> str:
    """Return the text of attributes that are found out about an entry.

    Raises:
        TypeError: they are none.
        UnstorableValue: one of them has half a character.
    """
    require("what is known of an entry", attributes, Attributes, "an Attributes")
    text = encode_attributes(attributes)
    try:
        _check_text("attributes", text, optional=False)
    except ValueError as exc:
        raise _fault(key, exc) from None
    return text


def counted(count: int, more: int = 1) -> int:
    """Add to a count, which stays at the largest number that can be stored.

    >>> counted(7), counted(LARGEST) == LARGEST
    (8, True)
    """
    return min(count + more, LARGEST)


def storable_text(text: str) -> str:
    """Return a text as it can be stored: halves of characters are written as escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _fault(key: str, why: Exception) -> UnstorableValue:
    fault = UnstorableValue(f"entry {key!a}: {why}")
    fault.key = key
    return fault


def _is_plainly_storable(record: Record) -> bool:
    """Whether it is as nearly all are, in the least time."""
    numbers = (
        record.ttl
        | record.access_count
        | record.failure_count
        | record.check_failures
        | record.check_successes
        | record.recovery_attempt
        | record.checks
        | record.failed_checks
    )
    plain, key, url, source = record.plain, record.key, record.url, record.source
    username, password = plain or NO_CREDENTIALS
    return (
        type(numbers) is int
        and 0 <= numbers <= LARGEST
        and FIRST_MOMENT <= record.fetched_at <= LAST_MOMENT
        and FIRST_MOMENT <= record.accessed_at <= LAST_MOMENT
        and FIRST_MOMENT <= record.expires_at <= LAST_MOMENT
        and ((at := record.last_check_at) is None or FIRST_MOMENT <= at <= LAST_MOMENT)
        and ((at := record.next_check_at) is None or FIRST_MOMENT <= at <= LAST_MOMENT)
        and ((error := record.error) is None or type(error) is str)
        and type(key) is type(url) is type(source) is str
        and f"{key}{url}{source}{error}{record.attributes}{username}{password}".isascii()
        and record.status in _STATUSES
    )


def _check(record: Record) -> None:
    for name, called in COUNTS.items():
        require_count(called, getattr(record, name))
    for name, called in (_MOMENTS | _CHECKS).items():
        if (at := getattr(record, name)) is not None or name in _MOMENTS:
            require_moment(called, at)
    for name, called in _TEXTS.items():
        _check_text(called, getattr(record, name), optional=False)
    _check_text("last_health_error", record.error, optional=True)
    for called, secret in zip(("username", "password"), record.plain or (), strict=False):
        _check_text(called, secret, optional=True)
    require("health_status", record.status, str, "a text")
    if record.status not in _STATUSES:
        raise ValueError(f"health_status must be one of {', '.join(sorted(_STATUSES))}")


def _check_text(name: str, text: object, *, optional: bool) -> None:
    if text is None and optional:
        return
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a text, not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError:  # without its text and its cause, which would show a secret
        raise ValueError(f"{name} cannot be stored: it holds half a character (a lone surrogate)") from None


UNREADABLE = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, OSError)
"""What the values of a damaged record raise where they are used: unknown status, impossible time, no JSON."""


class UnsoundError(TierError):
    """A record is not what was written."""

    def __init__(self, key: str) -> None:
        super().__init__(f"what is stored under {key} is damaged: run `proxywhirl doctor --repair`")
        self.key = key


def fault_of(record: Record) -> str | None:
    """Say what in a record makes no sense; None where all of it does."""
    try:
        return _fault_of_kind(record) or _fault_of_value(record)
    except UNREADABLE:
        return "one of its values is of another kind"


def _fault_of_kind(record: Record) -> str | None:
    """Look at the types: damage to the head of a row makes them others than its table's."""
    error = "" if record.error is None else record.error
    sealed = "" if record.sealed is None else record.sealed
    texts = (record.key, record.url, record.source, error, record.attributes, sealed)
    numbers = (
        record.ttl,
        record.access_count,
        record.failure_count,
        record.check_failures,
        record.check_successes,
        record.recovery_attempt,
        record.checks,
        record.failed_checks,
        record.generation,
    )
    if {*map(type, texts)} != {str}:
        return "one of its texts is none"
    return None if {*map(type, numbers)} == {int} else "one of its numbers is none"


def _fault_of_value(record: Record) -> str | None:
    if record.status not in _STATUSES:
        return "its status is none"
    if not (
        FIRST_MOMENT <= record.fetched_at <= NEVER_TIMESTAMP
        and FIRST_MOMENT <= record.accessed_at <= NEVER_TIMESTAMP
        and record.expires_at >= FIRST_MOMENT
        and (record.last_check_at is None or FIRST_MOMENT <= record.last_check_at <= NEVER_TIMESTAMP)
        and (record.next_check_at is None or FIRST_MOMENT <= record.next_check_at <= NEVER_TIMESTAMP)
    ):
        return "one of its times is none"
    if record.attributes and not _are_attributes(record.attributes):
        return "its attributes are none"
    scheme, separator, authority = record.url.partition("://")
    if not separator or scheme not in SCHEMES or not authority.rpartition(":")[2].isdecimal():
        return "its URL is none"
    return None


@lru_cache(maxsize=4096)
def _are_attributes(text: str) -> bool:
    try:
        decode_attributes(text)
    except UNREADABLE:
        return False
    return True
