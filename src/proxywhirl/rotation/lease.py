"""One use of a proxy, from the choice to the report of what became of it.

A lease is settled once: by a report, or by a release that teaches nothing. The pool settles it under its
lock, so that two threads cannot both do it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from proxywhirl.errors import LeaseReported
from proxywhirl.models import Outcome, Proxy
from proxywhirl.urls import ProxyURL

__all__ = ["Lease", "Slot"]


@dataclass(slots=True, eq=False)
class Slot:
    """The pool's record of one proxy; changed only under the pool's lock.

    `failures` are those in a row. `incident` is raised each time the proxy is set aside: leases that were
    out together carry the same number, and only the first of them to fail counts.
    """

    proxy: Proxy
    served: int = 0
    failed: int = 0
    in_flight: int = 0
    failures: int = 0
    incident: int = 0


class Lease:
    """A chosen proxy. Use it as a context manager: leaving unreported releases it.

    Attributes:
        proxy: The proxy, without its credential.
        why: Why this one: the strategy and among how many, or that it was due first.
    """

    __slots__ = ("_endpoint", "_settle", "incident", "proxy", "settled", "slot", "why")

    def __init__(
        self,
        slot: Slot,
        why: str,
        endpoint: Callable[[Lease], ProxyURL],
        settle: Callable[[Lease, Outcome | None], bool],
    ) -> None:
        self.slot = slot
        self.proxy = slot.proxy
        self.incident = slot.incident
        self.settled = False
        self.why = why
        self._endpoint = endpoint
        self._settle = settle

    def endpoint(self) -> ProxyURL:
        """Return the proxy's URL with its credential, read from the store at this moment.

        Raises:
            ProxyGone: The proxy was removed from the store; the pool has forgotten it, choose another.
        """
        return self._endpoint(self)

    def report(self, outcome: Outcome) -> None:
        """Tell the pool what became of the use. O(1); O(log n) where it sets the proxy aside.

        Raises:
            LeaseReported: The lease was reported or released before.
        """
        if not self._settle(self, outcome):
            raise LeaseReported(f"the lease on {self.proxy} was reported or released before")

    def release(self) -> None:
        """Give the proxy back without a word about it; does nothing after a report."""
        self._settle(self, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Lease {self.proxy}: {self.why}>"
