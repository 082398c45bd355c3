"""What an outcome teaches about the groups of a proxy. Pure.

Where a proxy could not be used at all, that is evidence about its groups everywhere; where a site refused it, at that
site. A refusal that the proxy's own past explains, or that is its page's, says nothing of its groups.

Refusals also show whether a site counts the uses of a network together (`networks`). From then on the rate limit is
learnt from those of the network, and a refusal bans the network as a whole, for as long as bans last there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from operator import itemgetter

from proxywhirl.clock import Clock
from proxywhirl.errors import Blame
from proxywhirl.models import Outcome
from proxywhirl.rotation.proxy_state import ProxyState
from proxywhirl.rotation.sites.bans import SURELY, Ban, BanBook
from proxywhirl.rotation.sites.groups import EVERYWHERE, GroupFailure, Groups, SiteGroups
from proxywhirl.rotation.sites.pages import Failure, Place
from proxywhirl.rotation.sites.rate_limit import LearnedRateLimit, SiteUses
from proxywhirl.rotation.sites.site import Site, out_of_order


class GroupLearning:
    """Teaches `Groups` and the networks of each site. `apply` makes a ban hold at a site."""

    def __init__(
        self, groups: Groups, book: BanBook, clock: Clock, apply: Callable[[Site, str, Ban | None], None]
    ) -> None:
        self.groups = groups
        self._network = groups.members.network
        self._everywhere: SiteGroups = groups.everywhere
        self._book = book
        self._clock = clock
        self._apply = apply

    # Everywhere.

    def unreachable(self, state: ProxyState, outcome: Outcome, now: float, began: float) -> None:
        """Take note that a proxy could not be used at all, before it has learnt from that itself."""
        odds = 1.0 - state.chance if state.served + state.failed else None
        failure = GroupFailure(state.key, f"{outcome.blame or Blame.PROXY}", None, began, odds)
        self.groups.failed(self._everywhere, EVERYWHERE, failure, now)

    def reachable(self, state: ProxyState, now: float, began: float) -> None:
        """Take note that a proxy has served."""
        self.groups.served(self._everywhere, EVERYWHERE, state.key, None, now, began)

    # At a site.

    def failed(self, failure: Failure, site: Site, now: float, began: float) -> None:
        """Take note of a failure at a page that may be well, after the bans for it were given."""
        key, arm, odds = failure.state.key, site.arms.get(failure.state.key), None
        if not failure.of_site:
            odds = 1.0
        elif arm is not None and arm.good + arm.bad:
            odds = (arm.bad + 0.1) / (arm.good + arm.bad + 1.0)
        self.groups.failed(site.groups, site.name, GroupFailure(key, failure.sign, failure.page, began, odds), now)
        if odds == 1.0 or failure.outcome.blame is not Blame.TARGET_THROUGH_PROXY:
            return
        network = self._network(key)
        if network and not site.networks.together:
            site.networks.uses_of(network).merge(failure.uses_before, ())
        if network and site.networks.refused(network, key, began, now, site.evidence.refusing):
            self._count_anew(site)

    def served(self, state: ProxyState, site: Site, now: float, page: Place, began: float) -> None:
        """Take note that a proxy has served a page of a site where something fails."""
        network = self._network(state.key)
        if network and site.networks.served(network, state.key, began, now, site.evidence.refusing):
            self._count_anew(site)
        self.groups.served(site.groups, site.name, state.key, page, now, began)

    # By network.

    def whom(self, key: str, site: Site, outcome: Outcome) -> str:
        """Return whom a refusal bans: the proxy, or its network where the site counts by network."""
        together = site.networks.together and not out_of_order(outcome)
        return (self._network(key) if together else "") or key

    def uses(self, site: Site, key: str) -> SiteUses:
        """Return the uses that a site counts together with those of a proxy."""
        network = self._network(key) if site.networks.together else ""
        if network:
            return site.networks.uses_of(network)
        uses = site.sharing.uses.pop(key, None) or SiteUses()
        if site.sharing.before is not None and not uses.served:
            uses.merge(site.sharing.before.served, ())
        return uses

    def returned(self, site: Site, key: str, began: float) -> float | None:
        """Return how many seconds after its first refusal the network of a proxy is served again, None where it was."""
        network = self._network(key)
        bar, ban = site.groups.bars.get(network), self._book.get((network, site.name))
        if bar is None or ban is None or not ban.since or began < bar.began:
            return None
        return self._clock.now() - ban.since

    def shorten(self, site: Site) -> None:
        """Let the networks come back that were to stay out for longer than bans last by what is known now."""
        wall = self._clock.now()
        for network in list(site.groups.bars):
            ban = self._book.get((network, site.name))
            over = ban.since + site.lengths.wait(0.0, SURELY) if ban is not None and ban.since else math.inf
            if ban is not None and over < ban.until:
                ban = replace(ban, until=max(over, wall))
                self._book.note((network, site.name), ban, wall)
                self._apply(site, network, ban)

    def count_as(self, site: Site, *, together: bool) -> None:
        """Count as others have found out that a site does."""
        if site.networks.together != together:
            site.networks.adopt(together=together)
            self._count_anew(site)

    def _count_anew(self, site: Site) -> None:
        """Begin to count the uses of networks together, or those of each proxy by itself."""
        site.rate_limit = LearnedRateLimit()
        for key, arm in site.arms.items():
            before, arm.uses = arm.uses, self.uses(site, key)
            if site.networks.together:
                arm.uses.merge(before.served, before.open)
        if site.networks.together:
            for network, use in sorted(site.networks.first_refusals.items(), key=itemgetter(1)):
                uses = site.networks.uses_of(network)
                site.rate_limit.refused(uses.before(use), use, whole=False)
                uses.begin_anew(self._clock.monotonic())
            self._ban_networks(site)
        else:
            site.networks.forget_uses()

    def _ban_networks(self, site: Site) -> None:
        """Put bans of networks in the place of those of their proxies."""
        wall, longest = self._clock.now(), dict[str, Ban]()
        for key in [*site.barred.at, *site.returning]:
            network, ban = self._network(key), self._book.get((key, site.name))
            if network and ban is not None:
                longest[network] = max(longest.get(network, ban), ban, key=lambda ban: ban.until)
                over = Ban(min(ban.until, wall), 0, ban.rule, ban.forget_at)
                self._book.note((key, site.name), over, wall)
                site.let_in(key)
        for network, ban in longest.items():
            self._book.note((network, site.name), ban, wall)
            self._apply(site, network, ban)
