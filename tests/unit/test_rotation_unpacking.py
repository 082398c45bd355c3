"""What is made of bodies that br and zstd packed, with the extra `bodies` and without."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.rotation.verdicts import response as unpacking
from proxywhirl.rotation.verdicts.response import LOOKED_AT, Evidence, beginning
from proxywhirl.rotation.verdicts.rule_file import built_in_rules
from proxywhirl.rotation.verdicts.rules import Classifier

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

JUDGE = Classifier(built_in_rules())
PAGE = b"<html><title>Just a moment...</title><script src='/cdn-cgi/challenge-platform/x.js'></script></html>"
WINDOW = zstd.CompressionParameter.window_log

Packer = Callable[[bytes], bytes]
PACKERS: dict[str, Packer] = {"br": partial(brotli.compress, quality=5), "zstd": zstd.compress}
codings = pytest.mark.parametrize("coding", PACKERS)


def rule(coding: str, body: bytes) -> str | None:
    """Return the rule that is found for a page in a coding."""
    headers = ((b"content-type", b"text/html"), (b"content-encoding", coding.encode()))
    return JUDGE.verdict(Evidence("e.com", "GET", 200, headers, body)).rule


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take the extra away."""
    for module in ("brotli", "backports", "backports.zstd", "compression", "compression.zstd"):
        monkeypatch.setitem(sys.modules, module, None)
    loaders = (unpacking._extra,)
    for loader in loaders:
        loader.cache_clear()
    yield
    for loader in loaders:
        loader.cache_clear()


@codings
def test_a_block_page_is_found_in_what_is_packed(coding: str) -> None:
    """With the extra its marks count as those of any page: packed, and where the client has unpacked it already."""
    assert PAGE not in PACKERS[coding](PAGE)
    assert rule(coding, PACKERS[coding](PAGE)) == "cloudflare-title"
    assert rule(coding, PAGE) == "cloudflare-title"


@codings
def test_without_the_extra_status_and_headers_speak_alone(coding: str, without: None) -> None:
    """What cannot be unpacked is no page: nothing is found in it and nothing fails."""
    assert rule(coding, PACKERS[coding](PAGE)) is None
    assert rule(coding, PAGE) == "cloudflare-title"


@codings
def test_a_bomb_costs_no_more_than_what_is_looked_at(coding: str) -> None:
    """Of 20 MB in a few bytes the first 64 KiB are had, and no more of them is ever a value in memory."""
    bomb = PACKERS[coding](bytes(20_000_000))
    assert len(bomb) < 5_000
    tracemalloc.start()
    try:
        assert beginning(bomb, coding.encode(), LOOKED_AT) == bytes(LOOKED_AT)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_zstd_window_that_no_response_may_ask_for_is_refused() -> None:
    """The memory that a frame demands is bounded before it is taken (RFC 9659)."""
    demanding = zstd.compress(bytes(20_000_000), options={WINDOW: 27})
    assert beginning(demanding, b"zstd", LOOKED_AT) == b""
    assert beginning(zstd.compress(bytes(20_000_000), options={WINDOW: 23}), b"zstd", LOOKED_AT) == bytes(LOOKED_AT)


@codings
@given(content=st.binary(max_size=3000), cut=st.integers(0, 3000), flip=st.integers(0, 3000))
def test_damaged_and_cut_bodies_fail_nothing(coding: str, content: bytes, cut: int, flip: int) -> None:
    """Whatever is left of a packed body: what is had of it is bounded, and what is cut off is the end."""
    packed = PACKERS[coding](content * 40)
    had = beginning(packed[:cut], coding.encode(), LOOKED_AT)
    assert (content * 40).startswith(had) or had == packed[:cut][:LOOKED_AT]
    damaged = bytearray(packed)
    damaged[flip % len(packed)] ^= 0xFF
    assert len(beginning(bytes(damaged), coding.encode(), LOOKED_AT)) <= LOOKED_AT
