"""What a proxy of the fleet can do wrong, and how it does the simplest of it."""

from __future__ import annotations

import asyncio
from enum import Enum

from proxywhirl.net.connection import Connection

FORGED_PAGE = b"<html><body>Welcome! This page comes from the proxy.</body></html>\n"

_GARBAGE = b"\x00\xff\xfe\x01 this is neither HTTP nor SOCKS \x80\x81\r\n\r\n" * 4


class Fault(Enum):
    """A way to fail. It concerns the requests that begin while it is set."""

    NONE = "none"
    REFUSE = "refuse"  # the port refuses connections; a request on an open one gets it closed
    HANG = "hang"  # a connection is accepted and a request never answered
    SLOW = "slow"  # every request waits for the proxy's `delay` first
    RESET = "reset"  # the connection is reset (RST) when the request has been read
    AUTH_REQUIRED = "auth-required"  # every request is refused for its credential, or the lack of one
    WRONG_CREDENTIALS = "wrong-credentials"  # even the right credential is refused
    TRUNCATE = "truncate"  # half of the declared body, or of a tunnel's first answer, then the end
    GARBAGE = "garbage"  # the answer is no protocol's
    FORBID_DOMAIN = "forbid-domain"  # 403, or its like in SOCKS, for the proxy's `forbidden` host
    BAD_GATEWAY = "bad-gateway"  # 502, or its like in SOCKS, at once and whatever is asked for
    INTERCEPT = "intercept"  # TLS in a tunnel ends at the proxy, which shows a certificate of its own and reads all
    FORGE = "forge"  # 200 and a page of the proxy's own, in the target's place
    STALE = "stale"  # a URL asked for before gets the answer that it had then (HTTP proxies, outside tunnels)


async def obstructed(fault: Fault, delay: float, connection: Connection) -> bool:
    """Act on a request as the fault demands; True when it is not to be answered any more.

    Args:
        fault: The fault that is set.
        delay: Seconds that SLOW waits.
        connection: The client's.
    """
    match fault:
        case Fault.SLOW:
            await asyncio.sleep(delay)
            return False
        case Fault.HANG:
            while await connection.reader.read(65536):
                continue
        case Fault.RESET:
            connection.reset()
        case Fault.GARBAGE:
            connection.writer.write(_GARBAGE)
        case Fault.REFUSE:
            connection.abort()
        case _:
            return False
    return True
