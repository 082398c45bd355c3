"""Which rule finds what, in a corpus of refusals, of sound responses that are near them, and of others' faults."""

from __future__ import annotations

import gzip
import itertools
import tomllib
import zlib
from pathlib import Path
from typing import Any

import pytest

from proxywhirl.errors import Blame
from proxywhirl.rotation.verdicts.response import LOOKED_AT, Evidence, Response, Verdict
from proxywhirl.rotation.verdicts.rule_file import built_in_rules, rules_with
from proxywhirl.rotation.verdicts.rules import Classifier, Rule, Wording

CORPUS = Path(__file__).with_name("verdicts")
Page = dict[str, Any]


def pages(name: str) -> list[Page]:
    """Read a file of the corpus."""
    found: list[Page] = tomllib.loads((CORPUS / f"{name}.toml").read_text(encoding="utf-8"))["page"]
    return found


REFUSALS, OTHERS, SOUND = pages("refusals"), pages("other_blame"), pages("sound")
JUDGE = Classifier(built_in_rules())


def evidence(page: Page) -> Evidence:
    """Return the response that a page of the corpus stands for."""
    headers = {"content-type": "text/html; charset=utf-8", **page.get("header", {})}
    body = page.get("body", "").encode()
    return Evidence(
        site="shop.example",
        method=page.get("method", "GET"),
        status=page.get("status", 200),
        headers=tuple((name.encode(), value.encode()) for name, value in headers.items()),
        body=body,
        length=page.get("length", len(body)),
        latency=0.2,
    )


@pytest.mark.parametrize("page", REFUSALS, ids=lambda page: page["rule"])
def test_a_refusal_is_found_by_its_rule(page: Page) -> None:
    """The proxy is banned at this site, by the rule that says why, for the time that was asked for."""
    expected = Verdict(Blame.TARGET_THROUGH_PROXY, page["rule"], page.get("retry_after"))
    assert JUDGE.verdict(evidence(page)) == expected


@pytest.mark.parametrize("page", OTHERS, ids=lambda page: page["rule"])
def test_another_party_is_to_blame(page: Page) -> None:
    """What is the site's own failure, a network's or nobody's is not held against the proxy at this site."""
    blame = None if page["blame"] == "nobody" else Blame(page["blame"])
    assert JUDGE.verdict(evidence(page)) == Verdict(blame, page["rule"])


@pytest.mark.parametrize("page", SOUND, ids=lambda page: page["near"])
def test_a_sound_response_stays_sound(page: Page) -> None:
    """An article on a protection, a page that it is on guard for, a form with a captcha: no rule cries wolf."""
    assert JUDGE.verdict(evidence(page)) == Verdict()


def test_every_rule_has_an_example_and_a_near_miss() -> None:
    """No rule comes without a response that it finds; each that looks for a mark has one that it must leave alone."""
    names = {rule.name for rule in built_in_rules()}
    enabled = {rule.name for rule in built_in_rules() if rule.enabled}
    assert {page["rule"] for page in REFUSALS + OTHERS} == enabled
    assert {page["near"] for page in SOUND} <= names
    marked = {rule.name for rule in built_in_rules() if rule.bodies or rule.titles or rule.headers or rule.redirects}
    without_their_status = {"object-not-there", "aws-waf-page"}  # pages with such a body are near misses of others
    assert marked - {page["near"] for page in SOUND} <= without_their_status


@pytest.mark.parametrize("rule", built_in_rules(), ids=lambda rule: rule.name)
def test_no_wording_is_dead(rule: Rule) -> None:
    """Each text, place and status of a rule can be found: none is spelt in a way in which responses never arrive."""
    titles, bodies = rule.titles or (Wording.of("x"),), rule.bodies or (Wording.of("x"),)
    headers = [[(name, w.text.encode()) for w in wordings] for name, wordings in rule.headers]
    headers += [[(b"location", f"https://{place}?a".encode()) for place in rule.redirects]] if rule.redirects else []
    for head in itertools.product(*headers):
        for status, title, body in itertools.product(rule.statuses or (200,), titles, bodies):
            page = f"<title>{title.text.replace('*', ' z ')}</title>{body.text.replace('*', ' z ')}".encode()
            length = min(len(page), (rule.shorter_than or 1000) - 1)
            seen = Evidence("e.com", "GET", status, head, page, length)
            assert rule.fits(Response(seen)) is rule.enabled, (title, body, head)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "raw deflate", "unpacked already"])
def test_a_packed_body_is_unpacked(coding: str) -> None:
    """Marks are found in what gzip or deflate packed, and where the client has unpacked it and kept the header."""
    body = b"<html><head><title>Access Denied</title></head><body>" + b"No. " * 500
    raw = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = {
        "gzip": gzip.compress(body),
        "x-gzip": gzip.compress(body)[:-8],  # the end is cut off
        "deflate": zlib.compress(body),
        "raw deflate": raw.compress(body) + raw.flush(),
        "unpacked already": body,
    }[coding]
    name = {"raw deflate": "deflate", "unpacked already": "gzip"}.get(coding, coding)
    seen = Evidence("e.com", "GET", 200, ((b"content-encoding", name.encode()),), packed, len(packed))
    assert JUDGE.verdict(seen).rule == "block-page"


def test_a_body_that_unpacks_to_much_is_looked_at_as_far_as_the_bound() -> None:
    """A bomb costs no more than a page of that length: what stands behind the bound is not found."""
    mark = b"<iframe id='x'></iframe><div id=\"px-captcha\"></div>"
    near, far = b" " * (LOOKED_AT - len(mark)) + mark, b" " * (LOOKED_AT * 100) + mark
    assert [JUDGE.verdict(Evidence("e.com", "GET", 200, (), gzip.compress(body))).rule for body in (near, far)] == [
        "perimeterx",
        None,
    ]
    assert JUDGE.verdict(Evidence("e.com", "GET", 200, (), far)).rule is None


def test_what_is_packed_in_an_unknown_way_is_judged_by_its_head() -> None:
    """With br the status and the headers speak alone."""
    head = ((b"content-encoding", b"br"), (b"content-type", b"text/html"))
    assert JUDGE.verdict(Evidence("e.com", "GET", 200, head, b"\x0b\x02\x80<\x03")).blame is None
    assert JUDGE.verdict(Evidence("e.com", "GET", 429, head, b"\x0b\x02\x80<\x03")).rule == "too-many-requests"


def test_a_short_page_is_one_whose_length_is_known() -> None:
    """Of a response whose length nobody knows, and of one to HEAD, it is not said that it is short."""
    rules = Classifier(rules_with("[tiny]\nshorter_than = 100\nstatus = 200", "here"))
    verdicts = {
        (method, length): rules.verdict(Evidence("e.com", method, 200, (), b"", length)).rule
        for method in ("GET", "HEAD")
        for length in (None, 99, 100)
    }
    assert {key for key, rule in verdicts.items() if rule == "tiny"} == {("GET", 99)}
