"""Three short courses of requests for a page that fails, each with what must hold after it.

========  =================================================================================================
poison    a failing page six times: three other pages of the site and three of another one are served
amplify   one request for a page that fails, 50 proxies: the site is asked four times at the most
dead      a page that breaks off 30 times, good pages of another site between: no proxy is taken for ill
========  =================================================================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.crawl.crawler import CLIENTS, Answer, Fetch
from benchmarks.crawl.ground import good_fleet, home_of
from benchmarks.crawl.site import Page, Site

__all__ = ["SCRIPTS", "Script", "play"]

MOST_TRIES = 4
_ILL = frozenset({"degraded", "unhealthy", "dead"})


@dataclass(frozen=True, slots=True)
class Script:
    """A course of requests for a page of a kind."""

    name: str
    kind: str
    client: str = "gateway"


@dataclass(slots=True)
class Course:
    """A script under way: who is asked, where, and what came of the page that fails and of the others."""

    kind: str
    site: Site
    fetch: Fetch
    odd: list[Answer]
    others: list[Answer]

    async def ask_odd(self) -> None:
        """Ask for the page that fails."""
        page = Page(0, self.kind)
        self.odd.append(await self.fetch(self.site.url(page), page))

    async def ask_others(self, numbers: Iterable[int], host: str) -> None:
        """Ask for pages that work."""
        for number in numbers:
            page = Page(number)
            self.others.append(await self.fetch(self.site.url(page, host), page))


async def poison(course: Course) -> None:
    """Ask for the failing page, then for others."""
    for _ in range(6):
        await course.ask_odd()
    await course.ask_others(range(1, 4), "shop.example")
    await course.ask_others(range(4, 7), "other.example")


async def amplify(course: Course) -> None:
    """Ask once."""
    await course.ask_odd()


async def dead(course: Course) -> None:
    """Ask for the failing page again and again, with others between."""
    for turn in range(30):
        await course.ask_odd()
        await course.ask_others((2 * turn + 1, 2 * turn + 2), "other.example")


COURSES: dict[str, tuple[Callable[[Course], Awaitable[None]], int]] = {
    "poison": (poison, 5),
    "amplify": (amplify, 50),
    "dead": (dead, 25),
}
"""The courses by name, and how many proxies they have."""

SCRIPTS = (
    *(Script("poison", kind) for kind in ("403", "429", "429-after", "500", "502", "503", "503-after", "999", "reset")),
    *(Script("poison", kind, "library") for kind in ("429", "500", "reset")),
    *(Script("amplify", kind, client) for kind in ("403", "429", "503") for client in ("gateway", "library")),
    *(Script("dead", kind) for kind in ("reset", "cut", "close", "nonsense")),
    Script("dead", "reset", "library"),
)


async def play(script: Script) -> dict[str, Any]:
    """Play a script and return its figures, `missed` among them."""
    run, proxies = COURSES[script.name]
    client, _ = CLIENTS[script.client]
    async with Site.start() as site, good_fleet(proxies) as fleet, home_of(fleet.urls()) as home:
        async with client(home, None) as fetch:
            course = Course(script.kind, site, fetch, [], [])
            await run(course)
        health = home.health()
    missed = {
        "served": not all(answer.served for answer in course.others),
        "answers": any(answer.refused for answer in course.odd if not answer.own),
        "tries": script.name == "amplify" and site.tries[0] > MOST_TRIES,
        "health": bool(health.keys() & _ILL),
    }
    return {
        "script": asdict(script),
        "odd": Counter(map(str, course.odd)),
        "others": Counter(map(str, course.others)),
        "tries": site.tries[0],
        "health": health,
        "missed": [name for name, is_missed in missed.items() if is_missed],
    }
