"""No response, however strange, stops the judge, and what it looks at is bounded."""

from __future__ import annotations

import gzip
import re

from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.rotation.verdicts.response import LOOKED_AT, Evidence, Response
from proxywhirl.rotation.verdicts.rule_file import built_in_rules
from proxywhirl.rotation.verdicts.rules import Classifier, Wording
from proxywhirl.wire.retry_after import LONGEST_WAIT

JUDGE = Classifier(built_in_rules())
RULES = {rule.name: rule for rule in built_in_rules()}
NAMES = sorted(
    {name for rule in built_in_rules() for name, _ in rule.headers}
    | {b"location", b"content-type", b"content-encoding", b"retry-after", b"date", b"ratelimit", b"x-ratelimit-reset"}
)
PIECES = [part for rule in built_in_rules() for wording in rule.bodies + rule.titles for part in wording.parts if part]
MARKUP = [b"<title>", b"</title>", b"<h1", b">", b"</h1>", b"&nbsp;", b"&#99999999;", b"<", b"\x1f\x8b", b"\x78\x9c"]
VALUES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"gzip", b"deflate", b"text/html", b"//[", b"https://@:1/captcha", b"tue, 14 nov 2023 22:14:50 gmt"]
    ),
    st.from_regex(
        rb"[a-z]{3},? [0-9]{1,9}[ -][a-z]{3}[ -][0-9]{1,9} [0-9:]{1,9} ?[a-z+-]{0,4}[0-9]{0,6}", fullmatch=True
    ),
)
BODIES = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(PIECES + MARKUP), max_size=12).map(b"".join))
EVIDENCE = st.builds(
    Evidence,
    site=st.one_of(st.text(max_size=20), st.sampled_from(["[::1]:80", "::1", "a..b", ""])),
    method=st.sampled_from(["GET", "HEAD", "POST"]),
    status=st.one_of(st.integers(), st.sampled_from(sorted({s for rule in RULES.values() for s in rule.statuses}))),
    headers=st.lists(st.tuples(st.one_of(st.sampled_from(NAMES), st.binary(max_size=9)), VALUES), max_size=6).map(
        tuple
    ),
    body=BODIES,
    length=st.none() | st.integers(),
    latency=st.none() | st.floats(),
    at=st.none() | st.floats(0, 4e9),
)


@given(EVIDENCE)
def test_any_response_gets_a_verdict(evidence: Evidence) -> None:
    """It names a rule where it names someone to blame, and asks for more than no time and at most a day."""
    verdict = JUDGE.verdict(evidence)
    assert (verdict.rule is None) <= (verdict.blame is None)
    if verdict.rule is not None:
        assert verdict.blame is RULES[verdict.rule].blame
        assert RULES[verdict.rule].may_fit(evidence.status)
    assert verdict.retry_after is None or 0 < verdict.retry_after <= LONGEST_WAIT
    assert JUDGE.verdict(evidence) == verdict


@given(BODIES, st.sampled_from([b"gzip", b"deflate", b"br", b""]), st.sampled_from([1, 5000]))
def test_what_is_looked_at_is_bounded(body: bytes, coding: bytes, times: int) -> None:
    """No more than the bound of a body is searched, whatever its length and however it is packed."""
    packed = gzip.compress(body * times) if coding == b"gzip" else body * times
    seen = Response(Evidence("e.com", "GET", 200, ((b"content-encoding", coding),), packed))
    assert len(seen.text) <= LOOKED_AT
    assert seen.text == seen.text.lower()


@given(st.text("ab*", min_size=1, max_size=6), st.text("ab", max_size=12))
def test_a_wording_finds_what_a_pattern_would(text: str, searched: str) -> None:
    """Its stars stand for anything, as `.*` in a regular expression does, and nothing else is special."""
    wording, pattern = Wording.of(text), re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)
    assert wording.is_in(searched.encode()) == bool(pattern.search(searched))
    assert wording.is_all_of(searched.encode()) == bool(pattern.fullmatch(searched))
