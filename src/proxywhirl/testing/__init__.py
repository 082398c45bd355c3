"""A fleet of faulty proxies, an origin that sees who asks, a clock that stands still, the contract of a tier.

Public, and free of any test framework: `docs/testing.md` shows it in use.
"""

from __future__ import annotations

from proxywhirl.testing.background import running_fleet
from proxywhirl.testing.behaviour import ProxiedRequest
from proxywhirl.testing.chaos import ChaosTier
from proxywhirl.testing.clock import ManualClock
from proxywhirl.testing.faults import Fault
from proxywhirl.testing.fleet import Fleet
from proxywhirl.testing.origin import Origin, SeenRequest
from proxywhirl.testing.proxy import FleetProxy, FleetSpec
from proxywhirl.testing.rate_limit import RateLimit
from proxywhirl.testing.tiers import DurableTierContract, TierContract
from proxywhirl.testing.trouble import Garbage

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
