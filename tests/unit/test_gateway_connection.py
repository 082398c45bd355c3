"""Transcripts: what a client's connection asks for on the left, what it is told on the right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxywhirl.errors import Blame, ProxyFailed, ProxyGone
from proxywhirl.events import AttemptFailed, RequestFinished
from proxywhirl.gateway.protocol.commands import (
    ClientGone,
    Dial,
    Ending,
    FromClient,
    FromUpstream,
    Nothing,
    ReadClient,
    ReadEither,
    ReadUpstream,
    Relay,
    Release,
    WriteClient,
    WriteUpstream,
)
from proxywhirl.gateway.protocol.request import REPLAYED_BODY
from proxywhirl.models import Target
from proxywhirl.rotation.retries.pursuit import NoChoice
from proxywhirl.rotation.verdicts.response import SILENT
from tests.unit.gateway_transcript import (
    EMPTY,
    FIRST,
    GET,
    OK,
    ONE,
    SECOND,
    SENT,
    SOCKS,
    TARGET,
    THREE,
    TWO,
    Transcript,
)


@pytest.fixture
def play() -> Transcript:
    """Start a connection without credentials."""
    return Transcript()


def test_a_request_goes_through_the_chosen_proxy_and_its_answer_comes_back(play: Transcript) -> None:
    """One request: chosen, dialled, sent in absolute-form, answered in one write, reported, kept alive."""
    play.request(GET).through(SECOND).asks(WriteUpstream(SENT)).told(None)
    play.asks(ReadUpstream(10.0)).after(0.5).told(OK)
    play.asks(WriteClient(OK, 300.0)).told(None)
    outcome = play.releases(ok=True)
    assert (outcome.status, outcome.latency, outcome.bytes_up, outcome.bytes_down) == (200, 0.5, 0, 2)
    finished = play.publishes()
    assert finished == RequestFinished(TARGET, TWO, ok=True, attempts=1, seconds=0.5, status=200)
    play.asks(ReadClient(300.0, idle=True)).told(b"")
    assert play.ending is Ending.CLOSE


def test_an_upstream_gets_its_own_credential_and_not_the_clients() -> None:
    """The client's Proxy-Authorization ends at the gateway; the upstream's starts there."""
    play = Transcript(("me", "open"))
    play.request(GET[:-2] + b"Proxy-Authorization: Basic bWU6b3Blbg==\r\n\r\n").through(FIRST)
    assert isinstance(play.command, WriteUpstream)
    assert b"Proxy-Authorization: Basic YWxpY2U6czNjcmV0\r\n" in play.command.data
    assert b"bWU6b3Blbg" not in play.command.data
    assert "YWxpY2U6czNjcmV0" not in repr(play.command)


def test_a_socks_upstream_is_dialled_to_the_target_and_gets_origin_form(play: Transcript) -> None:
    """Through socks the gateway speaks to the target itself: origin-form, and no credential at all."""
    play.request(GET).through(SOCKS, target=TARGET)
    play.asks(WriteUpstream(b"GET /a?b HTTP/1.1\r\nHost: t.test\r\nConnection: close\r\n\r\n"))


def test_a_failed_dial_goes_on_to_another_proxy(play: Transcript) -> None:
    """A proxy that cannot be dialled is reported and excluded, and the next one serves, whatever the method."""
    play.request(b"POST http://t.test/ HTTP/1.1\r\nHost: t.test\r\nContent-Length: 2\r\n\r\nhi")
    play.chooses().told(ONE).asks(Dial(None, 10.0)).thrown(ProxyFailed("first.test refused"))
    outcome = play.releases(ok=False)
    assert (outcome.blame, outcome.error) == (Blame.PROXY, "first.test refused")
    play.chooses(ONE).told(TWO)
    assert play.publishes() == AttemptFailed(ONE, TARGET, outcome, final=False)
    play.asks(Dial(None, 10.0)).told(SECOND)
    assert isinstance(play.command, WriteUpstream)
    assert play.command.data.endswith(b"\r\n\r\nhi")


def test_no_proxy_at_all_is_503_and_says_what_to_do(play: Transcript) -> None:
    """An empty pool is never a direct connection."""
    play.request(GET).chooses().told(NoChoice(EMPTY))
    assert play.publishes() == RequestFinished(TARGET, None, ok=False, attempts=0, seconds=0.0)
    answer = play.answers()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"proxywhirl import" in answer
    play.asks(ReadClient(300.0, idle=True))


def test_all_tried_is_502_with_their_number_and_the_last_reason(play: Transcript) -> None:
    """When the pool has no other proxy, the client is told how many were tried and why the last one failed."""
    play.request(GET).chooses().told(ONE).thrown(ProxyFailed("http://first.test:8080 hung"))
    outcome = play.releases(ok=False)
    play.chooses(ONE).told(NoChoice("all were tried", waits=True))
    assert play.publishes() == AttemptFailed(ONE, TARGET, outcome, final=True)
    play.publishes()
    answer = play.answers()
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"1 proxy tried" in answer
    assert b"http://first.test:8080 hung" in answer
    assert b"s3cret" not in answer


def test_after_the_deadline_no_other_proxy_is_tried(play: Transcript) -> None:
    """The total timeout ends the failover with 504, though the pool might have more."""
    play.request(GET).chooses().told(ONE)
    play.after(60.0).thrown(ProxyFailed("slow"))
    play.releases(ok=False)
    failed = play.publishes()
    assert isinstance(failed, AttemptFailed)
    assert failed.final
    play.publishes()
    assert play.answers().startswith(b"HTTP/1.1 504 ")


def test_an_attempt_gets_no_more_time_than_the_deadline_leaves(play: Transcript) -> None:
    """A later attempt is bounded by what is left of the total timeout."""
    play.request(GET).chooses().told(ONE).after(55.0).thrown(ProxyFailed("slow"))
    play.releases(ok=False)
    play.chooses(ONE).told(TWO)
    play.publishes()
    play.asks(Dial(None, 5.0))


def test_a_post_that_was_sent_is_not_sent_again(play: Transcript) -> None:
    """What may have had its effect is not repeated: one attempt, then 502."""
    play.request(b"POST http://t.test/ HTTP/1.1\r\nHost: t.test\r\nContent-Length: 2\r\n\r\nhi").through(FIRST)
    play.told(None).asks(ReadUpstream(10.0)).told(b"")
    outcome = play.releases(ok=False)
    assert outcome.bytes_up == 2
    failed = play.publishes()
    assert isinstance(failed, AttemptFailed)
    assert failed.final
    play.publishes()
    assert play.answers().startswith(b"HTTP/1.1 502 ")


def test_a_put_is_sent_again_with_its_body(play: Transcript) -> None:
    """An idempotent request is replayed, trailers included, to the next proxy."""
    body = b"2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n"
    head = b"PUT http://t.test/ HTTP/1.1\r\nHost: t.test\r\nTransfer-Encoding: chunked\r\n\r\n"
    play.request(head + body).through(SECOND).told(None).asks(ReadUpstream(10.0)).told(b"garbage\r\n\r\n")
    outcome = play.releases(ok=False)
    assert "not HTTP" in str(outcome.error)
    play.chooses(TWO).told(THREE)
    play.publishes()
    play.asks(Dial(TARGET, 10.0)).told(SOCKS)
    assert isinstance(play.command, WriteUpstream)
    assert play.command.data.endswith(b"\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n")


def test_a_body_too_large_to_hold_is_not_sent_again(play: Transcript) -> None:
    """Past the limit of the replay buffer even a PUT has one attempt."""
    size = REPLAYED_BODY + 1
    head = f"PUT http://t.test/ HTTP/1.1\r\nHost: t.test\r\nContent-Length: {size}\r\n\r\n".encode()
    play.request(head).through(FIRST).told(None)
    play.asks(ReadEither(10.0)).told(FromClient(bytes(size)))
    assert isinstance(play.command, WriteUpstream)
    assert play.command.data == bytes(size)
    play.told(None).asks(ReadUpstream(300.0)).told(b"")
    play.releases(ok=False)
    failed = play.publishes()
    assert isinstance(failed, AttemptFailed)
    assert failed.final


def test_a_large_body_on_a_slow_line_is_waited_for(play: Transcript) -> None:
    """Where no other proxy can take over, an upstream that takes or answers nothing has the idle timeout."""
    size = REPLAYED_BODY + 1
    head = f"PUT http://t.test/ HTTP/1.1\r\nHost: t.test\r\nContent-Length: {size + 1}\r\n\r\n".encode()
    play.request(head).through(FIRST).told(None).asks(ReadEither(10.0)).told(FromClient(bytes(size))).told(None)
    play.asks(ReadEither(300.0)).after(100.0).told(FromClient(b"!")).told(None)
    play.asks(ReadUpstream(300.0)).after(100.0).told(OK)
    assert play.answers() == OK
    play.releases(ok=True)


def test_a_large_body_can_go_elsewhere_while_none_of_it_was_sent(play: Transcript) -> None:
    """The body stays with the client until a proxy is there to take it, so a failed dial costs nothing."""
    head = f"PUT http://t.test/ HTTP/1.1\r\nHost: t.test\r\nContent-Length: {10 * REPLAYED_BODY}\r\n\r\n"
    play.request(head.encode() + bytes(REPLAYED_BODY + 5)).chooses().told(ONE)
    play.thrown(ProxyFailed("refused"))
    play.releases(ok=False)
    play.chooses(ONE).told(TWO)
    play.publishes()
    play.asks(Dial(None, 10.0)).told(SECOND)
    assert isinstance(play.command, WriteUpstream)
    assert play.command.data.endswith(b"\r\n\r\n" + bytes(REPLAYED_BODY + 5))


def test_407_of_a_proxy_blames_the_account_and_goes_on(play: Transcript) -> None:
    """The upstream's 407 never reaches the client, who has no account there."""
    play.request(GET).through(FIRST).told(None).asks(ReadUpstream(10.0))
    play.told(b"HTTP/1.1 407 Nope\r\nContent-Length: 0\r\nProxy-Authenticate: Basic\r\n\r\n")
    assert play.releases(ok=False).blame is Blame.ACCOUNT
    play.chooses(ONE)


@pytest.mark.parametrize("status", [301, 401, 404, 410, 500, 501])
def test_a_status_that_is_no_ban_is_the_targets_answer(play: Transcript, status: int) -> None:
    """What another proxy would get too passes through and counts as served."""
    play.request(GET).through(FIRST).told(None).asks(ReadUpstream(10.0))
    answer = b"HTTP/1.1 %d Words\r\nContent-Length: 0\r\n\r\n" % status
    play.told(answer).asks(WriteClient(answer, 300.0)).told(None)
    assert play.releases(ok=True).status == status


def test_a_proxy_that_vanished_is_passed_over_in_silence(play: Transcript) -> None:
    """A proxy removed between choice and use is no failed attempt."""
    play.request(GET).chooses().told(ONE).thrown(ProxyGone("removed"))
    play.asks(Release(None)).told(None).chooses(ONE).told(NoChoice("all were tried", waits=True))
    finished = play.publishes()
    assert isinstance(finished, RequestFinished)
    assert finished.attempts == 0
    assert play.answers().startswith(b"HTTP/1.1 503 ")


def test_a_short_response_that_is_cut_is_asked_for_again(play: Transcript) -> None:
    """A response that fits is shown only when whole, so a truncated one costs a failover and no more."""
    play.request(GET).through(FIRST).told(None).asks(ReadUpstream(10.0)).told(OK[:-1])
    play.asks(ReadUpstream(10.0)).told(b"")
    assert "before the end" in str(play.releases(ok=False).error)
    play.chooses(ONE)


def test_a_long_response_that_is_cut_ends_in_an_abort(play: Transcript) -> None:
    """After its first byte a broken response is never ended as if it were whole, nor asked for again."""
    play.request(GET).through(FIRST).told(None).asks(ReadUpstream(10.0))
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"
    play.told(head + b"some").asks(WriteClient(head + b"some", 300.0)).told(None)
    play.asks(ReadUpstream(300.0)).told(b"")
    outcome = play.releases(ok=False)
    assert (outcome.blame, outcome.status, outcome.bytes_down) == (Blame.PROXY, 200, 4)
    play.publishes()
    finished = play.publishes()
    assert isinstance(finished, RequestFinished)
    assert not finished.ok
    assert play.ending is Ending.ABORT


def test_a_slow_short_response_is_streamed_after_all(play: Transcript) -> None:
    """Holding back ends with the attempt's time: a dripping response reaches the client while it drips."""
    play.request(GET).through(FIRST).told(None).asks(ReadUpstream(10.0))
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
    play.told(head + b"a").asks(ReadUpstream(10.0)).after(9.0).told(b"b")
    play.asks(ReadUpstream(10.0)).after(9.0)
    play.told(b"c").asks(WriteClient(head + b"abc", 300.0))


def test_a_response_ended_by_its_connection_becomes_chunks(play: Transcript) -> None:
    """A close-delimited body gets chunked framing, so that the client's connection can be kept."""
    play.request(GET).through(FIRST).told(None).asks(ReadUpstream(10.0)).told(b"HTTP/1.0 200 OK\r\n\r\nab")
    assert play.answers() == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"
    play.asks(ReadUpstream(300.0)).told(b"")
    assert play.answers() == b"0\r\n\r\n"
    play.releases(ok=True)
    play.publishes()
    play.asks(ReadClient(300.0, idle=True))


def test_an_http_1_0_client_gets_no_chunks_and_no_trailers(play: Transcript) -> None:
    """To a client of HTTP/1.0 a chunked response becomes one that its connection ends."""
    play.request(b"GET http://t.test/ HTTP/1.0\r\n\r\n").through(FIRST).told(None).asks(ReadUpstream(10.0))
    play.told(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 7\r\n\r\n")
    assert play.answers() == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nab"
    play.releases(ok=True)
    play.publishes()
    assert play.ending is Ending.CLOSE


def test_an_expectation_goes_to_the_target_and_its_consent_comes_back(play: Transcript) -> None:
    """Expect: 100-continue is end to end: the body waits for the target's word, and comes once."""
    head = b"POST http://t.test/ HTTP/1.1\r\nHost: t.test\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    play.request(head).through(SECOND)
    assert isinstance(play.command, WriteUpstream)
    assert b"Expect: 100-continue\r\n" in play.command.data
    play.told(None).asks(ReadEither(1.0)).told(FromUpstream(b"HTTP/1.1 100 Continue\r\n\r\n"))
    play.asks(WriteClient(b"HTTP/1.1 100 Continue\r\n\r\n", 300.0)).told(None)
    play.asks(ReadEither(10.0)).told(FromClient(b"hi")).asks(WriteUpstream(b"hi")).told(None)
    play.asks(ReadUpstream(10.0)).told(OK).asks(WriteClient(OK, 300.0))


def test_an_expectation_that_is_ignored_is_met_by_the_gateway(play: Transcript) -> None:
    """After a second of silence the client is told to go on; the upstream's late consent is then dropped."""
    head = b"POST http://t.test/ HTTP/1.1\r\nHost: t.test\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    play.request(head).through(FIRST).told(None).asks(ReadEither(1.0)).after(1.0).told(Nothing(blocked=False))
    play.asks(WriteClient(b"HTTP/1.1 100 Continue\r\n\r\n", 300.0)).told(None)
    play.asks(ReadEither(10.0)).told(FromUpstream(b"HTTP/1.1 100 Continue\r\n\r\n"))
    play.asks(ReadEither(10.0))


def test_an_early_response_ends_the_upload(play: Transcript) -> None:
    """A refusal that comes before the body is whole is passed on, and the connection closed in order."""
    play.request(b"POST http://t.test/ HTTP/1.1\r\nHost: t.test\r\nContent-Length: 9\r\n\r\nhi").through(FIRST)
    answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
    play.told(None).asks(ReadEither(10.0)).told(FromUpstream(answer)).asks(WriteClient(answer, 300.0)).told(None)
    play.releases(ok=True)
    play.publishes()
    assert play.ending is Ending.CLOSE


def test_an_upstream_that_takes_nothing_is_to_blame(play: Transcript) -> None:
    """A full buffer towards the upstream is no failure of the client, but silence: the page may read nothing."""
    play.request(b"PUT http://t.test/ HTTP/1.1\r\nHost: t.test\r\nContent-Length: 9\r\n\r\nhi").through(FIRST)
    play.told(None).asks(ReadEither(10.0)).after(10.0).told(Nothing(blocked=True))
    outcome = play.releases(ok=False)
    assert (outcome.blame, outcome.rule) == (Blame.PROXY, SILENT)


def test_a_client_that_stops_sending_is_nobodys_fault(play: Transcript) -> None:
    """A slow body is waited for up to the idle timeout; then the client gets 408 and no proxy a bad mark."""
    play.request(b"PUT http://t.test/ HTTP/1.1\r\nHost: t.test\r\nContent-Length: 9\r\n\r\nhi").through(FIRST)
    play.told(None)
    for _ in range(30):
        play.asks(ReadEither(10.0)).after(10.0).told(Nothing(blocked=False))
    play.asks(Release(None)).told(None)
    play.publishes()
    assert play.answers().startswith(b"HTTP/1.1 408 ")
    assert play.ending is Ending.CLOSE


def test_a_client_that_went_away_is_nobodys_fault(play: Transcript) -> None:
    """A write to a client that is gone releases the lease without a report."""
    play.request(GET).through(FIRST).told(None).told(OK).thrown(ClientGone())
    play.asks(Release(None)).told(None)
    play.publishes()
    assert play.ending is Ending.ABORT


def test_a_tunnel_is_dialled_to_the_target_and_relayed(play: Transcript) -> None:
    """CONNECT: a tunnel through the proxy, 200, the bytes that came too early, then both ways."""
    target = Target("https", "t.test", 443)
    play.request(b"CONNECT t.test:443 HTTP/1.1\r\nHost: t.test:443\r\n\r\nhello").through(FIRST, target=target)
    play.asks(WriteClient(b"HTTP/1.1 200 Connection established\r\n\r\n", 300.0)).told(None)
    play.asks(WriteUpstream(b"hello")).told(None).asks(Relay(300.0)).told((10, 20))
    outcome = play.releases(ok=True)
    assert (outcome.bytes_up, outcome.bytes_down) == (15, 20)
    play.publishes()
    assert play.ending is Ending.CLOSE


def test_a_tunnel_that_gives_nothing_back_is_a_failure_for_this_target(play: Transcript) -> None:
    """A proxy that opens tunnels into nothing is told apart from one that works."""
    target = Target("https", "t.test", 443)
    play.request(b"CONNECT t.test:443 HTTP/1.1\r\nHost: t.test:443\r\n\r\n").through(FIRST, target=target)
    play.answers()
    play.asks(Relay(300.0)).told((517, 0))
    assert play.releases(ok=False).blame is Blame.TARGET_THROUGH_PROXY


def test_a_tunnel_fails_over_until_it_is_there(play: Transcript) -> None:
    """A refused CONNECT goes to the next proxy; the client sees one 200."""
    target = Target("https", "t.test", 443)
    play.request(b"CONNECT t.test:443 HTTP/1.1\r\nHost: t.test:443\r\n\r\n")
    play.chooses(target=target).told(ONE).asks(Dial(target, 10.0)).thrown(ProxyFailed("reset"))
    play.releases(ok=False)
    play.chooses(ONE, target=target).told(THREE)
    play.publishes()
    play.asks(Dial(target, 10.0)).told(SOCKS)
    assert play.answers().startswith(b"HTTP/1.1 200 ")


def test_pipelined_requests_are_answered_in_order(play: Transcript) -> None:
    """The second request waits in the parser until the first is answered, and gets a proxy of its own."""
    play.request(GET + b"\r\n" + GET).through(SECOND).asks(WriteUpstream(SENT)).told(None).told(OK)
    play.answers()
    play.releases(ok=True)
    play.publishes()
    play.through(SECOND).asks(WriteUpstream(SENT))


@pytest.mark.parametrize(
    ("request_line", "words"),
    [
        (b"GET / HTTP/1.1", b"curl -x"),
        (b"OPTIONS * HTTP/1.1", b"curl -x"),
        (b"GET https://t.test/ HTTP/1.1", b"CONNECT"),
        (b"GET ftp://t.test/ HTTP/1.1", b"http://"),
        (b"GET http:///nothing HTTP/1.1", b"host is empty"),
        (b"GET http://t.test:0/ HTTP/1.1", b"port"),
        (b"CONNECT t.test HTTP/1.1", b"no port"),
        (b"CONNECT t.test:99999 HTTP/1.1", b"port"),
        (b"CONNECT http://t.test/ HTTP/1.1", b"host:port"),
    ],
)
def test_what_goes_nowhere_is_400_and_says_why(play: Transcript, request_line: bytes, words: bytes) -> None:
    """A request that names no reachable target costs no proxy anything, and keeps the connection."""
    play.request(request_line + b"\r\nHost: t.test\r\n\r\n")
    answer = play.answers()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert words in answer
    play.asks(ReadClient(300.0, idle=True))


def malformed() -> Iterator[tuple[bytes, int]]:
    """Give request heads that are no HTTP, with the status that each deserves."""
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400
    yield b"GET http://t.test/ HTTP/1.1\r\n\r\n", 400
    yield b"GET http://t.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400
    yield b"PUT http://t.test/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501
    both = b"PUT http://t.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    yield both + GET, 400
    yield b"PUT http://t.test/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400
    yield b"GET http://t.test/ HTTP/2.0\r\nHost: a\r\n\r\n", 505
    yield b"GET http://t.test/ HTTP/1.1\r\nHost: a\r\nX: " + bytes(66000).replace(b"\0", b"x"), 431
    yield b"GET http://t.test/ HTTP/1.1\r\nHost: a\r\nX: " + bytes(66000).replace(b"\0", b"x") + b"\r\n\r\n", 431


@pytest.mark.parametrize(("data", "status"), list(malformed()))
def test_what_is_no_http_is_answered_and_closed(play: Transcript, data: bytes, status: int) -> None:
    """A broken head gets its status and the end of the connection, since nothing after it can be trusted."""
    play.request(data)
    answer = play.answers()
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close\r\n" in answer
    assert play.ending is Ending.CLOSE


def test_a_head_that_drips_is_408(play: Transcript) -> None:
    """The header timeout covers the whole head: another byte in time does not renew it."""
    play.request(GET[:5]).asks(ReadClient(30.0)).after(20.0).told(GET[5:9])
    play.asks(ReadClient(10.0)).after(10.0).told(None)
    assert play.answers().startswith(b"HTTP/1.1 408 ")
    assert play.ending is Ending.CLOSE


def test_a_silent_client_is_closed_without_a_word(play: Transcript) -> None:
    """A connection on which nothing was asked gets no answer when its time is over."""
    play.asks(ReadClient(30.0, idle=True)).told(None)
    assert play.ending is Ending.CLOSE


@pytest.mark.parametrize("offer", [b"", b"Basic bWU6d3Jvbmc=", b"Bearer bWU6b3Blbg==", b"Basic !", b"Basic"])
def test_a_client_without_the_credentials_is_407(offer: bytes) -> None:
    """Missing, wrong or unreadable credentials cost no proxy anything; the client may try again."""
    play = Transcript(("me", "open"))
    field = b"Proxy-Authorization: " + offer + b"\r\n" if offer else b""
    play.request(GET[:-2] + field + b"\r\n")
    answer = play.answers()
    assert answer.startswith(b"HTTP/1.1 407 ")
    assert b'Proxy-Authenticate: Basic realm="proxywhirl"' in answer
    play.asks(ReadClient(300.0, idle=True)).told(GET[:-2] + b"Proxy-Authorization: basic bWU6b3Blbg==\r\n\r\n")
    play.chooses()


def test_a_refused_upload_closes_the_connection() -> None:
    """Bytes of a body that nobody wants must not be read as the next request."""
    play = Transcript(("me", "open"))
    play.request(b"POST http://t.test/ HTTP/1.1\r\nHost: t.test\r\nContent-Length: 99\r\n\r\nGET ")
    assert b"Connection: close\r\n" in play.answers()
    assert play.ending is Ending.CLOSE


def test_a_refusal_of_head_has_no_body(play: Transcript) -> None:
    """HEAD gets the length of the explanation and not the explanation."""
    play.request(b"HEAD http://t.test/ HTTP/1.1\r\nHost: t.test\r\n\r\n").told(NoChoice(EMPTY))
    play.publishes()
    assert play.answers().endswith(b"\r\n\r\n")


def test_an_endless_head_is_the_proxys_failure(play: Transcript) -> None:
    """A response head past the limit is given up, with its length as the reason and nothing of its text."""
    play.request(GET).through(FIRST).told(None).asks(ReadUpstream(10.0))
    play.told(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 66_000)
    assert str(play.releases(ok=False).error).endswith("answered with a head of more than 64 KiB")
