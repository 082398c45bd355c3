"""The HTTP proxies of the fleet: absolute-form requests and CONNECT (RFC 9110 section 7, RFC 9112 section 3.2.2)."""

from __future__ import annotations

import base64
import binascii
import re

import h11

from proxywhirl.errors import ProxyURLError
from proxywhirl.hosts import split_authority
from proxywhirl.net.connection import Connection
from proxywhirl.testing.proxy import FORGED_PAGE, Fault, FleetProxy, ProxiedRequest, RememberedAnswer
from proxywhirl.testing.server import HttpStream, as_text
from proxywhirl.testing.tunnel import carry

_ABSOLUTE = re.compile(r"http://([^/?#]*)([^#]*)", re.IGNORECASE)
# RFC 9110 section 7.6.1, and what each hop says anew: the framing (by h11), Host (from the URL), Expect
# (answered here).
_HOP_BY_HOP = frozenset(
    b"connection expect host keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade".split()
)
_FORGED = RememberedAnswer(200, (), FORGED_PAGE)


async def serve(proxy: FleetProxy, connection: Connection) -> None:
    """Serve the requests of one client connection."""
    client = HttpStream(connection, h11.SERVER)
    while isinstance(request := await client.next_event(), h11.Request):
        fault = proxy.fault
        admitted = _note(proxy, request)
        if await proxy.obstructs(connection):
            return
        if not admitted:
            await _refuse(client, request, 407, ("Proxy-Authenticate", 'Basic realm="fleet"'))
        elif fault is Fault.BAD_GATEWAY:
            await _refuse(client, request, 502)
        else:
            await _answer(proxy, client, request, fault)
        if not client.next_cycle():
            return


def _note(proxy: FleetProxy, request: h11.Request) -> bool:
    """Record a request and tell whether its credential is accepted."""
    username, password = _credential(dict(request.headers).get(b"proxy-authorization", b""))
    admitted = proxy.admits(username, password)
    authorized = None if username is None else admitted
    headers = as_text(request.headers.raw_items())
    target = request.target.decode("ascii")
    proxy.requests.append(ProxiedRequest(request.method.decode("ascii"), target, authorized, headers))
    return admitted


def _credential(header: bytes) -> tuple[str | None, str | None]:
    scheme, _, token = header.partition(b" ")
    if scheme.lower() != b"basic":
        return None, None
    try:
        username, _, password = base64.b64decode(token, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""  # something was offered, and it is not right
    return username, password


async def _refuse(client: HttpStream, request: h11.Request, status: int, *headers: tuple[str, str]) -> None:
    await client.skip_body()  # a connection closed on unread bytes is reset, and the answer lost with it
    await client.answer(request.method, status, f"refused by the fleet: {status}\n".encode(), *headers)


async def _answer(proxy: FleetProxy, client: HttpStream, request: h11.Request, fault: Fault) -> None:
    """Pass a request on, unless its host is forbidden; refuse it where that fails before an answer has begun."""
    is_tunnel = request.method == b"CONNECT"
    url = request.target.decode("ascii")
    try:
        authority, path = (url, "") if is_tunnel else _split(url)
        host, port = split_authority(authority, None if is_tunnel else 80)
        if proxy.forbids(host):
            await _refuse(client, request, 403)
        elif is_tunnel:
            await _connect(proxy, client, host, port, fault)
        elif fault is Fault.FORGE or (fault is Fault.STALE and url in proxy.remembered):
            await client.skip_body()
            await _answer_again(client, request, proxy.remembered.get(url, _FORGED))
        else:
            async with proxy.reach(host, port) as connection:
                target = HttpStream(connection, h11.CLIENT)
                headers = [(b"Host", authority.encode()), *_headers_to_target(proxy, client, request)]
                whole_path = path if path.startswith("/") else f"/{path}"
                await target.send(h11.Request(method=request.method, target=whole_path, headers=headers))
                await _exchange(proxy, client, target, request, fault)
    except ProxyURLError:
        await _refuse(client, request, 400)
    except (OSError, h11.RemoteProtocolError):
        if client.protocol.our_state is not h11.SEND_RESPONSE:
            raise
        await _refuse(client, request, 502)


def _split(url: str) -> tuple[str, str]:
    absolute = _ABSOLUTE.fullmatch(url)
    if absolute is None:
        raise ProxyURLError("a proxy is asked with an absolute http:// URL")
    return absolute[1], absolute[2]


async def _connect(proxy: FleetProxy, client: HttpStream, host: str, port: int, fault: Fault) -> None:
    await client.skip_body()
    async with proxy.reach(host, port) as target:
        await client.send(h11.Response(status_code=200, headers=[], reason=b"Connection established"))
        target.writer.write(client.protocol.trailing_data[0])
        await carry(client.connection, target, fault, host)


async def _exchange(
    proxy: FleetProxy, client: HttpStream, target: HttpStream, request: h11.Request, fault: Fault
) -> None:
    """Pass the request's body on, and the response back."""
    while isinstance(event := await client.next_event(), h11.Data):
        await target.send(h11.Data(event.data))
    await target.send(h11.EndOfMessage())
    while not isinstance(response := await target.next_event(), h11.Response):  # drops interim responses
        continue
    if fault is Fault.STALE:
        body = b""
        while isinstance(event := await target.next_event(), h11.Data):
            body += event.data
        kept = tuple((name, value) for name, value in _end_to_end(response) if name.lower() != b"content-length")
        known = proxy.remembered[request.target.decode("ascii")] = RememberedAnswer(response.status_code, kept, body)
        await _answer_again(client, request, known)
        return
    head = h11.Response(status_code=response.status_code, headers=_end_to_end(response), reason=response.reason)
    await client.send(head)
    length = int(dict(response.headers).get(b"content-length", b"0"))
    passed = 0
    while isinstance(event := await target.next_event(), h11.Data):
        data = bytes(event.data)
        half = length // 2 - passed if length else len(data) // 2
        await client.send(h11.Data(data[:half] if fault is Fault.TRUNCATE else data))
        if fault is Fault.TRUNCATE and half <= len(data):
            return
        passed += len(data)
    await client.send(h11.EndOfMessage())


async def _answer_again(client: HttpStream, request: h11.Request, known: RememberedAnswer) -> None:
    await client.answer(request.method, known.status, known.body, *as_text(known.headers))


def _headers_to_target(proxy: FleetProxy, client: HttpStream, request: h11.Request) -> list[tuple[bytes, bytes]]:
    """Return the client's headers, those with which this proxy gives itself or its client away, and the framing.

    A connection to the target carries one request, chunked if it came chunked.
    """
    headers = _end_to_end(request)
    if proxy.spec.anonymity != "elite":
        headers.append((b"Via", b"1.1 fleet"))
    if proxy.spec.anonymity == "transparent":
        peer = client.connection.writer.get_extra_info("peername")
        headers.append((b"X-Forwarded-For", str(peer[0]).encode()))
    headers.append((b"Connection", b"close"))
    if b"transfer-encoding" in dict(request.headers):
        headers.append((b"Transfer-Encoding", b"chunked"))
    return headers


def _end_to_end(message: h11.Request | h11.Response) -> list[tuple[bytes, bytes]]:
    """Return the headers that go on, as spelled, without those that concern one hop."""
    listed = {
        token.strip().lower() for name, value in message.headers if name == b"connection" for token in value.split(b",")
    }
    dropped = _HOP_BY_HOP | listed
    return [(name, value) for name, value in message.headers.raw_items() if name.lower() not in dropped]
