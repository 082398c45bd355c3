"""What is remembered of a source between fetches, and the decisions by it. Times are Unix seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from proxywhirl.backoff import Backoff
from proxywhirl.sources.fetching.body import NO_VALIDATORS, Validators
from proxywhirl.sources.spec import SourceSpec

SAMPLE = 16  # keys of a source's proxies: hardly all of a list vanish but by the user's hand

_REST = Backoff(60.0, 86_400.0)


def rest_after(failures: int) -> float:
    """Return for how many seconds a source is left alone after so many failures in a row.

    The first one may be chance. From the second on it is a minute, and each time twice as long, up to a day.
    """
    return _REST.seconds(failures - 1) if failures > 1 else 0.0


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """What is known of a source.

    Attributes:
        fingerprint: Of the definition that it was fetched by.
        etag, last_modified: The version that it told.
        asked_at: When it was asked last.
        fetched_at: When it last answered well, even if nothing had changed.
        taken_at: When its proxies were last taken in.
        proxies: How many those were.
        sample: Keys of some of them.
        failures: In a row, since it last answered so.
        rest_until: Until when it is left alone.
        error: Why it failed last; None after a success.
    """

    fingerprint: str = ""
    etag: str | None = None
    last_modified: str | None = None
    asked_at: float | None = None
    fetched_at: float | None = None
    taken_at: float | None = None
    proxies: int = 0
    sample: tuple[str, ...] = ()
    failures: int = 0
    rest_until: float = 0.0
    error: str | None = None

    @classmethod
    def load(cls, text: str) -> SourceRecord:
        """Return what `dump` wrote; a text that is something else tells nothing."""
        try:
            values = json.loads(text)
            return cls(**{**values, "sample": tuple(values["sample"])})
        except (ValueError, TypeError, KeyError):
            return cls()

    def dump(self) -> str:
        """Return a text that `load` reads."""
        return json.dumps(asdict(self))

    def due_at(self, spec: SourceSpec) -> float:
        """Return when it is worth asking again: after its refresh interval, and after its rest."""
        return max(self.rest_until, 0.0 if self.asked_at is None else self.asked_at + spec.refresh)

    def validators(
        self, spec: SourceSpec, ttl: float, now: float, holds: Callable[[tuple[str, ...]], bool]
    ) -> Validators:
        """Return the headers by which only a newer version comes; nothing where the whole list is wanted.

        An answer that nothing has changed renews no time to live. So the whole list is wanted when its proxies would
        end before the next fetch, when the definition has changed, or when none of its proxies is in the store any
        more.
        """
        lasts = self.taken_at is not None and now + spec.refresh < self.taken_at + ttl
        if not lasts or self.fingerprint != spec.fingerprint or not holds(self.sample):
            return NO_VALIDATORS
        return Validators(self.etag, self.last_modified)

    def unchanged(self, now: float) -> SourceRecord:
        """Return the record after an answer that nothing has changed."""
        return replace(self, asked_at=now, fetched_at=now, failures=0, rest_until=0.0, error=None)

    def taken(self, spec: SourceSpec, validators: Validators, keys: tuple[str, ...], now: float) -> SourceRecord:
        """Return the record after its proxies were taken in; without validators it is asked for whole the next time."""
        step = max(1, len(keys) // SAMPLE)
        return SourceRecord(
            fingerprint=spec.fingerprint,
            etag=validators.etag,
            last_modified=validators.last_modified,
            asked_at=now,
            fetched_at=now,
            taken_at=now,
            proxies=len(keys),
            sample=keys[::step][:SAMPLE],
        )

    def failed(self, error: str, pause: float | None, now: float) -> SourceRecord:
        """Return the record after a failure; `pause` (seconds) is what the source asked for."""
        failures = self.failures + 1
        rest = max(rest_after(failures), pause or 0.0)
        return replace(self, asked_at=now, failures=failures, rest_until=now + rest if rest else 0.0, error=error)
