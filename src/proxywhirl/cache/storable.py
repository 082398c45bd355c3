"""Whether every tier can hold a record: what one of them refused would count as the tier's sickness."""

from __future__ import annotations

from proxywhirl.cache.record import Record

__all__ = ["LARGEST", "check_storable", "counted", "storable_text"]

LARGEST = 2**63 - 1
NO_CREDENTIALS = (None, None)
# By the fields of a record, what its callers know them as.
_NUMBERS = {
    "ttl": "ttl_seconds",
    "access_count": "access_count",
    "failure_count": "failure_count",
    "check_failures": "consecutive_health_failures",
    "check_successes": "consecutive_health_successes",
    "recovery_attempt": "recovery_attempt",
    "checks": "total_health_checks",
    "failed_checks": "total_health_check_failures",
}
_TEXTS = {
    "key": "key",
    "url": "proxy_url",
    "source": "source",
    "error": "last_health_error",
    "attributes": "attributes",
}


def check_storable(record: Record) -> Record:
    """Return the record; integers are of 64 bits in a database, and texts are written in UTF-8.

    Raises:
        TypeError: a text is none.
        ValueError: a number is too large, or a text has half a character (a lone surrogate).
    """
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
    plain = record.plain
    username, password = plain or NO_CREDENTIALS
    if (
        0 <= numbers <= LARGEST
        and type(record.source) is str
        and f"{record.key}{record.url}{record.source}{record.attributes}{username}{password}".isascii()
        and record.error is None
    ):
        return record  # as nearly all are
    for field, name in _NUMBERS.items():
        if not 0 <= getattr(record, field) <= LARGEST:
            raise ValueError(f"{name} must be from 0 to {LARGEST} to be stored, not {getattr(record, field)}")
    for field, name in _TEXTS.items():
        _check_text(name, getattr(record, field), optional=field == "error")
    for name, secret in zip(("username", "password"), plain or (), strict=False):
        _check_text(name, secret, optional=True)
    return record


def counted(count: int, more: int = 1) -> int:
    """Add to a count, which stays at the largest number that can be stored.

    >>> counted(7), counted(LARGEST) == LARGEST
    (8, True)
    """
    return min(count + more, LARGEST)


def storable_text(text: str) -> str:
    """Return a text as it can be stored: halves of characters are written as escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _check_text(name: str, text: object, *, optional: bool) -> None:
    if text is None and optional:
        return
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a text, not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError:  # its text and its cause would show a secret
        raise ValueError(f"{name} cannot be stored: it holds half a character (a lone surrogate)") from None
