"""What a strategy is.

A strategy keeps the keys of proxies that are ready and picks one. It knows nothing of set-aside proxies or leases: the
pool adds and removes, and makes one strategy for all proxies and one for each filter that is asked for. Every call is
made under the pool's lock, so a strategy needs none of its own and must neither wait nor call back.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from proxywhirl.models import Attributes, Outcome

if TYPE_CHECKING:
    from proxywhirl.rotation.answer_times import AnswerTimes
    from proxywhirl.rotation.proxy_state import ProxyState
    from proxywhirl.rotation.sites.site import Site

Barred = tuple[Collection[str], ...]
"""Keys that may not serve a request for another reason than that it excludes them; none of these is empty."""


def admitted(key: str, exclude: Collection[str], barred: Barred) -> bool:
    """Whether a request that excludes some, and from which others are barred, may have this one."""
    if key in exclude:
        return False
    for refused in barred:  # noqa: SIM110  # a generator costs more than what it does here
        if key in refused:
            return False
    return True


class Roster(Protocol):
    """The pool, as a strategy sees it: facts about a proxy, chance and time.

    `success_worth` is what a served request is worth, in the currency of `Attributes.price_per_gb`; None: not said.
    `others` are the keys of the proxies that other processes on the same home take first.
    `times` has how soon proxies usually answer; it is learnt for strategies that meet deadlines alone.
    """

    rng: random.Random
    success_worth: float | None
    times: AnswerTimes
    others: Collection[str]

    def monotonic(self) -> float:
        """Return the pool's monotonic time in seconds."""

    def slot(self, key: str) -> ProxyState | None:
        """Return what was learnt of a proxy, None of one that never was used."""

    def attributes(self, key: str) -> Attributes:
        """Return what is known of a proxy that is in the pool."""


class Strategy(Protocol):
    """Keeps the proxies that are ready and picks among them."""

    def add(self, keys: Collection[str]) -> None:
        """Take in proxies, each once; one that is in already keeps its place."""

    def remove(self, key: str) -> None:
        """Forget a proxy; one that is not in is no error."""

    def choose(self, exclude: Collection[str], barred: Barred, site: Site | None) -> str | None:
        """Return the key of the proxy to use now, None where no one is admitted.

        Args:
            exclude: Keys that the request does not want, mostly few.
            barred: Keys that it may not have, such as those that are banned by the site; there may be many.
            site: What is known of where the request goes; None where that is not known.
        """


@runtime_checkable
class MeetsDeadlines(Protocol):
    """A strategy that is told how long a request may take."""

    def choose_within(
        self, exclude: Collection[str], barred: Barred, site: Site | None, within: float | None
    ) -> str | None:
        """Do as `choose`, in its place, for a request that has to be answered in so many seconds; None: not known."""


@runtime_checkable
class CountsUses(Protocol):
    """A strategy that is told how many requests are under way through a proxy."""

    def moved(self, state: ProxyState) -> None:
        """Take note of a proxy's new `in_flight`; it may be one that is not in."""


@runtime_checkable
class Learns(Protocol):
    """A strategy that is told what became of each use, beside what the pool learns itself."""

    def learnt(self, state: ProxyState, outcome: Outcome) -> None:
        """Take note of an outcome; the proxy may be out of the strategy, for now if it failed, or for good."""


@runtime_checkable
class ReadsAttributes(Protocol):
    """A strategy that chooses by attributes of a proxy: it is told when they change."""

    def redrawn(self, key: str) -> None:
        """Read the attributes of a proxy again; it is one that was handed to `add`."""


@runtime_checkable
class Declines(Protocol):
    """A strategy under which some proxies never serve: not as the last ones, and not a session either."""

    def declines(self, key: str) -> str:
        """Return why a proxy of the pool never serves, as in "it is …"; nothing where it may."""


StrategyFactory = Callable[[Roster], Strategy]
