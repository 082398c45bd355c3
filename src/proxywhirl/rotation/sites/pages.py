"""Whose failure is it: the proxy's, the page's or the site's? Pure.

A request that is refused may be refused because of its proxy, or because of its page: every real site has pages that
answer 403, 429 or 500 whoever asks. So a failure is at first evidence about a page, and is kept until it is known whose
it is:

===============================================  ===========================================================
what comes next                                  whose failure it was
===============================================  ===========================================================
another proxy is served this page                the proxy's: it is convicted
others were served this page just before         the proxy's: the same, unless several witnesses fail there in a row
several proxies fail alike, none is served       the page's: it is closed, until anybody is served there
the proxy fails on pages that differ             the proxy's, once chance would hardly bring so many
the proxy is served another page                 the page's, or chance: the proxy is no suspect any more
===============================================  ===========================================================

- How many make "several" and "so many" depends on how much fails there anyway: as many as chance would hardly bring.
- A closed page ends the request: its answer is passed on. It acquits nobody who was not served another page, since all
  of them may be banned.
- A proxy that fails where another one just did the same is no suspect: it was asked for a page that fails anyway.
- A proxy whose own past may explain the failure is no witness, or a weak one (`Failure.weight`).
- A site is at fault if pages that differ fail alike through several witnesses, and nothing is served between. If it is
  out of order that acquits all who failed alike.
- Requests without a page, as in tunnels, are all for one page of their site as long as it is about proxies, and each
  for another one as long as it is about the site.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from proxywhirl.errors import Blame
from proxywhirl.models import Outcome
from proxywhirl.rotation.proxy_state import ProxyState
from proxywhirl.rotation.sites.bans import Ban
from proxywhirl.timetable import Timetable

FEW, _ENOUGH, _MANY = 3, 4, 12
_CHANCE, _SELDOM = 0.001, 0.05  # the probability of so many failures in a row by mere chance
_BEYOND_DOUBT = 24
_NO_CHANCE = 1e-5  # the probability of it at one failure, of the hundreds of a long crawl
_WINDOW = 300.0  # seconds within which failures belong together

_DIFFERENT, _DIFFERENT_AT_ONCE = 2, 4
_SETTLED = 30.0
"""A proxy that fails on two pages is refused itself, if the first failure is so many seconds old and nobody was served
that page since. Pages that were asked for at the same time are still being tried through others; it takes more."""

_MOSTLY = 3.0  # times as many bans as other failures
_UNKNOWN = (0.0, 0.0)
_MOST_SIGNS = 32
_WITNESS = 0.5  # the least weight of one that tells of the site
_LONGEST_RUN = 64
_MOST_SUSPECTS = 1024
_MOST_PAGES = 64
_MOST_CLOSED = 512
_MOST_SERVED = 64
_COUNTED = 100.0

Place = int | None
"""A page, None for a request without one."""


@dataclass(slots=True, eq=False)
class Failure:
    """A failure of one proxy at one page, until it is known whose it is.

    Attributes:
        before: What was known of its ban before this failure; `banned` says that this one was noted since.
        undo: What was known before all of its failures that are not resolved: what holds if none is its own.
        use, uses_before, whole: When its use began, those before it, and whether none of these is missing.
        weight: How much it says of the page, 0..1: nothing where the proxy's own past explains it.
        of_site: How much it says of the site.
        convicted: It was taken for the proxy's own.
        cleared: The proxy was served another page of the site since.
        suspicious: It may be the proxy's own.
    """

    state: ProxyState
    page: Place
    sign: str
    outcome: Outcome
    at: float
    whom: str = ""
    before: Ban | None = None
    undo: Ban | None = None
    banned: bool = False
    use: float | None = None
    uses_before: list[float] = field(default_factory=list)
    whole: bool = False
    weight: float = 1.0
    of_site: float = 1.0
    incident: int = 0
    convicted: bool = False
    cleared: bool = False
    suspicious: bool = True


_NONE: Sequence[Failure] = ()

Failures = dict[str, Failure]
"""The last failure of each proxy at one page, by key, since it was served to anybody."""


class Evidence:
    """The evidence of one site: its pages, who fails there, and how much of it fails.

    Attributes:
        open: The pages with failures that nobody is convicted of yet.
        closed: The pages that fail for everybody, with the sign of it.
        suspects: The failures that are not resolved, by key of the proxy.
        avoided: The same keys for as long as others are chosen before these.
        run: The failures since the site served anything.
        run_pages, run_keys: The pages and proxies that failed alike since the site served anything.
        run_began: When the first of them did.
    """

    __slots__ = (
        "_by_sign",
        "_failed",
        "_failed_pages",
        "_failures_since",
        "_refused",
        "_served",
        "avoided",
        "closed",
        "open",
        "run",
        "run_began",
        "run_keys",
        "run_pages",
        "run_sign",
        "served",
        "suspects",
    )

    def __init__(self) -> None:
        self.open: OrderedDict[Place, Failures] = OrderedDict()
        self.closed: OrderedDict[Place, str] = OrderedDict()
        self.served: dict[Place, None] = {}
        self.suspects: dict[str, list[Failure]] = {}
        self.avoided: Timetable[str] = Timetable()
        self.run: deque[Failure] = deque(maxlen=_LONGEST_RUN)
        self.run_pages: set[int] = set()
        self.run_keys: set[str] = set()
        self.run_sign = ""
        self.run_began = 0.0
        self._served = self._failed = self._failed_pages = 0.0
        self._failures_since = self._refused = 0.0
        self._by_sign: dict[str, tuple[float, float]] = {}

    @property
    def refusing(self) -> float:
        """How often an attempt is refused to its proxy, 0..1: no page and no fault of the site explains it."""
        return (self._refused + 1.0) / (self._served + self._refused + 10.0)

    @property
    def failing(self) -> float:
        """Which share of the attempts failed, 0..1, up to the last one that was served."""
        return (self._failed + 1.0) / (self._served + self._failed + 2.0)

    @property
    def failing_pages(self) -> float:
        """Which share of the pages failed, 0..1, up to the last one that was served."""
        return (self._failed_pages + 1.0) / (self._served + self._failed_pages + 2.0)

    def is_ban(self, sign: str) -> bool:
        """Whether nearly all failures of one sign were bans, so that one more is taken for a ban at once."""
        refused, cleared = self._by_sign.get(sign, _UNKNOWN)
        return refused > _MOSTLY * (cleared + 1.0)

    def may_be_ban(self, sign: str) -> bool:
        """Whether no more failures of one sign turned out to be the pages' than were bans; of a new sign, of all."""
        known = [self._by_sign[sign]] if sign in self._by_sign else self._by_sign.values()
        return sum(refused - cleared for refused, cleared in known) >= 0.0

    def _note(self, sign: str, refused: float = 0.0, cleared: float = 0.0) -> None:
        before = self._by_sign.get(sign, _UNKNOWN)
        if len(self._by_sign) >= _MOST_SIGNS and sign not in self._by_sign:
            del self._by_sign[next(iter(self._by_sign))]
        self._by_sign[sign] = max(before[0] + refused, 0.0), before[1] + cleared
        self._refused = max(self._refused + refused, 0.0)

    def was_served(self, page: Place) -> bool:
        """Whether anybody was served a page of late, and it was not found to fail for everybody since."""
        return page in self.served

    def count(self, page: Place) -> None:
        """Count a success, before it is taken for evidence about failures."""
        self._served += 1.0
        if self._served > _COUNTED:
            self._served *= 0.5
            self._failed *= 0.5
            self._failed_pages *= 0.5
            self._refused *= 0.5
            for sign, (refused, others) in self._by_sign.items():
                self._by_sign[sign] = 0.5 * refused, 0.5 * others
        if page not in self.served:
            if len(self.served) >= _MOST_SERVED:
                del self.served[next(iter(self.served))]
            self.served[page] = None

    def serve(self, page: Place, key: str) -> tuple[Sequence[Failure], Sequence[Failure]]:
        """Take a success that is counted for evidence: return those that it convicts, and the suspicions it clears."""
        if self._failures_since:
            self._failed += self._failures_since
            self._failures_since = 0.0
            self.run.clear()
            self._failed_pages += len(self.run_pages)
            self.run_pages.clear()
            self.run_keys.clear()
        cleared = self._forget_suspect(key) if key in self.suspects else _NONE
        for failure in cleared:
            failure.cleared = True
            self._note(failure.sign, cleared=1.0)
        if self.closed:
            self.closed.pop(page, None)
        known = self.open.pop(page, None) if self.open else None
        if known is None:
            return _NONE, cleared
        found = [one for one in known.values() if not one.convicted and not one.cleared]
        for failure in found:
            self._convict(failure)
            self._unsuspect(failure)
        return found, cleared

    def fail(self, failure: Failure, *, proxies: int) -> tuple[bool, list[Failure]]:
        """Take note of a failure; return whether it is the page's, and the failures that are resolved by that.

        They are convicted, or acquitted if the failure is the page's and they were convicted before.
        """
        page, key = failure.page, failure.state.key
        self._failures_since += 1.0
        known = self._at(page, failure.at)
        known.pop(key, None)
        known[key] = failure
        if self.closed.get(page) == failure.sign:
            self.closed.move_to_end(page)
            return True, []
        alike = [one for one in known.values() if one.sign == failure.sign]
        needed = min(needed_at(self.refusing), max(2, proxies), _MANY if page in self.served else _ENOUGH)
        if sum(one.weight for one in alike) > needed - 1.0:
            self._close(page, failure.sign)
            acquitted = [one for one in alike if one.convicted]
            self._note(failure.sign, refused=-float(len(acquitted)))
            return True, acquitted
        if page not in self.served and len(alike) >= min(_ENOUGH, max(2, proxies)):
            self._close(page, failure.sign)
            return True, []
        likely = page in self.served or self.is_ban(failure.sign)
        if likely and failure.suspicious and failure.outcome.blame is not Blame.TARGET:
            self._convict(failure)
            return False, [failure]
        return False, self._suspect(failure) if len(known) == 1 else []

    def note_run(self, failure: Failure, *, proxies: int) -> bool:
        """Take note of a failure that may be the site's; return whether it is."""
        self.run.append(failure)
        if failure.sign != self.run_sign:
            self.run_pages.clear()
            self.run_keys.clear()
            self.run_sign = failure.sign
        if not self.run_pages:
            self.run_began = failure.at
        self.run_pages.add(-len(self.run_pages) - 1 if failure.page is None else failure.page)
        if failure.of_site >= _WITNESS:
            self.run_keys.add(failure.state.key)
        return self.runs_long and len(self.run_keys) >= min(FEW, max(2, proxies))

    @property
    def runs_long(self) -> bool:
        """Whether so many pages failed alike in a row that chance would hardly bring them."""
        refused, cleared = self._by_sign.get(self.run_sign, _UNKNOWN)
        return len(self.run_pages) >= (needed_at(self.failing_pages) if refused >= cleared else _MANY)

    @property
    def runs_beyond_doubt(self) -> bool:
        """Whether chance would not even bring it in a long crawl of a site of which little is known.

        A site that served nobody yet has no pages that could be lost by a mistake.
        """
        return self.runs_long and (
            not self._served or len(self.run_pages) >= needed_after(self._failed_pages, self._served)
        )

    def acquit_run(self, sign: str) -> list[Failure]:
        """Clear and return the failures of one sign that are a site's, since that is out of order.

        They are those that nobody is convicted of yet, and of the others those since the site served anything.
        """
        found = [
            one
            for known in self.open.values()
            for one in known.values()
            if one.sign == sign and not one.cleared and (not one.convicted or one.at >= self.run_began)
        ]
        for one in found:
            one.cleared = True
            self._unsuspect(one)
        self._note(sign, refused=-float(sum(one.convicted for one in found)))
        return found

    def convict_run(self, sign: str) -> list[Failure]:
        """Convict and return the first failure of each in this run: so many pages do not fail by themselves."""
        found = [one for one in self.run if one.sign == sign and not one.convicted]
        found = list({one.state.key: one for one in reversed(found)}.values())
        for one in found:
            self._convict(one)
            self._forget_suspect(one.state.key)
        self.run.clear()
        self.run_pages.clear()
        return found

    def _at(self, page: Place, now: float) -> Failures:
        known = self.open.get(page)
        if known is None:
            known = self.open[page] = {}
            if len(self.open) > _MOST_PAGES:
                self.open.popitem(last=False)
        while known and (len(known) > _MANY or now - next(iter(known.values())).at > _WINDOW):
            del known[next(iter(known))]
        return known

    def _close(self, page: Place, sign: str) -> None:
        self.served.pop(page, None)
        self.closed[page] = sign
        if len(self.closed) > _MOST_CLOSED:
            self.closed.popitem(last=False)

    def _suspect(self, failure: Failure) -> list[Failure]:
        """Note a failure that may be the proxy's; return those that are, since it failed on pages that differ."""
        if failure.outcome.blame is Blame.TARGET or not failure.suspicious:
            return []
        pending = self.suspects.setdefault(failure.state.key, [])
        pending[:] = [one for one in pending if one.page != failure.page and failure.at - one.at <= _WINDOW]
        pending.append(failure)
        if len(self.suspects) > _MOST_SUSPECTS:
            self._forget_suspect(next(iter(self.suspects)))
        settled = failure.at - pending[0].at >= _SETTLED
        if settled:
            needed = max(_DIFFERENT, needed_at(self.failing, _SELDOM))
        else:
            needed = max(_DIFFERENT_AT_ONCE, needed_at(self.failing))
        if len(pending) < needed:
            return []
        self._convict(*pending)
        self._forget_suspect(failure.state.key)
        return list(pending)

    def _forget_suspect(self, key: str) -> list[Failure]:
        self.avoided.discard(key)
        return self.suspects.pop(key, [])

    def _convict(self, *failures: Failure) -> None:
        """Convict a proxy of all its failures, which are one refusal."""
        for failure in failures:
            failure.convicted = True
        for sign in {failure.sign for failure in failures}:
            self._note(sign, refused=1.0)

    def _unsuspect(self, failure: Failure) -> None:
        pending = self.suspects.get(failure.state.key)
        if pending is not None and failure in pending:
            pending.remove(failure)
            if not pending:
                self._forget_suspect(failure.state.key)


def needed_at(rate: float, chance: float = _CHANCE) -> int:
    """Return how many failures in a row chance hardly brings where they come at a rate in 0..1 anyway.

    >>> needed_at(0.1), needed_at(0.5), needed_at(0.1, 0.05)
    (3, 10, 2)
    """
    bounded = min(max(rate, 0.01), 0.9)
    least = FEW if chance == _CHANCE else _DIFFERENT
    return min(max(math.ceil(math.log(chance) / math.log(bounded)), least), _MANY)


def needed_after(failed: float, served: float) -> int:
    """Return how many failures in a row are more than chance after so many failures and successes.

    The chance of a run is that of the posterior of a uniform prior, not that of its mean: after few outcomes a run of
    five says little. Each failure is looked at anew, so that chance has to be much smaller than for one look.

    >>> needed_after(0, 100), needed_after(0, 3), needed_after(100, 100)
    (3, 24, 18)
    """
    chance, count = 1.0, 0
    while count < _BEYOND_DOUBT and (chance > _NO_CHANCE or count < FEW):
        chance *= (failed + 1.0 + count) / (failed + served + 2.0 + count)
        count += 1
    return count
