"""One proxy of a fleet: what is asked of it, and the handle that a test holds."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from proxywhirl.models import Anonymity
from proxywhirl.testing import http_proxy, socks_proxy
from proxywhirl.testing.behaviour import Behaviour, ProxiedRequest
from proxywhirl.testing.exits import Exits
from proxywhirl.testing.faults import Fault
from proxywhirl.testing.listener import Listener
from proxywhirl.urls import SCHEMES, ProxyURL


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """What a proxy of a fleet is to be.

    Args:
        scheme: http, https (needs the fleet's `tls`), socks4, socks4a, socks5 or socks5h.
        username: Ask clients for this username.
        password: And for this password; SOCKS4 has none.
        name: What the origin calls it; by default the scheme and the place in the fleet (`http-0`).
        fault: How it fails from the start.
        delay: Seconds that `Fault.SLOW` waits.
        forbidden: The host that `Fault.FORBID_DOMAIN` refuses.
        host: The loopback address to listen on.
        anonymity: What an HTTP proxy adds to a request outside tunnels: nothing (elite), Via (anonymous), or Via and
            X-Forwarded-For with the client's address (transparent).
        exit_host: The loopback address to leave from, such as 127.0.0.2; by default the system's choice.

    Raises:
        ValueError: The scheme is unknown, or there is a password without a username.
    """

    scheme: str = "http"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    name: str = ""
    fault: Fault = Fault.NONE
    delay: float = 1.0
    forbidden: str = "forbidden.example"
    host: str = "127.0.0.1"
    anonymity: Anonymity = "elite"
    exit_host: str = ""

    def __post_init__(self) -> None:
        """Check what cannot work."""
        if self.scheme not in SCHEMES:
            raise ValueError(f"unknown scheme {self.scheme!r}; known: {', '.join(SCHEMES)}")
        if self.password is not None and self.username is None:
            raise ValueError("a password needs a username")


class FleetProxy:
    """A running proxy. Every member may be used from any thread and takes effect at once."""

    def __init__(self, spec: FleetSpec, name: str, exits: Exits, tls: ssl.SSLContext | None) -> None:
        self.name = name
        self._behaviour = Behaviour(
            name,
            spec.scheme,
            spec.username,
            spec.password,
            exits,
            spec.fault,
            spec.delay,
            spec.forbidden,
            spec.anonymity,
            spec.exit_host,
        )
        serve = (socks_proxy if spec.scheme.startswith("socks") else http_proxy).serve
        self._listener = Listener(
            partial(serve, self._behaviour), host=spec.host, tls=tls if spec.scheme == "https" else None
        )
        host = f"[{spec.host}]" if ":" in spec.host else spec.host
        self.url = ProxyURL(spec.scheme, host, self._listener.port, spec.username, spec.password)
        self._loop = asyncio.get_running_loop()
        self._alive = True
        self._set_fault(spec.fault)

    def __repr__(self) -> str:
        """Return name, address and fault, never the credential."""
        return f"<FleetProxy {self.name} {self.url.canonical} {self.fault.value}>"

    @property
    def requests(self) -> deque[ProxiedRequest]:
        """The last 10,000 requests that reached this proxy, oldest first."""
        return self._behaviour.requests

    @property
    def fault(self) -> Fault:
        """How it fails now; set it at any time. It concerns requests that begin from then on."""
        return self._behaviour.fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._in_loop(partial(self._set_fault, fault))

    @property
    def delay(self) -> float:
        """Seconds that `Fault.SLOW` makes a request wait."""
        return self._behaviour.delay

    @delay.setter
    def delay(self, seconds: float) -> None:
        self._behaviour.delay = seconds

    @property
    def forbidden(self) -> str:
        """The host that `Fault.FORBID_DOMAIN` refuses."""
        return self._behaviour.forbidden

    @forbidden.setter
    def forbidden(self, host: str) -> None:
        self._behaviour.forbidden = host

    def kill(self) -> None:
        """Refuse connections and break all that are open, as if its process had died."""
        self._in_loop(self._kill)

    def revive(self) -> None:
        """Take connections again, on the same port, with the fault that is set."""
        self._in_loop(self._revive)

    async def aclose(self) -> None:
        """Kill it for good and give up its port; the fleet does this."""
        await self._listener.aclose()

    def _in_loop(self, action: Callable[[], None]) -> None:
        """Act in the fleet's loop, and wait for it where another thread asks."""
        try:
            is_inside = asyncio.get_running_loop() is self._loop
        except RuntimeError:  # no loop runs in this thread
            is_inside = False
        if is_inside:
            action()
        else:
            asyncio.run_coroutine_threadsafe(_as_coroutine(action), self._loop).result(timeout=10)

    def _set_fault(self, fault: Fault) -> None:
        self._behaviour.fault = fault
        self._listen()

    def _kill(self) -> None:
        self._alive = False
        self._listen()
        self._listener.drop()

    def _revive(self) -> None:
        self._alive = True
        self._listen()

    def _listen(self) -> None:
        if self._alive and self.fault is not Fault.REFUSE:
            self._listener.open()
        else:
            self._listener.shut()


async def _as_coroutine(action: Callable[[], None]) -> None:
    action()
