"""Writes that the authority could not take: owed, served meanwhile, and paid when it is well again.

What a tier removes that is the lowest for a time, noted for the tier below it, which is off and holds it still.

The log of the tier is no substitute: it is cut off at a length, `clear` begins it anew, and it does not tell what was
removed from what left for want of room. The latter is nobody's wish, and the tier below keeps it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from proxywhirl.cache.coordination.handoff_file import HintFile
from proxywhirl.cache.policy import Hint, settled
from proxywhirl.cache.record import UNREADABLE, Record
from proxywhirl.cache.tiers.protocol import Batch, Decision, Tier
from proxywhirl.clock import Clock
from proxywhirl.errors import CacheError, DecryptionError, TierError, UnstorableValue

REMOVED = "removed.jsonl"
MOST_KEPT = 1_000_000
PAGE = 1_000


class Removals:
    """Keys and when they were removed, in a file beside those of the second tier.

    A key counts only where the tier does not hold it: a process may die after it has noted a removal and before it
    has removed anything, and what was removed may come again.
    """

    def __init__(self, directory: Path, *, clock: Clock, fsync: bool = False) -> None:
        self._file = HintFile(directory, name=REMOVED, fsync=fsync, limit=MOST_KEPT)
        self._clock = clock

    def noting(self, decide: Decision) -> Decision:
        """Return the decision so that what it removes is noted before it goes."""

        def decided(present: Mapping[str, Record]) -> Batch:
            held = frozenset(present)
            batch = decide(present)
            self._note([key for key in batch.deletes if key in held])
            return batch

        return decided

    def note_all(self, tier: Tier) -> None:
        """Note everything that a tier holds, before it is cleared."""
        page = tier.scan("", PAGE)
        while page:
            self._note([record.key for record in page])
            page = tier.scan(page[-1].key, PAGE)

    def noted(self) -> dict[str, float]:
        """Return the keys, and when each was removed last (Unix seconds). Raises `TierError` as the file does."""
        return {debt.key: debt.at for debt in self._file.pending()}

    def forget(self) -> None:
        """Forget all: the tier below knows. Raises `TierError` as the file does."""
        self._file.settle(lambda _: None)

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._file.close()

    def abandon(self) -> None:
        """Let go of the file in a forked child."""
        self._file.abandon()

    def _note(self, keys: Sequence[str]) -> None:
        try:
            self._file.note((), keys, base=0, at=self._clock.now(), merge=False)
        except CacheError as exc:
            _log.error(
                "that %d entries were removed cannot be noted, so they are back when the third tier is enabled: %s",
                len(keys),
                exc,
            )


_log = logging.getLogger(__name__)

Pay = Callable[[Collection[str], Decision], bool]
"""Writes to the authority; whether it took it."""


class Handoff:
    """A debt file as the stack uses it: what goes wrong with it is an answer, not an error.

    `owing` tells whether anything is owed, as far as this process has looked.
    """

    def __init__(self, file: HintFile, *, clock: Clock, password_changed: Callable[[Record, Record], bool]) -> None:
        self._file = file
        self._clock = clock
        self._password_changed = password_changed
        self.owing = False
        self.outstanding()

    def outstanding(self) -> bool:
        """Whether anything is owed, by whichever process; costs one look at the file."""
        try:
            self.owing = self._file.has_debts()
            self._file.catch_up()  # where nothing is owed any more, too: others have paid what was known of it
        except CacheError as exc:
            _log.debug("what is owed cannot be seen: %s", exc)  # the tier that it belongs to is degraded, and says so
        return self.owing

    def hear_with(self, hear: Callable[[Collection[str]], None]) -> None:
        """Have something told the keys of what others note and pay, before that is known here."""
        self._file.hear = hear

    def number(self) -> int:
        """How many keys something is owed for. Raises `CacheError` where that cannot be told."""
        self._file.catch_up()
        return len(self._file)

    def refused(self) -> dict[str, tuple[Hint, str]]:
        """Return what could not be paid and was set aside, by key, with the reasons. Raises as `number` does."""
        return self._file.refused()

    def owe_again(self, keys: Collection[str]) -> None:
        """Owe again what was set aside of some keys, and forget the rest of it. Raises as `number` does."""
        if self._file.owe_again(keys):
            self.owing = True

    def get(self, key: str) -> Hint | None:
        """Return what is owed for a key, as far as this process has looked; costs nothing where nothing is owed."""
        return self._file.get(key) if self.owing else None

    def records(self) -> dict[str, Record | None]:
        """Return what is owed by key, None for a deletion, as far as this process has looked."""
        return {debt.key: debt.record for debt in self._file.known()} if self.owing else {}

    def over(self, page: list[Record], after: str, last: str | None) -> list[Record]:
        """Return a page of stored records as it will be when all is paid: those after a key, up to the last one."""
        owed = {key: record for key, record in self.records().items() if after < key and (last is None or key <= last)}
        if not owed:
            return page
        merged = {record.key: record for record in page} | {
            key: None if record is None else replace(record) for key, record in owed.items()
        }
        return [record for _, record in sorted(merged.items()) if record is not None]

    def note(self, batch: Batch, *, base: int, at: float, merge: bool) -> bool:
        """Take a change durably; return whether that worked."""
        if not batch.puts and not batch.deletes:
            return True
        try:
            self._file.note(batch.puts, batch.deletes, base=base, at=at, merge=merge)
        except CacheError as exc:
            _log.error("a change is lost, since no durable tier takes it: %s", exc)
            return False
        self.owing = True
        return True

    def settle(self, pay: Pay) -> bool:
        """Pay everything that is owed; return whether nothing is left.

        What can never be paid is set aside, and the rest is paid: a value that the authority cannot hold, or what makes
        no sense, such as a credential that no key at hand opens.
        """
        refused = 0

        def act(debts: Sequence[Hint]) -> None:
            nonlocal refused
            refused += self._pay_page({debt.key: debt for debt in debts}, pay)

        try:
            number = self._file.settle(act)
        except CacheError as exc:
            _log.info("nothing is paid yet: %s", exc)
            return False
        if number > refused:
            _log.warning("%d changes were written that were owed while the authority was degraded", number - refused)
        self.owing = False
        return True

    def _pay_page(self, owed: dict[str, Hint], pay: Pay) -> int:
        """Pay what can be paid of a page; return how many were set aside. Raises `TierError` where nothing was paid."""
        refused: dict[str, str] = {}

        def decide(present: Mapping[str, Record]) -> Batch:
            now = self._clock.now()
            refused.clear()
            batches: list[Batch] = []
            for key, debt in owed.items():
                try:
                    batches.append(self._settled(debt, present.get(key), now))
                except (DecryptionError, *UNREADABLE) as exc:
                    refused[key] = f"{type(exc).__name__}: {exc}"
            puts = [record for batch in batches for record in batch.puts]
            return Batch(puts, [key for batch in batches for key in batch.deletes])

        try:
            if not pay(owed.keys(), decide):
                raise TierError("the authority is still degraded")
        except UnstorableValue as exc:
            if exc.key not in owed and len(owed) > 1:  # it does not say which
                return sum(self._pay_page({key: debt}, pay) for key, debt in owed.items())
            key = exc.key if exc.key in owed else next(iter(owed))
            others = {other: debt for other, debt in owed.items() if other != key}
            paid = self._pay_page(others, pay) if others else 0
            return paid + self._set_aside({key: str(exc)})
        return self._set_aside(refused)

    def _set_aside(self, refused: Mapping[str, str]) -> int:
        if refused:
            path = self._file.set_aside(refused)
            key, why = next(iter(refused.items()))
            what = "%d changes that the authority cannot take were set aside in %s, such as that of entry %s: %s"
            _log.error(what, len(refused), path, key, why)
        return len(refused)

    def _settled(self, debt: Hint, stored: Record | None, now: float) -> Batch:
        """Decide on one debt; what is not there any more and was when the debt began was removed meanwhile."""
        return settled(debt, stored, now, removed=stored is None, password_changed=self._password_changed)

    def forget(self) -> None:
        """Owe nothing any more: everything was removed."""
        try:
            self._file.settle(lambda _: None)
            self._file.owe_again(())
        except CacheError as exc:
            _log.error("what is owed cannot be forgotten: %s", exc)
        self.owing = False

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def abandon(self) -> None:
        """Let go of the file in a forked child."""
        self._file.abandon()
