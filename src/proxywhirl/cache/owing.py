"""Writes that the authority could not take: owed, served meanwhile, and paid when it is well again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from proxywhirl.cache.debt import Debt, DebtFile
from proxywhirl.cache.policy import settled
from proxywhirl.cache.record import Record
from proxywhirl.cache.tier import Batch, Decision
from proxywhirl.clock import Clock
from proxywhirl.errors import CacheError, TierError

__all__ = ["Debts", "Pay"]

_log = logging.getLogger(__name__)

Pay = Callable[[Collection[str], Decision], bool]
"""Writes to the authority; whether it took it."""


class Debts:
    """A debt file as the stack uses it: what goes wrong with it is an answer, not an error.

    `owing` tells whether anything is owed, as far as this process has looked.
    """

    def __init__(self, file: DebtFile, *, clock: Clock, password_changed: Callable[[Record, Record], bool]) -> None:
        self._file = file
        self._clock = clock
        self._password_changed = password_changed
        self.owing = False
        self.outstanding()

    def outstanding(self) -> bool:
        """Whether anything is owed, by whichever process; costs one look at the file."""
        try:
            self.owing = self._file.has_debts()
            if self.owing:
                self._file.catch_up()
        except CacheError as exc:
            _log.debug("what is owed cannot be seen: %s", exc)  # the tier that it belongs to is degraded, and says so
        return self.owing

    def number(self) -> int:
        """How many keys something is owed for."""
        return len(self._file) if self.outstanding() else 0

    def get(self, key: str) -> Debt | None:
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
        try:
            self._file.note(batch.puts, batch.deletes, base=base, at=at, merge=merge)
        except CacheError as exc:
            _log.error("a change is lost, since no durable tier takes it: %s", exc)
            return False
        self.owing = True
        return True

    def settle(self, pay: Pay) -> bool:
        """Pay everything that is owed; return whether nothing is left."""

        def act(debts: Sequence[Debt]) -> None:
            owed = {debt.key: debt for debt in debts}

            def decide(present: Mapping[str, Record]) -> Batch:
                now = self._clock.now()
                batches = [self._settled(debt, present.get(key), now) for key, debt in owed.items()]
                puts = [record for batch in batches for record in batch.puts]
                return Batch(puts, [key for batch in batches for key in batch.deletes])

            if not pay(owed.keys(), decide):
                raise TierError("the authority is still degraded")

        try:
            number = self._file.settle(act)
        except CacheError as exc:
            _log.info("nothing is paid yet: %s", exc)
            return False
        if number:
            _log.warning("%d changes were written that were owed while the authority was degraded", number)
        self.owing = False
        return True

    def _settled(self, debt: Debt, stored: Record | None, now: float) -> Batch:
        """Decide on one debt; what is not there any more and was when the debt began was removed meanwhile."""
        return settled(debt, stored, now, removed=stored is None, password_changed=self._password_changed)

    def forget(self) -> None:
        """Owe nothing any more: everything was removed."""
        try:
            self._file.settle(lambda _: None)
        except CacheError as exc:
            _log.error("what is owed cannot be forgotten: %s", exc)
        self.owing = False

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def abandon(self) -> None:
        """Let go of the file in a forked child."""
        self._file.abandon()
