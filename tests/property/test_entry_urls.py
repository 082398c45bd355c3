"""What an entry takes for a URL is what `urls.parse` reads, whatever the text."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from proxywhirl.cache import CacheConfig, CacheEntry, CacheManager
from proxywhirl.errors import ProxyURLError
from proxywhirl.testing import ManualClock
from proxywhirl.urls import SCHEMES, ProxyURL, is_plain_canonical, parse

START = datetime(2025, 1, 1, tzinfo=UTC)
LABELS = st.text("ab-_09", max_size=4) | st.sampled_from(["a" * 32, "a" * 63, "a" * 64, "127", "0x7f", "xn--p1ai"])
HOSTS = st.one_of(
    st.lists(LABELS, min_size=1, max_size=8).map(".".join),
    st.lists(st.integers(0, 300).map(str), min_size=1, max_size=5).map(".".join),
    st.text("0123456789abcdef:.", max_size=20).map("[{}]".format),
    st.ip_addresses(v=6).map(lambda address: f"[{address.exploded}]"),
    st.ip_addresses().map(str),
)
PORTS = st.one_of(st.integers(0, 70_000).map(str), st.text("0123456789", max_size=6))
NEARLY = st.builds("{}://{}:{}".format, st.sampled_from([*SCHEMES, "HTTP", "ftp", ""]), HOSTS, PORTS)
DRESSED = st.builds(
    "{}{}{}".format, st.sampled_from(["", "u:p@", " "]), NEARLY, st.sampled_from(["", "/", ":u:p", " "])
)
TEXTS = NEARLY | DRESSED | st.text(st.characters(exclude_categories=["Cs"]))  # pydantic takes no half characters


def read(text: str) -> ProxyURL | None:
    """Parse a text, None where it is no proxy."""
    with suppress(ProxyURLError):
        return parse(text)
    return None


def entry(text: str) -> CacheEntry:
    """Make an entry with a URL."""
    return CacheEntry(key="k", proxy_url=text, source="s", fetch_time=START, ttl_seconds=60)


@given(TEXTS)
@example("http://a:65536")
@example("http://1.2.3.999:80")
@example("http://127.1:80")
@example("http://a..b:80")
@example("http://a.:80")
@example("http://[:::::]:80")
@example("http://[0:0:0:0:0:0:0:1]:80")
def test_an_entry_takes_what_parse_reads(text: str) -> None:
    """It is kept as `parse` writes it; what `parse` refuses is refused, and so is a credential."""
    url = read(text)
    if url is None or url.username is not None or url.password is not None:
        with pytest.raises(ValidationError, match="proxy_url"):
            entry(text)
    else:
        assert entry(text).proxy_url == url.canonical


@given(TEXTS)
def test_what_is_taken_at_a_glance_is_canonical(text: str) -> None:
    """The short cut takes nothing that the grammar would read otherwise."""
    url = read(text)
    assert not is_plain_canonical(text) or (url is not None and url == parse(url.canonical) and url.canonical == text)


@given(TEXTS)
def test_what_is_put_unlooked_at_is_stored_as_parse_reads_it(text: str) -> None:
    """`put` of an entry that was changed since takes what the model takes, and stores what it would have kept."""
    off = {"enabled": False}
    config = CacheConfig.model_validate({"l2_config": off, "l3_config": off})
    with CacheManager(config, clock=ManualClock(now=START.timestamp())) as cache:
        changed = entry("192.0.2.1:80").model_copy(update={"proxy_url": text})
        url = read(text)
        if url is None or url.username is not None or url.password is not None:
            with pytest.raises(ValueError, match="proxy_url"):
                cache.put("k", changed)
        else:
            assert cache.put("k", changed)
        assert [found.proxy_url for found in cache.scan()] == ([url.canonical] if len(cache) and url else [])
