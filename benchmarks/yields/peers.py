"""The pickers of two other packages, run as their own crawlers run them, on the clock of the world.

Both are driven through the code that their users run, not through a copy of it. What stands around that code there,
and is rebuilt here, is named beside it. Both draw from Python's own random numbers, which are seeded for each run.
"""

from __future__ import annotations

import random
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, TypeVar
from zlib import crc32

from benchmarks.yields.contestants import Enter
from benchmarks.yields.population import PRICES
from benchmarks.yields.race import Arena, Choice
from benchmarks.yields.reality import BROKEN
from benchmarks.yields.scenario import Arrival, TrueProxy
from proxywhirl.errors import Blame
from proxywhirl.models import Outcome

__all__ = ["CRAWLEE", "CRAWLEE_TIERS", "SCRAPY", "CrawleeChoice", "ScrapyChoice", "at_once", "peer_contestants"]

T = TypeVar("T")

SCRAPY = "scrapy-rotating-proxies"
CRAWLEE = "crawlee"
CRAWLEE_TIERS = "crawlee, tiers"

RETIRING = (401, 403, 429)


class Address(str):
    """A text whose hash is the same in each run, so that sets of it have one order."""

    __slots__ = ()

    def __hash__(self) -> int:
        """Return a checksum: Python's own hash of a text differs from run to run."""
        return crc32(self.encode())


class ScrapyChoice:
    """`rotating_proxies.expire.Proxies`, with what its middlewares do around it.

    A response other than 200, 301 or 302, and every exception, marks the proxy as dead; the dead ones are looked at
    every five seconds; where all are dead, all are taken for unchecked. It backs off from 5 minutes to an hour.
    """

    def __init__(self, arena: Arena) -> None:
        random.seed(f"{SCRAPY} of {arena.scenario.seed}")
        self._clock = arena.clock
        self._urls = [Address(true.url) for true in arena.scenario.proxies]
        self._places = {url: place for place, url in enumerate(self._urls)}
        self._proxies: Any = import_module("rotating_proxies.expire").Proxies(self._urls)
        self._look = self._clock.now() + 5.0

    def pick(self, request: Arrival, tried: Sequence[int]) -> Choice | None:  # noqa: ARG002  # both are nothing to it
        """Draw among those that are not dead."""
        now = self._clock.now()
        if now >= self._look:
            self._proxies.reanimate(now)
            self._look = now + 5.0
        url = self._proxies.get_random()
        if url is None:
            self._proxies.reset()
            url = self._proxies.get_random()
        return self._places[url], url

    def learn(self, choice: Choice, outcome: Outcome) -> None:
        """Mark it."""
        if outcome.ok:
            self._proxies.mark_good(choice[1])
        else:
            self._proxies.mark_dead(choice[1], self._clock.now())


class CrawleeChoice:
    """`ProxyConfiguration` and `SessionPool`, with what its crawler does around them.

    A session takes the next proxy and keeps it. A status of 401, 403 or 429 and an error of the proxy retire it, a
    success marks it good, all else marks it bad, a timeout too. With `tiers` the proxies of each price are a tier, the
    cheapest first.
    """

    def __init__(self, arena: Arena, *, tiers: bool = False) -> None:
        random.seed(f"{CRAWLEE} of {arena.scenario.seed}")
        proxies = arena.scenario.proxies
        self._places = {true.url: place for place, true in enumerate(proxies)}
        self._hosts = [f"https://{site.target.host}/" for site in arena.scenario.sites]
        self._tiers = tiers
        urls = {"tiered_proxy_urls": _by_price(proxies)} if tiers else {"proxy_urls": [true.url for true in proxies]}
        self._configuration: Any = import_module("crawlee.proxy_configuration").ProxyConfiguration(**urls)
        sessions = import_module("crawlee.sessions")
        self._pool: Any = sessions.SessionPool(create_session_function=_clocked(sessions.Session, arena.clock))
        at_once(self._pool.__aenter__())
        self._last: dict[int, Any] = {}

    def pick(self, request: Arrival, tried: Sequence[int]) -> Choice | None:
        """Draw a session and take its proxy."""
        session = at_once(self._pool.get_session())
        told = SimpleNamespace(url=self._hosts[request.site], last_proxy_tier=self._tier_of(tried), forefront=False)
        info = at_once(self._configuration.new_proxy_info(session.id, told, None))
        place = self._places[info.url.rstrip("/")]
        self._last[place] = told.last_proxy_tier
        return place, session

    def learn(self, choice: Choice, outcome: Outcome) -> None:
        """Mark the session as its crawler does."""
        session = choice[1]
        if outcome.ok:
            if session.is_usable:
                session.mark_good()
        elif outcome.status in RETIRING or (outcome.blame is Blame.PROXY and outcome.error == BROKEN):
            session.retire()
        else:
            session.mark_bad()

    def _tier_of(self, tried: Sequence[int]) -> int | None:
        """Return the tier of a request's last attempt, which its crawler notes in the request."""
        return self._last[tried[-1]] if self._tiers and tried else None


def _by_price(proxies: Sequence[TrueProxy]) -> list[list[str]]:
    tiers = ([true.url for true in proxies if true.value.attributes.price_per_gb == price] for price in PRICES)
    return [tier for tier in tiers if tier]


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise RuntimeError("it waits for something")


def _clocked(session: Any, clock: Any) -> Any:
    """Make sessions that grow old by a clock of ours."""

    def now() -> datetime:
        return datetime.fromtimestamp(clock.now(), UTC)

    class Clocked(session):  # type: ignore[misc]  # the class is known at run time only
        """A session that asks the clock of the world."""

        @property
        def is_expired(self) -> bool:
            """Whether its time is over."""
            return bool(now() >= self.expires_at)

    return lambda: Clocked(created_at=now())


def peer_contestants() -> dict[str, Enter]:
    """Return the peers that are installed, by name."""
    peers: dict[str, Enter] = {}
    if find_spec("rotating_proxies"):
        peers[SCRAPY] = ScrapyChoice
    if find_spec("crawlee"):
        peers[CRAWLEE] = CrawleeChoice
        peers[CRAWLEE_TIERS] = partial(CrawleeChoice, tiers=True)
    return peers
