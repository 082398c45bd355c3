"""Whether a record can be what was written: the tables of SQLite have no checksums. Pure.

`fault_of` finds what would stop a reader and is cheap; `deep_fault_of` finds the rest of what can be told.
"""

from __future__ import annotations

from functools import lru_cache

from proxywhirl.arguments import FIRST_MOMENT
from proxywhirl.cache.record import NEVER_TIMESTAMP, Record, decode_attributes
from proxywhirl.errors import ProxyURLError, TierError
from proxywhirl.models import HealthStatus
from proxywhirl.urls import SCHEMES, is_plain_canonical, parse

__all__ = ["UNREADABLE", "UnsoundError", "deep_fault_of", "fault_of"]

UNREADABLE = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, OSError)
"""What the values of a damaged record raise where they are used: unknown status, impossible time, no JSON."""

_STATUSES = {status.value for status in HealthStatus}


class UnsoundError(TierError):
    """A record is not what was written."""

    def __init__(self, key: str) -> None:
        super().__init__(f"what is stored under {key} is damaged: run `proxywhirl doctor --repair`")
        self.key = key


def fault_of(record: Record) -> str | None:
    """Say what of a record no reader can make sense of; None where there is no such thing."""
    try:
        return _fault_of_kind(record) or _fault_of_value(record)
    except UNREADABLE:
        return "one of its values is of another kind"


def _fault_of_kind(record: Record) -> str | None:
    """Look at the types: damage to the head of a row makes them others than its table's."""
    texts = (record.key, record.url, record.source, record.error or "", record.attributes, record.sealed or "")
    numbers = (record.ttl, record.access_count, record.failure_count, record.checks, record.failed_checks)
    if not all(type(text) is str for text in texts):
        return "one of its texts is none"
    return None if all(type(number) is int for number in numbers) else "one of its counts is none"


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


def deep_fault_of(record: Record) -> str | None:
    """Say what of a record cannot be what was written; nothing of what `check_storable` takes."""
    if (fault := fault_of(record)) is not None:
        return fault
    counts = (
        record.ttl,
        record.access_count,
        record.failure_count,
        record.check_failures,
        record.check_successes,
        record.recovery_attempt,
        record.checks,
        record.failed_checks,
    )
    if any(count < 0 for count in counts):
        return "one of its counts is negative"
    return _fault_of_url(record)


def _fault_of_url(record: Record) -> str | None:
    """Look whether it can be read: earlier releases stored some in another spelling than the canonical one."""
    if is_plain_canonical(record.url):
        return None
    try:
        parse(record.url)
    except ProxyURLError:
        return "its URL is none"
    return None


@lru_cache(maxsize=4096)
def _are_attributes(text: str) -> bool:
    try:
        decode_attributes(text)
    except UNREADABLE:
        return False
    return True
