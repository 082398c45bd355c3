"""What is of the wrong kind is refused where it is given, in words that say what to give."""

from __future__ import annotations

import random
import ssl
from http import HTTPStatus
from typing import Any

import pytest

from proxywhirl import Attributes, Limits, Outcome, Pool, ProxyWhirl, SessionPolicy, WhirlTransport, vendor_sessions
from proxywhirl.rotation.retries.send_policy import RetryPolicy
from proxywhirl.testing import ManualClock
from proxywhirl.urls import parse

URLS = ["http://192.0.2.1:80", "http://192.0.2.2:80"]


def pool_of(**options: Any) -> Pool:
    """Make a pool of two."""
    return Pool.of(URLS, **{"clock": ManualClock(), "rng": random.Random(1), **options})


ASKED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"exclude": "abc"}, TypeError, "put it in brackets"),
    ({"exclude": b"abc"}, TypeError, "put it in brackets"),
    ({"exclude": 5}, TypeError, "a set or a list of keys"),
    ({"exclude": iter(["abc"])}, TypeError, "an iterator"),
    ({"exclude": [5]}, TypeError, "such as lease.proxy.key, not int"),
    ({"exclude": [5], "country": "DE"}, TypeError, "such as lease.proxy.key, not int"),
    ({"session": 5}, ValueError, "a session is a text"),
    ({"session": ("bob", "s3cret")}, ValueError, "a session is a text that is not empty, not tuple$"),
    ({"target": 5}, TypeError, "a URL or a Target, not int"),
    ({"target": b"http://t.test/"}, TypeError, "a URL or a Target, not bytes"),
    ({"country": 5}, ValueError, "country must be a text"),
    ({"connect": "yes"}, ValueError, "True or False"),
]
HELD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"exclusive": "no"}, TypeError, "exclusive must be True or False, not str"),
    ({"exclusive": 1, "ttl": 5}, TypeError, "exclusive must be True or False, not int"),
    ({"exclusive": True, "ttl": "5"}, TypeError, "ttl must be a number of seconds, not str"),
    ({"exclusive": True, "ttl": True}, TypeError, "ttl must be a number of seconds, not bool"),
    ({"exclusive": True, "ttl": float("nan")}, ValueError, "ttl must be more than 0 seconds"),
    ({"exclusive": True, "ttl": float("inf")}, ValueError, "finite"),
]


@pytest.mark.parametrize(("asked", "kind", "words"), ASKED + HELD)
def test_what_a_pool_is_asked_is_of_its_kind(asked: dict[str, Any], kind: type[Exception], words: str) -> None:
    """No wrong argument is taken for another one, or for none."""
    with pytest.raises(kind, match=words):
        pool_of().acquire(**asked)


@pytest.mark.parametrize(("asked", "kind", "words"), ASKED)
def test_what_is_to_be_explained_is_of_its_kind(asked: dict[str, Any], kind: type[Exception], words: str) -> None:
    """The same is refused with the same words."""
    with pytest.raises(kind, match=words):
        pool_of().explain(**asked)


@pytest.mark.parametrize("nobody", [None, (), [], set(), {}])
def test_nobody_is_excluded_by_nothing(nobody: Any) -> None:
    """None and an empty collection exclude nobody, whatever else is asked."""
    assert pool_of().acquire("http://t.test/", exclude=nobody, scheme="http").proxy
    assert pool_of().explain(exclude=nobody).eligible == 2


@pytest.mark.parametrize("reported", ["ok", True, None])
def test_a_report_that_is_none_leaves_the_lease_as_it_was(reported: Any) -> None:
    """It can still be reported, and its place among the uses in flight is not lost."""
    pool = pool_of()
    lease = pool.acquire()
    with pytest.raises(TypeError, match="report takes an Outcome"):
        lease.report(reported)
    lease.report(Outcome(True))
    assert [use.in_flight for use in pool.snapshot()] == [0, 0]


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"strategy": 5}, TypeError, "strategy must be a name"),
        ({"rng": 5}, TypeError, "rng must be a random.Random"),
        ({"limits": {"in_flight": 1}}, TypeError, "limits must be a value of Limits, not dict"),
        ({"sessions": 600}, TypeError, "sessions must be a SessionPolicy"),
    ],
)
def test_a_pool_is_made_of_what_it_says(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    """Not the first request finds out, which may come much later."""
    with pytest.raises(kind, match=words):
        pool_of(**options)


@pytest.mark.parametrize("urls", ["http://192.0.2.1:80", [5], [None]])
def test_a_pool_is_of_a_list(urls: Any) -> None:
    """A lone URL is no list of letters, and what is no URL is said to be none."""
    with pytest.raises(TypeError, match=r"put it in brackets|a URL as text or a ProxyURL"):
        Pool.of(urls)


def test_proxies_and_keys_are_told_apart() -> None:
    """What a pool takes in are proxies, what it forgets are several keys."""
    url: Any = "http://192.0.2.3:80"
    with pytest.raises(TypeError, match=r"Proxy\.of makes it of a URL"):
        pool_of().update([url])
    with pytest.raises(TypeError, match="put it in brackets"):
        pool_of().discard("abc")


@pytest.mark.parametrize(
    ("kind", "values", "error", "words"),
    [
        (Limits, {"requests_per_second": "5"}, TypeError, "must be a number, not str; leave it out for no limit"),
        (Limits, {"in_flight": 1.5}, TypeError, "a whole number, not float"),
        (Limits, {"cooldown": True}, TypeError, "must be a number, not bool"),
        (Limits, {"cooldown": float("nan")}, ValueError, "more than 0, not nan"),
        (SessionPolicy, {"ttl": "5"}, TypeError, "a session's ttl must be a number of seconds"),
        (SessionPolicy, {"idle": 0}, ValueError, "a session's idle must be more than 0 seconds"),
        (SessionPolicy, {"hard": "no"}, TypeError, "True or False"),
        (RetryPolicy, {"attempts": "5"}, TypeError, "attempts must be a whole number, not str"),
        (RetryPolicy, {"rounds": 1.5}, TypeError, "rounds must be a whole number, not float"),
        (RetryPolicy, {"unsafe": "no"}, TypeError, "unsafe must be True or False, not str"),
    ],
)
def test_policies_are_numbers(kind: type, values: dict[str, Any], error: type[Exception], words: str) -> None:
    """A limit that nobody could keep, or that nobody meant, is refused when it is made."""
    with pytest.raises(error, match=words):
        kind(**values)


@pytest.mark.parametrize(
    ("within", "kind", "words"),
    [
        ("5", TypeError, "within must be a number of seconds, not str; leave it out for no deadline"),
        (True, TypeError, "within must be a number of seconds, not bool"),
        (0, ValueError, "within must be more than 0 seconds, not 0"),
        (float("nan"), ValueError, "within must be more than 0 seconds, not nan"),
    ],
)
def test_a_deadline_is_a_number_of_seconds(within: Any, kind: type[Exception], words: str) -> None:
    """A pool refuses a time in which nothing can be answered, where a proxy is asked for and where it explains."""
    pool = pool_of()
    for ask in (pool.acquire, pool.explain):
        with pytest.raises(kind, match=words):
            ask(within=within)


@pytest.mark.parametrize(("worth", "kind"), [("1", TypeError), (0, ValueError), (-1.0, ValueError)])
def test_what_a_success_is_worth_is_an_amount(worth: Any, kind: type[Exception]) -> None:
    """A success that is worth nothing would leave nothing to weigh a price against."""
    with pytest.raises(kind, match="success_worth must be"):
        Pool.of(URLS, success_worth=worth)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"pool": URLS}, TypeError, "pool must be a Pool, not list"),
        ({"attempt_timeout": "5"}, TypeError, "attempt_timeout must be a number of seconds"),
        ({"total_timeout": 0}, ValueError, "total_timeout must be more than 0 seconds"),
        ({"max_identities": 1.5}, TypeError, "a whole number"),
        ({"tls": True}, TypeError, "an ssl.SSLContext or None, not bool"),
        ({"proxy_tls": "ca.pem"}, TypeError, "an ssl.SSLContext or None, not str"),
        ({"conduct": 3}, TypeError, "a SendPolicy or None"),
    ],
)
def test_a_transport_is_made_of_what_it_says(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    """A timeout that is a text does not wait for the first request to fail."""
    with pytest.raises(kind, match=words):
        WhirlTransport(**{"pool": pool_of(), **options})


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"proxies": 5}, TypeError, "a list of proxy URLs, not int"),
        ({"home": 5}, TypeError, "the path of a directory"),
        ({"strategy": 5}, TypeError, "a name or None"),
        ({"timeout": "5"}, TypeError, "timeout must be a number of seconds"),
        ({"timeout": -1}, ValueError, "timeout must be more than 0 seconds"),
        ({"tls": False}, TypeError, "an ssl.SSLContext or None, not bool"),
        ({"follow_redirects": "no"}, TypeError, "follow_redirects must be True or False"),
        ({"monitor": "no"}, TypeError, "monitor must be True or False"),
    ],
)
def test_a_client_is_made_of_what_it_says(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    """Nothing is opened and no thread begun where an argument is wrong."""
    with pytest.raises(kind, match=words):
        ProxyWhirl(**{"proxies": URLS, **options})


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"session": 5}, ValueError, "a session is a text"),
        ({"session": ""}, ValueError, "a session is a text"),
        ({"wish": "de"}, TypeError, "wish must be a mapping such as"),
        ({"wish": [("country", "de")]}, TypeError, "wish must be a mapping such as"),
        ({"wish": {"session": "a"}}, ValueError, "session is no wish for a proxy but an argument of its own"),
        ({"wish": {"retry_unsafe": True}}, ValueError, "retry_unsafe is no wish"),
        ({"wish": {"land": "de"}}, ValueError, "there is no filter 'land'"),
        ({"retry_unsafe": "no"}, ValueError, "True or False"),
    ],
)
def test_what_a_request_wishes_is_of_its_kind(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    """Nothing is sent, and no wish is lost."""
    with ProxyWhirl(proxies=URLS, tls=ssl.create_default_context()) as whirl:
        with pytest.raises(kind, match=words):
            whirl.get("http://t.test/", **options)
        method: Any = 5
        with pytest.raises(TypeError, match="method must be a text"):
            whirl.request(method, "http://t.test/")


@pytest.mark.parametrize(
    ("values", "kind", "words"),
    [
        ({"ok": "no"}, TypeError, "ok must be True or False, not str"),
        ({"ok": None}, TypeError, "ok must be True or False, not NoneType"),
        ({"ok": False, "blame": "us"}, TypeError, "blame must be a Blame, such as Blame.PROXY"),
        ({"ok": True, "status": "200"}, TypeError, "status must be a number or None, not str"),
        ({"ok": True, "latency": "0.1"}, TypeError, "latency must be a number of seconds or None, not str"),
        ({"ok": True, "latency": -0.1}, ValueError, "latency must be 0 seconds or more and finite"),
        ({"ok": True, "latency": float("nan")}, ValueError, "latency must be 0 seconds or more and finite"),
        ({"ok": True, "latency": float("inf")}, ValueError, "latency must be 0 seconds or more and finite"),
    ],
)
def test_an_outcome_is_one(values: dict[str, Any], kind: type[Exception], words: str) -> None:
    """A pool learns from it for long: one that is no number would spoil an average for ever."""
    with pytest.raises(kind, match=words):
        Outcome(**values)


def test_what_is_no_float_is_a_latency_and_a_status_too() -> None:
    """Whole seconds, and the standard library's names for statuses."""
    outcome = Outcome(True, latency=0, status=HTTPStatus.OK)
    assert (outcome.latency, outcome.status) == (0, 200)


def test_one_tag_is_not_taken_for_its_letters() -> None:
    """A text is a collection of texts too, which nobody means."""
    tags: Any = "shop"
    with pytest.raises(TypeError, match="tags must be several, not one text: put it in brackets"):
        Attributes(tags=tags)


def test_sessions_are_made_of_a_parsed_line() -> None:
    """A text would have to be parsed first, and how many is a number; neither is repeated."""
    line: Any = "http://bob:s3cret@geo.iproyal.com:12321"
    with pytest.raises(TypeError, match=r"^line must be a ProxyURL: proxywhirl\.urls\.parse .*, not str$"):
        vendor_sessions(line, 3)
    count: Any = "3"
    with pytest.raises(TypeError, match="count must be a whole number of sessions, not str"):
        vendor_sessions(parse(line), count)
