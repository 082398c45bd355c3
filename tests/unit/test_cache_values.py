"""What no tier can hold is refused where it comes in, and what grows stays in the range that can be stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from proxywhirl.cache import CacheEntry, CacheManager
from proxywhirl.cache.models import NEVER
from proxywhirl.cache.record import decode_attributes
from proxywhirl.errors import UnstorableValue
from proxywhirl.models import Attributes, HealthCheck, HealthStatus
from tests.unit.stores import START, Opener

OFF = {"enabled": False}
LARGEST = 2**63 - 1
LAST = datetime.max.replace(tzinfo=UTC)
KEY = "k"
STACKS: dict[str, dict[str, Any]] = {
    "memory": {"l2_config": OFF, "l3_config": OFF},
    "jsonl": {"l3_config": OFF},
    "sqlite": {"l2_config": OFF},
    "sqlite-over-sqlite": {"l2_backend": "sqlite"},
    "all": {},
    "no-l1": {"l1_config": OFF},
}
COUNTERS = (
    "access_count",
    "failure_count",
    "consecutive_health_failures",
    "consecutive_health_successes",
    "recovery_attempt",
    "total_health_checks",
    "total_health_check_failures",
)


def entry(key: str = KEY, **fields: Any) -> CacheEntry:
    """Make an entry that lives long."""
    known = {"proxy_url": "http://192.0.2.1:80", "source": "s", "fetch_time": START, "ttl_seconds": 10**9}
    return CacheEntry(key=key, **{**known, **fields})


def check(*, ok: bool) -> HealthCheck:
    """Make a health check of now."""
    status = HealthStatus.HEALTHY if ok else HealthStatus.DEGRADED
    return HealthCheck(ok, status, START.timestamp())


def use_all(cache: CacheManager) -> None:
    """Let every counter of the entry grow in every way in which it can."""
    for _ in range(3):
        assert cache.get(KEY) is not None
        assert KEY in cache.get_many([KEY])
        assert cache.endpoint(KEY) is not None
        cache.flush()
    for ok in (False, True, False):
        cache.record_check(KEY, check(ok=ok))
    cache.invalidate_by_health(KEY)
    cache.flush()


@pytest.mark.parametrize("stack", STACKS)
def test_a_counter_at_its_end_stays_there_and_no_tier_is_sick_for_it(opened: Opener, stack: str) -> None:
    """Uses, checks and failures of such an entry are counted no further, shown and stored; all goes on as before."""
    cache = opened(**STACKS[stack], health_check_invalidation=False)
    assert cache.put(KEY, entry(KEY, **dict.fromkeys(COUNTERS, LARGEST)))
    assert cache.put("other", entry("other"))
    use_all(cache)
    figures = cache.get_statistics()
    assert (figures.l1_degraded, figures.l2_degraded, figures.l3_degraded) == (False, False, False)
    if stack != "memory":
        cache.close()
        cache = opened(**STACKS[stack])
    shown = cache.get(KEY)
    assert shown is not None
    largest = {name for name in COUNTERS if getattr(shown, name) == LARGEST}
    restarted = {"consecutive_health_successes", "recovery_attempt"}  # the last check has failed
    assert largest >= set(COUNTERS) - restarted - {"failure_count", "consecutive_health_failures"}
    assert [each.key for each in cache.scan()] == [KEY, "other"]
    assert cache.verify() == []
    assert cache.delete("other")


@pytest.mark.parametrize("stack", ["jsonl", "all", "memory"])
def test_hits_near_the_end_of_a_count_are_added_up_to_the_end(opened: Opener, stack: str) -> None:
    """What is noted beside a stored count does not lead past the end either, shown before it is written or after."""
    cache = opened(**STACKS[stack])
    cache.put(KEY, entry(access_count=LARGEST - 2))
    shown = [found.access_count for _ in range(4) if (found := cache.get(KEY)) is not None]
    assert shown == [LARGEST - 1, LARGEST, LARGEST, LARGEST]
    if stack != "memory":
        cache.close()
        reopened = opened(**STACKS[stack]).get(KEY)
        assert reopened is not None
        assert reopened.access_count == LARGEST


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        ({"ok": 1}, TypeError, "ok must be True or False, not int"),
        ({"status": "healthy"}, TypeError, "status must be a HealthStatus, such as HealthStatus.HEALTHY, not str"),
        ({"at": float("nan")}, ValueError, "at must be a time in Unix seconds, of the years 1 to 9999, not nan"),
        ({"at": 253402300800.0}, ValueError, "at must be a time in Unix seconds"),
        ({"at": "now"}, TypeError, "at must be a time in Unix seconds, not str"),
        ({"at": True}, TypeError, "at must be a time in Unix seconds, not bool"),
        ({"next_check": float("inf")}, ValueError, "next_check must be a time in Unix seconds"),
        ({"next_check": float("nan")}, ValueError, "next_check must be a time in Unix seconds"),
        ({"next_check": -1e12}, ValueError, "next_check must be a time in Unix seconds"),
        ({"recovery_attempt": 1.5}, TypeError, "recovery_attempt must be a whole number, not float"),
        ({"recovery_attempt": True}, TypeError, "recovery_attempt must be a whole number, not bool"),
        ({"recovery_attempt": -1}, ValueError, "recovery_attempt must be from 0 to 9223372036854775807, not -1"),
        ({"recovery_attempt": 2**200}, ValueError, "recovery_attempt must be from 0 .*, not one of 201 bits"),
        ({"error": b"refused"}, TypeError, "error must be a text or None, not bytes"),
    ],
)
def test_a_health_check_is_one(changed: dict[str, Any], kind: type[Exception], words: str) -> None:
    """What no tier could hold would be acknowledged, and then be lost with the entry and its credential."""
    with pytest.raises(kind, match=f"^{words}"):
        HealthCheck(**{"ok": True, "status": HealthStatus.HEALTHY, "at": 1.0, **changed})


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        ({"asn": True}, TypeError, "asn must be a whole number, not bool"),
        ({"asn": 1.5}, TypeError, "asn must be a whole number, not float"),
        ({"asn": -1}, ValueError, "asn must be from 0"),
        ({"weight": float("nan")}, ValueError, "weight must be 0 or more, not nan"),
        ({"price_per_gb": float("inf")}, ValueError, "price_per_gb must be 0 or more and finite, not inf"),
        ({"price_per_gb": "1"}, TypeError, "price_per_gb must be a number or None, not str"),
        ({"label": 5}, TypeError, "label must be a text or None, not int"),
        ({"country": 49}, TypeError, "country must be a two-letter code such as DE, or None, not int"),
        ({"anonymity": "hidden"}, ValueError, "anonymity must be one of transparent, anonymous, elite, not 'hidden'"),
        ({"tags": ("a", 1)}, TypeError, "each of tags must be a text, not int"),
        ({"tags": None}, TypeError, "tags must be several texts, not NoneType"),
    ],
)
def test_attributes_are_what_they_say(changed: dict[str, Any], kind: type[Exception], words: str) -> None:
    """They are stored as text, and filters compare them: one of another kind would be met much later."""
    with pytest.raises(kind, match=f"^{words}"):
        Attributes(**changed)


def test_attributes_that_were_taken_once_are_read_without_what_is_refused_now() -> None:
    """A store of an earlier release loses no entry for them; what no release wrote is damage still."""
    text = '{"label":5,"city":"Bonn","anonymity":"no","tags":["a",1],"asn":1.5,"price_per_gb":Infinity,"provider":true}'
    assert decode_attributes(text) == Attributes(city="Bonn")
    for damaged in ('{"country":"D1"}', '{"weight":-1}', '{"cyti":"Bonn"}', '{"asn":"1"}'):
        with pytest.raises((TypeError, ValueError)):
            decode_attributes(damaged)


@pytest.mark.parametrize("stack", STACKS)
def test_the_end_of_all_time_is_a_time(opened: Opener, stack: str) -> None:
    """Every time of an entry may be the last one: it is clamped by less than a second, and nothing is lost."""
    times = ("fetch_time", "last_accessed", "expires_at", "last_health_check", "next_check_time")
    cache = opened(**STACKS[stack])
    for name in times:
        assert cache.put(name, entry(name, **{name: LAST}, username="u", password="paid"))
    if stack != "memory":
        cache.close()
        cache = opened(**STACKS[stack])
    assert [found.key for found in cache.scan()] == sorted(times)
    for name in times:
        found = cache.look(name)
        assert found is not None
        assert found.password is not None
        assert found.password.get_secret_value() == "paid"
        assert getattr(found, name) == NEVER
    assert cache.verify(repair=True) == []


def test_what_put_takes_doctor_calls_no_damage(opened: Opener) -> None:
    """A time before 1970 is one."""
    cache = opened()
    before = datetime(1960, 1, 1, tzinfo=UTC)
    assert cache.put(KEY, entry(fetch_time=before, last_accessed=before, expires_at=NEVER))
    assert cache.verify(repair=True) == []
    assert cache.get(KEY) is not None


@pytest.mark.parametrize(
    "changed",
    [
        {"ttl_seconds": 1.5},
        {"access_count": "one"},
        {"fetch_time": "then"},
        {"expires_at": datetime(2025, 1, 1)},  # noqa: DTZ001  # the point
        {"next_check_time": "now"},
        {"next_check_time": LAST.replace(tzinfo=timezone(timedelta(hours=-1)))},
        {"health_status": "well"},
        {"attributes": {"price_per_gb": float("inf")}},
        {"last_health_error": 5},
        {"total_health_checks": -1},
        {"total_health_checks": LARGEST + 1},
    ],
)
def test_an_entry_that_was_changed_is_looked_at_again(opened: Opener, changed: dict[str, Any]) -> None:
    """Pydantic does not look at what is assigned: `put` names the field, and writes nothing of the batch."""
    cache = opened()
    odd = entry().model_copy(update=changed)
    with pytest.raises(ValueError, match=next(iter(changed))):
        cache.put_many([entry("other"), odd])
    assert list(cache.scan()) == []
    figures = cache.get_statistics()
    assert (figures.l2_degraded, figures.l3_degraded) == (False, False)


def test_a_judge_must_return_a_check(opened: Opener) -> None:
    """Anything else is refused, nothing of the batch is recorded, and no tier is sick for it."""
    cache = opened()
    cache.put_many([entry(), entry("other")])

    def judge(*_: object) -> Any:
        return {"ok": True}

    with pytest.raises(TypeError, match=r"^what a judge returns must be a HealthCheck, not dict"):
        cache.record_checks([("other", check(ok=True)), (KEY, judge)])
    nothing: Any = None
    with pytest.raises(
        TypeError, match=r"^a check must be a HealthCheck, or a function that returns one, not NoneType"
    ):
        cache.record_checks([(KEY, nothing)])
    assert {found.total_health_checks for found in cache.scan()} == {0}
    assert cache.get_statistics().l3_degraded is False


def test_what_is_found_out_about_a_proxy_is_looked_at(opened: Opener) -> None:
    """It is no less stored than an entry is."""
    cache = opened()
    cache.put(KEY, entry())
    with pytest.raises(UnstorableValue, match=r"^entry 'k': attributes cannot be stored") as caught:
        cache.describe({KEY: Attributes(city="\ud800")})
    assert caught.value.key == KEY
    nothing: Any = {KEY: {"city": "Bonn"}}
    with pytest.raises(TypeError, match=r"^what is known of an entry must be an Attributes, not dict"):
        cache.describe(nothing)
    assert cache.get_statistics().l3_degraded is False
    assert cache.describe({KEY: Attributes(city="Bonn")}) == 1


@pytest.mark.parametrize(
    ("ttl", "kind"), [(-1, ValueError), (float("nan"), ValueError), ("60", TypeError), (True, ValueError)]
)
def test_a_time_to_live_is_one(opened: Opener, tmp_path: Path, ttl: Any, kind: type[Exception]) -> None:
    """Where an entry is made and where a file is read."""
    cache = opened()
    with pytest.raises(kind, match=r"^(ttl|a time to live) must be"):
        cache.add("http://192.0.2.1:80", source="s", ttl=ttl)
    with pytest.raises(kind, match=r"^(ttl|a time to live) must be"):
        cache.warm_from_file(tmp_path / "none.jsonl", ttl_override=ttl)


def test_a_time_to_live_beyond_all_time_is_for_ever(opened: Opener, tmp_path: Path) -> None:
    """However many digits it has."""
    cache = opened()
    added = cache.add("http://192.0.2.1:80", source="s", ttl=10**400)
    assert added is not None
    assert added.expires_at == NEVER
    cache.export_to_file(tmp_path / "x.jsonl")
    assert cache.warm_from_file(tmp_path / "x.jsonl", ttl_override=10**400)["failed"] == 0
