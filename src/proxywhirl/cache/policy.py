"""Every decision of the cache as a pure function.

- `after_read`: what a read does to the tiers.
- `merged`, `described`, `checked`, `failed`, `replayed`: what a change does to a record.
- `merge_batch`, `check_batch`: what a batch does in its transaction. Each is given the records that are stored under
  the batch's keys, and returns what to write.
- `Selection`: which entries a scan gives. `check_key`, `check_ttl`: what can be no key, and no time to live.

The time, the records and what was found are arguments. A given record is never changed: a changed one is a new value.
An expired record counts as gone, and nothing here brings it back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import cache

from proxywhirl.cache.record import (
    NEVER_TIMESTAMP,
    Record,
    counted,
    decode_attributes,
    encode_attributes,
    storable_text,
)
from proxywhirl.cache.tiers.protocol import Batch, TierName
from proxywhirl.models import Assess, Attributes, HealthCheck, HealthStatus
from proxywhirl.validation import require, require_several


class Found(Enum):
    """In which state a record was found, if at all."""

    NOTHING = auto()
    LIVE = auto()
    EXPIRED = auto()
    RETIRED = auto()


@dataclass(frozen=True, slots=True)
class Movement:
    """What a read does: which tiers count a hit or a miss, which are filled, whether the entry is removed."""

    hit: TierName | None
    misses: tuple[TierName, ...]
    fill: tuple[TierName, ...]
    remove: bool = False

    def counts(self) -> tuple[str, ...]:
        """Return the names of the counts that such a read adds one to; a name may be there more than once."""
        misses = tuple(f"{tier}.misses" for tier in self.misses)
        if self.hit is None:
            return (*misses, "unserved")
        return (*misses, f"{self.hit}.hits", *["promotions"] * len(self.fill))


@dataclass(frozen=True, slots=True)
class Hint:
    """A write that waits for the authority, by its key: a record, or None for its deletion.

    `base` is the revision of the authority up to which the writer knew it, `at` when it wrote (Unix seconds). With
    `merge` the record joins the one that is stored, else it replaces it.
    """

    key: str
    record: Record | None
    base: int
    at: float
    merge: bool


def state_of(record: Record | None, now: float) -> Found:
    """Tell in which state a record is at a time. Expiry goes before retirement: history ends with the TTL."""
    if record is None:
        return Found.NOTHING
    if now >= record.expires_at:
        return Found.EXPIRED
    return Found.RETIRED if record.retired else Found.LIVE


def check_ttl(ttl: float | None) -> None:
    """Refuse a time to live that is none. Raises `TypeError`, `ValueError`."""
    if ttl is not None:
        require("ttl", ttl, (int, float), "a number of seconds or None")
        if isinstance(ttl, bool) or not ttl >= 0:
            raise ValueError(f"a time to live must be 0 or more seconds, infinity for ever, not {ttl}")


def check_key(key: object) -> None:
    """Refuse what can be no key: a tier that is asked for it would be taken for sick.

    Raises:
        TypeError: it is no str.
        ValueError: it holds half of a surrogate pair, for which there is no UTF-8.
    """
    if not isinstance(key, str):
        raise TypeError(f"a key is a str, such as CacheManager.generate_cache_key gives, not {type(key).__name__}")
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError as exc:
            raise ValueError(f"the key {key!a} holds half of a surrogate pair, which cannot be stored") from exc


def check_keys(keys: Iterable[str]) -> list[str]:
    """Return several keys in a list. Raises as `check_key` does, and of one text alone."""
    require_several("keys", keys, "keys")
    asked = list(keys)
    for key in asked:
        if type(key) is not str or not key.isascii():
            check_key(key)
    return asked


@cache
def after_read(asked: tuple[TierName, ...], state: Found) -> Movement:
    """Decide what follows a read that asked these tiers, fastest first, and ended in the last one.

    A live record is a hit where it was found, and fills each tier that was asked before. Anything
    else is a miss of each tier asked; an expired record leaves all tiers, a retired one stays where it is.
    """
    if state is Found.LIVE:
        *above, found_in = asked
        return Movement(found_in, tuple(above), tuple(above))
    return Movement(None, asked, (), remove=state is Found.EXPIRED)


def merged(
    old: Record | None, new: Record, now: float, *, password_changed: Callable[[Record, Record], bool]
) -> tuple[Record | None, bool]:
    """Merge an identity that is seen again: what to write (None: nothing), and whether it counts as loaded.

    It gets its new password, source and time to live; it keeps health, counters, use, and all that the newcomer does
    not name, its password too. An expired one is new. A retired one stays so, but with another password it serves
    again, since the old password failed.
    """
    if old is None or old.expires_at <= now:
        return new, True
    changed = new.has_credentials and (not old.has_credentials or password_changed(old, new))
    secret = new if changed else old
    attributes = _merge_attributes(old.attributes, new.attributes)
    forever = old.expires_at >= NEVER_TIMESTAMP and new.expires_at >= NEVER_TIMESTAMP
    if not changed and forever and (old.source, old.attributes) == (new.source, attributes):
        return None, False
    result = replace(
        old,
        source=new.source,
        fetched_at=new.fetched_at,
        ttl=new.ttl,
        expires_at=new.expires_at,
        attributes=attributes,
        sealed=secret.sealed,
        plain=secret.plain,
    )
    if changed and old.retired:
        result.retired, result.failure_count = False, 0
    return result, changed


def described(record: Record, attributes: str) -> Record | None:
    """Add what was found out about a proxy to its attributes; None where nothing is new."""
    known = _merge_attributes(record.attributes, attributes)
    return None if known == record.attributes else replace(record, attributes=known)


def replayed(
    hint: Hint, stored: Record | None, now: float, *, removed: bool, password_changed: Callable[[Record, Record], bool]
) -> Batch:
    """Decide what a hint writes over what is stored; applying it twice is harmless.

    The last write wins: nothing is written over a record that changed after the hint's base and was fetched or
    checked later. An update is a record with a generation that does not merge. It is dropped if that generation was
    removed after the base; where nothing is stored, `removed` tells that the log says so. If the entry was added again
    after the base, the update keeps what the addition brought, the password above all.
    """
    changed = stored if stored is not None and stored.revision > hint.base else None
    if changed is not None and max(changed.fetched_at, changed.last_check_at or 0.0) > hint.at:
        return Batch()
    if hint.record is None:
        return Batch(deletes=[hint.key]) if stored is not None else Batch()
    record = replace(hint.record)  # the transaction numbers what it writes
    if record.generation and not hint.merge:
        gone = removed if stored is None else changed is not None and changed.generation != record.generation
        if changed is not None and not gone and changed.fetched_at >= record.fetched_at:
            record = merged(record, changed, now, password_changed=password_changed)[0] or record
        return Batch() if gone else Batch(puts=[record])
    if not hint.merge:
        return Batch(puts=[record])
    result, _ = merged(stored, record, now, password_changed=password_changed)
    return Batch(puts=[result] if result is not None else [])


def _merge_attributes(old: str, new: str) -> str:
    if not new or new == old:
        return old
    return encode_attributes(Attributes(**{**decode_attributes(old).named(), **decode_attributes(new).named()}))


def checked(record: Record, check: HealthCheck, *, threshold: int | None) -> Record:
    """Apply a health check: all health fields move together. A success brings a retired record back.

    `threshold` is the number of failures in a row that retires a record, None where none does.
    """
    failures, retired, status = _counted_on(record, check.status, ok=check.ok, threshold=threshold)
    return replace(
        record,
        status=status.value,
        failure_count=failures,
        last_check_at=check.at,
        check_failures=0 if check.ok else counted(record.check_failures),
        check_successes=counted(record.check_successes) if check.ok else 0,
        recovery_attempt=check.recovery_attempt,
        next_check_at=check.next_check,
        error=None if check.ok or check.error is None else storable_text(check.error),
        checks=counted(record.checks),
        failed_checks=counted(record.failed_checks, not check.ok),
        retired=retired,
    )


def failed(record: Record, *, threshold: int | None) -> Record:
    """Count a failure outside of checks: the proxy is at least degraded. `threshold` as in `checked`."""
    degraded = HealthStatus(record.status).or_worse(HealthStatus.DEGRADED)
    failures, retired, status = _counted_on(record, degraded, ok=False, threshold=threshold)
    return replace(record, failure_count=failures, retired=retired, status=status.value)


def _counted_on(
    record: Record, status: HealthStatus, *, ok: bool, threshold: int | None
) -> tuple[int, bool, HealthStatus]:
    """Return the failures in a row, whether the record is retired, and its status, which would else be `status`."""
    if ok:
        return 0, False, status
    failures = counted(record.failure_count)
    retired = record.retired or (threshold is not None and failures >= threshold)
    return failures, retired, status.or_worse(HealthStatus.UNHEALTHY) if retired else status


def judged(record: Record, judge: Assess) -> HealthCheck:
    """Let a judge look at the status and the past of a record."""
    worked = record.checks > record.failed_checks
    check = judge(HealthStatus(record.status), record.check_successes, record.check_failures, worked)
    require("what a judge returns", check, HealthCheck, "a HealthCheck")
    return check


Check = HealthCheck | Assess | None
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

    Records of `only_known` lack credentials that they had: if they are not known, they are left out and not counted.
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


@dataclass(frozen=True, slots=True)
class Selection:
    """All that is asked for must fit; None asks for nothing. `retired` asks for those out of service instead."""

    status: HealthStatus | None = None
    source: str | None = None
    scheme: str | None = None
    country: str | None = None
    tag: str | None = None
    retired: bool | None = False

    def takes(self, record: Record, now: float) -> bool:
        """Whether a record is among those asked for."""
        if state_of(record, now) is Found.EXPIRED or self.retired not in (None, record.retired):
            return False
        return self._fits_fields(record) and self._fits_attributes(record)

    def _fits_fields(self, record: Record) -> bool:
        return (
            (self.status is None or record.status == self.status.value)
            and (self.source is None or record.source == self.source)
            and (self.scheme is None or record.url.startswith(f"{self.scheme}://"))
        )

    def _fits_attributes(self, record: Record) -> bool:
        if self.country is None and self.tag is None:
            return True
        known = decode_attributes(record.attributes)
        return (self.country is None or known.country == self.country.upper()) and (
            self.tag is None or self.tag in known.tags
        )
