"""For how long a response asks to be left alone. Pure.

`Retry-After` is RFC 9110 section 10.2.3: seconds, or a date. A date is compared with the server's own `Date`, so that a
clock that is wrong, theirs or ours, does not matter; without one it is compared with our clock. The fields that tell
when a budget of requests is renewed have no standard yet: those of draft-ietf-httpapi-ratelimit-headers (`RateLimit`,
in both of its forms, and `RateLimit-Reset`), and `X-RateLimit-Reset`, seconds with some and a moment with others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime

LONGEST_WAIT = 86_400.0
"""Seconds: a site that asks for a week is asked again tomorrow: a mistake must not take a proxy away for good."""

_TOO_MANY_REQUESTS = 429
_SECONDS = re.compile(rb"[0-9]{1,32}(?:\.[0-9]{1,32})?")
_A_MOMENT = 1e9  # Unix seconds from 2001 on; as a span it would be thirty years
_IN_MILLISECONDS = 1e12
_LONGEST_DATE = 64  # bytes; RFC 9110 section 5.6.7: the longest form has 33
_SPANS = (b"ratelimit-reset", b"x-ratelimit-reset-after")
_SPANS_OR_MOMENTS = (b"x-ratelimit-reset", b"x-rate-limit-reset")
_BUDGET = re.compile(rb"(?:^|[;,\s])(?:(r|remaining)|(t|reset))=([0-9]{1,32})(?![0-9])")

Headers = Mapping[bytes, Sequence[bytes]]


def wait_asked(headers: Headers, status: int, at: float | None) -> float | None:
    """Return the seconds that a response asks to wait, more than 0 and at most `LONGEST_WAIT`; None for none.

    What makes no sense, or lies in the past, asks for nothing. Of several fields the longest counts.

    Args:
        headers: Names and values in lower case.
        status: Only 429 says that the budget of requests is spent.
        at: Unix seconds now, None where that is not known.
    """
    asked = retry_after(headers, at)
    if asked is None and status == _TOO_MANY_REQUESTS:
        asked = max(_renewals(headers, at), default=None)
    return min(asked, LONGEST_WAIT) if asked is not None and asked > 0 else None


def retry_after(headers: Headers, at: float | None = None) -> float | None:
    """Return the seconds that `Retry-After` asks to wait, from 0 to `LONGEST_WAIT`; None where it asks for nothing.

    A date counts where `at` or the field `Date` says what time it is.
    """
    longest = max(_asked(headers, at), default=None)
    return None if longest is None else min(max(longest, 0.0), LONGEST_WAIT)


def _asked(headers: Headers, at: float | None) -> Iterator[float]:
    for value in headers.get(b"retry-after", ()):
        if _SECONDS.fullmatch(value):
            yield float(value)
        else:
            now = next(_moments(headers.get(b"date", ())), at)
            if now is not None:
                yield from (moment - now for moment in _moments([value]))


def _moments(values: Iterable[bytes]) -> Iterator[float]:
    for value in values:
        if len(value) > _LONGEST_DATE:
            continue
        try:
            moment = parsedate_to_datetime(value.decode("ascii"))
            yield (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()  # asctime's form names no zone
        except (ValueError, OverflowError):
            continue  # no date, or one that no clock can show


def _renewals(headers: Headers, at: float | None) -> Iterator[float]:
    for name in _SPANS:
        yield from (float(value) for value in headers.get(name, ()) if _SECONDS.fullmatch(value))
    for name in _SPANS_OR_MOMENTS:
        for value in headers.get(name, ()):
            number = float(value) if _SECONDS.fullmatch(value) else 0.0
            if number >= _IN_MILLISECONDS:
                number /= 1000
            if number < _A_MOMENT:
                yield number
            elif at is not None:
                yield number - at
    for value in headers.get(b"ratelimit", ()):
        yield from _spent_budgets(value)


def _spent_budgets(value: bytes) -> Iterator[float]:
    """Yield when each spent budget is renewed; one that does not say what remains counts as spent."""
    remaining: float | None = None
    for found in _BUDGET.finditer(value):
        remains, renewed = found[1], found[2]
        if remains:
            remaining = float(found[3])
        elif renewed and not remaining:
            yield float(found[3])
