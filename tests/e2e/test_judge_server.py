"""The judge over real sockets: what it says, to whom it does not, and what it bears."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme

from proxywhirl.errors import SettingsError
from proxywhirl.health.judge_server import JudgeServer, server_tls


async def exchange(url: str, request: bytes) -> bytes:
    """Send bytes to a judge and read its answer to the end."""
    host, _, port = url.removeprefix("http://").rstrip("/").rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.write(request)
    async with asyncio.timeout(15):
        answer = await reader.read()
    writer.close()
    return answer


async def test_it_tells_what_was_sent_and_from_where(authority: Any) -> None:
    """Over http and https: each header in order, the address, the nonce, and nothing that may be stored."""
    async with (
        JudgeServer(port=0, tls=authority.server, https_port=0) as judge,
        httpx2.AsyncClient(verify=authority.client, trust_env=False) as client,
    ):
        assert [url.partition(":")[0] for url in judge.urls] == ["http", "https"]
        for url in judge.urls:
            response = await client.get(url, headers={"Probe-Nonce": "abc", "Via": "1.1 a"})
            told = response.json()
            assert (response.status_code, told["nonce"], told["address"]) == (200, "abc", "127.0.0.1")
            assert ["Via", "1.1 a"] in told["headers"]
            assert response.headers["cache-control"] == "no-store"
            assert response.headers["content-type"] == "application/json"
            assert response.headers["x-content-type-options"] == "nosniff"


async def test_no_secret_comes_back() -> None:
    """Credentials and cookies are named, never repeated."""
    async with JudgeServer(port=0) as judge, httpx2.AsyncClient(trust_env=False) as client:
        headers = {"Authorization": "Bearer s3cret", "Cookie": "s3cret=1", "Proxy-Authorization": "Basic s3cret"}
        response = await client.get(judge.urls[0], headers=headers)
    assert "s3cret" not in response.text
    assert {name.lower() for name, value in response.json()["headers"] if value is None} == {
        "authorization",
        "cookie",
        "proxy-authorization",
    }


async def test_ipv6_has_its_brackets() -> None:
    """The URL of an IPv6 address can be asked as it stands."""
    async with JudgeServer("::1", 0) as judge, httpx2.AsyncClient(trust_env=False) as client:
        assert judge.urls[0].startswith("http://[::1]:")
        assert (await client.get(judge.urls[0])).json()["address"] == "::1"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"HEAD / HTTP/1.1\r\nHost: j\r\n\r\n", b"200"),
        (b"POST / HTTP/1.1\r\nHost: j\r\nContent-Length: 3\r\n\r\nabc", b"405"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", b"405"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x00\x05hello\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: j\r\nX: " + b"a" * 20_000, b"431"),
        (b"GET / HTTP/1.1\r\nHost: j\r\n\r\n" * 5, b"200"),
    ],
    ids=["HEAD", "POST", "CONNECT", "no Host", "TLS", "long head", "pipelined"],
)
async def test_every_request_has_one_answer_and_the_end(request_bytes: bytes, status: bytes) -> None:
    """What is no question is refused, and no connection outlives its answer."""
    async with JudgeServer(port=0) as judge:
        answer = await exchange(judge.urls[0], request_bytes)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert answer.count(b"HTTP/1.1 ") == 1
        head, _, body = answer.partition(b"\r\n\r\n")
        assert (len(body) > 0) == (status == b"200" and not request_bytes.startswith(b"HEAD"))
        assert b"connection: close" in head.lower()


async def test_who_asks_nothing_is_cut_off() -> None:
    """A client that sends no whole request is dropped after a while, and the others are served meanwhile."""
    async with JudgeServer(port=0, patience=0.2) as judge:
        slow = asyncio.create_task(exchange(judge.urls[0], b"GET / HTTP/1.1\r\nHo"))
        quick = await exchange(judge.urls[0], b"GET / HTTP/1.1\r\nHost: j\r\n\r\n")
        assert quick.startswith(b"HTTP/1.1 200")
        assert await slow == b""


async def test_who_is_too_many_is_cut_off() -> None:
    """Beyond its limit a judge takes nobody, and takes the next one when there is room again."""
    question = b"GET / HTTP/1.1\r\nHost: j\r\n\r\n"
    async with JudgeServer(port=0, max_connections=1) as judge:
        port = int(judge.urls[0].rstrip("/").rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            assert await exchange(judge.urls[0], question) == b""
        writer.write(question)
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
        assert (await exchange(judge.urls[0], question)).startswith(b"HTTP/1.1 200")


async def test_many_ask_at_once() -> None:
    """Five hundred connections are answered, each with its own nonce."""
    async with JudgeServer(port=0) as judge:
        requests = [f"GET / HTTP/1.1\r\nHost: j\r\nProbe-Nonce: {n}\r\n\r\n".encode() for n in range(500)]
        answers = await asyncio.gather(*(exchange(judge.urls[0], request) for request in requests))
    told = [json.loads(answer.partition(b"\r\n\r\n")[2])["nonce"] for answer in answers]
    assert told == [str(n) for n in range(500)]


async def test_an_address_that_cannot_be_had_is_named() -> None:
    """A port in use and a foreign address are errors that say what to do."""
    async with JudgeServer(port=0) as judge:
        port = int(judge.urls[0].rstrip("/").rpartition(":")[2])
        with pytest.raises(SettingsError, match=f"port {port}: it is in use; choose another port"):
            await JudgeServer(port=port).__aenter__()
        with pytest.raises(SettingsError, match=f"port {port}: it is in use"):  # and the first listener is given up
            await JudgeServer(port=0, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), https_port=port).__aenter__()
    for host in ("", "[", "[]"):  # the system would take them for all of its addresses
        with pytest.raises(SettingsError, match="cannot listen without an address"):
            await JudgeServer(host, 0).__aenter__()
    with pytest.raises(SettingsError, match=r"cannot listen on 203\.0\.113\.9"):
        await JudgeServer("203.0.113.9", 0).__aenter__()


def test_a_wrong_certificate_is_named(tmp_path: Path) -> None:
    """Files that are missing, no PEM, of different pairs or with an encrypted key are errors, and nobody is asked."""
    one, other = trustme.CA().issue_cert("a.example"), trustme.CA().issue_cert("a.example")
    chain, key, foreign, locked = (tmp_path / name for name in ("chain.pem", "key.pem", "foreign.pem", "locked.pem"))
    one.cert_chain_pems[0].write_to_path(str(chain))
    one.private_key_pem.write_to_path(str(key))
    other.private_key_pem.write_to_path(str(foreign))
    locked.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
    server_tls(chain, key)
    for wrong in (foreign, locked, None):
        with pytest.raises(SettingsError, match=r"chain\.pem.*: no certificate with the private key"):
            server_tls(chain, wrong)
    with pytest.raises(SettingsError, match=r"gone\.pem cannot be read: No such file"):
        server_tls(tmp_path / "gone.pem", None)
