"""What is learnt of sites as a whole goes to other processes and to later ones, and theirs comes in. Pure.

What that is, and who stands, is told at `sharing`.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping

from proxywhirl.clock import Clock
from proxywhirl.rotation.sites.group_learning import GroupLearning
from proxywhirl.rotation.sites.sharing import ANY_SITE, NOTED_EVERY, TOLD_EVERY, SiteRecord, SiteUser, of_others
from proxywhirl.rotation.sites.site import TRIAL_SECONDS, Site

_AT_ONCE = 50  # sites that are told of together: others wait for the transaction
_MANY = 2000  # proxies: of more each takes an even part, whoever is banned, and the uses by others are forgotten


class SiteExchange:
    """Which of the known sites there is something to tell of, and what others told. Called under the pool's lock.

    Args:
        sites: Those that are known here, by name.
        clock: Its wall clock is what processes agree on.
        of_groups: Changes how a site is seen to count.
        open_arms: Begins to tell the proxies of a site apart.
        most: Records that are remembered for sites that are not known here yet; the oldest go first. With 0 nothing is
            told, in or out.

    Attributes:
        others: The keys of the proxies that other processes take first.
        asked: Whether a proxy was asked for since others were last told that this process is there.
    """

    def __init__(
        self,
        sites: Mapping[str, Site],
        clock: Clock,
        of_groups: GroupLearning,
        open_arms: Callable[[Site], None],
        most: int,
    ) -> None:
        self.others: frozenset[str] = frozenset()
        self.asked = True  # it is about to be
        self._sites = sites
        self._clock = clock
        self._of_groups = of_groups
        self._open_arms = open_arms
        self._most = most
        self._news: dict[str, None] = {}  # in the order in which they are told of
        self._told: OrderedDict[str, SiteRecord] = OrderedDict()
        self._name = ""
        self._noted_at = -math.inf
        self._shared: object = None

    # Out.

    def note(self, site: Site) -> None:
        """Take note that something was learnt of a site; who never told anybody of anything keeps nothing."""
        if self._name:
            self._news[site.name] = None

    def unserved(self, site: Site | None) -> None:
        """Take note that no proxy can be used, on a site that refuses."""
        if self._name and site is not None and site.tells_apart:
            site.sharing.unserved += 1
            self._news[site.name] = None

    def used(self, site: Site, key: str, *, refused: bool = False) -> None:
        """Take note that a proxy is used on a site that refuses, or was refused there itself."""
        if self._name:
            site.sharing.served += not refused
            self._news[site.name] = None
            site.sharing.recent.append((key, self._clock.now(), refused))

    def collect(self, name: str, *, last: bool) -> dict[str, SiteRecord]:
        """See `Pool.collect_sites`."""
        if not self._most:
            return {}
        self._name, told = name, dict[str, SiteRecord]()
        now, wall = self._clock.monotonic(), self._clock.now()
        if last or (self.asked and now - self._noted_at >= NOTED_EVERY):
            self.asked, self._noted_at = False, now
            told[ANY_SITE] = SiteRecord(used=wall, users={name: SiteUser(0.0 if last else wall)})
        for name_of_site in list(self._news):
            if len(told) >= _AT_ONCE and not last:
                break
            site = self._sites.get(name_of_site)
            if site is None or last or self._is_due(site, now):
                del self._news[name_of_site]
                if site is not None:
                    told[name_of_site] = self._record(site, name, now, wall)
        return told

    def _is_due(self, site: Site, now: float) -> bool:
        every = 0.0 if self.others else TOLD_EVERY if site.learnt != site.sharing.told else NOTED_EVERY
        return now - site.sharing.told_at >= every

    def _record(self, site: Site, name: str, now: float, wall: float) -> SiteRecord:
        sharing, limit, lengths = site.sharing, site.rate_limit, site.lengths
        sharing.measure(now)
        sharing.told_at, sharing.told = now, site.learnt
        return SiteRecord(
            (*limit.numbers(), site.networks.together) if limit.known else (),
            lengths.numbers() if lengths.learnt else (),
            wall,
            {name: SiteUser(wall, sharing.last_uses(wall), sharing.rate)},
        )

    def began(self, site: Site, uses: Iterable[tuple[str, float]]) -> None:
        """Take note of uses that began before the site refused anybody (by the pool's monotonic clock)."""
        if self._name:
            since = self._clock.now() - self._clock.monotonic()
            site.sharing.recent.extend((key, since + use, False) for key, use in uses)

    # In.

    def learn(self, records: Mapping[str, SiteRecord], name: str) -> None:
        """See `Pool.learn_sites`."""
        if not self._most:
            return
        self._name = name
        for name_of_site, record in records.items():
            if name_of_site == ANY_SITE:
                self._share_out(record.users)
                continue
            self._told.pop(name_of_site, None)
            self._told[name_of_site] = record
            if len(self._told) > self._most:
                self._told.popitem(last=False)
            if name_of_site in self._sites:
                self.adopt(self._sites[name_of_site])

    def _share_out(self, users: Collection[str]) -> None:
        keys = self._of_groups.groups.members.keys()
        shared = len(keys), sorted(users)
        if shared != self._shared:
            self._shared, self.others = shared, of_others(keys, {user: 1.0 / len(users) for user in users}, self._name)

    def _share_site(self, site: Site, users: Mapping[str, SiteUser]) -> None:
        """Share those out that are not banned, by who uses the site how much."""
        keys, site.sharing.others = self._of_groups.groups.members.keys(), frozenset()
        if site.limits and len(keys) <= _MANY:
            parts = {name: user.part for name, user in users.items()}
            site.sharing.others = of_others([key for key in keys if key not in site.barred.at], parts, self._name)

    def adopt(self, site: Site) -> None:
        """Go on from what others know of a site, where that is more, and count their uses."""
        record = self._told.get(site.name)
        if record is None:
            return
        known = site.rate_limit.known
        if record.lengths and record.lengths[0] > site.lengths.learnt:
            site.lengths.adopt(record.lengths)
        if record.limit and record.limit[0] > site.rate_limit.learnt:
            self._of_groups.count_as(site, together=bool(record.limit[-1]))
            site.rate_limit.adopt(record.limit[:-1])
        site.all_well = False
        if not site.tells_apart:
            self._open_arms(site)
        sharing, wall = site.sharing, self._clock.now()
        since = self._clock.monotonic() - wall
        if site.rate_limit.known and not known:
            sharing.before = site.rate_limit.evenly(since + min(record.used + NOTED_EVERY, wall))
        self._share_site(site, record.users)
        for key, at, refused in sharing.hear(record.users, self._name):
            uses = site.uses_of(key)
            if uses is None or uses is sharing.before:
                if len(sharing.uses) >= _MANY:
                    sharing.uses.clear()
                uses = sharing.uses[key] = self._of_groups.uses(site, key)
            if refused:
                uses.begin_anew(since + at)
                sharing.refused.put(key, since + at + TRIAL_SECONDS)
            else:
                uses.count(since + at)
