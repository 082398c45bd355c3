"""Long random runs of an authority and of a window beside a naive model, equal step by step.

A run is told by its seed: the same seed makes the same steps, and a failure names seed and step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random

from proxywhirl.cache.models import EVICTION_POLICIES
from proxywhirl.cache.record import NEVER_TIMESTAMP, Record
from proxywhirl.cache.tiers.protocol import Access, Batch, Tier
from proxywhirl.testing.tier_clauses.base import Clauses, all_records, expect, hit_times, keys, record, same
from proxywhirl.testing.tier_clauses.log import Follower
from proxywhirl.testing.tier_clauses.naive import NaiveOrder
from proxywhirl.testing.tier_clauses.window_model import WindowRun

KEYS = [f"k{n}" for n in range(9)] + ["ünï", "\U00010000", "a\x00b"]
STEPS = 150
BOUND = 5


class ModelClauses(Clauses):
    """Everything at once."""

    def test_an_authority_behaves_as_a_naive_model_does(self) -> None:
        """Without a bound, and with one under each policy, no call of a random run tells the two apart."""
        for seed, policy in enumerate(("lru", *EVICTION_POLICIES)):
            bound = BOUND if seed else None
            self.compare_authority(seed, bound=bound, policy=policy, steps=STEPS)

    def test_a_window_holds_what_the_log_says(self) -> None:
        """Whatever comes late, twice or not at all, a window of a random run holds nothing that is outdated."""
        for seed, policy in enumerate(("lru", *EVICTION_POLICIES)):
            bound = BOUND if seed else None
            self.compare_window(seed, bound=bound, policy=policy, steps=STEPS)

    def compare_authority(self, seed: int, *, bound: int | None, policy: str, steps: int) -> None:
        """Run an authority beside the model."""
        tier = self.authority(max_entries=bound, policy=policy)
        subject = AuthorityRun(tier, Random(seed), NaiveOrder(policy, bound), stores_hits=self.stores_hits)  # noqa: S311  # a test
        if bound is None:  # a hit that is noted may be a use, a failure may cost what was noted of uses
            subject.operations += [subject.fail, subject.touch] if self.stores_hits else [subject.fail]
        run(subject.operations, subject.check, Random(~seed), steps, f"seed {seed}, {policy}, bound {bound}")  # noqa: S311  # as above

    def compare_window(self, seed: int, *, bound: int | None, policy: str, steps: int) -> None:
        """Run a window beside the model."""
        tier = self.window(max_entries=bound, policy=policy)
        subject = WindowRun(tier, Random(seed), NaiveOrder(policy, bound), stores_hits=self.stores_hits)  # noqa: S311  # a test
        run(subject.operations, subject.check, Random(~seed), steps, f"seed {seed}, {policy}, bound {bound}")  # noqa: S311  # as above


def run(
    operations: list[Callable[[], str]], check: Callable[[], None], rng: Random, steps: int, conditions: str
) -> None:
    """Do random operations, check after each, and say in a failure how it came about."""
    done: deque[str] = deque(maxlen=8)
    for step in range(steps):
        operation = rng.choice(operations)
        try:
            done.append(operation.__name__.strip("_"))
            done.append(operation())
            check()
        except Exception as exc:
            exc.add_note(f"step {step} of a random run ({conditions}) after: {'; '.join(done)}")
            raise


class AuthorityRun:
    """An authority, its naive model, and one reader that follows the log of the first."""

    def __init__(self, tier: Tier, rng: Random, order: NaiveOrder, *, stores_hits: bool) -> None:
        self._tier = tier
        self._stores_hits = stores_hits
        self._rng = rng
        self._order = order
        self._records: dict[str, Record] = {}
        self._revision = 0
        self._given: set[int] = set()
        self._reader = Follower()
        write = [self._transact] * 4
        read = [self._get, self._get, self._get_many, self._look, self._expired, self._read_log]
        self.operations: list[Callable[[], str]] = [*write, *read, *read, self._clear]

    def check(self) -> None:
        """Compare all that the tier holds with the model."""
        tier, records = self._tier, self._records
        same(all_records(tier, self._rng.randint(1, 9)), dict(sorted(records.items())), "what is stored")
        same(len(tier), sum(not each.retired for each in records.values()), "len")
        same(tier.revision, self._revision, "revision")

    def _key(self) -> str:
        return self._rng.choice(KEYS)

    def _some(self) -> list[str]:
        return self._rng.sample(KEYS, self._rng.randint(0, 5))

    def _fresh(self, key: str) -> Record:
        """Make a record under a key: one that is new, or an update of the one that is there."""
        rng = self._rng
        old = self._records.get(key)
        base = replace(old) if old is not None and rng.random() < 0.6 else record(key)  # noqa: PLR2004  # more often than not
        base.failure_count = rng.randint(0, 99)
        base.retired = rng.random() < 0.2  # noqa: PLR2004  # now and then
        base.expires_at = rng.choice([float(rng.randint(0, 50)), NEVER_TIMESTAMP])
        base.error = rng.choice([None, "", "ünï\n\x00"])
        return base

    def _transact(self) -> str:
        names, asked = self._some(), self._some()
        cut = self._rng.randint(0, len(names))
        puts, deletes = [self._fresh(name) for name in names[cut:]], names[:cut]
        shown: list[dict[str, Record]] = []

        def decide(present: Mapping[str, Record]) -> Batch:
            shown.append({name: replace(each) for name, each in present.items()})
            return Batch([replace(each) for each in puts], deletes)

        expected = {name: replace(self._records[name]) for name in asked if name in self._records}
        applied = self._tier.transact(asked, decide)
        same(shown, [expected], "what the decision was shown")
        same(sorted(applied.deletes), sorted(name for name in deletes if name in self._records), "deletes")
        for name in applied.deletes:
            del self._records[name]
            self._order.forget(name)
        staying, left = self._order.write_all(puts)
        same(sorted(keys(applied.puts)), sorted(staying), "puts")
        self._check_evicted(applied.evicted, left)
        same(applied.revision_before, self._revision, "revision_before")
        for each in applied.puts:
            self._take(each, staying[each.key])
        self._revision = applied.revision
        return f"transact({asked}, puts {keys(puts)}, deletes {deletes})"

    def _check_evicted(self, evicted: list[str], left: set[str]) -> None:
        held = left & set(self._records)
        expect(held <= set(evicted) <= left, f"evicted: expected {sorted(held)}, got {evicted}")
        for name in left:
            self._records.pop(name, None)

    def _take(self, written: Record, expected: Record) -> None:
        expect(written.revision > self._revision, f"{written.key} was given revision {written.revision} again")
        expect(written.revision not in self._given, f"revision {written.revision} was given twice")
        self._given.add(written.revision)
        generation = expected.generation or written.revision
        same(
            written,
            replace(expected, revision=written.revision, generation=generation),
            f"what was put as {written.key}",
        )
        self._records[written.key] = replace(written)

    def fail(self) -> str:
        """Let a decision raise."""

        class FailedError(Exception):
            """Raised on purpose."""

        def decide(_: Mapping[str, Record]) -> Batch:
            raise FailedError

        asked = self._some()
        try:
            self._tier.transact(asked, decide)
        except FailedError:
            return f"transact({asked}, fails)"
        raise AssertionError("the error of a decision was swallowed")

    def _get(self) -> str:
        key = self._key()
        same(self._tier.get(key), self._records.get(key), f"get({key!r})")
        self._use(key)
        return f"get({key!r})"

    def _get_many(self) -> str:
        names = self._some()
        found = self._tier.get_many(names)
        same(found, {name: self._records[name] for name in names if name in self._records}, f"get_many({names})")
        for name in names:
            self._use(name)
        return f"get_many({names})"

    def _use(self, key: str) -> None:
        """Tell the tier of a hit where it is to be told, and the model."""
        known = self._records.get(key)
        if known is None:
            return
        at = None
        if self._stores_hits:
            at = next(hit_times)
            self._tier.touch_many([Access(key, known.generation, 1, at)])
            known.access_count, known.accessed_at = known.access_count + 1, max(known.accessed_at, at)
        self._order.use(key, at)

    def _look(self) -> str:
        key = self._key()
        known = self._records.get(key)
        same(self._tier.peek(key), known, f"peek({key!r})")
        same(key in self._tier, known is not None and not known.retired, f"{key!r} in tier")
        return f"peek({key!r})"

    def _expired(self) -> str:
        now, limit = float(self._rng.randint(0, 50)), self._rng.randint(1, 9)
        due = {name for name, each in self._records.items() if each.expires_at <= now}
        found = self._tier.expired(now, limit)
        expect(set(found) <= due, f"expired({now}): {set(found) - due} are not expired, or not there")
        same((len(found), len(set(found))), (min(limit, len(due)),) * 2, f"how many expired({now}, {limit}) names")
        return f"expired({now}, {limit})"

    def touch(self) -> str:
        """Add hits, half of them to other generations."""
        accesses = [
            Access(key, generation, self._rng.randint(1, 3), 1000.0 + self._rng.randint(-50, 50))
            for key in self._some()
            for generation in (self._records[key].generation if key in self._records else 1, 10**9)
        ]
        self._tier.touch_many(accesses)
        for access in accesses:
            known = self._records.get(access.key)
            if known is not None and known.generation == access.generation:
                known.access_count += access.count
                known.accessed_at = max(known.accessed_at, access.at)
        return f"touch_many({accesses})"

    def _read_log(self) -> str:
        if self._reader.read_page(self._tier, self._rng.randint(1, 6)):
            return "a page of the log"
        same(_unused(self._reader.known), _unused(self._records), "what a reader of the log knows")
        return "the last page of the log"

    def _clear(self) -> str:
        at_least = self._rng.choice([None, 0, self._revision + 7])
        same(self._tier.clear(at_least), sum(not each.retired for each in self._records.values()), "clear")
        for name in self._records:
            self._order.forget(name)
        self._records.clear()
        expect(self._tier.revision > self._revision, "clear took no revision")
        expect(self._tier.revision >= (at_least or 0), f"clear({at_least}) ended at {self._tier.revision}")
        self._revision = self._tier.revision
        return f"clear({at_least})"


def _unused(records: Mapping[str, Record]) -> dict[str, Record]:
    """Return records without their use, which is in no log."""
    return {key: replace(each, access_count=0, accessed_at=0.0) for key, each in records.items()}
