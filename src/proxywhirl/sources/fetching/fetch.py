"""Fetch what a source has: attempts, redirects, what an answer means, and to where a connection may lead.

- A body that breaks off, grows too large or does not end is an error of its source, and nothing of it is used.
- The address that is checked is the one that is connected to. A name is looked up once, here, so that a name server
  that answers differently the next time gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Self

import httpcore2
import httpx2
import stamina

from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.errors import SourceError
from proxywhirl.sources.fetching.body import ENCODINGS, NO_VALIDATORS, Fetched, ListBody, Validators, read_file
from proxywhirl.sources.fetching.bounds import FetchOptions, is_public
from proxywhirl.sources.spec import Provenance, SourceSpec
from proxywhirl.wire.http import basic_credentials
from proxywhirl.wire.retry_after import retry_after

_PATIENCE = 5.0  # seconds: a source that wants a longer pause is left for another time
_OK = frozenset({200, 203})
_NOT_MODIFIED = 304
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429})
_SERVER_ERROR = 500
_HEADERS = {
    "Connection": "keep-alive",
    "User-Agent": f"proxywhirl/{version('proxywhirl')}",
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate",
}

IsPublic = Callable[[str], bool]
"""Tells whether an address is one of the public internet."""

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Looks up the addresses of a host and port, in the order in which to try them."""


async def resolve(host: str, port: int) -> list[str]:
    """Ask the system for the addresses of a host.

    Raises:
        OSError: it has none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class _GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Opens connections for httpcore2, to those addresses of a host alone that are `allowed`.

    `connect_tcp` raises `SourceError` where a host has none.
    """

    def __init__(self, allowed: IsPublic, resolver: Resolve) -> None:
        self._allowed = allowed
        self._resolve = resolver
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Look the host up and try its addresses, one after the other, within the time."""
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._resolve(host, port)
        except TimeoutError as exc:
            raise httpcore2.ConnectTimeout("looking up the host took too long") from exc
        except (OSError, UnicodeError) as exc:
            raise httpcore2.ConnectError("its name cannot be resolved") from exc
        allowed = list(filter(self._allowed, addresses))
        if not allowed:
            raise SourceError(
                f"{host} is not on the public internet: only a source that you added yourself may be there"
            )
        share = None if timeout is None else timeout / len(allowed)
        for address in allowed[:-1]:
            try:
                return await self._network.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue  # the last one's failure is told
        return await self._network.connect_tcp(allowed[-1], port, share, local_address, socket_options)


class Fetcher:
    """Fetches sources, in asyncio. An asynchronous context manager that belongs to one event loop.

    Args:
        options: The bounds.
        clock: Tells how long a `Retry-After` with a date is.
        tls: For https; None for the system's authorities.
        resolver: Looks names up.
        public: Tells which addresses are public.
    """

    def __init__(
        self,
        options: FetchOptions,
        *,
        clock: Clock = SYSTEM_CLOCK,
        tls: ssl.SSLContext | None = None,
        resolver: Resolve = resolve,
        public: IsPublic = is_public,
    ) -> None:
        self._options = options
        self._public = public
        self._clock = clock
        self._timeouts = {
            "connect": options.connect_timeout,
            "read": options.read_timeout,
            "write": options.read_timeout,
        }
        context = tls or httpx2.create_ssl_context(trust_env=False)
        self._anywhere, self._outside = (
            httpcore2.AsyncConnectionPool(
                ssl_context=context,
                max_connections=options.concurrency,
                network_backend=_GuardedBackend(allowed, resolver),
            )
            for allowed in (lambda _: True, public)
        )

    async def fetch(self, spec: SourceSpec, known: Validators = NO_VALIDATORS) -> Fetched:
        """Return what a source has; with what is `known` of it, only where that has changed.

        Raises:
            SourceError: it cannot be had; the message holds no credential.
        """
        if spec.is_file:
            return await asyncio.to_thread(read_file, Path(spec.location), self._options.max_bytes)
        options = self._options
        try:
            async with asyncio.timeout(options.total_timeout):
                async for attempt in stamina.retry_context(
                    _again, options.attempts, None, options.wait, _PATIENCE, options.wait
                ):
                    with attempt:
                        return await self._attempt(spec, known)
        except TimeoutError as exc:
            raise SourceError(f"it was not done within {options.total_timeout:g} s", passing=True) from exc
        raise AssertionError("an attempt returns or raises")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        await self._anywhere.aclose()
        await self._outside.aclose()

    async def _attempt(self, spec: SourceSpec, known: Validators) -> Fetched:
        """Follow redirects to an answer; none may lead out of the public internet."""
        first = url = _url(spec.location)
        seen: set[httpx2.URL] = set()
        inside = spec.provenance is Provenance.USER
        while url not in seen:
            if len(seen) > self._options.max_redirects:
                raise SourceError(f"more than {self._options.max_redirects} redirects")
            seen.add(url)
            async with self._answer(url, first, known, inside=inside) as response:
                if response.status not in _REDIRECTS:
                    return await self._taken(response, known)
                peer = response.extensions["network_stream"].get_extra_info("server_addr")
                inside = inside and bool(peer) and not self._public(str(peer[0]))
                url = _redirected(url, httpx2.Headers(response.headers).get("location"))
        raise SourceError("its redirects lead in a circle")

    @asynccontextmanager
    async def _answer(
        self, url: httpx2.URL, first: httpx2.URL, known: Validators, *, inside: bool
    ) -> AsyncIterator[httpcore2.Response]:
        """Ask for a URL; the credential of the first one is for its server alone."""
        headers = {"Host": url.netloc.decode("ascii"), **_HEADERS, **known.headers()}  # in this order: RFC 9110, 7.2
        if first.userinfo and (url.scheme, url.host, url.port) == (first.scheme, first.host, first.port):
            headers["Authorization"] = basic_credentials(first.username, first.password)
        asked = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        pool = self._anywhere if inside else self._outside
        try:
            async with pool.stream(
                "GET", asked, headers=list(headers.items()), extensions={"timeout": self._timeouts}
            ) as response:
                yield response
        except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError) as exc:
            raise self._translated(exc) from exc

    async def _taken(self, response: httpcore2.Response, known: Validators) -> Fetched:
        status, headers = response.status, httpx2.Headers(response.headers)
        if status == _NOT_MODIFIED and known.headers():
            return Fetched(None, known)
        if status not in _OK:
            passing = status in _PASSING or status >= _SERVER_ERROR
            asked = {b"retry-after": [headers.get("retry-after", "").strip().encode()]}
            pause = retry_after(asked, self._clock.now()) if passing else None
            raise SourceError(f"it answers {status}", passing=passing, retry_after=pause)
        encoding = headers.get("content-encoding", "").strip().lower()
        if encoding not in ENCODINGS:
            raise SourceError(f"it answers in the encoding {encoding[:40]!r}, which it was not asked for")
        with ListBody(encoding, self._options.max_bytes) as body:
            async for piece in response.aiter_stream():
                body.take(piece)
            return body.whole(Validators(headers.get("etag"), headers.get("last-modified")))

    def _translated(self, exc: Exception) -> SourceError:
        match exc:
            case httpcore2.ConnectTimeout():
                words = f"it does not take a connection within {self._options.connect_timeout:g} s"
            case httpcore2.TimeoutException():
                words = f"nothing came from it for {self._options.read_timeout:g} s"
            case httpcore2.ConnectError():
                words = f"it cannot be connected to: {_cause(exc)}"
            case httpcore2.NetworkError():
                words = "the connection was cut"
            case _:
                words = "the answer breaks off, or is not HTTP"
        return SourceError(words, passing=True)


def _again(exc: Exception) -> bool | float:
    """Tell stamina whether to try again: not where it cannot help, and after the pause that the source asked for."""
    if not isinstance(exc, SourceError) or not exc.passing:
        return False
    if exc.retry_after is None:
        return True
    return exc.retry_after if exc.retry_after <= _PATIENCE else False


def _url(text: str) -> httpx2.URL:
    try:
        return httpx2.URL(text)
    except httpx2.InvalidURL:
        raise SourceError("its URL is none: correct its definition") from None  # the cause may quote the URL


def _redirected(url: httpx2.URL, location: str | None) -> httpx2.URL:
    try:
        target = url.join(location) if location else None
    except httpx2.InvalidURL:
        target = None
    if target is not None and target.scheme not in ("http", "https"):
        raise SourceError(f"it redirects to a {target.scheme[:20]}: URL, which is not followed")
    if target is None or not target.host:
        raise SourceError("it redirects to nowhere")
    return target.copy_with(fragment=None)


def _cause(exc: BaseException) -> str:
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "TLS fails"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(exc) or "the connection fails"
