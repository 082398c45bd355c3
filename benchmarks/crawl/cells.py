"""One crawl of a site with pages that fail, against the same crawl without those pages.

Both crawls have a fleet, a home and a sender of their own, so that neither profits from what the other learnt. The
second one leaves out the failing pages and keeps the order of the others. Where the times miss their floor, the pair is
measured again, up to five times, and of each side the quickest time counts: another program can only slow it down. What
is counted, and not timed, is that of the first pair.
"""

from __future__ import annotations

import random
import ssl
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import trustme

from benchmarks.crawl.crawler import CLIENTS, Answer, crawl
from benchmarks.crawl.ground import good_fleet, home_of
from benchmarks.crawl.site import KINDS, MIXED, Page, Site
from benchmarks.measure import percentile

__all__ = ["FLOORS", "SEVERAL_WAYS", "Cell", "Crawled", "measure", "missed", "once"]

FLOORS = {"served": 0.99, "median": 1.25, "p95": 2.0, "tries_good": 1.3, "tries_failing": 4.0}
"""At least so much of the good pages; at most so many times the clean crawl; at most so many tries of a page."""

SEVERAL_WAYS = tuple(kind for kind in KINDS if kind not in {"hang", "nonsense", "close"})
"""Of these ways the pages of a mixed site fail."""

ROUNDS = 6
ATTEMPT = {"hang": 1.0}  # seconds of an attempt, where a page would hold the crawl for ten


@dataclass(frozen=True, slots=True)
class Cell:
    """A crawl: who asks, which share of the pages fails how, and `delay`, the milliseconds that each page takes."""

    kind: str
    share: float
    at_once: int
    proxies: int
    pages: int = 400
    delay: int = 0
    client: str = "gateway"
    seed: int = 1

    def order(self) -> list[Page]:
        """Return the pages in the order in which they are asked for."""
        rng = random.Random(f"{self.seed} {self.pages} {self.share}")
        numbers = rng.sample(range(self.pages), self.pages)
        failing = sorted(rng.sample(range(self.pages), round(self.pages * self.share)))
        ways = SEVERAL_WAYS if self.kind == MIXED else (self.kind,)
        kinds = {numbers[place]: ways[turn % len(ways)] for turn, place in enumerate(failing)}
        return [Page(number, kinds.get(number, "good")) for number in numbers]


@dataclass(frozen=True, slots=True)
class Crawled:
    """What a crawl came to: the answers, the tries of each page at the site, the proxies by their health."""

    answers: Mapping[Page, Answer]
    tries: Counter[int]
    health: Counter[str]

    def times(self) -> list[float]:
        """Return the seconds of the good pages that were served."""
        return [answer.seconds for page, answer in self.answers.items() if page.good and answer.served]


async def once(cell: Cell, pages: Sequence[Page]) -> Crawled:
    """Crawl the pages of a cell, or some of them."""
    client, https = CLIENTS[cell.client]
    served, trusted = contexts() if https else (None, None)
    settings = {"attempt_timeout": ATTEMPT[cell.kind]} if cell.kind in ATTEMPT else {}
    async with (
        Site.start(delay=cell.delay / 1000, tls=served) as site,
        good_fleet(cell.proxies) as fleet,
        home_of(fleet.urls(), gateway=settings) as home,
    ):
        async with client(home, trusted) as fetch:
            answers = await crawl(fetch, site, pages, cell.at_once)
        return Crawled(answers, site.tries, home.health())


async def measure(cell: Cell) -> dict[str, Any]:
    """Measure a cell and return its figures."""
    pages = cell.order()
    clean = [page for page in pages if page.good]
    rounds = [(await once(cell, clean), await once(cell, pages))]
    while len(rounds) < ROUNDS and slow(rounds) and not missed(cell, counted(rounds[0][1])):
        rounds.append((await once(cell, clean), await once(cell, pages)))
    return {"cell": asdict(cell), **counted(rounds[0][1]), **timed(rounds)}


def slow(rounds: Sequence[tuple[Crawled, Crawled]]) -> bool:
    """Tell whether the times so far miss their floor."""
    times = timed(rounds)
    return any(times[f"times_{name}"] > FLOORS[name] for name in ("median", "p95") if times[f"times_{name}"])


def timed(rounds: Sequence[tuple[Crawled, Crawled]]) -> dict[str, Any]:
    """Return how long a good page took, in milliseconds and against the crawl without failing ones."""
    figures: dict[str, Any] = {"rounds": len(rounds)}
    sides = [[crawled.times() for crawled in side if crawled.times()] for side in zip(*rounds, strict=True)]
    for name, share in (("median", 0.5), ("p95", 0.95)):
        clean, ours = (min((percentile(times, share) for times in side), default=None) for side in sides)
        figures[f"{name}_ms"] = None if ours is None else round(ours * 1000, 2)
        figures[f"times_{name}"] = None if ours is None or clean is None else round(ours / clean, 2)
    return figures


def counted(crawled: Crawled) -> dict[str, Any]:
    """Return what is counted of a crawl."""
    good = {page: answer for page, answer in crawled.answers.items() if page.good}
    failing = {page: answer for page, answer in crawled.answers.items() if not page.good}
    allowed = FLOORS["tries_good"] * len(good) + FLOORS["tries_failing"] * len(failing)
    return {
        "good": len(good),
        "failing": len(failing),
        "served": round(sum(answer.served for answer in good.values()) / len(good), 4),
        "refused": sum(answer.refused for answer in good.values()),
        "good_answers": Counter(map(str, good.values())),
        "failing_answers": Counter(map(str, failing.values())),
        "failing_wrong": sum(not rightly(page, answer) for page, answer in failing.items()),
        "tries": crawled.tries.total(),
        "tries_allowed": round(allowed),
        "tries_of_a_failing": round(sum(crawled.tries[page.number] for page in failing) / max(len(failing), 1), 2),
        "tries_most": max((crawled.tries[page.number] for page in failing), default=0),
        "health": crawled.health,
        "words": next((answer.words for answer in good.values() if answer.refused), ""),
    }


def rightly(page: Page, answer: Answer) -> bool:
    """Tell whether the client saw of a failing page what the site did.

    A status is the site's own. Where the site gives no whole answer, the sender says so; it does not refuse by itself.
    """
    if page.status is not None:
        return answer.own and answer.status == page.status
    return not answer.served and not (answer.refused and answer.status != 504)  # noqa: PLR2004  # it did not answer in time


def missed(cell: Cell, figures: Mapping[str, Any]) -> list[str]:
    """Return what is missed, a word or two each."""
    if cell.kind == "hang":
        return ["refused"] if figures["refused"] else []
    blamed = sum(count for health, count in figures["health"].items() if health not in {"healthy", "unknown"})
    found = {
        "served": figures["served"] < FLOORS["served"],
        "tries": figures["tries"] > figures["tries_allowed"],
        "answers": figures["failing_wrong"] > 0,
        "health": blamed > 0,
    }
    for name in ("median", "p95"):
        times = figures.get(f"times_{name}")
        found[name] = times is not None and times > FLOORS[name]
    return [name for name, is_missed in found.items() if is_missed]


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return contexts for the sites of a crawl and for a client that trusts them."""
    root = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    root.issue_cert("shop.example", "other.example").configure_cert(server)
    root.configure_trust(client)
    return server, client
