"""The contract of a tier: the suite that a tier's author runs against it, with a test framework or without.

`proxywhirl.cache.tiers.protocol` says what a tier is. Each test here holds a tier to one sentence of it. Nothing is
imported that tests need: pytest collects the `test_` methods of a subclass, and `run_all` does without pytest. How to
write a tier, and one to begin with, is in `docs/extending.md`.
"""

from __future__ import annotations

from proxywhirl.testing.tier_clauses.bounds import BoundClauses
from proxywhirl.testing.tier_clauses.changes import LogClauses, WindowClauses
from proxywhirl.testing.tier_clauses.durable import DurableClauses, SharingClauses
from proxywhirl.testing.tier_clauses.model import ModelClauses
from proxywhirl.testing.tier_clauses.records import NoteClauses, ReadingClauses, TransactionClauses


class TierContract(
    ReadingClauses, TransactionClauses, LogClauses, WindowClauses, BoundClauses, NoteClauses, ModelClauses
):
    """What every tier does, as authority and as window.

    A subclass gives `make_tier(*, authority, max_entries=None, policy="lru")`, which returns a new and empty tier
    each time. What it makes is closed when a test ends, and `self.new_folder()` gives a folder that is removed then.
    All of it takes a few seconds. `stores_hits = False` is for a tier whose owner counts hits in the records that it
    hands out, as memory's does.
    """

    @classmethod
    def clauses(cls) -> list[str]:
        """Name the tests, in order."""
        return sorted(name for name in dir(cls) if name.startswith("test_"))

    @classmethod
    def run_all(cls) -> list[str]:
        """Run every test on an object of its own; return their names.

        Raises:
            ExceptionGroup: What the broken tests raised, `AssertionError` for a broken promise, each with a note that
                names the test.
        """
        broken: list[Exception] = []
        names = cls.clauses()
        for name in names:
            contract = cls()
            try:
                try:
                    getattr(contract, name)()
                finally:
                    contract.teardown_method()
            except Exception as exc:  # noqa: BLE001  # one that breaks must not hide the others
                exc.add_note(f"in {cls.__name__}.{name}")
                broken.append(exc)
        if broken:
            raise ExceptionGroup(f"{len(broken)} of {len(names)} tests of {cls.__name__} are broken", broken)
        return names


class DurableTierContract(TierContract, DurableClauses, SharingClauses):
    """What a tier does besides whose records outlive the process, and which several processes share.

    A subclass gives `open_tier(folder, *, authority, max_entries=None, policy="lru")` instead of `make_tier`: it opens
    what is stored under a folder, and a new store where there is nothing. A tier with its store elsewhere takes the
    folder's name for the name of its store.
    """
