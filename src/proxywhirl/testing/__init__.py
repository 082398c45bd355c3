"""A fleet of faulty proxies, an origin that sees who asks, a clock that stands still, the contract of a tier.

Public, and free of any test framework: `docs/testing.md` shows it in use.
"""

from __future__ import annotations

from proxywhirl.testing.chaos import ChaosTier, Garbage
from proxywhirl.testing.clock import ManualClock
from proxywhirl.testing.fleet import Fleet, running_fleet
from proxywhirl.testing.origin import Origin, RateLimit, SeenRequest
from proxywhirl.testing.proxy import Fault, FleetProxy, FleetSpec, ProxiedRequest
from proxywhirl.testing.tiers import DurableTierContract, TierContract

__all__ = [
    "ChaosTier",
    "DurableTierContract",
    "Fault",
    "Fleet",
    "FleetProxy",
    "FleetSpec",
    "Garbage",
    "ManualClock",
    "Origin",
    "ProxiedRequest",
    "RateLimit",
    "SeenRequest",
    "TierContract",
    "running_fleet",
]
