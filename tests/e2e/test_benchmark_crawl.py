"""The benchmark of crawls measures what it says: run here with a few pages, whose times mean nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.crawl.__main__ import AT_ONCE, IN_TURN, PROXIES, SHARES, chosen
from benchmarks.crawl.cells import FLOORS, SEVERAL_WAYS, Cell, missed
from benchmarks.crawl.crawler import CLIENTS, Answer, read
from benchmarks.crawl.site import KINDS, Page, body_of

ROOT = Path(__file__).parents[2]
RESULT: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / "crawl.json").read_text(encoding="utf-8"))
FINE = {
    "served": 1.0,
    "refused": 0,
    "failing_wrong": 0,
    "tries": 80,
    "tries_allowed": 104,
    "health": {"healthy": 5},
    "times_median": 1.0,
    "times_p95": 1.0,
}


def test_a_short_crawl_has_every_figure_of_the_committed_ones(tmp_path: Path) -> None:
    """Pages that answer 404 are no trouble: each good page is served, and each page asked for once."""
    command = [sys.executable, "-m", "benchmarks.crawl", "--kinds", "404", "--pages", "20", "--results", str(tmp_path)]
    environment = os.environ | {"PYTHONWARNINGS": "error"}
    done = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    (measured,) = json.loads((tmp_path / "crawl.json").read_text(encoding="utf-8"))["crawls"]
    assert all(measured.keys() == committed.keys() for committed in RESULT["crawls"])
    assert (measured["good"], measured["failing"], measured["tries"], measured["served"]) == (16, 4, 20, 1.0)
    assert (measured["good_answers"], measured["failing_answers"]) == ({"200": 16}, {"404": 4})


def test_the_order_is_the_cells_own() -> None:
    """A cell has the same pages in the same order each time; as many fail as it says, where mixed in every way."""
    cell = Cell("mixed", 0.25, 1, 1, pages=80)
    pages = cell.order()
    assert pages == cell.order() != Cell("mixed", 0.25, 1, 1, pages=80, seed=2).order()
    assert sorted(page.number for page in pages) == list(range(80))
    assert sum(not page.good for page in pages) == 20
    assert {page.kind for page in pages if not page.good} == set(SEVERAL_WAYS) < set(KINDS)


def test_what_is_missed_is_named() -> None:
    """Each floor that is missed is named; where pages hang, all that counts is that no good page is refused."""
    cell = Cell("500", 0.2, 1, 5)
    assert missed(cell, FINE) == []
    worse = {"served": 0.98, "failing_wrong": 1, "tries": 105, "health": {"degraded": 1}, "times_median": 1.3}
    assert missed(cell, FINE | worse | {"times_p95": None}) == ["served", "tries", "answers", "health", "median"]
    hanging = Cell("hang", 0.2, 1, 5)
    assert missed(hanging, FINE | worse) == []
    assert missed(hanging, FINE | {"refused": 1}) == ["refused"]


def test_an_answer_is_known_by_who_gave_it() -> None:
    """A page that came whole is served; one of the gateway's own is not, nor is one that was cut."""
    page = Page(7)
    head = b"HTTP/1.1 200 OK\r\nPage: 7\r\n\r\n"
    assert read(head + body_of(7), page, broken=False).served
    assert str(read(head + b"page 7", page, broken=False)) == "200 cut"
    assert str(read(b"", page, broken=True)) == "broken"
    ours = read(b"HTTP/1.1 503 Service Unavailable\r\n\r\nno proxy", page, broken=False)
    assert (str(ours), ours.refused, ours.served, ours.words) == ("503 ours", True, False, "no proxy")
    assert not Answer(503, own=True, whole=True).refused


def test_the_choice_covers_every_kind_and_every_number() -> None:
    """Each kind comes with each number at once; all shares, fleets and clients occur; the results are of it."""
    cells = list(chosen())
    plain = [cell for cell in cells if cell.client == "gateway" and not cell.delay]
    assert {(cell.kind, cell.at_once) for cell in plain} >= {(kind, many) for kind in IN_TURN for many in AT_ONCE}
    assert {(cell.share, cell.proxies) for cell in plain} >= {(share / 100, few) for share in SHARES for few in PROXIES}
    assert {cell.client for cell in cells} == set(CLIENTS)
    assert [Cell(**crawl["cell"]) for crawl in RESULT["crawls"]] == cells
    assert RESULT["floors"] == FLOORS
