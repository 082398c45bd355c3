"""The HTTP proxies of the fleet: absolute-form requests and CONNECT (RFC 9110 section 7, RFC 9112 section 3.2.2)."""

from __future__ import annotations

import base64
import binascii
import re

import h11

from proxywhirl.errors import ProxyURLError
from proxywhirl.hosts import split_authority
from proxywhirl.net.connection import Connection
from proxywhirl.testing.behaviour import Behaviour, ProxiedRequest, RememberedAnswer
from proxywhirl.testing.faults import FORGED_PAGE, Fault
from proxywhirl.testing.http_stream import HttpStream
from proxywhirl.testing.tunnel import carry

_ABSOLUTE = re.compile(r"http://([^/?#]*)([^#]*)", re.IGNORECASE)
# RFC 9110 section 7.6.1, and what each hop says anew: the framing (by h11), Host (from the URL), Expect
# (answered here).
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

_FORGED = RememberedAnswer(200, (), FORGED_PAGE)


async def serve(behaviour: Behaviour, connection: Connection) -> None:
    """Serve the requests of one client connection."""
    client = HttpStream(connection, h11.SERVER)
    while isinstance(request := await client.next_event(), h11.Request):
        fault = behaviour.fault
        admitted = _note(behaviour, request)
        if await behaviour.obstructs(connection):
            return
        if not admitted:
            await _refuse(client, request, 407, ("Proxy-Authenticate", 'Basic realm="fleet"'))
        elif fault is Fault.BAD_GATEWAY:
            await _refuse(client, request, 502)
        else:
            await _answer(behaviour, client, request, fault)
        if not client.next_cycle():
            return


async def _answer(behaviour: Behaviour, client: HttpStream, request: h11.Request, fault: Fault) -> None:
    answer = _connect if request.method == b"CONNECT" else _forward
    try:
        await answer(behaviour, client, request, fault)
    except ProxyURLError:
        await _refuse(client, request, 400)
    except (OSError, h11.RemoteProtocolError):
        if client.protocol.our_state is not h11.SEND_RESPONSE:
            raise
        await _refuse(client, request, 502)


def _note(behaviour: Behaviour, request: h11.Request) -> bool:
    """Record a request and tell whether its credential is accepted."""
    username, password = _credential(dict(request.headers).get(b"proxy-authorization", b""))
    admitted = behaviour.admits(username, password)
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw_items())
    authorized = None if username is None else admitted
    behaviour.requests.append(
        ProxiedRequest(request.method.decode("ascii"), request.target.decode("ascii"), authorized, headers)
    )
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


async def _connect(behaviour: Behaviour, client: HttpStream, request: h11.Request, fault: Fault) -> None:
    await client.skip_body()
    host, port = split_authority(request.target.decode("ascii"))
    if behaviour.forbids(host):
        await _refuse(client, request, 403)
        return
    async with behaviour.reach(host, port) as target:
        await client.send(h11.Response(status_code=200, headers=[], reason=b"Connection established"))
        target.writer.write(client.protocol.trailing_data[0])
        await carry(client.connection, target, fault, host)


async def _forward(behaviour: Behaviour, client: HttpStream, request: h11.Request, fault: Fault) -> None:
    absolute = _ABSOLUTE.fullmatch(request.target.decode("ascii"))
    if absolute is None:
        raise ProxyURLError("a proxy is asked with an absolute http:// URL")
    authority, path = absolute.groups()
    host, port = split_authority(authority, 80)
    if behaviour.forbids(host):
        await _refuse(client, request, 403)
        return
    url = request.target.decode("ascii")
    if fault is Fault.FORGE or (fault is Fault.STALE and url in behaviour.remembered):
        await client.skip_body()
        await _answer_again(client, request, behaviour.remembered.get(url, _FORGED))
        return
    async with behaviour.reach(host, port) as connection:
        target = HttpStream(connection, h11.CLIENT)
        disclosed = _disclosed(behaviour, client)
        headers = [(b"Host", authority.encode()), *_end_to_end(request), *disclosed, *_framing(request)]
        whole_path = path if path.startswith("/") else f"/{path}"
        await target.send(h11.Request(method=request.method, target=whole_path, headers=headers))
        await _pass_request_body(client, target)
        if fault is Fault.STALE:
            behaviour.remembered[url] = await _whole_answer(target)
            await _answer_again(client, request, behaviour.remembered[url])
        else:
            await _pass_response(client, target, fault)


async def _whole_answer(target: HttpStream) -> RememberedAnswer:
    body = b""
    while not isinstance(response := await target.next_event(), h11.Response):  # drops interim responses
        continue
    while isinstance(event := await target.next_event(), h11.Data):
        body += event.data
    headers = tuple((name, value) for name, value in _end_to_end(response) if name.lower() != b"content-length")
    return RememberedAnswer(response.status_code, headers, body)


async def _answer_again(client: HttpStream, request: h11.Request, known: RememberedAnswer) -> None:
    headers = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in known.headers)
    await client.answer(request.method, known.status, known.body, *headers)


def _disclosed(behaviour: Behaviour, client: HttpStream) -> list[tuple[bytes, bytes]]:
    """Return the headers with which this proxy gives itself, or its client, away."""
    via = [(b"Via", b"1.1 fleet")] if behaviour.anonymity != "elite" else []
    if behaviour.anonymity == "transparent":
        peer = client.connection.writer.get_extra_info("peername")
        via.append((b"X-Forwarded-For", str(peer[0]).encode()))
    return via


async def _pass_request_body(client: HttpStream, target: HttpStream) -> None:
    while isinstance(event := await client.next_event(), h11.Data):
        await target.send(h11.Data(event.data))
    await target.send(h11.EndOfMessage())


async def _pass_response(client: HttpStream, target: HttpStream, fault: Fault) -> None:
    while not isinstance(response := await target.next_event(), h11.Response):  # drops interim responses
        continue
    head = h11.Response(status_code=response.status_code, headers=_end_to_end(response), reason=response.reason)
    await client.send(head)
    length = int(dict(response.headers).get(b"content-length", b"0"))
    passed = 0
    while isinstance(event := await target.next_event(), h11.Data):
        data = bytes(event.data)
        if fault is Fault.TRUNCATE:
            half = length // 2 - passed if length else len(data) // 2
            await client.send(h11.Data(data[:half]))
            if half <= len(data):
                return
        else:
            await client.send(h11.Data(data))
        passed += len(data)
    await client.send(h11.EndOfMessage())


def _end_to_end(message: h11.Request | h11.Response) -> list[tuple[bytes, bytes]]:
    """Return the headers that go on, as spelled, without those that concern one hop."""
    listed = {
        token.strip().lower() for name, value in message.headers if name == b"connection" for token in value.split(b",")
    }
    dropped = _HOP_BY_HOP | listed
    return [(name, value) for name, value in message.headers.raw_items() if name.lower() not in dropped]


def _framing(request: h11.Request) -> list[tuple[bytes, bytes]]:
    """Return what the request to the target needs instead: one request, chunked if it came chunked."""
    chunked = [(b"Transfer-Encoding", b"chunked")] if b"transfer-encoding" in dict(request.headers) else []
    return [(b"Connection", b"close"), *chunked]
