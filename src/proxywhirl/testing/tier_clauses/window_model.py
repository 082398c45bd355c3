"""A window in a random run: the log goes on in a model, and what is read from it reaches the window late."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.protocol import Access, Stretch, Tier
from proxywhirl.testing.tier_clauses.base import all_records, expect, hit_times, record, same, there
from proxywhirl.testing.tier_clauses.naive import NaiveOrder

KEYS = [f"k{n}" for n in range(9)]
OFTEN, SELDOM = 0.8, 0.2


class WindowRun:
    """A window, the naive model of it, and a log as a plain list of what each revision did."""

    def __init__(self, tier: Tier, rng: Random, order: NaiveOrder, *, stores_hits: bool) -> None:
        self._tier = tier
        self._stores_hits = stores_hits
        self._rng = rng
        self._order = order
        self._log: list[tuple[str, Record | None]] = [("", None)]  # by revision; None for a removal
        self._held: dict[str, Record] = {}
        self._at = 0
        write = [self._change] * 4
        move = [self._follow] * 3 + [self._fill] * 4
        self.operations: list[Callable[[], str]] = [*write, *move, self._get, self._get, self._drop, self._clear]

    def check(self) -> None:
        """Compare all that the window holds with the model, and with the log."""
        same(all_records(self._tier), dict(sorted(self._held.items())), "what the window holds")
        same(
            (self._tier.revision, len(self._tier)), (self._at, sum(not r.retired for r in self._held.values())), "size"
        )
        for key, each in self._held.items():
            missed = [at for at in range(each.revision + 1, self._at + 1) if self._log[at][0] == key]
            expect(
                not missed, f"{key} is held as of {each.revision}, and changed at {missed}; the window is at {self._at}"
            )

    def _now(self, upto: int | None = None) -> dict[str, Record]:
        """Return what the log says, at its end or at a revision."""
        state: dict[str, Record] = {}
        for key, each in self._log[: None if upto is None else upto + 1]:
            if each is not None:
                state[key] = each
            else:
                state.pop(key, None)
        return state

    def _change(self) -> str:
        """Let the log go on."""
        key, revision = self._rng.choice(KEYS), len(self._log)
        each = replace(record(key, revision=revision), retired=self._rng.random() < SELDOM)
        self._log.append((key, each if self._rng.random() < OFTEN else None))
        return f"log {revision}: {key} {'changed' if self._log[-1][1] else 'removed'}"

    def _follow(self) -> str:
        """Follow a stretch of the log, now and then one that does not begin where the window stands."""
        last = len(self._log) - 1
        since = self._at if self._rng.random() < OFTEN else self._rng.randint(0, last)
        upto = self._rng.randint(since, last)
        state = self._now(upto)
        names = dict.fromkeys(key for key, _ in self._log[since + 1 : upto + 1])
        records = [state[name] for name in names if name in state]
        removed = [name for name in names if name not in state]
        admit = self._rng.random() < OFTEN
        self._drop_what_is_ahead(records)
        told = f"follow({since} to {upto}, {[r.key for r in records]}, removed {removed}, admit={admit})"
        followed = self._tier.follow(Stretch(since, upto, [replace(r) for r in records], removed, admit))
        if since != self._at:
            same(followed, None, told)
            return f"{told} refused"
        self._apply(there(followed, told).held, followed.evicted if followed else [], records, removed, admit=admit)
        self._at = upto
        return told

    def _drop_what_is_ahead(self, records: list[Record]) -> None:
        """Forget what is held as a stretch has it, or later: whether it is written again is the tier's own affair."""
        ahead = [r.key for r in records if r.key in self._held and self._held[r.key].revision >= r.revision]
        self._tier.drop(ahead)
        self._forget(ahead)

    def _apply(
        self, held: list[str], evicted: list[str], records: list[Record], removed: list[str], *, admit: bool
    ) -> None:
        same(sorted(held), sorted(name for name in removed if self._serves(name)), "held")
        self._forget(removed)
        self._enter([each for each in records if admit or each.key in self._held], evicted)

    def _fill(self) -> str:
        """Fill with what was read from the log just now, or a while ago."""
        last = len(self._log) - 1
        revision = last if self._rng.random() < OFTEN else self._rng.randint(0, last)
        state = self._now(revision)
        records = self._rng.sample(list(state.values()), self._rng.randint(0, min(4, len(state))))
        told = f"fill({[each.key for each in records]}, {revision})"
        evicted = self._tier.fill([replace(each) for each in records], revision)
        if revision < self._at:
            same(evicted, None, told)
            return f"{told} refused"
        news = [each for each in records if each.key not in self._held or self._held[each.key].revision < each.revision]
        self._enter(news, there(evicted, told))
        return told

    def _enter(self, records: list[Record], evicted: list[str]) -> None:
        staying, left = self._order.write_all(records)
        held = left & set(self._held)
        expect(held <= set(evicted) <= left, f"evicted: expected {sorted(held)}, got {evicted}")
        for name in left:
            self._held.pop(name, None)
        self._held.update(staying)

    def _get(self) -> str:
        key = self._rng.choice(KEYS)
        same(self._tier.get(key), self._held.get(key), f"get({key!r})")
        if (known := self._held.get(key)) is not None:
            at = None
            if self._stores_hits:
                at = next(hit_times)
                self._tier.touch_many([Access(key, known.generation, 1, at)])
                hit = replace(known, access_count=known.access_count + 1, accessed_at=max(known.accessed_at, at))
                self._held[key] = hit
            self._order.use(key, at)
        return f"get({key!r})"

    def _drop(self) -> str:
        names = self._rng.sample(KEYS, 2)
        same(sorted(self._tier.drop(names)), sorted(name for name in names if self._serves(name)), f"drop({names})")
        self._forget(names)
        return f"drop({names})"

    def _clear(self) -> str:
        revision = self._rng.randint(0, len(self._log) - 1)
        same(self._tier.clear(revision), sum(not each.retired for each in self._held.values()), f"clear({revision})")
        self._forget(list(self._held))
        self._at = revision
        return f"clear({revision})"

    def _serves(self, name: str) -> bool:
        return name in self._held and not self._held[name].retired

    def _forget(self, names: list[str]) -> None:
        for name in names:
            self._held.pop(name, None)
            self._order.forget(name)
