"""The table of movements and the pure decisions on records."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from proxywhirl.cache.policy import (
    Found,
    Hint,
    Merge,
    Selection,
    after_read,
    check_batch,
    check_ttl,
    checked,
    failed,
    judged,
    merge_batch,
    merged,
    replayed,
    state_of,
)
from proxywhirl.cache.record import NEVER_TIMESTAMP, Record
from proxywhirl.cache.tiers.protocol import Batch, TierName
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
    """Compare plain passwords, as the mapping does with sealed ones."""
    return old.plain != new.plain


@pytest.mark.parametrize(
    ("expires_at", "retired", "state"),
    [
        (NOW - 1, False, Found.EXPIRED),
        (NOW - 1, True, Found.EXPIRED),
        (NOW, False, Found.EXPIRED),
        (NOW, True, Found.EXPIRED),
        (NOW + 0.001, False, Found.LIVE),
        (NOW + 0.001, True, Found.RETIRED),
        (NEVER_TIMESTAMP, False, Found.LIVE),
        (NEVER_TIMESTAMP, True, Found.RETIRED),
    ],
)
def test_expiry_is_inclusive_and_goes_before_retirement(expires_at: float, state: Found, *, retired: bool) -> None:
    """Each combination of expiry and retirement is one state."""
    assert state_of(record(expires_at=expires_at, retired=retired), NOW) is state
    assert state_of(None, NOW) is Found.NOTHING


MOVEMENTS = """\
| asked, in this order | found | hit | misses | filled | removed everywhere |
|---|---|---|---|---|---|
| L1 | live | L1 | none | none | no |
| L1 | nothing | none | L1 | none | no |
| L1 | expired | none | L1 | none | yes |
| L1 | retired | none | L1 | none | no |
| L2 | live | L2 | none | none | no |
| L2 | nothing | none | L2 | none | no |
| L2 | expired | none | L2 | none | yes |
| L2 | retired | none | L2 | none | no |
| L3 | live | L3 | none | none | no |
| L3 | nothing | none | L3 | none | no |
| L3 | expired | none | L3 | none | yes |
| L3 | retired | none | L3 | none | no |
| L1, L2 | live | L2 | L1 | L1 | no |
| L1, L2 | nothing | none | L1, L2 | none | no |
| L1, L2 | expired | none | L1, L2 | none | yes |
| L1, L2 | retired | none | L1, L2 | none | no |
| L1, L3 | live | L3 | L1 | L1 | no |
| L1, L3 | nothing | none | L1, L3 | none | no |
| L1, L3 | expired | none | L1, L3 | none | yes |
| L1, L3 | retired | none | L1, L3 | none | no |
| L2, L3 | live | L3 | L2 | L2 | no |
| L2, L3 | nothing | none | L2, L3 | none | no |
| L2, L3 | expired | none | L2, L3 | none | yes |
| L2, L3 | retired | none | L2, L3 | none | no |
| L1, L2, L3 | live | L3 | L1, L2 | L1, L2 | no |
| L1, L2, L3 | nothing | none | L1, L2, L3 | none | no |
| L1, L2, L3 | expired | none | L1, L2, L3 | none | yes |
| L1, L2, L3 | retired | none | L1, L2, L3 | none | no |
"""
CELLS = [[cell.strip() for cell in line.strip("|").split("|")] for line in MOVEMENTS.splitlines()[2:]]
ASKED = [asked for n in (1, 2, 3) for asked in itertools.combinations(TIERS, n)]


def tiers(cell: str) -> tuple[str, ...]:
    """Read a cell of the table that lists tiers."""
    return () if cell == "none" else tuple(cell.lower().split(", "))


@pytest.mark.parametrize(("asked", "state", "hit", "misses", "fill", "remove"), CELLS)
def test_the_table_of_movements(asked: str, state: str, hit: str, misses: str, fill: str, remove: str) -> None:
    """Each cell: a live find is one hit and fills the tiers that missed before it; anything else is a miss of all."""
    movement = after_read(cast("tuple[TierName, ...]", tiers(asked)), Found[state.upper()])
    assert (movement.hit,) == (tiers(hit) or (None,))
    assert (movement.misses, movement.fill) == (tiers(misses), tiers(fill))
    assert movement.remove is (remove == "yes")


def test_the_table_of_movements_is_whole() -> None:
    """It has each combination of tiers and states once, and the page on the cache shows it."""
    rows = [(tiers(asked), Found[state.upper()]) for asked, state, *_ in CELLS]
    assert len(rows) == len(set(rows))
    assert set(rows) == set(itertools.product(ASKED, Found))
    assert MOVEMENTS in (Path(__file__).parents[2] / "docs" / "cache.md").read_text(encoding="utf-8")


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


OLD_STATES: dict[str, dict[str, Any] | None] = {
    "nothing": None,
    "expired": {"expires_at": NOW},
    "expired, retired": {"expires_at": NOW, "retired": True},
    "live": {},
    "retired": {"retired": True},
    "for ever": {"expires_at": NEVER_TIMESTAMP},
    "for ever, retired": {"expires_at": NEVER_TIMESTAMP, "retired": True},
}
CREDENTIALS: dict[str, tuple[Any, Any]] = {  # known, brought
    "none, none": (None, None),
    "none, new": (None, ("u", "p")),
    "known, none": (("u", "p"), None),
    "known, same": (("u", "p"), ("u", "p")),
    "known, other": (("u", "p"), ("u", "q")),
}
EXPIRIES = {"a while": 3000.0, "for ever": NEVER_TIMESTAMP}
ATTRIBUTES = {  # known, brought, merged
    "none, none": ("", "", ""),
    "none, new": ("", '{"asn":2}', '{"asn":2}'),
    "known, none": ('{"asn":1}', "", '{"asn":1}'),
    "known, same": ('{"asn":1}', '{"asn":1}', '{"asn":1}'),
    "known, more": ('{"city":"Bonn","asn":1}', '{"asn":2}', '{"city":"Bonn","asn":2}'),
}
SOURCES = {"same": "src", "other": "later"}
# By what was known and which credential came: N the newcomer as it is, L merged and loaded, which brings a retired one
# back, S merged and skipped, s the same, but not written where both live for ever, the source is the same and no
# attribute is new
MERGED = {
    "nothing": "NNNNN",
    "expired": "NNNNN",
    "expired, retired": "NNNNN",
    "live": "SLSSL",
    "retired": "SLSSL",
    "for ever": "sLssL",
    "for ever, retired": "sLssL",
}
NOTHING_NEW = {"none, none", "known, none", "known, same"}  # attributes


@pytest.mark.parametrize("state", OLD_STATES)
@pytest.mark.parametrize("credential", CREDENTIALS)
def test_the_table_of_merges(state: str, credential: str) -> None:
    """Each combination of state, credential, time to live, attributes and source; what is given stays as it is."""
    verdict = MERGED[state][list(CREDENTIALS).index(credential)]
    known, brought = CREDENTIALS[credential]
    for expiry, attributes, source in itertools.product(EXPIRIES, ATTRIBUTES, SOURCES):
        before, comes, after = ATTRIBUTES[attributes]
        state_fields = OLD_STATES[state]
        old = None
        if state_fields is not None:
            history: dict[str, Any] = {"failure_count": 2, "checks": 4, "access_count": 7, "status": "degraded"}
            old = record(plain=known, attributes=before, **history, **state_fields)
        news: dict[str, Any] = {
            "fetched_at": 950.0,
            "ttl": 60,
            "expires_at": EXPIRIES[expiry],
            "source": SOURCES[source],
        }
        new = record(plain=brought, attributes=comes, generation=0, revision=0, **news)
        copies = (replace(old) if old is not None else None, replace(new))
        result, loaded = merged(old, new, NOW, password_changed=differs)
        case = (expiry, attributes, source)
        silent = verdict == "s" and expiry == "for ever" and source == "same" and attributes in NOTHING_NEW
        if verdict == "N":
            assert (result, loaded) == (new, True), case
        elif silent:
            assert (result, loaded) == (None, False), case
        else:
            assert old is not None
            secret = brought if verdict == "L" else known
            back: dict[str, Any] = {"retired": False, "failure_count": 0} if verdict == "L" and old.retired else {}
            assert result == replace(old, plain=secret, attributes=after, **news, **back), case
            assert loaded is (verdict == "L"), case
        assert (old, new) == copies, case


def test_the_table_of_merges_is_whole() -> None:
    """Each state of what was known has a verdict for each credential."""
    assert MERGED.keys() == OLD_STATES.keys()
    assert {len(row) for row in MERGED.values()} == {len(CREDENTIALS)}


def test_a_token_goes_with_its_record() -> None:
    """What is sealed is kept where no other password came, and goes with the password that it stands for."""
    old = record(sealed="old-token", plain=("u", "p"))
    same, _ = merged(old, record(plain=("u", "p")), NOW, password_changed=differs)
    other, _ = merged(old, record(plain=("u", "q")), NOW, password_changed=differs)
    assert same is not None
    assert other is not None
    assert (same.sealed, other.sealed) == ("old-token", None)


def test_a_batch_merges_in_its_order() -> None:
    """The same identity twice in a batch is loaded once; those without their credentials need to be known."""
    offered = [record("a"), record("a"), record("b"), record("withheld"), record("known")]
    present = {"known": record("known"), "old": record("old", expires_at=NOW)}
    changed, merge = merge_batch(
        present, [*offered, record("old")], NOW, only_known={"withheld", "known", "old"}, password_changed=differs
    )
    assert merge == Merge(loaded=2, skipped=2)
    assert sorted(r.key for r in changed) == ["a", "b", "known"]


HEALTH = {  # field: after a success, after a failure, where it was what `ILL` says
    "last_check_at": (990.0, 990.0),
    "check_failures": (0, 5),
    "check_successes": (3, 0),
    "recovery_attempt": (2, 2),
    "next_check_at": (1500.0, 1500.0),
    "error": (None, "refused"),
    "checks": (10, 10),
    "failed_checks": (5, 6),
}
ILL: dict[str, Any] = {
    "last_check_at": 900.0,
    "check_failures": 4,
    "check_successes": 2,
    "recovery_attempt": 7,
    "next_check_at": 950.0,
    "error": "timed out",
    "checks": 9,
    "failed_checks": 5,
    "access_count": 8,
    "sealed": "token",
}


RETIRES: dict[int | None, str] = {None: "-----", 1: "RRRRR", 2: "-RRRR", 3: "--RRR", 5: "----R"}
"""By threshold and failures before, 0 to 4."""


def worse(one: HealthStatus, two: HealthStatus) -> HealthStatus:
    """Return the worse of two, one of which is at least degraded: they are listed from good to bad."""
    return max(one, two, key=[*HealthStatus].index)


@pytest.mark.parametrize("threshold", RETIRES)
@pytest.mark.parametrize("retired", [True, False])
@pytest.mark.parametrize("ok", [True, False])
def test_the_table_of_checks(threshold: int | None, *, retired: bool, ok: bool) -> None:
    """All health fields move together; at the threshold a failure retires, as unhealthy at the least."""
    for before, after, failures in itertools.product(HealthStatus, HealthStatus, range(5)):
        old = record(status=before.value, retired=retired, failure_count=failures, **ILL)
        copy = replace(old)
        check = HealthCheck(ok, after, 990.0, next_check=1500.0, recovery_attempt=2, error="refused")
        new = checked(old, check, threshold=threshold)
        retires = not ok and (retired or RETIRES[threshold][failures] == "R")
        expected: dict[str, Any] = {name: cells[not ok] for name, cells in HEALTH.items()}
        expected |= {"failure_count": 0 if ok else failures + 1, "retired": retires}
        expected["status"] = worse(after, HealthStatus.UNHEALTHY).value if retires else after.value
        assert new == replace(old, **expected), (before, after, failures)
        assert old == copy


@pytest.mark.parametrize("threshold", RETIRES)
@pytest.mark.parametrize("retired", [True, False])
def test_the_table_of_failures_that_no_check_found(threshold: int | None, *, retired: bool) -> None:
    """Each counts and retires as a failed check does, degrades from the first on, and moves nothing else."""
    for status, failures in itertools.product(HealthStatus, range(5)):
        old = record(status=status.value, retired=retired, failure_count=failures, **ILL)
        copy = replace(old)
        new = failed(old, threshold=threshold)
        retires = retired or RETIRES[threshold][failures] == "R"
        least = HealthStatus.UNHEALTHY if retires else HealthStatus.DEGRADED
        expected = replace(old, failure_count=failures + 1, retired=retires, status=worse(least, status).value)
        assert new == expected, (status, failures)
        assert old == copy


@pytest.mark.parametrize("status", HealthStatus)
@pytest.mark.parametrize(("checks", "failed_checks", "worked"), [(0, 0, False), (4, 4, False), (4, 3, True)])
def test_a_judge_sees_status_and_past(status: HealthStatus, checks: int, failed_checks: int, *, worked: bool) -> None:
    """It is asked with what is stored: status, streaks, successes first, and whether it ever worked."""
    answer = HealthCheck(True, HealthStatus.HEALTHY, 990.0)
    asked: list[tuple[HealthStatus, int, int, bool]] = []

    def judge(*state: Any) -> HealthCheck:
        asked.append(state)
        return answer

    past: dict[str, Any] = {"check_successes": 2, "check_failures": 3, "checks": checks, "failed_checks": failed_checks}
    assert judged(record(status=status.value, **past), judge) is answer
    assert asked == [(status, 2, 3, worked)]


def test_checks_apply_in_their_order_and_skip_what_has_expired() -> None:
    """A judge sees the state that the checks before it left; an expired record is as good as gone."""
    seen: list[tuple[HealthStatus, int, int, bool]] = []

    def judge(*state: Any) -> HealthCheck:
        seen.append(state)
        return HealthCheck(True, HealthStatus.DEGRADED, 990.0)

    present = {"a": record("a"), "old": record("old", expires_at=NOW)}
    failure = HealthCheck(False, HealthStatus.UNHEALTHY, 980.0)
    checks: dict[str, list[Any]] = {"a": [failure, None, judge], "old": [failure]}
    (changed,), retired = check_batch(present, checks, NOW, threshold=3)
    assert (changed.key, changed.status, changed.checks, changed.failure_count) == ("a", "degraded", 2, 0)
    assert retired == []
    assert seen == [(HealthStatus.UNHEALTHY, 0, 1, False)]


def test_only_the_failure_that_retires_is_reported() -> None:
    """Nobody is retired by this batch who is already, has expired, or succeeds at its end."""
    present = {
        "at": record("at", failure_count=2),
        "below": record("below"),
        "already": record("already", failure_count=3, retired=True),
        "recovers": record("recovers", failure_count=2),
        "back and forth": record("back and forth", failure_count=3, retired=True),
        "old": record("old", failure_count=2, expires_at=NOW),
    }
    failure = HealthCheck(False, HealthStatus.DEGRADED, 990.0)
    success = replace(failure, ok=True)
    checks: dict[str, list[Any]] = {key: [failure] for key in present}
    checks |= {"at": [None], "recovers": [failure, success], "back and forth": [success, *[failure] * 3]}
    changed, retired = check_batch(present, checks, NOW, threshold=3)
    assert {r.key: r.retired for r in changed} == {
        "at": True,
        "below": False,
        "already": True,
        "recovers": False,
        "back and forth": True,
    }
    assert retired == ["at"]
    changed, retired = check_batch(present, checks, NOW, threshold=None)
    assert retired == []
    assert {r.key for r in changed if r.retired} == {"already"}


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
        (Selection(retired=None), True),
        (Selection(HealthStatus.HEALTHY, "src", "http", "DE", "fast"), True),
        (Selection(HealthStatus.HEALTHY, "src", "http", "DE", "slow"), False),
    ],
)
def test_a_selection_takes_what_fits_all_filters(selection: Selection, *, taken: bool) -> None:
    """Every filter that is given has to fit."""
    known = record(status="healthy", attributes='{"country":"DE","tags":["fast","paid"]}')
    assert selection.takes(known, NOW) is taken
    assert not selection.takes(record(expires_at=NOW), NOW)
    assert not selection.takes(record(expires_at=NOW, retired=True), NOW)


@pytest.mark.parametrize(("asked", "taken"), [(True, True), (False, False), (None, True)])
def test_a_selection_takes_what_is_retired_where_it_is_asked_for(asked: bool | None, *, taken: bool) -> None:
    """Alone, beside the others, or not at all."""
    assert Selection(retired=asked).takes(record(retired=True), NOW) is taken
    assert Selection(retired=True).takes(record(retired=True), NOW)
    assert not Selection().takes(record(retired=True), NOW)


def test_a_time_to_live_is_a_duration() -> None:
    """Zero, infinity and None are; a negative number and NaN are not."""
    for ttl in (None, 0, 1.5, float("inf")):
        check_ttl(ttl)
    for ttl in (-1, float("nan")):
        with pytest.raises(ValueError, match="time to live"):
            check_ttl(ttl)


BASE, WROTE_AT = 5, 950.0
STORED: dict[str, Record | None] = {
    "nothing, never removed": None,
    "nothing, removed since": None,
    "as at the base": record(revision=BASE, fetched_at=990.0, last_check_at=990.0),
    "changed before": record(revision=BASE + 1, last_check_at=WROTE_AT),
    "fetched later": record(revision=BASE + 1, fetched_at=WROTE_AT + 1),
    "checked later": record(revision=BASE + 1, last_check_at=WROTE_AT + 1),
    "another, made before": record(revision=BASE + 1, generation=BASE + 1),
    "another, made later": record(revision=BASE + 1, generation=BASE + 1, fetched_at=WROTE_AT + 1),
}
OWED: dict[str, Hint] = {
    name: Hint("k", owed, BASE, WROTE_AT, merge)
    for name, owed, merge in [
        ("delete", None, False),
        ("put", record(generation=0, failure_count=8), False),
        ("update", record(generation=3, failure_count=8), False),
        ("merge new", record(generation=0, failure_count=8, source="later"), True),
        ("merge known", record(generation=3, failure_count=8, source="later"), True),
    ]
}
SETTLED = {  # what is written: - nothing, d the deletion, p the record that is owed, m that one merged with the stored
    "nothing, never removed": "-pppp",
    "nothing, removed since": "-p-pp",
    "as at the base": "dppmm",
    "changed before": "dppmm",
    "fetched later": "-----",
    "checked later": "-----",
    "another, made before": "dp-mm",
    "another, made later": "-----",
}


@pytest.mark.parametrize("found", STORED)
@pytest.mark.parametrize(("manner", "owed"), OWED.items())
def test_the_table_of_debts(found: str, manner: str, owed: Hint) -> None:
    """The last write wins, an update brings nothing back, and settling twice is settling once."""
    stored, removed = STORED[found], found == "nothing, removed since"
    before = replace(stored) if stored is not None else None
    batch = replayed(owed, stored, NOW, removed=removed, password_changed=differs)
    verdict = SETTLED[found][list(OWED).index(manner)]
    assert list(batch.deletes) == (["k"] if verdict == "d" else [])
    if verdict == "p":
        assert list(batch.puts) == [owed.record]
    elif verdict == "m":
        assert list(batch.puts) == [replace(record(), source="later", **kept(stored))]
    else:
        assert list(batch.puts) == []
    assert all(written is not owed.record for written in batch.puts)
    assert stored == before
    if batch.puts:
        (written,) = batch.puts
        written.revision = BASE + 2
        written.generation = written.generation or BASE + 2
        again = replayed(owed, written, NOW, removed=False, password_changed=differs).puts
        assert all(without_numbers(record) == without_numbers(written) for record in again)
    elif verdict == "d":
        assert replayed(owed, None, NOW, removed=True, password_changed=differs) == Batch()


def kept(stored: Record | None) -> dict[str, Any]:
    """Return what a merge must leave as it is stored, and the fetching that it brings."""
    assert stored is not None
    names = ("failure_count", "last_check_at", "generation", "revision")
    return {name: getattr(stored, name) for name in names}


def without_numbers(settled_one: Record) -> Record:
    """Return a record without what the transaction gives it."""
    return replace(settled_one, revision=0, generation=0)


def test_an_update_that_is_owed_takes_no_password_back() -> None:
    """It was decided on a record that another process has added again since: it brings the health alone."""
    known = record(plain=("u", "old"), source="first", fetched_at=900.0)
    stored = replace(known, plain=("u", "new"), source="second", fetched_at=910.0, revision=BASE + 1)
    update = replace(known, status="healthy", checks=1, last_check_at=WROTE_AT)
    batch = replayed(
        Hint("k", update, BASE, WROTE_AT, merge=False), stored, NOW, removed=False, password_changed=differs
    )
    (written,) = batch.puts
    assert (written.plain, written.source, written.fetched_at) == (("u", "new"), "second", 910.0)
    assert (written.status, written.checks, written.last_check_at) == ("healthy", 1, WROTE_AT)


def test_a_debt_merges_as_an_addition_does() -> None:
    """The new password is taken, an entry that is the same for ever is not written, one that has expired is new."""
    stored = record(plain=("u", "old"), expires_at=NEVER_TIMESTAMP, checks=4)
    same = record(plain=("u", "old"), expires_at=NEVER_TIMESTAMP, generation=0)
    owed = Hint("k", same, BASE, WROTE_AT, merge=True)
    assert replayed(owed, stored, NOW, removed=False, password_changed=differs).puts == []
    owed = Hint("k", replace(same, plain=("u", "new")), BASE, WROTE_AT, merge=True)
    (written,) = replayed(owed, stored, NOW, removed=False, password_changed=differs).puts
    assert (written.plain, written.checks) == (("u", "new"), 4)
    (written,) = replayed(owed, replace(stored, expires_at=NOW), NOW, removed=False, password_changed=differs).puts
    assert (written.plain, written.checks) == (("u", "new"), 0)
