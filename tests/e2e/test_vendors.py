"""A vendor's gateway, real and on this machine, sees each session's own credential, whatever dials it."""

from __future__ import annotations

import base64
import logging
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxywhirl import Blame, Outcome, Pool, ProxyWhirl, UpstreamError, WhirlTransport, Wish, vendor_sessions
from proxywhirl.checkups import CheckPlan
from proxywhirl.errors import ProxyGone
from proxywhirl.events import EventBus
from proxywhirl.gateway import Gateway, GatewayOptions
from proxywhirl.health.levels import Level
from proxywhirl.integrations.httpx.connections import Identities
from proxywhirl.models import Attributes, Proxy, Target
from proxywhirl.net.dial import dial
from proxywhirl.runtime import Runtime
from proxywhirl.settings import Settings
from proxywhirl.urls import ProxyURL
from proxywhirl.vendors.sessions import to_send

SITE = "http://shop.example/"
REFUSED = b"HTTP/1.1 502 Bad Gateway\r\nX-BRD-Err-Code: %s\r\nX-Echo: %s\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the user's settings out."""
    monkeypatch.setenv("PROXYWHIRL_HOME", str(tmp_path / "home"))


def line_at(server: Any, account: str = "bob") -> ProxyURL:
    """Return a vendor's line whose gateway is a test's server."""
    port = int(server.url("/").rpartition(":")[2].strip("/"))
    return ProxyURL("http", "127.0.0.1", port, account, "pw")


def credentials(server: Any) -> list[tuple[str, str]]:
    """Return what the requests so far were authenticated with, in order."""
    sent = [base64.b64decode(asked.headers["proxy-authorization"].split()[1]).decode() for asked in server.requests]
    return [(username, password) for username, _, password in (text.partition(":") for text in sent)]


def test_a_hundred_sessions_in_the_password_stay_a_hundred_identities(lists: Any, tmp_path: Path) -> None:
    """Each request of a client goes out with another session's password, and after a restart with the same hundred."""
    lists.serve(SITE, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine")
    home = tmp_path / "home"
    wish = Wish(country="de", lifetime=600)
    with Runtime(Settings.load(home)) as runtime:
        intake = runtime.add_sessions(line_at(lists), 100, provider="iproyal", wish=wish)
        assert (intake.loaded, intake.skipped) == (100, 0)
    seen: list[set[tuple[str, str]]] = []
    for _ in range(2):
        lists.requests.clear()
        with ProxyWhirl(home=home) as whirl:
            assert {whirl.get(SITE).text for _ in range(100)} == {"fine"}
        seen.append(set(credentials(lists)))
    assert len(seen[0]) == 100
    assert seen[0] == seen[1]
    assert all(username == "bob" for username, _ in seen[0])
    assert all(password.startswith("pw_country-de_session-s") for _, password in seen[0])
    assert all(password.endswith("_lifetime-10m") for _, password in seen[0])


def test_adding_again_adds_nothing_and_a_new_password_reaches_all(lists: Any, tmp_path: Path) -> None:
    """The same line is the same sessions; its rotated password is sent with each of them."""
    line = line_at(lists)
    with Runtime(Settings.load(tmp_path / "home")) as runtime:
        runtime.add_sessions(line, 20, provider="evomi")
        again = runtime.add_sessions(line, 25, provider="evomi")
        assert (again.loaded, again.skipped) == (5, 20)
        renewed = runtime.add_sessions(line.with_credential("bob", "fresh"), 25, provider="evomi")
        assert (renewed.loaded, len(runtime.cache)) == (25, 25)
        runtime.feed()
        sent = {runtime.pool.acquire().endpoint().password for _ in range(25)}
        assert len(sent) == 25
        assert all(password and password.startswith("fresh_session-s") for password in sent)


def test_an_export_keeps_the_sessions(tmp_path: Path) -> None:
    """What is exported with credentials is the same identities in another home, and is sent the same."""
    sent: list[set[tuple[str | None, str | None]]] = []
    with Runtime(Settings.load(tmp_path / "one")) as runtime:
        runtime.add_sessions(ProxyURL("http", "geo.iproyal.com", 12321, "bob", "pw"), 10, wish=Wish(country="de"))
        for form in ("jsonl", "json", "csv"):
            runtime.cache.export_to_file(tmp_path / f"all.{form}", with_credentials=True)
        sent.append({_credential(runtime, key) for key in _keys(runtime)})
        keys = _keys(runtime)
    for form in ("jsonl", "json", "csv"):
        with Runtime(Settings.load(tmp_path / form)) as runtime:
            assert runtime.restore(tmp_path / f"all.{form}", ttl=None).loaded == 10
            assert _keys(runtime) == keys
            sent.append({_credential(runtime, key) for key in keys})
    assert sent == [sent[0]] * 4
    assert len(sent[0]) == 10


def test_a_line_of_a_list_with_a_wish_is_recognised(tmp_path: Path) -> None:
    """A username in the grammar at a vendor's host is compiled wherever it came from; one that is wrong is told of."""
    good = ProxyURL("http", "geo.iproyal.com", 12321, "bob,session=cart0017,country=de", "pw")
    wrong = ProxyURL("http", "geo.iproyal.com", 12321, "bob,colour=s3cret", "pw")
    with Runtime(Settings.load(tmp_path / "home")) as runtime:
        runtime.take_in([(good, Attributes(tags=("paid",)))], source="a-list", ttl=60)
        entry = runtime.cache.get(good.key)
        assert entry is not None
        assert (entry.attributes.provider, entry.attributes.country) == ("iproyal", "DE")
        assert (entry.attributes.label, entry.attributes.tags) == ("iproyal de cart0017", ("paid",))
        assert _credential(runtime, good.key) == ("bob", "pw_country-de_session-cart0017")
        runtime.take_in([(wrong, Attributes())], source="a-list", ttl=60)
        assert _credential(runtime, wrong.key) == ("bob,colour=s3cret", "pw")


def test_what_cannot_be_compiled_is_left_out_and_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An entry whose wish its provider does not take is no request's failure, and no line of the log tells its name."""
    entry = ProxyURL("http", "203.0.113.9", 80, "bob,session=s3cret", "pw")
    with Runtime(Settings.load(tmp_path / "home")) as runtime, caplog.at_level(logging.ERROR):
        runtime.cache.add_many([(entry, Attributes(provider="netnut"))], source="user", ttl=60)
        runtime.feed()
        assert runtime.cache.to_check([entry.key]) == {}
        with pytest.raises(ProxyGone):
            runtime.pool.acquire().endpoint()
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 2
    assert "netnut" in caplog.text
    assert "s3cret" not in caplog.text
    assert "bob" not in caplog.text


async def test_a_check_sends_the_vendors_form(lists: Any, tmp_path: Path) -> None:
    """`check` dials with what the vendor reads, each session with its own, and blames whom the vendor names."""
    port = line_at(lists).port
    lists.serve(f"127.0.0.1:{port}", b"HTTP/1.1 200 OK\r\n\r\n")
    plan = CheckPlan(level=Level.HANDSHAKE, target=Target("http", "127.0.0.1", port), timeout=5)
    with Runtime(Settings.load(tmp_path / "home")) as runtime:
        runtime.add_sessions(line_at(lists), 5, provider="iproyal")
        tally = await runtime.checkups.check(_keys(runtime), plan, lambda *_: None)
    assert (tally.checked, tally.ok) == (5, 5)
    assert len(set(credentials(lists))) == 5
    assert all("_session-" in password for _, password in credentials(lists))


async def test_sessions_that_differ_in_the_password_keep_connections_of_their_own() -> None:
    """Two of them push each other's idle connections out no more than any two proxies do."""
    line = ProxyURL("http", "geo.iproyal.com", 12321, "bob", "pw")
    pairs = [(url.key, to_send(url, known.provider)) for url, known in vendor_sessions(line, 2)]
    identities = Identities(10, timeout=5, tls=httpx2.create_ssl_context(trust_env=False), proxy_tls=None)
    first = [identities.check_out(*pair) for pair in pairs]
    for identity in first:
        await identities.check_in(identity)
    assert [identities.check_out(*pair) for pair in pairs] == first
    assert first[0] is not first[1]
    await identities.aclose()


def report_of(lists: Any, code: bytes) -> tuple[Pool, list[Outcome]]:
    """Return a pool of one session of Bright Data, whose gateway refuses with a code, and what is reported to it."""
    lists.serve("shop.example:443", REFUSED % (code, b"bob:s3cret"))
    ((url, known),) = vendor_sessions(line_at(lists, "brd-customer-1-zone-z"), 1, provider="brightdata")
    reports: list[Outcome] = []
    sent = {url.key: to_send(url, known.provider)}
    pool = Pool("round_robin", resolve=sent.get, on_report=lambda _, outcome: reports.append(outcome))
    pool.update([Proxy.of(url, attributes=known)])
    return pool, reports


CODES = [
    (b"client_10100", Blame.ACCOUNT, "brightdata:client_10100"),
    (b"peer_30030", Blame.PROXY, "brightdata:peer_30030"),
    (b"target_40001", Blame.TARGET, "brightdata:target_40001"),
    (b"policy_20050", Blame.TARGET_THROUGH_PROXY, "brightdata:policy_20050"),
]


@pytest.mark.parametrize(("code", "blame", "rule"), CODES)
async def test_a_client_reports_whom_the_vendor_blames(lists: Any, code: bytes, blame: Blame, rule: str) -> None:
    """A refused tunnel counts against whom the vendor's code names; of its headers only the code is shown."""
    pool, reports = report_of(lists, code)
    async with httpx2.AsyncClient(transport=WhirlTransport(pool), trust_env=False) as client:
        with pytest.raises(httpx2.TransportError, match=rule) as caught:
            await client.get("https://shop.example/")
    assert [(outcome.ok, outcome.blame, outcome.rule) for outcome in reports] == [(False, blame, rule)]
    assert "s3cret" not in f"{caught.value!r}{reports!r}"


@pytest.mark.parametrize(("code", "blame", "rule"), CODES)
async def test_the_gateway_reports_whom_the_vendor_blames(lists: Any, code: bytes, blame: Blame, rule: str) -> None:
    """As the client does."""
    pool, reports = report_of(lists, code)
    gateway = Gateway(pool, GatewayOptions(port=0), events=EventBus())
    host, port = await gateway.start()
    try:
        with pytest.raises(UpstreamError) as caught:
            await dial(ProxyURL("http", host, port), Target("https", "shop.example", 443), timeout=10)
    finally:
        await gateway.aclose()
    assert [(outcome.ok, outcome.blame, outcome.rule) for outcome in reports] == [(False, blame, rule)]
    assert "s3cret" not in f"{caught.value!r}{reports!r}"


def _keys(runtime: Runtime) -> list[str]:
    return sorted(entry.key for entry in runtime.cache.scan())


def _credential(runtime: Runtime, key: str) -> tuple[str | None, str | None]:
    endpoint = runtime.cache.endpoint(key)
    assert endpoint is not None
    return endpoint.username, endpoint.password
