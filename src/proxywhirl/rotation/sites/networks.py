"""Whether a site counts the uses of a network together, and how a network was used there then. Pure.

Most sites that limit the rate count each address by itself. Some count a whole /24, or a /48 of IPv6: then a proxy is
refused for what its neighbours did, and nobody can tell that from its own uses. So the odds are kept that a site counts
by network. Soon after a proxy was refused, and before anybody of its network is served again, a neighbour

- is refused, while a proxy of another network was served: that speaks for it, the more the seldomer the site refuses;
- is served: that speaks against it.

From some odds on, if more networks than one have shown it (`together`), the uses of all members of a network are one
list (`uses_of`), which takes the place of each member's own: the rate limit is learnt from it (`rate_limit`), a proxy
rests when its network has to, and so the requests go round among the networks.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import NamedTuple

from proxywhirl.rotation.sites.rate_limit import SiteUses

_SOON = 30.0  # seconds
_FIRST_ODDS, _MOST_ODDS = -3.0, 6.0
_FROM, _UNTIL = 1.5, -1.5
_REFUSED = 0.9  # the chance that a neighbour is refused soon after, where a site counts by network
_RATES = 0.3, 0.8
_NETWORKS = 2
_MOST_NETWORKS = 4096


class _Refusal(NamedTuple):
    """The last refusal of a network in a row: to whom, when, and when the first of that row began."""

    key: str
    at: float
    first: float


class Networks:
    """What is known of the networks at one site. Empty where nothing is refused."""

    __slots__ = ("_odds", "_refused", "_served", "_shown", "_uses", "together")

    def __init__(self) -> None:
        self.together = False
        self._odds = _FIRST_ODDS
        self._refused: OrderedDict[str, _Refusal] = OrderedDict()
        self._served: dict[str, float] = {}  # the two networks that were served last
        self._shown: set[str] = set()
        self._uses: dict[str, SiteUses] = {}

    @property
    def refusing(self) -> bool:
        """Whether any network has a refusal, which a success would tell something about."""
        return bool(self._refused)

    def uses_of(self, network: str) -> SiteUses:
        """Return the uses of a network."""
        uses = self._uses.get(network)
        if uses is None:
            if len(self._uses) >= _MOST_NETWORKS:
                self._uses.clear()
            uses = self._uses[network] = SiteUses()
        return uses

    def forget_uses(self) -> None:
        """Forget all uses: they are counted for each proxy again."""
        self._uses.clear()

    @property
    def first_refusals(self) -> dict[str, float]:
        """When the networks were refused that were not served since: the use of the first refusal, by network."""
        return {network: refusal.first for network, refusal in self._refused.items()}

    def refused(self, network: str, key: str, began: float, now: float, rate: float) -> bool:
        """Take note of a refusal; return whether that changes how the site is seen to count.

        Args:
            network: That of the proxy.
            key: The proxy.
            began: When its use began.
            now: The time.
            rate: How often the site refuses, in 0..1.
        """
        before = self._refused.pop(network, None)
        self._refused[network] = _Refusal(key, now, began if before is None else before.first)
        if len(self._refused) > _MOST_NETWORKS:
            self._refused.popitem(last=False)
        if before is None or before.key == key or now - before.at > _SOON or began < before.at:
            return False
        if not any(at >= before.at for other, at in self._served.items() if other != network):
            return False
        if len(self._shown) < _NETWORKS:
            self._shown.add(network)
        return self._speak(_REFUSED / min(max(rate, _RATES[0]), _RATES[1]))

    def served(self, network: str, key: str, began: float, now: float, rate: float) -> bool:
        """Take note of a success; return whether that changes how the site is seen to count."""
        self._served.pop(network, None)
        self._served[network] = now
        if len(self._served) > _NETWORKS:
            del self._served[next(iter(self._served))]
        before = self._refused.get(network)
        if before is None or began < before.at:
            return False
        del self._refused[network]
        if before.key == key or began - before.first > _SOON:  # later, a ban of the network may be over
            return False
        return self._speak((1.0 - _REFUSED) / (1.0 - min(max(rate, _RATES[0]), _RATES[1])))

    def adopt(self, *, together: bool) -> None:
        """Believe what others have found out."""
        self.together, self._odds = together, _MOST_ODDS if together else _FIRST_ODDS

    def _speak(self, likelihood: float) -> bool:
        """Take in how many times likelier that was if the site counts by network."""
        self._odds = min(max(self._odds + math.log(likelihood), -_MOST_ODDS), _MOST_ODDS)
        before = self.together
        self.together = self._odds > (_UNTIL if before else _FROM) and len(self._shown) >= _NETWORKS
        return self.together != before
