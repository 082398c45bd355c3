"""How long a session waits and how much it holds; plain numbers, so that the session stays pure."""

from __future__ import annotations

from dataclasses import dataclass

HEAD_LIMIT = 64 * 1024
"""Bytes of a request's or response's head; a longer one is refused (431) or counts as the proxy's failure."""

REPLAYED_BODY = 256 * 1024
"""Bytes of a request's body that are held so that another proxy can be sent them again."""

HELD_RESPONSE = 64 * 1024
"""A response declared no longer than this is read whole before the client sees its first byte."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Patience in seconds.

    `attempt`: for one proxy to connect and begin to answer; a body under way renews it.
    `total`: after this no further proxy is tried.
    `idle`: without a byte on a tunnel, a body or a kept connection.
    `header`: for the client's whole request head.
    `expect`: for an upstream to answer `Expect: 100-continue`, before the gateway does it.
    """

    attempt: float = 10.0
    total: float = 60.0
    idle: float = 300.0
    header: float = 30.0
    expect: float = 1.0
