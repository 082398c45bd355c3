"""Transparent, anonymous, elite: told from the headers and the address that a judge saw."""

from __future__ import annotations

import pytest

from proxywhirl.models import Anonymity
from proxywhirl.wire.judge import Sighting, anonymity

ASKED = (("Host", "192.0.2.1:8898"), ("Accept", "application/json"), ("Probe-Nonce", "n"), ("Connection", "close"))
DIRECT = Sighting("192.0.2.1", ASKED)


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        ((), "elite"),
        ((("Via", "1.1 squid"),), "anonymous"),
        ((("Proxy-Connection", "keep-alive"),), "anonymous"),
        ((("X-Forwarded-For", "unknown"),), "anonymous"),
        ((("X-Forwarded-For", "198.51.100.7, 192.0.2.10"),), "anonymous"),
        ((("Cookie", None),), "anonymous"),
        ((("X-Forwarded-For", "192.0.2.1"),), "transparent"),
        ((("X-Real-IP", "10.0.0.1, 192.0.2.1"),), "transparent"),
        ((("Forwarded", 'for="192.0.2.1:4711";proto=http'),), "transparent"),
        ((("X-Client", "::ffff:192.0.2.1"),), "transparent"),
        ((("Client-IP", "192.0.2.1."),), "transparent"),
    ],
)
def test_headers_tell_it(added: tuple[tuple[str, str | None], ...], expected: Anonymity) -> None:
    """A header that was added gives the proxy away, our address in one gives us away, wherever it stands."""
    assert anonymity(DIRECT, Sighting("203.0.113.9", (*ASKED, *added))) == expected


def test_the_address_alone_tells_it() -> None:
    """A proxy from which the judge sees our own address hides nothing, whatever the headers."""
    assert anonymity(DIRECT, Sighting("192.0.2.1", ASKED)) == "transparent"


def test_an_ipv6_address_is_known_in_every_spelling() -> None:
    """In brackets, with a port, or written out: it is the same address."""
    direct = Sighting("2001:db8::1", ASKED)
    for text in ('for="[2001:db8::1]:4711"', "2001:0DB8:0:0::1", "2001:db8::1"):
        assert anonymity(direct, Sighting("203.0.113.9", (*ASKED, ("Forwarded", text)))) == "transparent"


def test_what_the_judges_own_front_adds_is_no_sign() -> None:
    """A header that arrives without a proxy too was added behind it."""
    front = (("X-Request-Id", "1"),)
    direct = Sighting("192.0.2.1", (*ASKED, *front))
    assert anonymity(direct, Sighting("203.0.113.9", (*ASKED, ("X-Request-Id", "2")))) == "elite"
