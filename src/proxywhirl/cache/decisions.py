"""What a whole batch does to the records that are there: the pure functions that a transaction runs.

Each is given the records that are stored under the batch's keys and returns what to write; what is expired
is as good as gone, and none of them brings it back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from proxywhirl.cache.policy import Found, Judge, checked, failed, judged, merged, state_of
from proxywhirl.cache.record import Record
from proxywhirl.models import HealthCheck

__all__ = ["Merge", "check_batch", "fail", "merge_batch"]


@dataclass(frozen=True, slots=True)
class Merge:
    """How many identities were new or came with another password, and how many were known as they are."""

    loaded: int
    skipped: int


def merge_batch(
    present: Mapping[str, Record],
    offered: Iterable[Record],
    now: float,
    *,
    only_known: Collection[str] = (),
    password_changed: Callable[[Record, Record], bool],
) -> tuple[list[Record], Merge]:
    """Merge records with those present, in their order; return what to write, and the counts.

    Those of `only_known` lack credentials that they had: where they are not known, they are left out and
    count as neither.
    """
    latest: dict[str, Record] = {key: record for key, record in present.items() if now < record.expires_at}
    changed: dict[str, Record] = {}
    loaded = skipped = 0
    for record in offered:
        if record.key in only_known and record.key not in latest:
            continue
        result, new = merged(latest.get(record.key), record, now, password_changed=password_changed)
        loaded, skipped = loaded + new, skipped + (not new)
        if result is not None:
            latest[record.key] = changed[record.key] = result
    return list(changed.values()), Merge(loaded, skipped)


def check_batch(
    present: Mapping[str, Record], checks: Mapping[str, Sequence[HealthCheck | Judge]], now: float
) -> list[Record]:
    """Apply health checks in their order; return the changed records."""
    results = []
    for key, record in present.items():
        if state_of(record, now) is Found.EXPIRED:
            continue
        result = record
        for check in checks[key]:
            result = checked(result, check if isinstance(check, HealthCheck) else judged(result, check))
        results.append(result)
    return results


def fail(
    present: Mapping[str, Record], now: float, *, threshold: int, invalidate: bool
) -> tuple[list[Record], list[str]]:
    """Count a failure of each record; return the changed records, and the keys that are retired by it."""
    results = [
        failed(record, threshold=threshold, invalidate=invalidate)
        for record in present.values()
        if state_of(record, now) is not Found.EXPIRED
    ]
    return results, [record.key for record in results if record.retired and not present[record.key].retired]
