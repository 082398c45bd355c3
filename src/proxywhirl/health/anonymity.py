"""How much a proxy tells of who asked, judged from what a judge saw. Pure.

==============  =======================================================================================
``transparent``  the judge learns our address: as where the request came from, or in any header
``anonymous``    it does not, and sees from a header that a proxy was at work
``elite``        it sees neither
==============  =======================================================================================

A proxy gives itself away with Via (RFC 9110 section 7.6.3), Forwarded (RFC 7239), X-Forwarded-For and a dozen others
of its own: so every header counts that was not there when the same question was asked without a proxy. What the
question itself says is no sign of anything; the judge may have our own address, where both run on one machine.
"""

from __future__ import annotations

import ipaddress
import re

from proxywhirl.models import Anonymity
from proxywhirl.wire.judge import QUESTION_HEADERS, Sighting

_ADDRESSES = re.compile(r"[0-9A-Fa-f:.]{2,45}")
_PORT = re.compile(r":[0-9]{1,5}$")


def anonymity(direct: Sighting, proxied: Sighting) -> Anonymity:
    """Compare what a judge saw of a question asked directly with what it saw of the same one through a proxy.

    >>> alone = Sighting("192.0.2.1", (("Host", "judge"),))
    >>> anonymity(alone, Sighting("203.0.113.9", (("Host", "judge"), ("Via", "1.1 squid"))))
    'anonymous'
    """
    ours = _addresses(direct.address)
    added = [(name.lower(), value) for name, value in proxied.headers if name.lower() not in QUESTION_HEADERS]
    told = (proxied.address, *(value for _, value in added if value is not None))
    if any(ours & _addresses(text) for text in told):
        return "transparent"
    expected = {name.lower() for name, _ in direct.headers}
    return "elite" if all(name in expected for name, _ in added) else "anonymous"


def _addresses(text: str) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Find the addresses in a text, with a port or without, in brackets or without."""
    found = set()
    for word in _ADDRESSES.findall(text):
        for spelling in (word.strip("."), _PORT.sub("", word)):
            try:
                address = ipaddress.ip_address(spelling)
            except ValueError:
                continue
            mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
            found.add(mapped or address)
    return found
