"""Whatever a proxy sends back, and whatever a judge is asked."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from proxywhirl.errors import UpstreamError
from proxywhirl.wire.judge import ANSWER_LIMIT, Judge, Sighting, anonymity, answer, question
from proxywhirl.wire.steps import ReceiveSome, Send

JUDGE = Judge.parse("http://judge.example/")
TOLD = answer([("Probe-Nonce", "n")], "203.0.113.9")
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(TOLD), TOLD)
ADDRESSES = st.ip_addresses().map(str)
TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=40)


def receive(stream: bytes, size: int) -> Sighting | UpstreamError:
    """Ask with the nonce "n", and answer with a stream in pieces of a size."""
    asking = question(JUDGE, "n", absolute=True)
    step = next(asking)
    try:
        while True:
            if isinstance(step, Send):
                step = asking.send(b"")
            else:
                assert isinstance(step, ReceiveSome)
                assert 0 < step.limit <= ANSWER_LIMIT
                piece, stream = stream[: min(size, step.limit)], stream[min(size, step.limit) :]
                step = asking.send(piece)
    except StopIteration as end:
        seen: Sighting = end.value
        return seen
    except UpstreamError as exc:
        return exc


@given(st.binary(max_size=300), st.integers(1, 50))
@example(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", 1)
def test_no_answer_is_more_than_an_error(stream: bytes, size: int) -> None:
    """Any bytes at all end in an error that blames somebody."""
    assert isinstance(receive(stream, size), UpstreamError)


@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=4), st.integers(1, 80))
def test_a_damaged_answer_is_an_answer_or_an_error(place: int, damage: bytes, size: int) -> None:
    """Bytes that are overwritten never lead to anything else; the whole answer is read in any pieces."""
    damaged = WHOLE[:place] + damage + WHOLE[place + len(damage) :]
    assert isinstance(receive(damaged, size), Sighting | UpstreamError)
    assert receive(WHOLE, size) == Sighting("203.0.113.9", (("Probe-Nonce", "n"),))


@given(st.lists(st.tuples(TEXT, TEXT), max_size=8), ADDRESSES, st.sampled_from(["cookie", "Authorization"]))
def test_a_judge_repeats_everything_but_secrets(headers: list[tuple[str, str]], address: str, name: str) -> None:
    """Its answer is JSON with each header in order, and with no credential's value."""
    secret = "\x00the-secret"
    told = answer([*headers, (name, secret)], address)
    assert "the-secret" not in told.decode()
    seen = json.loads(told)["headers"]
    assert [each[0] for each in seen] == [*(each for each, _ in headers), name]
    assert seen[-1][1] is None


@given(ADDRESSES, ADDRESSES, st.sampled_from(["{}", 'for="[{}]:80"', "unknown, {}", "x={};y"]), TEXT)
def test_our_own_address_is_found_wherever_it_stands(ours: str, theirs: str, shape: str, name: str) -> None:
    """In any header that was added our address makes a proxy transparent."""
    seen = Sighting(theirs, (("X-" + name, shape.format(ours)),))
    assert anonymity(Sighting(ours, ()), seen) == "transparent"
