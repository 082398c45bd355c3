"""The chaos tier: a sound tier until it is told otherwise, and then exactly as unsound as it was told."""

from __future__ import annotations

import errno
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.memory import MemoryTier
from proxywhirl.cache.tiers.protocol import Batch, Stretch, Tier
from proxywhirl.errors import TierError
from proxywhirl.testing import ChaosTier, Garbage, ManualClock, TierContract
from proxywhirl.testing.chaos import METHODS


def record(key: str) -> Record:
    """Make a record."""
    return Record(key, "http://192.0.2.1:80", "s", 0.0, 0, 2e9, 0.0)


def put(tier: Tier, *keys: str) -> None:
    """Write records."""
    tier.transact([], lambda _: Batch(puts=[record(key) for key in keys]))


@pytest.fixture
def chaos() -> ChaosTier:
    """A chaos tier around an authority in memory that holds a to d."""
    tier = ChaosTier(MemoryTier(authority=True))
    put(tier, *"abcd")
    return tier


class TestUntroubled(TierContract):
    """While it is told nothing, it is a tier like any other."""

    stores_hits = False

    def make_tier(self, *, authority: bool, max_entries: int | None = None, policy: str = "lru") -> Tier:
        """Wrap a tier in memory."""
        return ChaosTier(MemoryTier(max_entries=max_entries, policy=policy, authority=authority))


def call_each(tier: Tier) -> dict[str, BaseException | None]:
    """Call each method once; return what each raised."""
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: tier.get("a"),
        "peek": lambda: tier.peek("a"),
        "get_many": lambda: tier.get_many(["a"]),
        "transact": lambda: put(tier, "n"),
        "follow": lambda: tier.follow(Stretch(10**6, 10**6)),
        "fill": lambda: tier.fill([], 0),
        "drop": lambda: tier.drop([]),
        "touch_many": lambda: tier.touch_many([]),
        "expired": lambda: tier.expired(0, 1),
        "scan": lambda: tier.scan("", 1),
        "changes_since": lambda: tier.changes_since(0, 1),
        "changed_elsewhere": tier.changed_elsewhere,
        "get_meta": lambda: tier.get_meta("n"),
        "set_meta": lambda: tier.set_meta("n", None),
        "metas": lambda: tier.metas(""),
        "examine": tier.examine,
        "close": tier.close,
        "clear": tier.clear,
        "revision": lambda: tier.revision,
        "len": lambda: len(tier),
        "contains": lambda: "a" in tier,
    }
    assert set(calls) == METHODS
    raised: dict[str, BaseException | None] = {}
    for name, call in calls.items():
        raised[name] = None
        try:
            call()
        except Exception as exc:  # noqa: BLE001  # it is returned
            raised[name] = exc
    return raised


def test_every_call_fails_until_recovery(chaos: ChaosTier) -> None:
    """All methods but `close` raise the error as it was given; `recover` ends that; each call is counted."""
    assert not any(call_each(chaos).values())
    error = OSError(errno.ENOSPC, "No space left on device")
    trouble = chaos.fail(error)
    put(chaos.tier, "a")
    assert call_each(chaos) == {name: None if name == "close" else error for name in METHODS}
    assert trouble.met == len(METHODS) - 1
    assert "a" in chaos.tier
    chaos.recover()
    assert not any(call_each(chaos).values())
    assert chaos.calls == {name: 3 + (name == "transact") for name in METHODS}


def test_a_failure_by_default_is_a_tier_error_of_its_own_each_time(chaos: ChaosTier) -> None:
    """Without an error it is a `TierError`; a function makes a new one for each call."""
    chaos.fail()
    raised = call_each(chaos)
    assert isinstance(raised["get"], TierError)
    assert raised["get"] is not raised["peek"]


def test_named_methods_fail_from_one_call_to_another(chaos: ChaosTier) -> None:
    """`skip` calls go well, `times` calls fail, the others are left alone."""
    chaos.fail(ValueError("odd"), "get", "peek", skip=2, times=2)
    outcomes: list[bool | str] = []
    for read in (chaos.get, chaos.peek, chaos.get, chaos.peek, chaos.get):
        try:
            outcomes.append(read("a") is not None)
        except ValueError:
            outcomes.append("odd")
    assert outcomes == [True, True, "odd", "odd", True]
    assert chaos.get_many(["a"])


def test_chance_is_drawn_from_the_given_generator() -> None:
    """The same generator makes the same calls fail, about as many as the chance says."""

    def failures(seed: int) -> list[int]:
        chaos = ChaosTier(MemoryTier(), rng=Random(seed))
        chaos.fail(TierError, "get", chance=0.3)
        failed = []
        for n in range(200):
            try:
                chaos.get("a")
            except TierError:
                failed.append(n)
        return failed

    assert failures(1) == failures(1) != failures(2)
    assert 40 < len(failures(1)) < 80


def test_a_call_can_fail_when_its_work_is_done(chaos: ChaosTier) -> None:
    """With `after`, what was written stays written: the acknowledgement is lost, not the write."""
    chaos.fail(TierError("lost"), "transact", after=True, times=1)
    with pytest.raises(TierError, match="lost"):
        put(chaos, "n")
    assert "n" in chaos
    chaos.fail(TierError("refused"), "transact", times=1)
    with pytest.raises(TierError, match="refused"):
        put(chaos, "m")
    assert "m" not in chaos


def test_a_delay_moves_the_clock() -> None:
    """A call takes as long by the clock as it was told, and does its work."""
    clock = ManualClock()
    chaos = ChaosTier(MemoryTier(authority=True), clock=clock)
    chaos.delay(5.0, "transact", times=1)
    put(chaos, "a")
    put(chaos, "b")
    assert clock.monotonic() == 5.0
    assert len(chaos) == 2
    with pytest.raises(ValueError, match="needs the clock"):
        ChaosTier(MemoryTier()).delay(1.0)


def test_a_held_call_waits_for_its_release(chaos: ChaosTier) -> None:
    """The call is under way while the test does something else, and goes on when it is let go."""
    held = chaos.hold("get", times=1)
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(chaos.get, "a")
        held.wait_until_called()
        assert not reading.done()
        put(chaos, "n")
        held.release()
        assert reading.result(timeout=120) is not None


def test_recovery_releases_what_is_held(chaos: ChaosTier) -> None:
    """`recover` ends every trouble, also for the calls that are in it."""
    held = chaos.hold("peek")
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(chaos.peek, "a")
        held.wait_until_called()
        chaos.recover()
        assert reading.result(timeout=120) is not None
        assert chaos.peek("a") is not None


def test_garbage_of_each_kind(chaos: ChaosTier) -> None:
    """Wrong types, records of other keys, and pages that end too early, wherever there is something to spoil."""
    chaos.garble(Garbage.WRONG_TYPE, times=2)
    answers: list[object] = [chaos.get("a"), chaos.revision]
    assert [type(answer).__name__ for answer in answers] == ["Nonsense", "Nonsense"]
    chaos.garble(Garbage.OTHER_KEY, times=4)
    got = chaos.get("a")
    assert got is not None
    assert got.key == "not-a"
    assert {key: each.key for key, each in chaos.get_many(["b"]).items()} == {"b": "not-b"}
    assert [each.key for each in chaos.scan("", 2)] == ["not-a", "not-b"]
    assert [each.key for each in chaos.changes_since(0, 2).records] == ["not-a", "not-b"]
    chaos.garble(Garbage.TRUNCATED, times=5)
    assert [each.key for each in chaos.scan("", 4)] == ["a", "b"]
    assert list(chaos.get_many(["a", "b"])) == ["a"]
    changes = chaos.changes_since(0, 4)
    assert ([each.key for each in changes.records], changes.revision) == (["a", "b"], 4)
    assert chaos.get("a") is not None, "a single record cannot be truncated"
    assert chaos.clear() == 4
    chaos.recover()
    put(chaos, "a")
    chaos.garble(Garbage.WRONG_TYPE, "len", times=1)
    with pytest.raises(TypeError):
        len(chaos)
    assert "a" in chaos


def test_an_unknown_method_is_refused(chaos: ChaosTier) -> None:
    """A trouble that could never be met is an error that names what there is."""
    with pytest.raises(ValueError, match=r"a tier has no gett; it has .*get_many"):
        chaos.fail(TierError, "gett")


def test_what_a_tier_offers_beyond_the_protocol_is_handed_through() -> None:
    """The wrapped tier's own attributes are there."""

    class Special(MemoryTier):
        name = "special"

    assert ChaosTier(Special()).name == "special"


def test_it_is_taken_for_a_tier(chaos: ChaosTier) -> None:
    """A cache that looks at what it is given before it opens finds everything that a tier has."""
    assert set(dir(MemoryTier)) <= set(dir(chaos))
