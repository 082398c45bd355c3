"""Whether every tier can hold a record: what one of them refuses is the fault of a value, not of the tier."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from proxywhirl.arguments import FIRST_MOMENT, LARGEST, LAST_MOMENT, require, require_count, require_moment
from proxywhirl.cache.record import Record, encode_attributes
from proxywhirl.errors import UnstorableValue
from proxywhirl.models import Attributes, HealthStatus

__all__ = [
    "LARGEST",
    "VALUE_FAULTS",
    "brought_in_range",
    "check_storable",
    "counted",
    "refused",
    "storable_attributes",
    "storable_text",
]

VALUE_FAULTS = (OverflowError, TypeError, ValueError)
"""What a library raises that was given a value of which it can make nothing."""

NO_CREDENTIALS = (None, None)
_COUNTS = {  # by the names of the fields of an entry, which messages say
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
    except ValueError as exc:  # its cause might show a secret
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
        near = {name: _nearest_count(getattr(record, name)) for name in _COUNTS}
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
    """Whether it is as nearly all are, looked at in the least time."""
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
    for name, called in _COUNTS.items():
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
    except UnicodeEncodeError:  # its text and its cause would show a secret
        raise ValueError(f"{name} cannot be stored: it holds half a character (a lone surrogate)") from None
