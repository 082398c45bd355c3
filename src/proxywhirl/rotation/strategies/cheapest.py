"""The cheapest proxy that serves: dearer ones only while the cheaper are in trouble."""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection
from dataclasses import dataclass

from proxywhirl.backoff import Backoff
from proxywhirl.models import Outcome
from proxywhirl.rotation.proxy_state import ProxyState
from proxywhirl.rotation.sites.site import Site
from proxywhirl.rotation.strategies.base import Barred, Roster
from proxywhirl.rotation.strategies.sampling import Sampler

_WEIGHT = 0.1  # weight of the newest outcome in a tier's success rate: about the last twenty count
_TROUBLE = 0.5  # success rate below which a tier is left
_WELL = 0.999  # success rate that is as good as 1
_SHUNNED = Backoff(30.0, 600.0)  # how long a tier is left


@dataclass(slots=True, eq=False)
class _Tier:
    """The proxies of one price. `rate` is a decayed success rate, `times` how often in a row the tier was left."""

    sampler: Sampler
    rate: float = 1.0
    times: int = 0
    shunned_until: float = 0.0
    on_trial: bool = False

    def learn(self, now: float, *, ok: bool) -> None:
        if not ok and now < self.shunned_until:
            return  # the tier was left for earlier failures; this request was under way then
        self.rate += _WEIGHT * (ok - self.rate)
        if self.rate > _WELL:
            self.rate = 1.0
        if self.on_trial and ok and self.rate > _TROUBLE:
            self.on_trial, self.times, self.rate = False, 0, 1.0
        elif self.rate < _TROUBLE:
            self.times += 1
            self.shunned_until = now + _SHUNNED.seconds(self.times)
            self.rate, self.on_trial = _TROUBLE, True  # when its time is over the first outcomes decide

    @property
    def well(self) -> bool:
        """Whether its rate is so good that one more success teaches nothing."""
        return self.rate == 1.0 and not self.on_trial


class Cheapest:
    """A waterfall over prices for 10⁹ bytes; a proxy without one costs nothing.

    A tier is left when none of it is ready or admitted, or when most of its last requests failed for a reason that lies
    with proxies (not for bans, which hold for one site alone); then for a time that doubles, after which it is tried
    again: one success leads back to it. If every tier is in trouble, the cheapest with an admitted proxy serves.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._prices: list[float] = []
        self._tiers: dict[float, _Tier] = {}
        self._price_of: dict[str, float] = {}
        self._unwell: set[float] = set()

    def add(self, keys: Collection[str]) -> None:
        """Take in proxies, each in the tier of its price."""
        members: dict[float, list[str]] = {}
        for key in keys:
            if key not in self._price_of:
                price = self._roster.attributes(key).price_per_gb or 0.0
                self._price_of[key] = price
                members.setdefault(price, []).append(key)
        for price, some in members.items():
            if price not in self._tiers:
                self._tiers[price] = _Tier(Sampler(self._roster.rng))
                insort(self._prices, price)
            self._tiers[price].sampler.add(some)

    def remove(self, key: str) -> None:
        """Forget a proxy; what was learnt of its tier stays."""
        price = self._price_of.pop(key, None)
        if price is not None:
            self._tiers[price].sampler.remove(key)

    def redrawn(self, key: str) -> None:
        """See `ReadsAttributes`."""
        if key in self._price_of and self._price_of[key] != (self._roster.attributes(key).price_per_gb or 0.0):
            self.remove(key)
            self.add((key,))

    def learnt(self, state: ProxyState, outcome: Outcome) -> None:
        """See `Learns`: what a site or we are to blame for says nothing of a tier."""
        ok = outcome.ok
        if (ok and not self._unwell) or not (ok or outcome.counts_against_proxy):
            return
        price = (
            self._price_of.get(state.key) if ok else state.proxy.attributes.price_per_gb or 0.0
        )  # it has left by now
        tier = self._tiers.get(price) if price is not None else None
        if price is not None and tier is not None:
            tier.learn(self._roster.monotonic(), ok=ok)
            if tier.well:
                self._unwell.discard(price)
            else:
                self._unwell.add(price)

    def choose(self, exclude: Collection[str], barred: Barred, site: Site | None) -> str | None:  # noqa: ARG002
        """Draw from the cheapest tier that is well and has an admitted proxy; else from the cheapest that has one."""
        now = None
        shunned = []
        for price in self._prices:
            tier = self._tiers[price]
            if tier.times:
                now = self._roster.monotonic() if now is None else now
                if tier.shunned_until > now:
                    shunned.append(tier)
                    continue
            key = tier.sampler.draw(exclude, barred)
            if key is not None:
                return key
        for tier in shunned:
            key = tier.sampler.draw(exclude, barred)
            if key is not None:
                return key
        return None
