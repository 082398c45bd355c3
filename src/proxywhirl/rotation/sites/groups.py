"""Groups of proxies that fail together: a network that a site bans, a gateway that is down. Pure.

A proxy belongs to up to four groups, from the narrowest to the widest. The text is the key of a group's ban:

=========================  ====================================================================
text                       which proxies
=========================  ====================================================================
``gateway gw.example``     those of one host: sessions, and ports
``203.0.113.0/24``         those of one network, /24 of IPv4 and /48 of IPv6
``AS3320``                 those whose exits are in one autonomous system
``provider Acme``          those of one vendor
=========================  ====================================================================

A group is barred from a site, or from everywhere where its proxies cannot be reached, if

- three of its members or more fail alike within a minute, on different pages, and no member serves in between;
- so many failures in a row are unlikely by chance (`UNLIKELY`), as often as requests fail there anyway;
- a proxy outside of it is served there meanwhile, and a request that begins after that fails through a member;
- its failing members are not all of one narrower group, which would explain it.

A page that failed through a proxy outside of the group tells nothing of the group, unless it was served since. A whole
pool is never barred, since nobody is outside of it.

A bar lasts for a few seconds at first. When its time is over one request tries: a success ends it, a failure prolongs
it. A request that nobody outside can serve is served by the group before that: one at a time, and after each failure
nobody for a while, a second at first. A bar is a ban in the book (`bans`), so that it outlives the process and others
learn of it.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv6Address, IPv6Network
from typing import NamedTuple

from proxywhirl.backoff import Backoff
from proxywhirl.clock import Clock
from proxywhirl.models import Proxy, Sketch
from proxywhirl.rotation.proxy_state import ProxyState
from proxywhirl.rotation.sites.bans import Ban, BanBook

EVERYWHERE = "*:group"
"""Stands for a site from which those groups are barred that cannot be reached."""

AT_SITE = Backoff(5.0, 3600.0, growth=1.5)
"""Bars at one site: a trial costs one request, and at the end of a ban the last wait is a third of it at most."""

DOWN = Backoff(5.0, 300.0)
"""Bars everywhere: a gateway that was repaired is found within five minutes."""

WITNESSES = 3
WITHIN = 60.0
"""Members, and seconds."""

UNLIKELY = 0.008
"""The chance of as many failures: three where one request in five fails, seven where every second one does."""

NEEDED = Backoff(1.0, 60.0)
"""The pause of a group after it failed a request that nobody else could serve."""

TRIAL = 30.0
"""Seconds after which another request may try."""

_GATEWAY, _PROVIDER = "gateway ", "provider "
_ENOUGH = -math.log(UNLIKELY) * 0.999  # rounding
_AGAIN = 0.25  # seconds after which to ask whether a trial has ended
_LEAST_RATE = 0.1
_RATE_WEIGHT = 0.05
_OWN_WEIGHT = 0.1  # a group has fewer requests than the site
_FORGOTTEN_RATE = 0.02
_LEAST_ODDS = 0.05
_JITTER = 0.2
_REMEMBERED = 3600.0  # seconds for which strikes outlive a bar, as those of bans do
_MOST_WITNESSES = 32
_MOMENT = 0.25
"""Seconds within which successes count as one moment."""

_MOST_MOMENTS = 128  # half a minute, by which most requests are done

_MOST_RUNS = 4096
_MOST_PAGES = 1024
_MOST_KEYS = 65_536
_MOST_REFUSED = 1000
_FEW_REFUSED = 64
_SHOWN = 3


def groups_of(proxy: Proxy) -> tuple[str, ...]:
    """Return the groups of a proxy, the narrowest first.

    >>> groups_of(Proxy("k", "http", "203.0.113.7", 8080))
    ('gateway 203.0.113.7', '203.0.113.0/24')
    """
    known = proxy.attributes
    groups = [_GATEWAY + proxy.host]
    network = _network_of(proxy.host)
    if network:
        groups.append(network)
    if known.asn is not None:
        groups.append(f"AS{known.asn}")
    if known.provider:
        groups.append(_PROVIDER + known.provider)
    return tuple(groups)


def is_group(key: str) -> bool:
    """Whether the key of a ban is a group's: no proxy's key has a blank, a slash or capitals."""
    return " " in key or "/" in key or key.startswith("AS")


def in_words(group: str) -> str:
    """Return what a group is called.

    >>> in_words("203.0.113.0/24"), in_words("gateway gw.example")
    ('network 203.0.113.0/24', 'gateway gw.example')
    """
    return group if group.startswith((_GATEWAY, _PROVIDER)) else f"network {group}"


def sentence(group: str, site: str) -> str:
    """Return what a bar says.

    >>> sentence("203.0.113.0/24", "shop.example"), sentence("gateway gw.example", EVERYWHERE)
    ('network 203.0.113.0/24 is banned at shop.example', 'gateway gw.example is down')
    """
    return f"{in_words(group)} is down" if site == EVERYWHERE else f"{in_words(group)} is banned at {site}"


def _network_of(host: str) -> str:
    if ":" not in host:
        prefix, dot, last = host.rpartition(".")
        return f"{prefix}.0/24" if dot and last.isdigit() else ""
    with suppress(AddressValueError):
        address = IPv6Address(host.strip("[]"))
        if address.ipv4_mapped is not None:
            return _network_of(str(address.ipv4_mapped))
        return str(IPv6Network((address, 48), strict=False))
    return ""


class Members:
    """The groups of each proxy of a pool by its key, found when they are asked for; of a sketch no value is made."""

    def __init__(self, held: Mapping[str, ProxyState | Sketch], known: Callable[[str], Proxy]) -> None:
        self._held = held
        self._known = known
        self._groups: dict[str, tuple[object, tuple[str, ...]]] = {}

    def keys(self) -> Collection[str]:
        """Return the keys of all proxies."""
        return self._held.keys()

    def of(self, key: str) -> tuple[str, ...]:
        """Return the groups of a proxy, none where the pool has it no more."""
        held = self._held.get(key)
        if held is None:
            return ()
        facts = held.proxy if isinstance(held, ProxyState) else held
        found = self._groups.get(key)
        if found is not None and found[0] is facts:
            return found[1]
        if len(self._groups) >= _MOST_KEYS:
            self._groups.clear()
        groups = groups_of(facts if isinstance(facts, Proxy) else self._placed(key, facts))
        self._groups[key] = facts, groups
        return groups

    def network(self, key: str) -> str:
        """Return the network of a proxy; nothing where its host is a name, or the pool has it no more."""
        groups = self.of(key)
        return groups[1] if len(groups) > 1 and "/" in groups[1] and not groups[1].startswith(_PROVIDER) else ""

    def _placed(self, key: str, sketch: Sketch) -> Proxy:
        """Return a proxy with the host of a sketch, and the attributes that it shares with others."""
        host = sketch[0].partition("://")[2].rpartition(":")[0]
        return Proxy(key, "", host, 0, attributes=self._known(key).attributes)


def _nobody(key: str) -> Proxy:
    raise KeyError(key)


NOBODY = Members({}, _nobody)
"""Those of a pool without proxies."""


class GroupFailure(NamedTuple):
    """A failure through a member, on a page, by a use that began at a moment.

    `sign` is the same of failures that are alike. `odds` is how probable it was by the member's own record, None where
    that says nothing, 1 where its own past explains it.
    """

    key: str
    sign: str
    page: int | None
    began: float
    odds: float | None


class Page(NamedTuple):
    """When a page was served last, and the groups that all proxies have in common through which it failed since."""

    served: float
    failed: frozenset[str]


_SERVED = frozenset({""})  # by no group: it did not fail since
UNKNOWN = Page(-math.inf, _SERVED)


class _Witness(NamedTuple):
    at: float
    page: int | None
    narrower: str  # the next narrower group, or the proxy
    weight: float


@dataclass(slots=True, eq=False)
class Run:
    """Failures alike through members of one group, with no success of a member in between.

    Attributes:
        rate: How often requests to the site failed when it began, in 0..1.
        own: How often the members' requests failed in runs that a success ended.
        number: The place of its first failure in the order of all reports.
        confirmed: A proxy outside was served since it began, and a request that began after that failed here.
    """

    sign: str = ""
    rate: float = 0.0
    own: float = 0.0
    witnesses: dict[str, _Witness] = field(default_factory=dict)
    began: float = 0.0
    last: float = 0.0
    number: int = 0
    confirmed: bool = False

    def begin(self, sign: str, rate: float, now: float, number: int) -> None:
        """Begin anew."""
        self.witnesses.clear()
        self.sign, self.rate, self.began, self.number = sign, rate, now, number
        self.confirmed = False

    def note(self, failure: GroupFailure, narrower: str, now: float, served: int) -> None:
        """Take in a failure; those of more than a minute ago count no more.

        `served` is the number of the last success before the failed request began.
        """
        odds = self.rate if failure.odds is None else failure.odds
        weight = -math.log(max(odds, self.own, _LEAST_ODDS))
        witnesses = self.witnesses
        witnesses.pop(failure.key, None)
        witnesses[failure.key] = _Witness(now, failure.page, narrower, weight)
        while True:
            first = next(iter(witnesses))
            if now - witnesses[first].at <= WITHIN and len(witnesses) <= _MOST_WITNESSES:
                break
            del witnesses[first]
        self.last = now
        self.confirmed = self.confirmed or served > self.number

    def served(self) -> None:
        """Take note that a member was served."""
        if self.witnesses:
            self.own = 1.0 - (1.0 - self.own) * (1.0 - _OWN_WEIGHT) ** len(self.witnesses)
            self.witnesses.clear()
        self.own *= 1.0 - _OWN_WEIGHT

    def proves(self, group: str, pages: Mapping[int, Page]) -> bool:
        """Whether the group is at fault, by what is known of pages."""
        if not self.confirmed or len(self.witnesses) < WITNESSES:
            return False
        counted: set[int] = set()
        told = []
        for witness in self.witnesses.values():
            page = witness.page
            if page is not None:
                known = pages.get(page, UNKNOWN)
                if known.served < self.began:
                    if page in counted or group not in known.failed:
                        continue
                    counted.add(page)
            told.append(witness)
        enough = len(told) >= WITNESSES and sum(witness.weight for witness in told) >= _ENOUGH
        return enough and len({witness.narrower for witness in told}) > 1


@dataclass(slots=True, eq=False)
class Bar:
    """A group that is barred. Times are on the pool's monotonic clock.

    While a member tries (`trying`, until `trial_ends` at most), no other one may. When `until` is over any request may
    try; before that, from `needed_at` on, one that nobody else can serve.
    """

    began: float
    until: float
    rule: str
    trying: str = ""
    trial_ends: float = 0.0
    needed_at: float = 0.0
    needs: int = 0  # that failed

    def admits(self, now: float, *, needed: bool = False) -> bool:
        """Whether a member may serve now, or where nobody else can."""
        return now >= (self.needed_at if needed else self.until) and (not self.trying or now >= self.trial_ends)

    def changes_at(self, now: float) -> float:
        """Return when that changes, where nobody tries or tells, and nobody is needed."""
        if now < self.until:
            return self.until
        return self.trial_ends if self.trying and now < self.trial_ends else math.inf

    def failed(self, now: float) -> None:
        """Let nobody serve for a while, since the request failed that nobody else could serve."""
        self.needs += 1
        self.needed_at = now + NEEDED.seconds(self.needs)
        self.trying = ""


class SiteGroups:
    """What is known of groups at one site. Empty where nothing fails, and then a success costs nothing."""

    __slots__ = (
        "_changes_at",
        "_doubted",
        "_held_off",
        "_number",
        "_pages",
        "_served",
        "bars",
        "doubted",
        "idle",
        "needed",
        "rate",
        "runs",
        "table",
    )

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}  # the one with the oldest failure first
        self.bars: dict[str, Bar] = {}
        self.rate = _LEAST_RATE
        self.idle = True  # a success would change nothing
        self.table: BarredGroups | None = None
        self.needed: BarredGroups | None = None
        self.doubted: BarredGroups | None = None
        self._doubted: dict[str, float] = {}  # when each group failed last of which two members or more did in a row
        self._number = 0  # of the last report: those of one moment have an order too
        self._served: deque[tuple[float, int]] = deque(maxlen=_MOST_MOMENTS)
        self._pages: dict[int, Page] = {}
        self._held_off: frozenset[str] = frozenset()
        self._changes_at = math.inf

    def failed(self, groups: tuple[str, ...], failure: GroupFailure, now: float) -> str:
        """Take in a failure; return the narrowest group that it shows to be at fault, else nothing."""
        if any(group in self.bars for group in groups):
            return ""  # which explains it
        self.idle = False
        self._forget_old(now)
        if failure.page is not None:
            self._note_page(failure.page, groups)
        self._number += 1
        served = next((number for at, number in reversed(self._served) if at <= failure.began), 0)
        found = ""
        for place, group in enumerate(groups):
            run = self.runs.pop(group, None) or Run()
            self.runs[group] = run
            if failure.sign != run.sign or now - run.last > WITHIN or not run.witnesses:
                run.begin(failure.sign, self.rate, now, self._number)
            run.note(failure, groups[place - 1] if place else failure.key, now, served)
            if len(run.witnesses) > 1:
                self._doubted.pop(group, None)
                self._doubted[group] = now
            if not found and run.proves(group, self._pages):
                found = group
        self.rate += _RATE_WEIGHT * (1.0 - self.rate)
        if found:
            run = self.runs.pop(found)
            self.rate = min(self.rate, run.rate)
            for wider in groups[groups.index(found) + 1 :]:
                for key in run.witnesses:  # which are explained now
                    self.runs[wider].witnesses.pop(key, None)
        return found

    def served(self, groups: tuple[str, ...], page: int | None, now: float) -> None:
        """Take in a success."""
        self.rate = max(self.rate - _RATE_WEIGHT * self.rate, _LEAST_RATE)
        for group in groups:
            run = self.runs.get(group)
            if run is not None:
                run.served()
                self._doubted.pop(group, None)
                if run.own < _FORGOTTEN_RATE:
                    del self.runs[group]
        self._number += 1
        at = now
        if self._served and now - self._served[-1][0] < _MOMENT:
            at = self._served.pop()[0]
        self._served.append((at, self._number))
        if page is not None and self.runs:
            self._put_page(page, Page(now, _SERVED))
        self.idle = not self.runs and not self.bars and self.rate <= _LEAST_RATE

    def bar(self, group: str, until: float, rule: str, now: float) -> None:
        """Bar a group, or prolong its bar."""
        known = self.bars.setdefault(group, Bar(now, until, rule))
        known.until, known.rule = until, rule
        self.idle = False
        self._changes_at = -math.inf

    def lift(self, group: str) -> None:
        """Let a group in."""
        if self.bars.pop(group, None) is not None:
            self._changes_at = -math.inf

    def tries(self, key: str, groups: tuple[str, ...], now: float) -> bool:
        """Take note that a member is used: it is the one that tries, unless another one does."""
        tries = False
        for group in groups:
            bar = self.bars.get(group)
            if bar is not None and (not bar.trying or now >= bar.trial_ends):
                bar.trying, bar.trial_ends = key, now + TRIAL
                self._changes_at = -math.inf
                tries = True
        return tries

    def untried(self, key: str, groups: tuple[str, ...]) -> None:
        """Let another one try: this use told nothing."""
        for group in groups:
            bar = self.bars.get(group)
            if bar is not None and bar.trying == key:
                bar.trying = ""
                self._changes_at = -math.inf

    def failed_at_need(self, group: str, now: float) -> None:
        """Let nobody of a barred group serve for a while, since one has failed that tried."""
        bar = self.bars.get(group)
        if bar is not None:
            bar.failed(now)
            self._changes_at = -math.inf

    def held_off(self, now: float) -> frozenset[str]:
        """Return the groups of which nobody may come now."""
        if now >= self._changes_at:
            self._held_off = frozenset(group for group, bar in self.bars.items() if not bar.admits(now))
            self._changes_at = min((bar.changes_at(now) for bar in self.bars.values()), default=math.inf)
        return self._held_off

    def in_doubt(self, now: float) -> frozenset[str]:
        """Return the groups of which several members failed alike a moment ago, and none was served since."""
        for group in list(self._doubted):
            if now - self._doubted[group] <= WITHIN:
                break
            del self._doubted[group]
        return frozenset(self._doubted)

    def held_off_at_need(self, now: float) -> frozenset[str]:
        """Return the groups of which nobody may come even where nobody else can serve."""
        return frozenset(group for group, bar in self.bars.items() if not bar.admits(now, needed=True))

    def next_at(self, now: float) -> float | None:
        """Return when a member of a barred group may serve at need that may not now; None where there is none."""
        return min(
            (max(bar.needed_at, now + _AGAIN) for bar in self.bars.values() if not bar.admits(now, needed=True)),
            default=None,
        )

    def _forget_old(self, now: float) -> None:
        for group in list(self.runs)[:2]:  # two for each failure keep up: it adds a few, most of them known
            if now - self.runs[group].last <= WITHIN and len(self.runs) <= _MOST_RUNS:
                break
            del self.runs[group]
            self._doubted.pop(group, None)

    def _note_page(self, page: int, groups: tuple[str, ...]) -> None:
        known = self._pages.get(page)
        if known is None or known.failed is _SERVED:
            self._put_page(page, Page(-math.inf if known is None else known.served, frozenset(groups)))
        else:
            self._put_page(page, Page(known.served, known.failed.intersection(groups)))

    def _put_page(self, page: int, known: Page) -> None:
        self._pages.pop(page, None)
        self._pages[page] = known
        if len(self._pages) > _MOST_PAGES:
            del self._pages[next(iter(self._pages))]


class Groups:
    """The knowledge of a pool about groups. Called under the pool's lock."""

    def __init__(
        self, book: BanBook, members: Members, rng: random.Random, clock: Clock, everywhere: SiteGroups
    ) -> None:
        self.everywhere = everywhere
        self.members = members
        self._book = book
        self._rng = rng
        self._clock = clock

    def failed(self, at: SiteGroups, site: str, failure: GroupFailure, now: float) -> str:
        """Take in a failure at a site; return the group that it bars there, else nothing."""
        groups = self.members.of(failure.key)
        tried = [group for group in groups if (bar := at.bars.get(group)) is not None and bar.trying == failure.key]
        for group in tried:
            if failure.began >= at.bars[group].until:
                self._prolong(at, site, group, failure.sign, now)
            at.failed_at_need(group, now)
        if tried or (failure.odds is not None and failure.odds >= 1.0):
            return ""
        group = at.failed(groups, failure, now)
        if group:
            self._strike(at, site, group, failure.sign, now)
        return group

    def served(self, at: SiteGroups, site: str, key: str, page: int | None, now: float, began: float) -> None:
        """Take in a success; it ends a bar where its use began within it."""
        groups = self.members.of(key)
        at.served(groups, page, now)
        for group in groups if at.bars else ():
            bar = at.bars.get(group)
            if bar is not None and began >= bar.began:
                self._end(at, site, group)

    def tries(self, key: str, here: SiteGroups | None, now: float) -> bool:
        """Take note that a member is used, at a site or at none; return whether it is the one that tries."""
        groups = self.members.of(key)
        tries = self.everywhere.tries(key, groups, now)
        return (here is not None and here.tries(key, groups, now)) or tries

    def untried(self, key: str, here: SiteGroups | None) -> None:
        """Take note of the end of a use, after what it told: was it a trial that told nothing, another one may try."""
        groups = self.members.of(key)
        self.everywhere.untried(key, groups)
        if here is not None:
            here.untried(key, groups)

    def held_back(self, key: str, site: str, here: SiteGroups | None, now: float) -> tuple[str, str]:
        """Return what keeps a proxy from a site, as in "its …", and the rule of that; nothing where no group does."""
        for at, name in ((self.everywhere, EVERYWHERE), (here, site)):
            for group in self.members.of(key) if at is not None and at.bars else ():
                if at is not None and group in at.held_off(now):
                    return sentence(group, name), at.bars[group].rule
        return "", ""

    def in_words(self, site: str, here: SiteGroups | None, now: float) -> list[str]:
        """Return which groups are barred from a site, and from everywhere, the first few."""
        barred = [sentence(group, EVERYWHERE) for group in sorted(self.everywhere.held_off(now))]
        barred += [sentence(group, site) for group in sorted(here.held_off(now))] if here is not None else []
        more = [f"so are {len(barred) - _SHOWN} more groups"] if len(barred) > _SHOWN else []
        return barred[:_SHOWN] + more

    def apply(self, at: SiteGroups, group: str, ban: Ban | None, now: float) -> None:
        """Bar a group, or let it in, as a ban says; one that is over stands until a request has tried."""
        wall = self._clock.now()
        if ban is not None and ban.strikes > 0 and ban.forget_at > wall:
            at.bar(group, now + ban.until - wall, ban.rule, now)
        else:
            at.lift(group)

    def _strike(self, at: SiteGroups, site: str, group: str, rule: str, now: float) -> None:
        pair, wall = (group, site), self._clock.now()
        known = self._book.get(pair)
        strikes = known.strikes + 1 if known is not None and known.forget_at > wall else 1
        backoff = DOWN if site == EVERYWHERE else AT_SITE
        seconds = backoff.seconds(strikes) * (1.0 + _JITTER * self._rng.random())
        ban = Ban(wall + seconds, strikes, rule, wall + seconds + max(_REMEMBERED, seconds))
        self._book.note(pair, ban, wall)
        at.bar(group, now + seconds, rule, now)

    def _prolong(self, at: SiteGroups, site: str, group: str, rule: str, now: float) -> None:
        """Bar a group for longer, unless so many failures are no wonder any more, as often as others fail."""
        known = self._book.get((group, site))
        failures = WITNESSES + (0 if known is None else known.strikes)
        if failures * -math.log(at.rate) < _ENOUGH:
            self._end(at, site, group)
        else:
            self._strike(at, site, group, rule, now)

    def _end(self, at: SiteGroups, site: str, group: str) -> None:
        at.lift(group)
        pair, wall = (group, site), self._clock.now()
        known = self._book.get(pair)
        if known is not None and known.strikes:
            self._book.note(pair, Ban(min(known.until, wall), 0, known.rule, known.forget_at), wall)

    def keeps_off(self, here: SiteGroups | None, now: float, *, needed: bool = False) -> BarredGroups | None:
        """Return the proxies that groups keep from a site, and from everywhere, at a moment; None where they keep none.

        `needed` says that nobody else can serve. It is the same table each time, by which strategies tell kinds of
        requests.
        """
        at = self.everywhere if here is None else here
        table = at.needed if needed else at.table
        if table is None:
            keeps = SiteGroups.held_off_at_need if needed else SiteGroups.held_off
            table = BarredGroups(self.members, self.everywhere, here, keeps, _MOST_REFUSED)
            if needed:
                at.needed = table
            else:
                at.table = table
        return table if table.at(now) else None

    def doubted(self, here: SiteGroups | None, now: float) -> BarredGroups | None:
        """Return the proxies of groups in doubt, before which a request that has failed tries others."""
        at = self.everywhere if here is None else here
        if at.doubted is None:
            at.doubted = BarredGroups(self.members, self.everywhere, here, SiteGroups.in_doubt, _FEW_REFUSED)
        return at.doubted if at.doubted.at(now) else None

    def next_at(self, here: SiteGroups | None, now: float) -> float | None:
        """Return when a member of a barred group may serve at need that may not now; None where there is none."""
        times = self.everywhere.next_at(now), None if here is None else here.next_at(now)
        return min((at for at in times if at is not None), default=None)


class BarredGroups(Collection[str]):
    """The proxies of groups that are barred: each is found when it is asked for, and they are never counted.

    If most of a pool is barred, a choice looks at many of them. So it turns down so many at most, and takes the next:
    a choice has a bounded cost, and the pool is tried as it would be without its groups.
    """

    __slots__ = ("_everywhere", "_here", "_keeps", "_left", "_members", "_most", "_off")

    def __init__(
        self,
        members: Members,
        everywhere: SiteGroups,
        here: SiteGroups | None,
        keeps: Callable[[SiteGroups, float], frozenset[str]],
        most: int,
    ) -> None:
        self._members = members
        self._everywhere = everywhere
        self._here = here
        self._keeps = keeps
        self._most = most
        self._off: frozenset[str] = frozenset()
        self._left = 0

    def at(self, now: float) -> bool:
        """Bring it to a moment, before a choice; return whether it bars anybody."""
        self._off = self._keeps(self._everywhere, now)
        if self._here is not None and not self._here.idle:
            here = self._keeps(self._here, now)
            self._off = self._off | here if self._off else here
        self._left = self._most
        return bool(self._off)

    def __contains__(self, key: object) -> bool:
        if self._left > 0:
            for group in self._members.of(str(key)):
                if group in self._off:
                    self._left -= 1
                    return True
        return False

    def __len__(self) -> int:
        return len(self._off)

    def __iter__(self) -> Iterator[str]:
        return iter(())
