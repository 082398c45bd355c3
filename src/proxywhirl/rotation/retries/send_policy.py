"""How a sender pursues its requests and judges what comes back: what the gateway and the library's clients share."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from proxywhirl.errors import Blame
from proxywhirl.rotation.retries.retry import RetryBudget, RetryPolicy
from proxywhirl.rotation.verdicts.response import Evidence, Verdict, plain_verdict

Judge = Callable[[Evidence], Verdict]
"""From a response to the party to blame; pure, quick, and raises nothing."""

IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110 section 9.2.2. Methods are case-sensitive (section 9.1): `get` is an unknown method."""

HELD_RESPONSE = 64 * 1024
"""Bytes of a response that are held back at the most. One that declares no more is read whole before the client gets
its first byte, so that one which is cut short can still be had through another proxy."""

_OF_GATEWAYS = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
_REPEATED = frozenset({Blame.PROXY, Blame.ACCOUNT, Blame.TARGET_THROUGH_PROXY})


@dataclass(frozen=True, slots=True)
class SendPolicy:
    """Senders that share one share its budget.

    Attributes:
        policy: How far a request is pursued.
        budget: How many retries there may be.
        judge: Who is to blame for a response.
        rng: Draws the jitter of waits.
    """

    policy: RetryPolicy = field(default_factory=RetryPolicy)
    budget: RetryBudget = field(default_factory=RetryBudget)
    judge: Judge = plain_verdict
    rng: random.Random = field(default_factory=random.Random, repr=False)


def is_repeated(verdict: Verdict) -> bool:
    """Tell whether another proxy may get a better response: not where all is well, or the target itself failed."""
    return verdict.blame in _REPEATED


def as_forwarded(verdict: Verdict, status: int) -> Verdict:
    """Weaken a verdict on what a proxy forwarded outside of a tunnel: it is a gateway too (RFC 9110 section 15.6.3).

    That the target failed by 502, 503 or 504 may be the proxy's own word, so that another one is tried. Where it was
    the target's, several proxies fail alike.
    """
    if verdict.blame is Blame.TARGET and status in _OF_GATEWAYS:
        return replace(verdict, blame=Blame.TARGET_THROUGH_PROXY)
    return verdict
