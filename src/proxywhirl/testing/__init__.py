"""A fleet of faulty proxies, an origin that sees who asks, a clock that stands still, the contract of a tier.

Public, and free of any test framework: `docs/testing.md` shows it in use.

- `fleet` starts `FleetProxy` objects (`proxy`). `server` has their listening sockets; `http_proxy`, `socks_proxy` and
  `tunnel` speak their protocols, and ask the proxy which fault is set.
- `origin` is the web server behind them. It tells through which proxy a request came by the connection's two ends.
- `chaos` wraps a tier and fails on command. `tiers` is the contract of every tier; its tests are in `tier_clauses`.
- Real sockets and real files: nothing is patched, nothing leaves the machine, and nothing outlives its block. Time
  that has to pass is a `ManualClock`'s.
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
