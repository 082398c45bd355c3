"""A fleet of faulty proxies, an origin that sees through whom it is asked, and a clock that stands still.

Public, and free of any test framework: `docs/testing.md` shows it in use.
"""

from __future__ import annotations

from proxywhirl.testing.background import running_fleet
from proxywhirl.testing.behaviour import ProxiedRequest
from proxywhirl.testing.clock import ManualClock
from proxywhirl.testing.faults import Fault
from proxywhirl.testing.fleet import Fleet
from proxywhirl.testing.origin import Origin, SeenRequest
from proxywhirl.testing.proxy import FleetProxy, FleetSpec

__all__ = [
    "Fault",
    "Fleet",
    "FleetProxy",
    "FleetSpec",
    "ManualClock",
    "Origin",
    "ProxiedRequest",
    "SeenRequest",
    "running_fleet",
]
