"""The two faces of the library: `ProxyWhirl` for plain code, `AsyncProxyWhirl` for asyncio.

Both send every request through a proxy of the pool, each through another one, and never without.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import ssl
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterable
from pathlib import Path
from types import NoneType
from typing import Any, Generic, Self, TypeVar

import httpx2

from proxywhirl.cache.manager import CacheManager
from proxywhirl.errors import LocalFailure
from proxywhirl.integrations.httpx.request import extension
from proxywhirl.integrations.httpx.transport import WhirlTransport
from proxywhirl.models import Attributes
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.selection.filters import Wishes
from proxywhirl.runtime import Runtime
from proxywhirl.settings import Settings
from proxywhirl.urls import ProxyURL, parse
from proxywhirl.validation import require, require_number

R = TypeVar("R")
Offer = tuple[ProxyURL, Attributes]

CLOSED = "this ProxyWhirl is closed, or was while the request was under way: make another one"


def _offers(proxies: Iterable[str | ProxyURL | Offer] | None) -> list[Offer]:
    if isinstance(proxies, str | ProxyURL):
        raise TypeError("proxies must be a list of proxy URLs, not one: put it in brackets")
    require("proxies", () if proxies is None else proxies, Iterable, "a list of proxy URLs")
    given: Iterable[object] = proxies or ()
    offers: list[Offer] = []
    for proxy in given:
        match proxy:
            case ProxyURL():
                offers.append((proxy, Attributes()))
            case str():
                offers.append((parse(proxy), Attributes()))
            case (ProxyURL() as url, Attributes() as known):
                offers.append((url, known))
            case _:
                right = "a URL as text, a ProxyURL, or that and its Attributes in a tuple"
                raise TypeError(f"a proxy must be {right}, not {type(proxy).__name__}")
    return offers


class _Client(ABC, Generic[R]):
    """What both faces have; `R` is a response, or the coroutine of one."""

    _runtime: Runtime

    @property
    def pool(self) -> Pool:
        """The pool behind the client: `acquire` a lease from it to make a connection of your own."""
        return self._runtime.pool

    @property
    def cache(self) -> CacheManager:
        """The cache behind the pool, to `add`, `scan` or read statistics."""
        return self._runtime.cache

    @abstractmethod
    def request(self, method: str, url: str, **options: Any) -> R:
        """Send a request and read the response."""

    def get(self, url: str, **options: Any) -> R:
        """Send a GET request; see `AsyncProxyWhirl.request`."""
        return self.request("GET", url, **options)

    def head(self, url: str, **options: Any) -> R:
        """Send a HEAD request; see `AsyncProxyWhirl.request`."""
        return self.request("HEAD", url, **options)

    def post(self, url: str, **options: Any) -> R:
        """Send a POST request, once only when it may have reached the target; see `AsyncProxyWhirl.request`."""
        return self.request("POST", url, **options)

    def put(self, url: str, **options: Any) -> R:
        """Send a PUT request; see `AsyncProxyWhirl.request`."""
        return self.request("PUT", url, **options)

    def patch(self, url: str, **options: Any) -> R:
        """Send a PATCH request, once only when it may have reached the target; see `AsyncProxyWhirl.request`."""
        return self.request("PATCH", url, **options)

    def delete(self, url: str, **options: Any) -> R:
        """Send a DELETE request; see `AsyncProxyWhirl.request`."""
        return self.request("DELETE", url, **options)


class AsyncProxyWhirl(_Client[Coroutine[Any, Any, httpx2.Response]]):
    """Send requests through rotating proxies, in asyncio. Belongs to one event loop; close it or use `async with`.

    Args:
        proxies: URLs in any spelling that `urls.parse` reads, or a `ProxyURL` and its `Attributes` in a tuple, as
            `vendor_sessions` makes them. Without a `home` they live in memory.
        home: The directory of the store; with neither, the default home is used.
        strategy: How a proxy is chosen; None for the setting `pool.strategy`.
        tls: For https targets; None for the system's trusted authorities.
        timeout: Seconds for each of connecting, reading and writing.
        follow_redirects: Whether redirects are followed, each through another proxy.
        monitor: Whether proxies are checked when they are due, by the judges of the settings.

    Raises:
        ProxyURLError: one of `proxies` is not one.
        TypeError: an argument is of the wrong kind; `proxies` is a lone URL, or holds what is no URL.
        ValueError: `timeout` is not more than 0.
        SettingsError: a setting of the home or the environment is impossible, or `monitor` finds no judge in them.
        CacheError: the store cannot be opened.
    """

    def __init__(
        self,
        proxies: Iterable[str | ProxyURL | Offer] | None = None,
        *,
        home: str | Path | None = None,
        strategy: str | None = None,
        tls: ssl.SSLContext | None = None,
        timeout: float = 30.0,
        follow_redirects: bool = False,
        monitor: bool = False,
    ) -> None:
        require_number("timeout", timeout, "seconds")
        require("follow_redirects", follow_redirects, bool, "True or False")
        require("home", home, (str, os.PathLike, NoneType), "the path of a directory, or None")
        require("strategy", strategy, (str, NoneType), "a name or None")
        require("tls", tls, (ssl.SSLContext, NoneType), "an ssl.SSLContext or None")
        require("monitor", monitor, bool, "True or False")
        settings = Settings.in_memory() if proxies is not None and home is None else Settings.load(home)
        if strategy is not None:
            settings = settings.model_copy(update={"pool": settings.pool.model_copy(update={"strategy": strategy})})
        given = _offers(proxies)
        with contextlib.ExitStack() as undo:
            self._runtime = undo.enter_context(Runtime(settings))
            if given:
                self._runtime.take_in(given, source="user", ttl=math.inf, lift=True)
            transport = WhirlTransport(
                self.pool, tls=tls, proxy_tls=settings.gateway.upstream_tls(), conduct=self._runtime.send_policy
            )
            self._runtime.start(monitor=monitor)
            undo.pop_all()
        self._closed = False
        self._under_way: set[asyncio.Task[httpx2.Response]] = set()
        self._client = httpx2.AsyncClient(
            transport=transport, trust_env=False, timeout=timeout, follow_redirects=follow_redirects
        )

    async def request(
        self,
        method: str,
        url: str,
        *,
        session: str | None = None,
        wish: Wishes | None = None,
        retry_unsafe: bool = False,
        **options: Any,
    ) -> httpx2.Response:
        """Send a request and read the response.

        Args:
            method: Any; methods are case-sensitive.
            url: An absolute http:// or https:// URL.
            session: A name whose requests go through the same proxy, for as long as the session lasts.
            wish: What the proxy must be, such as `{"country": "de", "tags": "fast"}`.
            retry_unsafe: The request may be sent again though its method is not idempotent.
            **options: Those of `httpx2.AsyncClient.request`.

        Raises:
            PoolEmpty: there was no proxy to try; nothing was sent.
            SiteResting: the target failed through several proxies, and rests for `retry_after` seconds, longer than the
                request may take.
            SessionLost: the proxy of a hard session cannot serve the request.
            TypeError: an argument is of the wrong kind.
            ValueError: there is no such wish, or its value is impossible.
            LocalFailure: this object is closed, or was while the request was under way.
            httpx2.TransportError: every attempt failed; the message names the last proxy, without its credential.
        """
        if self._closed:
            raise LocalFailure(CLOSED)
        require("method", method, str, "a text such as GET")
        wished = extension(session, wish, retry_unsafe=retry_unsafe)
        if wished:
            options["extensions"] = {**(options.get("extensions") or {}), **wished}
        work = asyncio.ensure_future(self._client.request(method, url, **options))
        self._under_way.add(work)
        work.add_done_callback(self._under_way.discard)
        try:
            return await work
        except asyncio.CancelledError as exc:
            caller = asyncio.current_task()
            if caller is None or caller.cancelling():
                raise
            raise LocalFailure(CLOSED) from exc  # by `aclose`

    async def aclose(self) -> None:
        """End the requests under way, close every connection and the store. Idempotent."""
        self._closed = True
        for work in self._under_way:
            work.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._client.aclose()
        await asyncio.to_thread(self._runtime.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


class ProxyWhirl(_Client[httpx2.Response]):
    """Send requests through rotating proxies, in plain code. Thread-safe; close it or use `with`.

    One background event loop does the network's work. The arguments and errors are those of `AsyncProxyWhirl`.

    Example::

        with ProxyWhirl(proxies=["http://192.0.2.7:8080", "socks5://192.0.2.8:1080"]) as whirl:
            print(whirl.get("http://example.com").status_code)
    """

    def __init__(
        self,
        proxies: Iterable[str | ProxyURL | Offer] | None = None,
        *,
        home: str | Path | None = None,
        strategy: str | None = None,
        tls: ssl.SSLContext | None = None,
        timeout: float = 30.0,
        follow_redirects: bool = False,
        monitor: bool = False,
    ) -> None:
        self._whirl = AsyncProxyWhirl(
            proxies,
            home=home,
            strategy=strategy,
            tls=tls,
            timeout=timeout,
            follow_redirects=follow_redirects,
            monitor=monitor,
        )
        self._runtime = self._whirl._runtime  # noqa: SLF001 - the other face of the same
        self._loop = asyncio.new_event_loop()
        self._closed = False
        self._closing = threading.Lock()
        self._gate = threading.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxywhirl-network", daemon=True)
        self._thread.start()

    def request(self, method: str, url: str, **options: Any) -> httpx2.Response:
        """Send a request and read the response; see `AsyncProxyWhirl.request`."""
        work = self._whirl.request(method, url, **options)
        with self._gate:  # so that what was submitted before the end is ended by it
            if self._closed:
                work.close()
                raise LocalFailure(CLOSED)
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:  # Ctrl-C: nobody waits for the request any more
            future.cancel()
            raise

    def close(self) -> None:
        """Close every connection and the store. Idempotent."""
        with self._closing:
            if self._loop.is_closed():
                return
            with self._gate:
                self._closed = True
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def _end(self) -> None:
        await self._whirl.aclose()
        await self._loop.shutdown_default_executor()
