"""The table of movements and the pure decisions on records."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from proxywhirl.cache.decisions import Merge, check_batch, fail, merge_batch
from proxywhirl.cache.policy import Found, after_read, check_ttl, checked, failed, merged, state_of
from proxywhirl.cache.record import NEVER_TIMESTAMP, Record
from proxywhirl.cache.selection import Selection
from proxywhirl.cache.tier import TierName
from proxywhirl.models import HealthCheck, HealthStatus

NOW = 1000.0
TIERS: tuple[TierName, ...] = ("l1", "l2", "l3")


def record(key: str = "k", **fields: Any) -> Record:
    """Make a record that lives until 2000."""
    made = Record(key, "http://192.0.2.1:80", "src", 900.0, 1100, 2000.0, 900.0, generation=3, revision=5)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def differs(old: Record, new: Record) -> bool:
    """Compare plain passwords, as the border does with sealed ones."""
    return old.plain != new.plain


@pytest.mark.parametrize("retired", [True, False])
@pytest.mark.parametrize(("expires_at", "expired"), [(NOW - 1, True), (NOW, True), (NOW + 0.001, False)])
def test_expiry_is_inclusive_and_goes_before_retirement(*, expires_at: float, expired: bool, retired: bool) -> None:
    """Each combination of expiry and retirement is one state."""
    expected = Found.EXPIRED if expired else Found.RETIRED if retired else Found.LIVE
    assert state_of(record(expires_at=expires_at, retired=retired), NOW) is expected
    assert state_of(None, NOW) is Found.NOTHING


ASKED = [asked for n in (1, 2, 3) for asked in itertools.combinations(TIERS, n)]


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("state", Found)
def test_the_table_of_movements(asked: tuple[TierName, ...], state: Found) -> None:
    """A live find is one hit and fills the tiers that missed before it; anything else is a miss of all."""
    movement = after_read(asked, state)
    if state is Found.LIVE:
        assert movement.hit == asked[-1]
        assert movement.misses == movement.fill == asked[:-1]
    else:
        assert movement.hit is None
        assert movement.misses == asked
        assert movement.fill == ()
    assert movement.remove is (state is Found.EXPIRED)


def test_a_read_that_no_tier_could_answer_moves_nothing() -> None:
    """Where every tier is sick nobody is asked, and nobody counts a miss."""
    assert after_read((), Found.NOTHING).misses == ()


def test_a_new_identity_is_loaded_as_it_is() -> None:
    """Nothing known, or something whose time has ended, gives way to the newcomer."""
    new = record(generation=0)
    assert merged(None, new, NOW, password_changed=differs) == (new, True)
    expired = record(expires_at=NOW, failure_count=9)
    assert merged(expired, new, NOW, password_changed=differs) == (new, True)


def test_a_known_identity_keeps_its_history() -> None:
    """Health, use, generation and retirement stay; source, time to live and what is named are renewed."""
    old = record(
        failure_count=2, status="degraded", access_count=7, checks=4, retired=True, attributes='{"city":"Bonn","asn":1}'
    )
    new = record(source="new", fetched_at=950.0, ttl=60, expires_at=3000.0, generation=0, attributes='{"asn":2}')
    result, loaded = merged(old, new, NOW, password_changed=differs)
    assert not loaded
    assert result is not None
    assert (result.source, result.fetched_at, result.ttl, result.expires_at) == ("new", 950.0, 60, 3000.0)
    assert (result.failure_count, result.status, result.access_count, result.checks) == (2, "degraded", 7, 4)
    assert (result.retired, result.generation) == (True, 3)
    assert result.attributes == '{"city":"Bonn","asn":2}'
    assert old.source == "src"


@pytest.mark.parametrize(
    ("known", "brought", "kept", "loaded"),
    [
        (None, None, None, False),
        (None, ("u", "p"), ("u", "p"), True),
        (("u", "p"), None, ("u", "p"), False),
        (("u", "p"), ("u", "p"), ("u", "p"), False),
        (("u", "p"), ("u", "q"), ("u", "q"), True),
    ],
)
def test_a_changed_password_counts_as_loaded(known: Any, brought: Any, kept: Any, *, loaded: bool) -> None:
    """A password that is new or another replaces the known one; none at all keeps it."""
    result, counted = merged(record(plain=known), record(plain=brought, ttl=1), NOW, password_changed=differs)
    assert result is not None
    assert (result.plain, counted) == (kept, loaded)


def test_what_is_known_for_ever_and_comes_again_is_not_written() -> None:
    """A repeated import changes nothing, so nothing is written; another source is a change."""
    known = record(expires_at=NEVER_TIMESTAMP)
    again = record(expires_at=NEVER_TIMESTAMP, fetched_at=990.0)
    assert merged(known, again, NOW, password_changed=differs) == (None, False)
    result, _ = merged(known, record(expires_at=NEVER_TIMESTAMP, source="x"), NOW, password_changed=differs)
    assert result is not None


def test_a_batch_merges_in_its_order() -> None:
    """The same identity twice in a batch is loaded once; those without their credentials need to be known."""
    offered = [record("a"), record("a"), record("b"), record("withheld"), record("known")]
    present = {"known": record("known"), "old": record("old", expires_at=NOW)}
    changed, merge = merge_batch(
        present, [*offered, record("old")], NOW, only_known={"withheld", "known", "old"}, password_changed=differs
    )
    assert merge == Merge(loaded=2, skipped=2)
    assert sorted(r.key for r in changed) == ["a", "b", "known"]


def test_a_success_moves_all_health_fields_together() -> None:
    """A success ends the streak of failures and the retirement, and clears the error."""
    old = record(failure_count=3, check_failures=4, checks=9, failed_checks=5, error="refused", retired=True)
    check = HealthCheck(True, HealthStatus.HEALTHY, 990.0, next_check=1500.0, recovery_attempt=2, error="ignored")
    new = checked(old, check)
    assert (new.status, new.failure_count, new.check_failures, new.check_successes) == ("healthy", 0, 0, 1)
    assert (new.last_check_at, new.next_check_at, new.recovery_attempt) == (990.0, 1500.0, 2)
    assert (new.error, new.checks, new.failed_checks, new.retired) == (None, 10, 5, False)
    assert old.retired


def test_a_failed_check_ends_the_streak_of_successes() -> None:
    """A failure counts in streak and total, and does not bring back."""
    old = record(failure_count=1, check_successes=4, checks=9, failed_checks=5, retired=True)
    new = checked(old, HealthCheck(False, HealthStatus.DEAD, 990.0, error="timed out"))
    assert (new.status, new.failure_count, new.check_failures, new.check_successes) == ("dead", 1, 1, 0)
    assert (new.error, new.checks, new.failed_checks, new.retired) == ("timed out", 10, 6, True)


def test_checks_apply_in_their_order_and_skip_what_has_expired() -> None:
    """A judge sees the state that the checks before it left; an expired record is as good as gone."""
    seen: list[tuple[HealthStatus, int, int]] = []

    def judge(status: HealthStatus, successes: int, failures: int) -> HealthCheck:
        seen.append((status, successes, failures))
        return HealthCheck(True, HealthStatus.DEGRADED, 990.0)

    present = {"a": record("a"), "old": record("old", expires_at=NOW)}
    failure = HealthCheck(False, HealthStatus.UNHEALTHY, 980.0)
    (changed,) = check_batch(present, {"a": [failure, judge], "old": [failure]}, NOW)
    assert (changed.key, changed.status, changed.checks) == ("a", "degraded", 2)
    assert seen == [(HealthStatus.UNHEALTHY, 0, 1)]


@pytest.mark.parametrize(
    ("failures", "invalidate", "retired"), [(1, True, False), (2, True, True), (5, True, True), (9, False, False)]
)
def test_the_threshold_retires(failures: int, *, invalidate: bool, retired: bool) -> None:
    """The failure that reaches the threshold retires, where invalidation is on."""
    new = failed(record(failure_count=failures), threshold=3, invalidate=invalidate)
    assert (new.failure_count, new.retired) == (failures + 1, retired)
    assert new.status == ("unhealthy" if retired else "unknown")


def test_only_the_failure_that_retires_is_reported() -> None:
    """One that is retired already, or has expired, is not retired by this failure."""
    present = {
        "at": record("at", failure_count=2),
        "below": record("below"),
        "already": record("already", failure_count=3, retired=True),
        "old": record("old", failure_count=2, expires_at=NOW),
    }
    changed, retired = fail(present, NOW, threshold=3, invalidate=True)
    assert sorted(r.key for r in changed) == ["already", "at", "below"]
    assert retired == ["at"]


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (Selection(), True),
        (Selection(status=HealthStatus.HEALTHY), True),
        (Selection(status=HealthStatus.DEAD), False),
        (Selection(source="src"), True),
        (Selection(source="other"), False),
        (Selection(scheme="http"), True),
        (Selection(scheme="https"), False),
        (Selection(country="de"), True),
        (Selection(country="FR"), False),
        (Selection(tag="fast"), True),
        (Selection(tag="fas"), False),
        (Selection(retired=True), False),
        (Selection(HealthStatus.HEALTHY, "src", "http", "DE", "fast"), True),
        (Selection(HealthStatus.HEALTHY, "src", "http", "DE", "slow"), False),
    ],
)
def test_a_selection_takes_what_fits_all_filters(selection: Selection, *, taken: bool) -> None:
    """Every filter that is given has to fit."""
    known = record(status="healthy", attributes='{"country":"DE","tags":["fast","paid"]}')
    assert selection.takes(known, NOW) is taken
    assert not selection.takes(record(expires_at=NOW), NOW)
    assert Selection(retired=True).takes(record(retired=True), NOW)
    assert not Selection().takes(record(retired=True), NOW)


def test_a_time_to_live_is_a_duration() -> None:
    """Zero, infinity and None are; a negative number and NaN are not."""
    for ttl in (None, 0, 1.5, float("inf")):
        check_ttl(ttl)
    for ttl in (-1, float("nan")):
        with pytest.raises(ValueError, match="time to live"):
            check_ttl(ttl)
