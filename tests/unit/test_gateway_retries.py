"""Transcripts of what a client's connection does with bans, waits, wishes and budgets."""

from __future__ import annotations

import base64

import pytest

from proxywhirl.errors import Blame, ProxyFailed
from proxywhirl.events import AttemptFailed, RequestFinished, SessionMoved
from proxywhirl.gateway.protocol.commands import (
    Dial,
    ReadClient,
    ReadUpstream,
    Release,
    WriteClient,
    WriteUpstream,
)
from proxywhirl.models import Proxy
from proxywhirl.rotation.retries.pursuit import Moved, NoChoice, Wait
from proxywhirl.rotation.retries.send_policy import RetryPolicy
from proxywhirl.rotation.selection.request_options import RequestOptions
from proxywhirl.rotation.verdicts.response import CUT
from proxywhirl.urls import ProxyURL
from tests.unit.gateway_transcript import EMPTY, FIRST, GET, OK, ONE, SECOND, SENT, SOCKS, TARGET, TWO, Transcript

BAN = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nstop"
OPEN_BAN = b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nstop\r\n"
POST = b"POST http://t.test/ HTTP/1.1\r\nHost: t.test\r\nContent-Length: 2\r\n\r\nhi"
REFUSED = b"HTTP/1.1 407 Nope\r\nContent-Length: 0\r\nProxy-Authenticate: Basic\r\n\r\n"


@pytest.fixture
def play() -> Transcript:
    """Start a connection without credentials."""
    return Transcript()


def basic(username: str, password: str = "") -> bytes:
    """Return the field that offers a username and a password."""
    return b"Proxy-Authorization: Basic " + base64.b64encode(f"{username}:{password}".encode()) + b"\r\n"


def request_with(field: bytes) -> bytes:
    """Return the request with one more field."""
    return GET[:-2] + field + b"\r\n"


def test_a_ban_is_reported_and_another_proxy_serves(play: Transcript) -> None:
    """A 429 with Retry-After blames the target through this proxy, and the client sees the other's answer alone."""
    play.request(GET).through(FIRST).told(None).asks(ReadUpstream(10.0)).after(0.5).told(BAN)
    outcome = play.releases(ok=False)
    assert (outcome.blame, outcome.status, outcome.retry_after) == (Blame.TARGET_THROUGH_PROXY, 429, 7.0)
    assert (outcome.rule, outcome.latency, outcome.bytes_down) == ("status-429", 0.5, 4)
    play.chooses(ONE).told(TWO)
    failed = play.publishes()
    assert isinstance(failed, AttemptFailed)
    assert not failed.final
    play.asks(Dial(None, 10.0)).told(SECOND)
    play.asks(WriteUpstream(SENT)).told(None).told(OK).asks(WriteClient(OK, 300.0)).told(None)
    play.releases(ok=True)
    assert play.budget.spent() == (1, 1)


def test_the_last_real_response_is_handed_on_as_it_came(play: Transcript) -> None:
    """Where no other proxy is left, the client gets the target's own ban, not an error of the gateway."""
    play.request(GET).through(FIRST).told(None).told(BAN)
    play.releases(ok=False)
    play.chooses(ONE).told(NoChoice("all are busy", 1.0, waits=True))  # with a response in hand nothing is waited for
    play.publishes()
    play.asks(WriteClient(BAN, 300.0)).told(None)
    finished = play.publishes()
    assert isinstance(finished, RequestFinished)
    assert (finished.ok, finished.status, finished.proxy) == (False, 429, ONE)
    play.asks(ReadClient(300.0, idle=True))
    assert play.budget.spent() == (0, 1)


def test_a_failure_after_a_ban_still_hands_on_the_ban(play: Transcript) -> None:
    """A response of the target tells more than the failure of the proxy that was tried after it."""
    play.request(GET).through(FIRST).told(None).told(BAN)
    play.releases(ok=False)
    play.chooses(ONE).told(TWO)
    play.publishes()
    play.thrown(ProxyFailed("second.test refused"))
    assert play.releases(ok=False).blame is Blame.PROXY
    play.chooses(ONE, TWO).told(NoChoice("all were tried", waits=True))
    play.publishes()
    assert play.answers() == BAN


def test_a_post_that_got_a_ban_keeps_it(play: Transcript) -> None:
    """What was sent and is not idempotent is not repeated: the ban is reported and passed on."""
    play.request(POST).through(FIRST).told(None).told(BAN)
    assert play.answers() == BAN
    assert play.releases(ok=False).blame is Blame.TARGET_THROUGH_PROXY


def test_a_post_that_the_client_calls_repeatable_is_repeated(play: Transcript) -> None:
    """The field Proxywhirl-Retry lets a POST be sent again, and does not travel on."""
    play.request(POST.replace(b"\r\n\r\n", b"\r\nProxywhirl-Retry: unsafe\r\n\r\n")).through(FIRST)
    assert isinstance(play.command, WriteUpstream)
    assert b"retry" not in play.command.data.lower()
    play.told(None).told(BAN)
    play.releases(ok=False)
    play.chooses(ONE)


def test_a_post_refused_by_407_goes_to_another_proxy(play: Transcript) -> None:
    """A proxy that asks for an account passed nothing on: whatever the method, another one is tried, free of charge."""
    play.request(POST).through(FIRST).told(None).told(REFUSED)
    assert play.releases(ok=False).blame is Blame.ACCOUNT
    play.chooses(ONE).told(TWO)
    play.publishes()
    play.asks(Dial(None, 10.0)).told(SECOND)
    assert isinstance(play.command, WriteUpstream)
    assert play.command.data.endswith(b"\r\n\r\nhi")
    assert play.budget.spent() == (0, 1)


def test_a_ban_of_unknown_length_is_held_while_it_is_short(play: Transcript) -> None:
    """Block pages come in chunks: the head tells enough to wait for the rest, which is then not shown."""
    play.request(GET).through(FIRST).told(None).told(OPEN_BAN).asks(ReadUpstream(10.0)).told(b"0\r\n\r\n")
    assert play.releases(ok=False).status == 403
    play.chooses(ONE).told(NoChoice("all were tried", waits=True))
    play.publishes()
    assert play.answers() == OPEN_BAN + b"0\r\n\r\n"


def test_a_ban_that_is_too_long_to_hold_is_passed_on(play: Transcript) -> None:
    """Past 64 KiB a refused response streams like any other, and is reported as what it is."""
    play.request(GET).through(FIRST).told(None).told(OPEN_BAN).asks(ReadUpstream(10.0))
    chunk = b"12000\r\n" + bytes(0x12000) + b"\r\n"
    play.told(chunk)
    answered = play.answers()
    assert answered.startswith(OPEN_BAN)
    play.asks(ReadUpstream(300.0)).told(b"0\r\n\r\n").told(None)
    assert play.releases(ok=False).blame is Blame.TARGET_THROUGH_PROXY


def test_an_answer_that_is_the_targets_own_is_handed_on_at_once(play: Transcript) -> None:
    """Where the pool knows that all get it alike, no other proxy is tried, and the client has it as it came."""
    play.request(GET).through(FIRST).told(None).told(BAN)
    assert isinstance(play.command, Release)
    play.told((True, False)).publishes()
    assert play.answers() == BAN


def test_a_page_that_breaks_off_through_several_proxies_is_502_and_says_so(play: Transcript) -> None:
    """Where there is no answer to hand on, the client reads that it is not the last proxy's doing."""
    play.request(GET).through(FIRST).told(None).told(b"")
    play.told((True, False))
    play.publishes()
    play.publishes()
    answer = play.answers()
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"several proxies met the same at this target" in answer


def test_a_page_that_refuses_four_proxies_alike_is_tried_no_more(play: Transcript) -> None:
    """Of a page that nobody was served the fourth answer is handed on, however many proxies there are."""
    endpoints = [ProxyURL("http", f"{number}.test", 8080) for number in range(4)]
    tried: list[Proxy] = []
    play.request(GET)
    for endpoint in endpoints:
        play.chooses(*tried).told(Proxy.of(endpoint))
        if tried:
            play.publishes()
        play.asks(Dial(None, 10.0)).told(endpoint).told(None).told(BAN)
        play.releases(ok=False)
        tried.append(Proxy.of(endpoint))
    play.publishes()
    assert play.answers() == BAN


def test_a_page_that_others_were_served_is_tried_through_more_proxies(play: Transcript) -> None:
    """Where the pool knows that somebody was served, refusals alike tell of the proxies."""
    tried: list[Proxy] = []
    play.request(GET)
    for number in range(6):
        endpoint = ProxyURL("http", f"{number}.test", 8080)
        play.chooses(*tried).told(Proxy.of(endpoint))
        if tried:
            play.publishes()
        play.asks(Dial(None, 10.0)).told(endpoint).told(None).told(BAN).told((False, True))
        tried.append(Proxy.of(endpoint))
    play.chooses(*tried)


@pytest.mark.parametrize(
    "answers",
    [
        [b""],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b""],
        [b"HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n"],
        [b"SSH-2.0-OpenSSH\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000],
    ],
)
def test_what_is_no_whole_answer_is_reported_as_cut(play: Transcript, answers: list[bytes]) -> None:
    """After the request was sent it may be the page that breaks off or talks nonsense: the pool is told."""
    play.request(GET).through(FIRST).told(None)
    for data in answers:
        play.asks(ReadUpstream(10.0)).told(data)
    outcome = play.releases(ok=False)
    assert (outcome.blame, outcome.rule) == (Blame.PROXY, CUT)


def test_a_body_that_breaks_off_when_it_was_handed_on_is_reported_as_cut(play: Transcript) -> None:
    """What the client has seen does not change what the pool is told."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    play.request(GET).through(FIRST).told(None).told(head + b"half").asks(WriteClient(head + b"half", 300.0)).told(None)
    play.asks(ReadUpstream(300.0)).told(b"")
    outcome = play.releases(ok=False)
    assert (outcome.blame, outcome.rule, outcome.status) == (Blame.PROXY, CUT, 200)


def test_a_failure_before_the_request_was_sent_has_no_sign_of_the_page(play: Transcript) -> None:
    """That a proxy cannot be reached says nothing of the page that was to be asked for."""
    play.request(GET).chooses().told(ONE).thrown(ProxyFailed("first.test refused"))
    assert play.releases(ok=False).rule is None


def test_a_stream_is_not_delayed_by_its_verdict(play: Transcript) -> None:
    """The head of a good response of unknown length goes to the client at once."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    play.request(GET).through(FIRST).told(None).told(head).asks(WriteClient(head, 300.0))


def test_the_budget_ends_repetitions_that_burden_the_target(play: Transcript) -> None:
    """Once the floor of the window is spent, a ban is handed on although proxies are left."""
    while play.budget.take():
        continue
    play.request(GET).through(FIRST).told(None).told(BAN)
    play.releases(ok=False)
    play.publishes()
    assert play.answers() == BAN


def test_the_number_of_attempts_is_bounded_and_told() -> None:
    """After the last attempt that the policy allows the client hears so, whatever proxies are left."""
    play = Transcript(policy=RetryPolicy(attempts=1))
    play.request(GET).chooses().told(ONE).thrown(ProxyFailed("first.test refused"))
    play.releases(ok=False)
    play.publishes()
    play.publishes()
    answer = play.answers()
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"no more attempts are allowed" in answer


def test_a_busy_pool_is_waited_for_and_asked_again(play: Transcript) -> None:
    """Where proxies are only busy, the request waits for as long as the pool says, and then has one."""
    play.request(GET).chooses().told(NoChoice("all are at their limits", 2.0, waits=True))
    assert isinstance(play.command, Wait)
    assert 2.0 <= play.command.seconds <= 2.2
    play.after(2.0).told(None).chooses().told(ONE).asks(Dial(None, 10.0))


def test_a_wait_past_the_deadline_is_503_with_the_time_to_come_back(play: Transcript) -> None:
    """Nobody is kept waiting for what will not come in time."""
    play.request(GET).chooses().told(NoChoice("all are at their limits", 90.0, waits=True))
    play.publishes()
    answer = play.answers()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 90\r\n" in answer
    assert b"all are at their limits" in answer


def resting(seconds: float) -> NoChoice:
    """Return the answer of a pool that leaves the site alone."""
    return NoChoice("t.test failed alike through several proxies", seconds, waits=True, resting=True)


def test_a_resting_site_is_waited_for_and_asked_again_soon(play: Transcript) -> None:
    """Another request may find the site well at any moment: nobody sleeps for all of its rest."""
    play.request(GET)
    for _ in range(3):
        play.chooses().told(resting(12.3)).asks(Wait(0.25)).after(0.25).told(None)
    play.chooses().told(ONE).asks(Dial(None, 10.0))


def test_a_rest_past_the_deadline_is_503_at_once(play: Transcript) -> None:
    """A site that rests for longer than a request may take costs no wait and no proxy; the client is told how long."""
    play.request(GET).chooses().told(resting(62.3))
    play.publishes()
    answer = play.answers()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 63\r\n" in answer
    assert b"failed alike" in answer


def test_a_site_found_at_fault_meanwhile_tells_the_failure_too(play: Transcript) -> None:
    """When the attempts of a request themselves show that the site is at fault, both are told."""
    play.request(GET).chooses().told(ONE).thrown(ProxyFailed("first.test hung"))
    play.releases(ok=False)
    play.chooses(ONE).told(resting(63.0))
    play.publishes()
    play.publishes()
    answer = play.answers()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 63\r\n" in answer
    assert b"first.test hung" in answer


def test_a_wish_in_the_username_goes_to_the_pool_and_no_further(play: Transcript) -> None:
    """Without credentials any name does; the session and the filters choose, and nothing of them is sent."""
    wish = RequestOptions.of("cart-17", {"country": "de", "tags": "fast"})
    play.request(request_with(basic(",session=cart-17,country=de,tags=fast"))).through(SECOND, wish=wish)
    play.asks(WriteUpstream(SENT))


def moved(endpoint: ProxyURL, was: str) -> Moved:
    """Return the answer of a pool in which a session has another proxy now."""
    return Moved(Proxy.of(endpoint), was, f"moved away from {was}, since it is gone; session")


def test_a_session_that_moved_is_told_to_the_client_and_to_the_bus(play: Transcript) -> None:
    """The answer has a field with the key of the former proxy; the same field of a site is dropped."""
    play.request(request_with(basic(",session=a"))).chooses(wish=RequestOptions("a")).told(moved(SECOND, ONE.key))
    told = play.publishes()
    assert told == SessionMoved(TARGET, TWO, ONE.key, f"moved away from {ONE.key}, since it is gone; session")
    play.told(SECOND).told(None)
    answered = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nProxywhirl-Moved-From: %b\r\n\r\nok"
    play.told(answered % b"claimed")
    assert play.answers() == answered % ONE.key.encode()


def test_a_session_that_moved_within_a_request_is_told_whence_it_came_first(play: Transcript) -> None:
    """Of several moves the client learns the proxy that its last request had; an error of the gateway says it too."""
    play.request(request_with(basic(",session=a"))).through(FIRST, wish=RequestOptions("a"))
    play.told(None).thrown(ProxyFailed("first.test broke off"))
    play.releases(ok=False)
    play.chooses(ONE, wish=RequestOptions("a")).told(moved(SECOND, ONE.key))
    play.publishes()
    play.publishes()
    play.thrown(ProxyFailed("second.test refused"))
    play.releases(ok=False)
    play.chooses(ONE, TWO, wish=RequestOptions("a")).told(moved(SOCKS, TWO.key))
    for _ in range(2):
        play.publishes()
    play.thrown(ProxyFailed("socks.test refused"))
    play.releases(ok=False)
    play.told(NoChoice(EMPTY))
    for _ in range(2):
        play.publishes()
    answer = play.answers()
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"Proxywhirl-Moved-From: " + ONE.key.encode() + b"\r\n" in answer


def test_a_tunnel_of_a_session_that_moved_says_so_too(play: Transcript) -> None:
    """The answer to CONNECT is the gateway's own, and the only one in which it can tell."""
    field = basic(",session=a")
    play.request(b"CONNECT t.test:443 HTTP/1.1\r\nHost: t.test:443\r\n" + field + b"\r\n").told(moved(SECOND, ONE.key))
    play.publishes()
    play.told(SECOND)
    assert b"\r\nProxywhirl-Moved-From: " + ONE.key.encode() + b"\r\n" in play.answers()


def test_a_wish_stands_after_the_name_that_is_asked_for() -> None:
    """With credentials the name and the password have to be right, whatever is wished."""
    for username, password, is_admitted in (
        ("me,country=de", "open", True),
        ("me", "open", True),
        ("me,country=de", "wrong", False),
        ("mecountry=de", "open", False),
        (",country=de", "open", False),
    ):
        play = Transcript(("me", "open")).request(request_with(basic(username, password)))
        if is_admitted:
            play.chooses(wish=RequestOptions.of(None, {"country": "de"} if "," in username else {}))
        else:
            assert play.answers().startswith(b"HTTP/1.1 407 ")


@pytest.mark.parametrize(
    ("field", "words"),
    [
        (basic("me,sesion=a"), b"session, scheme, country"),
        (basic("me,country=germany"), b"two-letter code"),
        (basic("me,session=%zz"), b"write a percent sign as %25"),
        (basic("me,session=%FF"), b"percent-encode the bytes of its UTF-8"),
        (b"Proxy-Authorization: Basic " + base64.b64encode(b"me,session=\xff:") + b"\r\n", b"not in UTF-8"),
        (b"Proxy-Authorization: Basic bWU6b3Blbg\r\n", b"Base64 of NAME:PASSWORD"),
        (basic("me,country=de") * 2, b"once"),
        (b"Proxywhirl-Retry: always\r\n", b"unsafe"),
    ],
)
def test_an_impossible_wish_is_400_and_says_what_there_is(play: Transcript, field: bytes, words: bytes) -> None:
    """A wrong key, value or field costs no proxy anything, and keeps the connection."""
    play.request(request_with(field))
    answer = play.answers()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert words in answer
    play.asks(ReadClient(300.0, idle=True))
