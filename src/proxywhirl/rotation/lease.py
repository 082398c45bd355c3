"""One use of a proxy, from the choice to the report of what became of it.

A lease ends once: by a report, or by a release that teaches nothing. The pool ends it under its lock, so that two
threads cannot both do it. The pool's next choice releases a lease that was dropped without either.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Protocol, Self

from proxywhirl.errors import LeaseReported
from proxywhirl.models import Outcome, Proxy
from proxywhirl.rotation.proxy_state import ProxyState
from proxywhirl.rotation.sites.site import Site
from proxywhirl.urls import ProxyURL

Because = tuple[str, int, Sized, object, str]
"""Why a proxy was chosen; a text is made of it only where somebody asks (see `in_words`).

- how it was, with a place for the next number;
- how many proxies of the pool were ready;
- the proxies that the site may not have, as of now;
- the filters that were asked for;
- what stood before this choice: what a session moved away from, which wishes nobody could fulfil.
"""


def in_words(why: Because) -> str:
    """Return why a proxy was chosen."""
    how, ready, barred, filters, before = why
    words = how.format(ready)
    if str(filters):
        words += f", {filters}"
    if barred:
        words += f", {len(barred)} barred from the site"
    return f"{before}; {words}" if before else words


class Grantor(Protocol):
    """The pool, as a lease needs it; see the methods of `Lease`."""

    def endpoint(self, lease: Lease, /) -> ProxyURL: ...  # noqa: D102
    def release(self, lease: Lease, outcome: Outcome | None, /) -> bool: ...  # noqa: D102
    def renew(self, lease: Lease, ttl: float, /) -> None: ...  # noqa: D102
    def lost(self, lease: Lease, /) -> None: ...  # noqa: D102


class Lease:
    """A chosen proxy. Use it as a context manager: leaving unreported releases it.

    Attributes:
        token: The fencing token of an exclusive lease, greater than those of all before it; None for any other.
        moved_from: The key of the proxy that the session had until now; None where it did not move.
        began: When it was granted, on the pool's monotonic clock.
        tries: It finds out whether a group of its proxy may come back.
        page: The page that is asked for (`Target.page`).
        page_served: Somebody was served this page before, as far as the pool knows.
        targets_own: What was reported is the target's own answer, since several proxies met it alike and nobody was
            served; known once it is reported.
    """

    __slots__ = (
        "__weakref__",
        "_grantor",
        "_why",
        "again",
        "began",
        "ended",
        "expires_at",
        "incident",
        "lapsed",
        "moved_from",
        "page",
        "page_served",
        "site",
        "state",
        "targets_own",
        "token",
        "trial",
        "tries",
    )

    def __init__(
        self, grantor: Grantor, state: ProxyState, site: Site | None, why: Because, page: int | None, began: float
    ) -> None:
        self._grantor = grantor
        self._why = why
        self.state = state
        self.site = site
        self.incident = state.incident
        self.ended = False
        self.lapsed = False
        self.trial: float | None = None
        self.tries = False
        self.again = False
        self.began = began
        self.page = page
        self.page_served = False
        self.targets_own = False
        self.token: int | None = None
        self.expires_at: float | None = None
        self.moved_from: str | None = None

    @property
    def proxy(self) -> Proxy:
        """The proxy, without its credential."""
        return self.state.proxy

    @property
    def why(self) -> str:
        """Why this one: the strategy and among how many, or that it was due first."""
        return in_words(self._why)

    def endpoint(self) -> ProxyURL:
        """Return the proxy's URL with its credential, read from the store at this moment.

        Raises:
            ProxyGone: The proxy was removed from the store, and the pool has forgotten it, or it cannot be read now:
                choose another.
            LeaseExpired: The lease is exclusive and its time is over.
        """
        return self._grantor.endpoint(self)

    def report(self, outcome: Outcome) -> None:
        """Tell the pool what became of the use. O(1); O(log n) where it sets the proxy aside.

        Raises:
            LeaseReported: The lease was reported or released before.
            TypeError: `outcome` is none; the lease is as it was.
        """
        if not isinstance(outcome, Outcome):
            raise TypeError(f"report takes an Outcome, not {type(outcome).__name__}: to say nothing, release the lease")
        if not self._grantor.release(self, outcome):
            raise LeaseReported(f"the lease on {self.proxy} was reported or released before")

    def release(self) -> None:
        """Give the proxy back without a word about it; does nothing after a report."""
        self._grantor.release(self, None)

    def renew(self, ttl: float) -> None:
        """Hold an exclusive lease for so many seconds from now.

        Raises:
            LeaseExpired: It ended before; another holder may have the proxy.
            ValueError: The lease is not exclusive, or `ttl` is not more than 0.
            TierError: The ledger cannot be written.
        """
        self._grantor.renew(self, ttl)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def __del__(self) -> None:
        if not getattr(self, "ended", True):
            self._grantor.lost(self)

    def __repr__(self) -> str:
        return f"<Lease {self.proxy}: {self.why}>"
