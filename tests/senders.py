"""Both senders, the gateway and the transport for httpx2, over one pool of one fleet before one origin."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import httpx2

from proxywhirl.events import EventBus
from proxywhirl.gateway import Gateway, GatewayOptions
from proxywhirl.integrations.httpx.transport import WhirlTransport
from proxywhirl.models import Outcome, Proxy
from proxywhirl.rotation.affinity.sessions import SessionPolicy
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.proxy_state import Limits
from proxywhirl.rotation.retries.send_policy import SendPolicy
from proxywhirl.testing import Fleet, FleetSpec, Origin, RateLimit

SENDERS = ["gateway", "transport"]


@dataclass
class Rig:
    """A sender over a pool over a fleet, before an origin; what was reported to the pool is kept."""

    sender: str
    fleet: Fleet
    origin: Origin
    pool: Pool
    conduct: SendPolicy
    reports: list[Outcome]
    gateway: str
    transport: WhirlTransport

    async def send(
        self, path: str = "/", method: str = "GET", *, session: str | None = None, unsafe: bool = False, **options: Any
    ) -> httpx2.Response:
        """Send a request, with what it wishes said in the way of the sender."""
        url = path if "://" in path else self.origin.url + path
        if self.sender == "transport":
            wish = {"session": session, "retry_unsafe": True if unsafe else None}
            said = {name: value for name, value in wish.items() if value is not None}
            client = httpx2.AsyncClient(transport=Kept(self.transport), timeout=30)
            async with client:
                return await client.request(method, url, extensions={"proxywhirl": said}, **options)
        auth = None if session is None else (f"me,session={session}", "")
        headers = {"Proxywhirl-Retry": "unsafe"} if unsafe else {}
        proxy = httpx2.Proxy(self.gateway, auth=auth)
        async with httpx2.AsyncClient(proxy=proxy, verify=False, trust_env=False, timeout=30) as client:
            return await client.request(method, url, headers=headers, **options)

    @property
    def arrived(self) -> Counter[str | None]:
        """How often each proxy has reached the origin."""
        return Counter(seen.proxy for seen in self.origin.requests)


class Kept(httpx2.AsyncBaseTransport):
    """A transport that a client's end does not close."""

    def __init__(self, transport: WhirlTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Pass the request on."""
        return await self._transport.handle_async_request(request)


@contextlib.asynccontextmanager
async def rig(
    sender: str,
    specs: Iterable[FleetSpec],
    *,
    limit: RateLimit | None = None,
    conduct: SendPolicy | None = None,
    limits: Limits | None = None,
    sessions: SessionPolicy | None = None,
    attempt: float = 60.0,
    total: float = 240.0,
) -> AsyncIterator[Rig]:
    """Run it all; at the end no request has reached the origin directly, and no lease is out."""
    reports: list[Outcome] = []

    def heard(_: Proxy, outcome: Outcome) -> None:
        reports.append(outcome)

    async with (
        asyncio.timeout(600),
        Fleet.start(specs) as fleet,
        Origin.start(fleet.exits, limit=limit) as origin,
    ):
        urls = {proxy.url.key: proxy.url for proxy in fleet}
        pool = Pool(
            "round_robin",
            resolve=urls.get,
            on_report=heard,
            limits=limits or Limits(),
            sessions=sessions or SessionPolicy(),
        )
        pool.update(map(Proxy.of, urls.values()))
        conduct = conduct or SendPolicy()
        transport = WhirlTransport(pool, attempt_timeout=attempt, total_timeout=total, conduct=conduct)
        options = GatewayOptions(port=0, attempt_timeout=attempt, total_timeout=total)
        async with (
            contextlib.aclosing(transport),
            Gateway(pool, options, events=EventBus(), conduct=conduct) as gateway,
        ):
            host, port = gateway.address
            yield Rig(sender, fleet, origin, pool, conduct, reports, f"http://{host}:{port}", transport)
        assert None not in Counter(seen.proxy for seen in origin.requests), "a request went directly"
        assert all(use.in_flight == 0 for use in pool.snapshot())
