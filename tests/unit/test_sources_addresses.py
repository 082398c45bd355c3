"""Which addresses a public list may lead to."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.sources.fetching.bounds import is_public, is_public_host

PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd12::1",
    "ff02::1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "2002:7f00:1::",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b:1::1",
    "2001::1",
    "2001:db8::1",
    "127.1",
    "0x7f000001",
    "localhost",
    "example.com",
]
PUBLIC = [
    "8.8.8.8",
    "93.184.215.14",
    "1.1.1.1",
    "2606:4700:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_these_are_not_public(address: str) -> None:
    """What is of this machine or its network, is reserved, or stands for such an address, is refused."""
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_these_are_public(address: str) -> None:
    """A server on the internet may be reached."""
    assert is_public(address)


@given(st.integers(0, 0xFFFFFFFF).map(IPv4Address))
def test_an_address_in_another_dress_is_judged_alike(address: IPv4Address) -> None:
    """However an IPv6 address carries an IPv4 address, the answer is that for the latter."""
    high, low = divmod(int(address), 1 << 16)
    dressed = (f"::ffff:{address}", f"64:ff9b::{high:x}:{low:x}", f"2002:{high:x}:{low:x}::")
    assert {is_public(text) for text in dressed} == {is_public(str(address))}


@pytest.mark.parametrize(
    ("host", "public"),
    [("proxy.example", True), ("localhost", False), ("a.localhost", False), ("[::1]", False), ("[2606:4700::1]", True)],
)
def test_a_proxys_host_is_judged_by_its_address_if_it_is_one(host: str, public: bool) -> None:
    """A name may be public, but for those that always mean this machine."""
    assert is_public_host(host) is public
