"""Bans, dead sites, busy pools and wishes, through both senders: the gateway and the transport for httpx2."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import socket
from urllib.parse import quote

import httpx2
import pytest

from proxywhirl.errors import Blame, PoolEmpty, SessionLost, SiteResting
from proxywhirl.rotation.affinity.sessions import SessionPolicy
from proxywhirl.rotation.proxy_state import Limits
from proxywhirl.rotation.retries.send_policy import Classify, RetryBudget, RetryPolicy, SendPolicy
from proxywhirl.rotation.verdicts.response import Evidence, Verdict, plain_verdict
from proxywhirl.rotation.verdicts.rule_file import built_in_rules
from proxywhirl.rotation.verdicts.rules import Classifier
from proxywhirl.testing import Fault, FleetSpec, RateLimit
from tests.senders import SENDERS, Kept, Rig, rig


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_429_goes_to_another_proxy_and_the_banned_one_rests_for_this_site(sender: str, chunked: bool) -> None:
    """Every request gets its answer, and who is banned is not tried again for this site."""
    async with rig(sender, [FleetSpec()] * 2, limit=RateLimit(6, retry_after=600, chunked=chunked)) as running:
        async with httpx2.AsyncClient(proxy=running.fleet.urls()[0], trust_env=False) as client:
            for _ in range(6):
                await client.get(running.origin.url)
        answers = [await running.send() for _ in range(6)]
        assert [answer.json()["proxy"] for answer in answers] == ["http-1"] * 6
        assert running.arrived == {"http-0": 6 + 1, "http-1": 6}
        [ban] = [outcome for outcome in running.reports if not outcome.ok]
        assert (ban.blame, ban.status, ban.retry_after) == (Blame.TARGET_THROUGH_PROXY, 429, 600.0)
        assert ban.latency is not None


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("status", [403, 429, 503])
async def test_exhausted_attempts_hand_on_the_last_real_response(sender: str, status: int) -> None:
    """Where every proxy is refused, the caller gets the site's own words and headers, not an error of ours."""
    limit = RateLimit(0, status=status, retry_after=9, page=b"<h1>Go away</h1>")
    async with rig(sender, [FleetSpec()] * 2, limit=limit) as running:
        answer = await running.send()
        assert (answer.status_code, answer.text, answer.headers["Retry-After"]) == (status, "<h1>Go away</h1>", "9")
        assert running.arrived == {"http-0": 1, "http-1": 1}


@pytest.mark.parametrize("sender", SENDERS)
async def test_a_compressed_block_page_reaches_the_classifier_and_the_caller_as_it_came(sender: str) -> None:
    """The verdict is asked of the bytes on the wire, and the page that is handed on can be unpacked."""
    page = b"<title>Are you human?</title>"
    seen: list[Evidence] = []

    def classify(evidence: Evidence) -> Verdict:
        seen.append(evidence)
        packed = evidence.body.startswith(b"\x1f\x8b") and b"human" in gzip.decompress(evidence.body)
        return Verdict(Blame.TARGET_THROUGH_PROXY, "human-page") if packed else Verdict()

    limit = RateLimit(0, status=200, page=gzip.compress(page), headers=(("Content-Encoding", "gzip"),))
    async with rig(sender, [FleetSpec()] * 2, limit=limit, conduct=SendPolicy(classify=classify)) as running:
        answer = await running.send()
        assert (answer.status_code, answer.content) == (200, page)
        assert running.arrived.total() == 2
        assert {outcome.rule for outcome in running.reports} == {"human-page"}
        evidence = seen[-1]
        assert (evidence.site, evidence.method) == (f"127.0.0.1:{running.origin.port}", "GET")
        assert evidence.length == len(evidence.body) > 0
        assert (b"content-encoding", b"gzip") in evidence.headers


@pytest.mark.parametrize(
    ("sender", "chunked", "padding"), [("gateway", False, 70_000), ("transport", False, 70_000), ("transport", True, 0)]
)
async def test_a_block_page_that_streams_reaches_the_caller_and_bans_the_proxy(
    sender: str, chunked: bool, padding: int
) -> None:
    """It is no reason to try again, since its beginning was handed on; the next request goes through another proxy."""
    page = b"<title>Just a moment...</title><script src='/cdn-cgi/x.js'></script>" + b" " * padding
    limit = RateLimit(0, status=200, page=page, headers=(("Content-Type", "text/html"),), chunked=chunked)
    conduct = SendPolicy(classify=Classifier(built_in_rules()).verdict)
    async with rig(sender, [FleetSpec()] * 2, limit=limit, conduct=conduct) as running:
        for asked in (1, 2):
            assert (await running.send()).content == page
            assert running.arrived.total() == asked
        assert [outcome.rule for outcome in running.reports] == ["cloudflare-title"] * 2
        assert len(running.arrived) == 2


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize(("unsafe", "times"), [(False, 1), (True, 3)])
async def test_a_post_is_not_repeated_after_it_was_sent(sender: str, unsafe: bool, times: int) -> None:
    """A ban of a POST is handed on at once, unless the caller says that it may be sent again."""
    async with rig(sender, [FleetSpec()] * 3, limit=RateLimit(0, status=403)) as running:
        assert (await running.send(method="POST", content=b"pay", unsafe=unsafe)).status_code == 403
        assert running.arrived.total() == times
        assert not any("proxywhirl" in str(seen.headers).lower() for seen in running.origin.requests)


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("fault", [Fault.AUTH_REQUIRED, Fault.REFUSE])
async def test_a_post_is_repeated_where_nothing_was_sent(sender: str, fault: Fault) -> None:
    """A 407 and a refused connection both mean that the target has seen nothing: the POST arrives once."""
    specs = [FleetSpec("http", "bob", "pw", fault=fault)] * 2 + [FleetSpec()]
    async with rig(sender, specs) as running:
        answer = await running.send(method="POST", content=b"pay")
        assert (answer.status_code, answer.json()["body_length"]) == (200, 3)
        assert running.arrived.total() == 1
        assert running.conduct.budget.spent() == (0, 1)


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("classify", [plain_verdict, Classifier(built_in_rules()).verdict], ids=["plain", "rules"])
async def test_a_proxy_that_fails_fast_is_left_for_this_site(sender: str, classify: Classify) -> None:
    """Proxies that answer 502 at once cost a retry and no request, without rules and with those of a home."""
    specs = [FleetSpec(fault=Fault.BAD_GATEWAY), FleetSpec("socks5", fault=Fault.BAD_GATEWAY), *[FleetSpec()] * 3]
    async with rig(sender, specs, conduct=SendPolicy(classify=classify)) as running:
        answers = [await running.send() for _ in range(10)]
        assert {answer.status_code for answer in answers} == {200}
        assert max(len(proxy.requests) for proxy in running.fleet.proxies[:2]) <= 2


@pytest.mark.parametrize("sender", SENDERS)
async def test_the_budget_holds_at_a_site_that_fails_through_everybody(sender: str) -> None:
    """Of 200 requests that fail through every proxy exactly a fifth are sent again, whatever each would like."""
    failures = itertools.count()

    def classify(_: Evidence) -> Verdict:
        return Verdict(Blame.PROXY, f"failure-{next(failures)}")  # no two alike: the budget alone is to stop it

    conduct = SendPolicy(budget=RetryBudget(window=600.0), classify=classify)
    async with rig(sender, [FleetSpec()] * 20, limit=RateLimit(0, status=503), conduct=conduct) as running:
        for _ in range(200):
            assert (await running.send()).status_code == 503
        assert conduct.budget.spent() == (40, 200)
        assert len(running.origin.requests) == 240


@pytest.mark.parametrize("sender", SENDERS)
async def test_a_site_that_rests_is_said_to(sender: str) -> None:
    """If the site rests for longer than a request may take, it is refused at once, with the reason and how long."""
    async with rig(sender, [FleetSpec()] * 12, limit=RateLimit(0, status=503, retry_after=60), total=20) as running:
        await _until_it_rests(running)
        asked = len(running.origin.requests)
        if sender == "gateway":
            answer = await running.send()
            assert (answer.status_code, "failed alike" in answer.text) == (503, True)
            assert 20 < int(answer.headers["Retry-After"]) <= 61
        else:
            with pytest.raises(SiteResting, match="failed alike") as caught:
                await running.send()
            assert 20 < caught.value.retry_after <= 61
        assert len(running.origin.requests) == asked, "the site was asked though it rests"


async def _until_it_rests(running: Rig) -> None:
    """Ask for page after page of a site that fails, until it is left alone; each answer is the site's own."""
    for page in range(100):
        try:
            running.pool.acquire(running.origin.url).release()
        except SiteResting:
            return
        assert b"You ask too often" in (await running.send(f"/{page}")).content
    pytest.fail("the site was never left alone")


@pytest.mark.parametrize("sender", SENDERS)
async def test_a_site_that_rests_is_waited_for(sender: str) -> None:
    """Requests that come while the site rests are served once it is back."""
    async with rig(sender, [FleetSpec()] * 12, limit=RateLimit(0, status=503)) as running:
        await _until_it_rests(running)
        running.origin.limit = None
        answers = await asyncio.gather(*(running.send(f"/page/{number}") for number in range(8)))
        assert [answer.status_code for answer in answers] == [200] * 8


@pytest.mark.parametrize("sender", SENDERS)
async def test_the_deadline_holds_with_proxies_that_hang(sender: str) -> None:
    """Proxies that never answer cost the total and one attempt at the most."""
    async with rig(sender, [FleetSpec(fault=Fault.HANG)] * 20, attempt=0.3, total=0.8) as running:
        if sender == "gateway":
            assert (await running.send()).status_code == 504
        else:
            with pytest.raises(httpx2.TransportError, match="proxies were tried"):
                await running.send()
        assert len(running.origin.requests) == 0
        assert sum(len(proxy.requests) for proxy in running.fleet) <= 3, "an attempt began after the total"


@pytest.mark.parametrize("sender", SENDERS)
async def test_the_attempts_are_bounded(sender: str) -> None:
    """With three attempts allowed, three proxies are tried though twenty are there."""
    conduct = SendPolicy(RetryPolicy(attempts=3))
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = unused.getsockname()[1]
    async with rig(sender, [FleetSpec("socks5")] * 20, conduct=conduct) as running:
        if sender == "gateway":
            answer = await running.send(f"http://127.0.0.1:{closed}/")
            assert (answer.status_code, "3 proxies tried" in answer.text) == (502, True)
        else:
            with pytest.raises(httpx2.ConnectError, match="3 proxies were tried"):
                await running.send(f"http://127.0.0.1:{closed}/")
        assert sum(len(proxy.requests) for proxy in running.fleet) == 3


@pytest.mark.parametrize("sender", SENDERS)
async def test_a_further_round_finds_a_proxy_that_has_come_back(sender: str) -> None:
    """With two rounds the only proxy is tried again after a wait, and serves."""
    conduct = SendPolicy(RetryPolicy(rounds=2))
    async with rig(sender, [FleetSpec(fault=Fault.REFUSE)], conduct=conduct) as running:
        sending = asyncio.create_task(running.send())
        while not running.reports:  # noqa: ASYNC110 - the pool tells whoever it was made with, in no loop
            await asyncio.sleep(0.001)
        running.fleet[0].fault = Fault.NONE
        assert (await sending).status_code == 200


@pytest.mark.parametrize("sender", SENDERS)
async def test_a_busy_pool_is_waited_for(sender: str) -> None:
    """A request that finds every proxy at its limit waits for its turn instead of failing."""
    async with rig(sender, [FleetSpec()], limits=Limits(requests_per_second=10.0)) as running:
        answers = await asyncio.gather(*(running.send() for _ in range(4)))
        assert [answer.status_code for answer in answers] == [200] * 4


@pytest.mark.parametrize("sender", SENDERS)
async def test_proxies_in_use_are_waited_for_also_after_a_failed_attempt(sender: str) -> None:
    """More requests than proxies can take at once, and a dead one among those: each gets its turn, none an error."""
    specs = [FleetSpec(fault=Fault.REFUSE), FleetSpec(), FleetSpec()]
    async with rig(sender, specs, limits=Limits(in_flight=1)) as running:
        answers = await asyncio.gather(*(running.send("/slow?ms=40") for _ in range(10)))
        assert [answer.status_code for answer in answers] == [200] * 10


def _moved_from(answer: httpx2.Response) -> str | None:
    """Return what a sender says of a session's former proxy, each in its way."""
    told = answer.extensions.get("proxywhirl")
    moved: str | None = answer.headers.get("Proxywhirl-Moved-From") if told is None else told["moved_from"]
    return moved


async def test_a_response_tells_which_proxy_it_came_through_and_why() -> None:
    """The extension of a response has the key of its proxy, and the reason for it in words."""
    async with rig("transport", [FleetSpec()] * 3) as running:
        plain, bound = await running.send(), await running.send(session="cart-17")
        told = [answer.extensions["proxywhirl"] for answer in (plain, bound)]
        assert [running.fleet[answer.json()["proxy"]].url.key for answer in (plain, bound)] == [
            t["proxy"] for t in told
        ]
        assert told[0]["why"] == "round_robin, one of 3 ready"
        assert told[1] == {"proxy": told[1]["proxy"], "why": "session", "moved_from": None}


async def test_the_last_response_of_a_session_that_moved_after_it_says_so() -> None:
    """A ban that is handed on, since no other proxy did better, came through the proxy that the session has lost."""
    async with rig("transport", [FleetSpec()] * 2, limit=RateLimit(0, status=403)) as running:
        with running.pool.acquire(session="cart-17") as lease:
            mine = lease.proxy.key
        answer = await running.send(session="cart-17")
        assert (answer.status_code, _moved_from(answer)) == (403, mine)


async def test_the_gateway_logs_that_a_session_moved(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever runs the gateway reads whence, whither and why, and neither the session's name nor a credential."""
    async with rig("gateway", [FleetSpec(username="me", password="s3cret")] * 2) as running:
        mine = (await running.send(session="bob@example.com")).json()["proxy"]
        running.fleet[mine].fault = Fault.REFUSE
        await running.send(session="bob@example.com")
        (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("proxywhirl.gateway")]
        assert f"moved away from {running.fleet[mine].url.key}, since" in line
        assert "bob" not in line
        assert "s3cret" not in line


@pytest.mark.parametrize("sender", SENDERS)
async def test_a_session_sticks_and_moves_when_its_proxy_fails(sender: str) -> None:
    """One name has one proxy, whatever the others get; when that fails, the session goes on with another."""
    async with rig(sender, [FleetSpec()] * 5) as running:
        mine = {(await running.send(session="cart-17")).json()["proxy"] for _ in range(6)}
        assert len(mine) == 1
        others = {(await running.send(session=f"cart-{number}")).json()["proxy"] for number in range(40)}
        assert len(others) > 2
        lost = running.fleet[mine.copy().pop()]
        lost.fault = Fault.REFUSE
        answers = [await running.send(session="cart-17") for _ in range(6)]
        moved = {answer.json()["proxy"] for answer in answers}
        assert len(moved) == 1
        assert moved != mine
        assert [_moved_from(answer) for answer in answers] == [lost.url.key] + [None] * 5


@pytest.mark.parametrize("name", ["x" * 10_000, "café 日本", "a,b=c|d%:e", "\0\r\n\x1b[31m", "\ud800", " "])
async def test_any_name_has_the_same_proxy_in_the_library_the_transport_and_the_gateway(name: str) -> None:
    """Whatever text names a session: all ways to the pool mean the same session by it."""
    async with rig("gateway", [FleetSpec()] * 20) as running:
        with running.pool.acquire(session=name) as lease:
            mine = lease.proxy.key
        encoded = await running.send(session=quote(name, safe="", errors="surrogatepass"))
        running.sender = "transport"
        for answer in (encoded, await running.send(session=name)):
            assert running.fleet[answer.json()["proxy"]].url.key == mine


async def test_a_name_that_no_head_can_hold_is_431_and_says_so() -> None:
    """The gateway's limit of a name is that of the head, and the answer says what to shorten."""
    async with rig("gateway", [FleetSpec()]) as running:
        answer = await running.send(session="x" * 65_536)
        assert (answer.status_code, "shorten" in answer.text) == (431, True)


@pytest.mark.parametrize("sender", SENDERS)
async def test_a_hard_session_that_lost_its_proxy_says_so(sender: str) -> None:
    """A session that may not move gets an error and no other proxy."""
    async with rig(sender, [FleetSpec()] * 3, sessions=SessionPolicy(hard=True)) as running:
        mine = (await running.send(session="cart-17")).json()["proxy"]
        running.pool.discard([running.fleet[mine].url.key])
        if sender == "gateway":
            answer = await running.send(session="cart-17")
            assert (answer.status_code, "Retry-After" in answer.headers) == (503, False)
        else:
            with pytest.raises(SessionLost):
                await running.send(session="cart-17")
        assert running.arrived.total() == 1


@pytest.mark.parametrize("sender", SENDERS)
async def test_nothing_goes_directly_where_no_proxy_is_left(sender: str) -> None:
    """An empty pool, and one that does not fulfil a wish, refuse and say why."""
    async with rig(sender, []) as running:
        if sender == "gateway":
            answer = await running.send()
            assert (answer.status_code, "proxywhirl import" in answer.text) == (503, True)
        else:
            with pytest.raises(PoolEmpty, match="proxywhirl import"):
                await running.send()
        assert not running.origin.requests


async def test_a_wrong_wish_of_a_transport_says_what_is_known() -> None:
    """An unknown key in the extension is the caller's error, before anything is sent."""
    async with rig("transport", [FleetSpec()]) as running, httpx2.AsyncClient(transport=Kept(running.transport)) as c:
        for said, words in (
            ({"land": "de"}, "there is no filter 'land'"),
            ({"retry_unsafe": 1}, "True or False"),
            (["country"], "mapping of wishes"),
        ):
            with pytest.raises(ValueError, match=words):
                await c.get(running.origin.url, extensions={"proxywhirl": said})
        assert not running.origin.requests
