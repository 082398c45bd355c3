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

__all__ = ["Check", "Merge", "check_batch", "merge_batch"]

Check = HealthCheck | Judge | None
"""A health check, what judges the stored state to one, or None: a failure that no check has found."""


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
    present: Mapping[str, Record], checks: Mapping[str, Sequence[Check]], now: float, *, threshold: int | None
) -> tuple[list[Record], list[str]]:
    """Apply health checks in their order; return the changed records, and the keys that are retired by it.

    `threshold` is the number of failures in a row that retires a record, None where none does.
    """
    results = []
    for key, record in present.items():
        if state_of(record, now) is Found.EXPIRED:
            continue
        result = record
        for check in checks[key]:
            if check is None:
                result = failed(result, threshold=threshold)
            else:
                verdict = check if isinstance(check, HealthCheck) else judged(result, check)
                result = checked(result, verdict, threshold=threshold)
        results.append(result)
    return results, [record.key for record in results if record.retired and not present[record.key].retired]
