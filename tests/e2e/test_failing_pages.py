"""A page is not a site: what fails for everybody at one page costs the other pages and the proxies nothing.

The pages fail for everybody, in every way; the proxies are all well. Only what can be counted is stated.
"""

from __future__ import annotations

import pytest

from benchmarks.crawl.cells import FLOORS, Cell, once
from benchmarks.crawl.scripts import MOST_TRIES, Script, play

ILL = {"degraded", "unhealthy", "dead"}
CRAWLS = (
    Cell("429", 0.2, 1, 5, pages=40),
    Cell("429-after", 0.5, 8, 5, pages=40),
    Cell("403", 0.2, 8, 5, pages=40),
    Cell("500", 0.5, 1, 5, pages=40),
    Cell("reset", 0.2, 8, 5, pages=40),
    Cell("mixed", 0.5, 16, 5, pages=40),
    Cell("mixed", 0.5, 8, 5, pages=40, client="library"),
)


@pytest.mark.parametrize("cell", CRAWLS, ids=lambda cell: f"{cell.client}-{cell.kind}-{cell.at_once}")
async def test_every_good_page_is_served(cell: Cell) -> None:
    """However many pages of a site fail, the others are served, and a client sees of the failing ones what they do."""
    crawled = await once(cell, cell.order())
    answers = {page: str(answer) for page, answer in crawled.answers.items()}
    assert {page: answer for page, answer in answers.items() if page.good and answer != "200"} == {}
    statuses = {page: str(page.status) for page in answers if page.status is not None}
    assert {page: answers[page] for page in statuses} == statuses
    assert not any(answer.refused for answer in crawled.answers.values())
    assert not crawled.health.keys() & ILL
    good = sum(page.good for page in answers)
    assert crawled.tries.total() <= FLOORS["tries_good"] * good + FLOORS["tries_failing"] * (len(answers) - good)


@pytest.mark.parametrize("kind", ["429-after", "503", "reset"])
async def test_one_failing_page_leaves_its_site_open(kind: str) -> None:
    """A page that fails six times in a row keeps nobody from other pages of its site, or from another site."""
    figures = await play(Script("poison", kind))
    assert (figures["others"], figures["missed"]) == ({"200": 6}, [])


@pytest.mark.parametrize("client", ["gateway", "library"])
async def test_a_page_that_fails_is_not_asked_of_every_proxy(client: str) -> None:
    """One request for a page that refuses everybody reaches it four times at the most, of fifty proxies."""
    figures = await play(Script("amplify", "403", client))
    assert figures["odd"] == {"403": 1}
    assert figures["tries"] <= MOST_TRIES


@pytest.mark.parametrize("kind", ["cut", "nonsense"])
async def test_a_page_that_breaks_off_makes_no_proxy_ill(kind: str) -> None:
    """The proxies through which a page breaks off again and again stay healthy, and serve another site meanwhile."""
    figures = await play(Script("dead", kind))
    assert figures["others"] == {"200": 60}
    assert not figures["health"].keys() & ILL
