"""Long random runs of an authority and of a window beside a naive model, equal step by step.

- `NaiveOrder` does eviction the slow and obvious way.
- `AuthorityRun` is an authority beside a dict, and one reader that follows its log.
- `WindowRun` is a window beside a dict and a log as a plain list. What is read from the log reaches the window late.

A run is told by its seed: the same seed makes the same steps, and a failure names seed and step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random

from proxywhirl.cache.models import EVICTION_POLICIES
from proxywhirl.cache.record import NEVER_TIMESTAMP, Record
from proxywhirl.cache.tiers.protocol import Access, Batch, Stretch, Tier
from proxywhirl.testing.tier_clauses.base import (
    Clauses,
    LogReader,
    all_records,
    expect,
    hit_times,
    keys,
    record,
    same,
    there,
)

KEYS = [f"k{n}" for n in range(9)] + ["ünï", "\U00010000", "a\x00b"]
STEPS = 150
BOUND = 5
OFTEN, SELDOM = 0.8, 0.2


class NaiveOrder:
    """The keys of a tier of `bound` entries, with everything that was ever noted of their use.

    Which key goes first:

    - `lru`: the one that was used longest ago. Writing is a use.
    - `fifo`: the one that came first.
    - `lfu`: the one with the fewest uses, and among equals the one that was used longest ago. Writing brings the count
      and the time that are written.
    - `sieve`: a hand goes from the first that came to the last, and begins anew. It takes the mark of use from keys
      that have one, and stops at a key that has none. It goes on from the next one. A first write leaves no mark.
    """

    def __init__(self, policy: str, bound: int | None) -> None:
        self.policy, self.bound = policy, bound
        self._came: dict[str, int] = {}
        self._used: dict[str, int] = {}
        self._uses: dict[str, int] = {}
        self._stored: dict[str, float] = {}
        self._latest = 0.0
        self._marked: set[str] = set()
        self._hand: str | None = None  # None: the one that came first
        self._tick = 0

    def use(self, key: str, at: float | None = None) -> None:
        """Note that a key was read, at a time where that is told; an unknown one is ignored."""
        if key in self._came:
            self._tick += 1
            self._used[key] = self._tick
            self._uses[key] += 1
            self._latest = max(self._latest, at or 0.0)
            self._stored[key] = self._latest
            self._marked.add(key)

    def forget(self, key: str) -> None:
        """Note that a key has gone."""
        if key == self._hand:
            self._hand = self._next(key)
        self._came.pop(key, None)
        self._marked.discard(key)

    def write(self, key: str) -> str | None:
        """Note that a key was written; return the one that leaves for it."""
        left = None
        if key not in self._came:
            if self.bound is not None and len(self._came) >= self.bound:
                left = self._sieved() if self.policy == "sieve" else min(self._came, key=self._rank)
                self.forget(left)
            self._came[key] = self._tick + 1
            self._uses[key] = 0
            self.use(key)
            self._marked.discard(key)
        else:
            self.use(key)
        return left

    def write_all(self, records: Sequence[Record]) -> tuple[dict[str, Record], set[str]]:
        """Note that records were written one by one; return those that stay, and the keys that left."""
        staying: dict[str, Record] = {}
        left: set[str] = set()
        for each in records:
            victim = self.write(each.key)
            if victim is not None:
                staying.pop(victim, None)
                left.add(victim)
            left.discard(each.key)
            self._uses[each.key], self._stored[each.key] = each.access_count, each.accessed_at
            self._latest = max(self._latest, each.accessed_at)
            staying[each.key] = each
        return staying, left

    def _next(self, key: str) -> str | None:
        keys = list(self._came)  # in the order in which they came
        return next(iter(keys[keys.index(key) + 1 :]), None)

    def _sieved(self) -> str:
        first = next(iter(self._came))
        key = self._hand or first
        while key in self._marked:
            self._marked.discard(key)
            key = self._next(key) or first
        self._hand = key
        return key

    def _rank(self, key: str) -> tuple[float, ...]:
        if self.policy == "lru":
            return (self._used[key],)
        if self.policy == "fifo":
            return (self._came[key],)
        return self._uses[key], self._stored[key], self._used[key]


class Run:
    """A tier beside its model: `held` is what it must hold, `revision` where it must stand."""

    def __init__(self, tier: Tier, rng: Random, order: NaiveOrder, *, stores_hits: bool) -> None:
        self.tier, self.rng, self.order = tier, rng, order
        self.stores_hits = stores_hits
        self.held: dict[str, Record] = {}
        self.revision = 0
        self.operations: list[Callable[[], str]] = []

    def go(self, rng: Random, steps: int, conditions: str) -> None:
        """Do random operations, check after each, and say in a failure how it came about."""
        done: deque[str] = deque(maxlen=8)
        for step in range(steps):
            operation = rng.choice(self.operations)
            try:
                done.append(operation.__name__.strip("_"))
                done.append(operation())
                self.check()
            except Exception as exc:
                exc.add_note(f"step {step} of a random run ({conditions}) after: {'; '.join(done)}")
                raise

    def check(self) -> None:
        """Compare all that the tier holds with the model."""
        same(all_records(self.tier, self.rng.choice((2, 5, 100, 100))), dict(sorted(self.held.items())), "what is held")
        same((self.tier.revision, len(self.tier)), (self.revision, self._served()), "revision and len")

    def _served(self) -> int:
        return sum(not each.retired for each in self.held.values())

    def _some(self) -> list[str]:
        return self.rng.sample(KEYS, self.rng.randint(0, 5))

    def forget(self, names: Iterable[str]) -> None:
        """Let keys go from the model."""
        for name in list(names):
            self.held.pop(name, None)
            self.order.forget(name)

    def enter(self, records: Sequence[Record], evicted: Sequence[str]) -> dict[str, Record]:
        """Write records into the model, check who left for them, and return those that stay."""
        staying, left = self.order.write_all(records)
        held = left & set(self.held)
        expect(held <= set(evicted) <= left, f"evicted: expected {sorted(held)}, got {evicted}")
        for name in left:
            self.held.pop(name, None)
        return staying

    def _get(self) -> str:
        key = self.rng.choice(KEYS)
        same(self.tier.get(key), self.held.get(key), f"get({key!r})")
        self.use(key)
        return f"get({key!r})"

    def use(self, key: str) -> None:
        """Tell the model of a hit, and the tier where it is to be told."""
        known = self.held.get(key)
        if known is None:
            return
        at = None
        if self.stores_hits:
            at = next(hit_times)
            self.tier.touch_many([Access(key, known.generation, 1, at)])
            self.held[key] = _hit(known, 1, at)
        self.order.use(key, at)


class AuthorityRun(Run):
    """An authority, its naive model, and one reader that follows the log of the first."""

    def __init__(self, tier: Tier, rng: Random, order: NaiveOrder, *, stores_hits: bool) -> None:
        super().__init__(tier, rng, order, stores_hits=stores_hits)
        self.given: set[int] = set()
        self.reader = LogReader()
        read = [self._get, self._get, self._get_many, self._look, self._expired, self._read_log]
        often = [*[self._transact] * 4, *read, *read]
        self.operations = [*often, *often, self._clear]  # which a durable tier takes long for
        if order.bound is None:  # a hit that is noted may be a use, a failure may cost what was noted of uses
            self.operations += [self._fail, self._touch] if stores_hits else [self._fail]

    def fresh(self, key: str) -> Record:
        """Make a record under a key: one that is new, or an update of the one that is there."""
        rng = self.rng
        old = self.held.get(key)
        base = old if old is not None and rng.random() < 0.6 else record(key)  # noqa: PLR2004  # more often than not
        return replace(
            base,
            failure_count=rng.randint(0, 99),
            retired=rng.random() < SELDOM,
            expires_at=rng.choice([float(rng.randint(0, 50)), NEVER_TIMESTAMP]),
            error=rng.choice([None, "", "ünï\n\x00"]),
        )

    def _transact(self) -> str:
        names, asked = self._some(), self._some()
        cut = self.rng.randint(0, len(names))
        puts, deletes = [self.fresh(name) for name in names[cut:]], names[:cut]
        shown: list[dict[str, Record]] = []

        def decide(present: Mapping[str, Record]) -> Batch:
            shown.append({name: replace(each) for name, each in present.items()})
            return Batch([replace(each) for each in puts], deletes)

        expected = {name: self.held[name] for name in asked if name in self.held}
        applied = self.tier.transact(asked, decide)
        same(shown, [expected], "what the decision was shown")
        same(sorted(applied.deletes), sorted(name for name in deletes if name in self.held), "deletes")
        self.forget(applied.deletes)
        staying = self.enter(puts, applied.evicted)
        same(sorted(keys(applied.puts)), sorted(staying), "puts")
        same(applied.revision_before, self.revision, "revision_before")
        for each in applied.puts:
            self.take(each, staying[each.key])
        self.revision = applied.revision
        return f"transact({asked}, puts {keys(puts)}, deletes {deletes})"

    def take(self, written: Record, expected: Record) -> None:
        """Check the revision and the generation of what was written, and hold it."""
        revision = written.revision
        expect(revision > self.revision, f"{written.key} was given revision {revision} again")
        expect(revision not in self.given, f"revision {revision} was given twice")
        self.given.add(revision)
        generation = expected.generation or revision
        same(written, replace(expected, revision=revision, generation=generation), f"what was put as {written.key}")
        self.held[written.key] = replace(written)

    def _fail(self) -> str:

        class FailedError(Exception):
            """Raised on purpose."""

        def decide(_: Mapping[str, Record]) -> Batch:
            raise FailedError

        asked = self._some()
        try:
            self.tier.transact(asked, decide)
        except FailedError:
            return f"transact({asked}, fails)"
        raise AssertionError("the error of a decision was swallowed")

    def _get_many(self) -> str:
        names = self._some()
        found = self.tier.get_many(names)
        same(found, {name: self.held[name] for name in names if name in self.held}, f"get_many({names})")
        for name in names:
            self.use(name)
        return f"get_many({names})"

    def _look(self) -> str:
        key = self.rng.choice(KEYS)
        known = self.held.get(key)
        same(self.tier.peek(key), known, f"peek({key!r})")
        same(key in self.tier, known is not None and not known.retired, f"{key!r} in tier")
        return f"peek({key!r})"

    def _expired(self) -> str:
        now, limit = float(self.rng.randint(0, 50)), self.rng.randint(1, 9)
        due = {name for name, each in self.held.items() if each.expires_at <= now}
        found = self.tier.expired(now, limit)
        expect(set(found) <= due, f"expired({now}): {set(found) - due} are not expired, or not there")
        same((len(found), len(set(found))), (min(limit, len(due)),) * 2, f"how many expired({now}, {limit}) names")
        return f"expired({now}, {limit})"

    def _touch(self) -> str:
        """Add hits, half of them to other generations."""
        accesses = [
            Access(key, generation, self.rng.randint(1, 3), 1000.0 + self.rng.randint(-50, 50))
            for key in self._some()
            for generation in (self.held[key].generation if key in self.held else 1, 10**9)
        ]
        self.tier.touch_many(accesses)
        for access in accesses:
            known = self.held.get(access.key)
            if known is not None and known.generation == access.generation:
                self.held[access.key] = _hit(known, access.count, access.at)
        return f"touch_many({accesses})"

    def _read_log(self) -> str:
        """Read a page of the log; at its end the reader knows all but the use of the records, which is in no log."""
        if self.reader.read_page(self.tier, self.rng.randint(1, 6)):
            return "a page of the log"
        known, held = (
            {key: replace(each, access_count=0, accessed_at=0.0) for key, each in records.items()}
            for records in (self.reader.known, self.held)
        )
        same(known, held, "what a reader of the log knows")
        return "the last page of the log"

    def _clear(self) -> str:
        at_least = self.rng.choice([None, 0, self.revision + 7])
        same(self.tier.clear(at_least), self._served(), "clear")
        self.forget(self.held)
        expect(self.tier.revision > self.revision, "clear took no revision")
        expect(self.tier.revision >= (at_least or 0), f"clear({at_least}) ended at {self.tier.revision}")
        self.revision = self.tier.revision
        return f"clear({at_least})"


class WindowRun(Run):
    """A window, the naive model of it, and a log as a plain list of what each revision did."""

    def __init__(self, tier: Tier, rng: Random, order: NaiveOrder, *, stores_hits: bool) -> None:
        super().__init__(tier, rng, order, stores_hits=stores_hits)
        self.log: list[tuple[str, Record | None]] = [("", None)]  # by revision; None for a removal
        move = [self._follow] * 3 + [self._fill] * 4
        often = [*[self._change] * 4, *move, self._get, self._get, self._drop]
        self.operations = [*often, *often, self._clear]  # which a durable tier takes long for

    def check(self) -> None:
        """Compare all that the window holds with the model, and with the log."""
        super().check()
        for key, each in self.held.items():
            missed = [at for at in range(each.revision + 1, self.revision + 1) if self.log[at][0] == key]
            where = f"the window is at {self.revision}"
            expect(not missed, f"{key} is held as of {each.revision}, and changed at {missed}; {where}")

    def state(self, upto: int) -> dict[str, Record]:
        """Return what the log says at a revision."""
        state: dict[str, Record] = {}
        for key, each in self.log[: upto + 1]:
            if each is not None:
                state[key] = each
            else:
                state.pop(key, None)
        return state

    def _change(self) -> str:
        key, revision = self.rng.choice(KEYS), len(self.log)
        each = replace(record(key, revision=revision), retired=self.rng.random() < SELDOM)
        self.log.append((key, each if self.rng.random() < OFTEN else None))
        return f"log {revision}: {key} {'changed' if self.log[-1][1] else 'removed'}"

    def _follow(self) -> str:
        """Follow a stretch of the log, now and then one that does not begin where the window stands.

        What is held as the stretch has it, or later, is dropped first: whether that is written again is the tier's
        own affair.
        """
        last = len(self.log) - 1
        since = self.revision if self.rng.random() < OFTEN else self.rng.randint(0, last)
        upto = self.rng.randint(since, last)
        state = self.state(upto)
        names = dict.fromkeys(key for key, _ in self.log[since + 1 : upto + 1])
        records = [state[name] for name in names if name in state]
        removed = [name for name in names if name not in state]
        admit = self.rng.random() < OFTEN
        ahead = [r.key for r in records if r.key in self.held and self.held[r.key].revision >= r.revision]
        self.tier.drop(ahead)
        self.forget(ahead)
        told = f"follow({since} to {upto}, {keys(records)}, removed {removed}, admit={admit})"
        followed = self.tier.follow(Stretch(since, upto, [replace(r) for r in records], removed, admit))
        if since != self.revision:
            same(followed, None, told)
            return f"{told} refused"
        followed = there(followed, told)
        same(sorted(followed.held), sorted(filter(self._serves, removed)), "held")
        self.forget(removed)
        self.held |= self.enter([each for each in records if admit or each.key in self.held], followed.evicted)
        self.revision = upto
        return told

    def _fill(self) -> str:
        """Fill with what was read from the log just now, or a while ago."""
        last = len(self.log) - 1
        revision = last if self.rng.random() < OFTEN else self.rng.randint(0, last)
        state = self.state(revision)
        records = self.rng.sample(list(state.values()), self.rng.randint(0, min(4, len(state))))
        told = f"fill({keys(records)}, {revision})"
        evicted = self.tier.fill([replace(each) for each in records], revision)
        if revision < self.revision:
            same(evicted, None, told)
            return f"{told} refused"
        news = [each for each in records if each.key not in self.held or self.held[each.key].revision < each.revision]
        self.held |= self.enter(news, there(evicted, told))
        return told

    def _drop(self) -> str:
        names = self.rng.sample(KEYS, 2)
        same(sorted(self.tier.drop(names)), sorted(filter(self._serves, names)), f"drop({names})")
        self.forget(names)
        return f"drop({names})"

    def _clear(self) -> str:
        revision = self.rng.randint(0, len(self.log) - 1)
        same(self.tier.clear(revision), self._served(), f"clear({revision})")
        self.forget(self.held)
        self.revision = revision
        return f"clear({revision})"

    def _serves(self, name: str) -> bool:
        return name in self.held and not self.held[name].retired


def _hit(known: Record, count: int, at: float) -> Record:
    return replace(known, access_count=known.access_count + count, accessed_at=max(known.accessed_at, at))


class ModelClauses(Clauses):
    """Everything at once."""

    def test_an_authority_behaves_as_a_naive_model_does(self) -> None:
        """Without a bound, and with one under each policy, no call of a random run tells the two apart."""
        for seed, policy in enumerate(("lru", *EVICTION_POLICIES)):
            self.compare_authority(seed, bound=BOUND if seed else None, policy=policy, steps=STEPS)

    def test_a_window_holds_what_the_log_says(self) -> None:
        """Whatever comes late, twice or not at all, a window of a random run holds nothing that is outdated."""
        for seed, policy in enumerate(("lru", *EVICTION_POLICIES)):
            self.compare_window(seed, bound=BOUND if seed else None, policy=policy, steps=STEPS)

    def compare_authority(self, seed: int, *, bound: int | None, policy: str, steps: int) -> None:
        """Run an authority beside the model."""
        self._compare(AuthorityRun, self.authority(max_entries=bound, policy=policy), seed, bound, policy, steps)

    def compare_window(self, seed: int, *, bound: int | None, policy: str, steps: int) -> None:
        """Run a window beside the model."""
        self._compare(WindowRun, self.window(max_entries=bound, policy=policy), seed, bound, policy, steps)

    def _compare(self, kind: type[Run], tier: Tier, seed: int, bound: int | None, policy: str, steps: int) -> None:
        run = kind(tier, Random(seed), NaiveOrder(policy, bound), stores_hits=self.stores_hits)  # noqa: S311  # a test
        run.go(Random(~seed), steps, f"seed {seed}, {policy}, bound {bound}")  # noqa: S311  # as above
