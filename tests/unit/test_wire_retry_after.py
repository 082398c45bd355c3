"""For how long a response asks to be left alone."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from proxywhirl.wire.retry_after import LONGEST_WAIT, wait_asked

NOW = 1_700_000_000.0


def date(moment: float) -> bytes:
    """Return a moment as HTTP writes it, in lower case as responses are looked at."""
    return formatdate(moment, usegmt=True).lower().encode()


def asked(status: int = 429, at: float | None = NOW, **fields: bytes) -> float | None:
    """Return what a response with these fields asks for."""
    return wait_asked({name.replace("_", "-").encode(): [value] for name, value in fields.items()}, status, at)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"120", 120),
        (b"1.5", 1.5),
        (date(NOW + 90), 90),
        (b"tue, 14-nov-23 22:14:50 gmt", 90),  # RFC 850's form
        (b"tue nov 14 22:14:50 2023", 90),  # asctime's form, which names no zone
        (b"604800", LONGEST_WAIT),
        (b"9" * 32, LONGEST_WAIT),
        (date(NOW + 10 * LONGEST_WAIT), LONGEST_WAIT),
    ],
)
def test_both_forms_are_read_and_bounded(value: bytes, seconds: float) -> None:
    """Seconds and dates count, no longer than a day."""
    assert asked(retry_after=value) == seconds
    assert asked(503, retry_after=value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"0",
        b"-5",
        b"soon",
        b"1e9",
        b"inf",
        b"nan",
        b"\xb2",
        b"1,2",
        date(NOW - 1),
        b"99999999999999999999 gmt",
        b"9" * 999,
    ],
)
def test_what_makes_no_sense_asks_for_nothing(value: bytes) -> None:
    """Rubbish, what is negative and what is past leave the time to us."""
    assert asked(retry_after=value) is None


def test_a_date_is_compared_with_the_servers_own() -> None:
    """A clock that is an hour wrong does not make an hour of waiting, and no clock of ours is needed."""
    for at in (NOW, None):
        assert asked(at=at, retry_after=date(NOW + 3660), date=date(NOW + 3600)) == 60
    assert asked(at=None, retry_after=date(NOW + 60)) is None
    assert asked(retry_after=date(NOW + 60), date=b"never") == 60


def test_the_longest_of_several_counts() -> None:
    """Two fields of one name, as two servers in a row write them."""
    assert wait_asked({b"retry-after": [b"5", b"rubbish", b"30"]}, 503, NOW) == 30


@pytest.mark.parametrize(
    ("name", "value", "seconds"),
    [
        ("x_ratelimit_reset", b"40", 40),
        ("x_ratelimit_reset", b"1700000040", 40),
        ("x_rate_limit_reset", b"1700000040000", 40),
        ("x_ratelimit_reset_after", b"0.5", 0.5),
        ("ratelimit_reset", b"40", 40),
        ("ratelimit", b"limit=100, remaining=0, reset=40", 40),
        ("ratelimit", b'"burst";r=5;t=90, "day";r=0;t=40', 40),
        ("ratelimit", b"reset=40", 40),
        ("ratelimit", b'"day";r=7;t=40', None),
        ("ratelimit", b"limit=100;w=60", None),
        ("x_ratelimit_reset", b"1699999999", None),
        ("ratelimit_reset", b"soon", None),
    ],
)
def test_a_spent_budget_says_when_it_is_renewed(name: str, value: bytes, seconds: float | None) -> None:
    """With 429 the fields of a budget count, whatever their form; with another status they are for information."""
    fields = {name.replace("_", "-").encode(): [value]}
    assert wait_asked(fields, 429, NOW) == seconds
    assert wait_asked(fields, 503, NOW) is None


def test_retry_after_goes_before_a_budget() -> None:
    """What the server asks for counts, not when the whole budget comes back."""
    assert asked(retry_after=b"7", ratelimit_reset=b"3600") == 7
