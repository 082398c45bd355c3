"""What the answers of vendors' gateways say of who is to blame."""

from __future__ import annotations

import pytest

from proxywhirl.checkups import _told_by_vendor
from proxywhirl.errors import AccountRefused, Blame, TargetUnreachable
from proxywhirl.urls import ProxyURL
from proxywhirl.vendors.decoding import decode, decode_failure
from proxywhirl.vendors.provider import providers

THROUGH = Blame.TARGET_THROUGH_PROXY
NOT_OURS = {b"content-type": b"text/html"}


@pytest.mark.parametrize(
    ("provider", "status", "headers", "blame", "rule"),
    [
        ("brightdata", 407, {b"X-BRD-Err-Code": b"client_10020"}, Blame.ACCOUNT, "client_10020"),
        ("brightdata", 502, {b"x-brd-err-code": b"client_10100"}, Blame.ACCOUNT, "client_10100"),
        ("brightdata", 502, {b"x-brd-err-code": b"peer_30030"}, Blame.PROXY, "peer_30030"),
        ("brightdata", 403, {b"x-brd-err-code": b"policy_20050"}, THROUGH, "policy_20050"),
        ("brightdata", 502, {b"x-brd-err-code": b"target_40001"}, Blame.TARGET, "target_40001"),
        ("brightdata", 403, {b"x-brd-err-code": b"client_10080"}, Blame.US, "client_10080"),
        ("brightdata", 407, {b"x-brd-err-code": b"client_19999"}, Blame.ACCOUNT, "client"),
        (
            "brightdata",
            400,
            {b"proxy-status": b'brd.superproxy.io; received-status=400; details="client-10060: Requested IP"'},
            Blame.PROXY,
            "client_10060",
        ),
        ("brightdata", 403, {b"x-luminati-error": b"Forbidden: this URL isn't supported"}, THROUGH, "forbidden"),
        ("brightdata", 502, {}, Blame.PROXY, "502"),
        ("oxylabs", 407, {b"x-error-description": b"traffic limit reached"}, Blame.ACCOUNT, "traffic-limit"),
        ("oxylabs", 403, {b"x-error-description": b"restricted target"}, THROUGH, "restricted-target"),
        ("oxylabs", 502, {b"x-error-description": b"Bad gateway: session failed."}, Blame.PROXY, "session-ended"),
        ("oxylabs", 504, {b"x-error-description": b"Timeout: target unreachable."}, THROUGH, "target-unreachable"),
        ("oxylabs", 522, {}, Blame.PROXY, "gateway"),
        ("decodo", 502, {}, Blame.PROXY, "502"),
        ("decodo", 407, {}, Blame.ACCOUNT, "407"),
        ("iproyal", 503, {}, Blame.PROXY, "no-exit"),
        ("iproyal", 410, {}, Blame.PROXY, "session-ended"),
        ("soax", 407, {b"x-soax-error": b"AUTH_FAILED"}, Blame.ACCOUNT, "AUTH_FAILED"),
        ("soax-rules", 503, {b"x-soax-error": b"BOUND_NODE_FAILED"}, Blame.PROXY, "BOUND_NODE_FAILED"),
        ("soax-rules", 502, {b"x-soax-error": b"SOMETHING_NEW"}, Blame.PROXY, "node"),
        ("netnut", 403, {}, THROUGH, "403"),
        ("netnut", 490, {}, Blame.PROXY, "no-exit"),
        ("geonode", 466, {}, Blame.ACCOUNT, "account"),
        ("geonode", 503, {}, Blame.PROXY, "gateway"),
        ("evomi", 412, {}, Blame.PROXY, "no-exit"),
    ],
)  # fmt: skip
def test_a_refused_tunnel_is_blamed_as_the_vendor_says(
    provider: str, status: int, headers: dict[bytes, bytes], blame: Blame, rule: str
) -> None:
    """A quota is the account's, an exit that is gone the proxy's, a policy the target's through this proxy."""
    verdict = decode(provider, status, (NOT_OURS | headers).items())
    assert verdict is not None
    assert (verdict.blame, verdict.rule, verdict.retry_after) == (blame, f"{provider}:{rule}", None)


def test_a_rate_is_waited_for_as_long_as_it_says() -> None:
    """Retry-After in seconds goes along; a date, or what is no number, does not."""
    limited = [(b"x-brd-err-code", b"policy_20220")]
    for value, seconds in ((b"30", 30.0), (b" 5 ", 5.0), (b"Fri, 27 Nov 2026 07:00:00 GMT", None), (b"-1", None)):
        verdict = decode("brightdata", 429, [*limited, (b"Retry-After", value)])
        assert verdict is not None
        assert (verdict.blame, verdict.retry_after) == (Blame.TARGET_THROUGH_PROXY, seconds)


def test_a_targets_own_answer_is_not_the_vendors() -> None:
    """Without the vendor's header a forwarded answer says nothing, whatever its status; a refused tunnel does."""
    for name in providers():
        for status in (200, 403, 407, 429, 502, 503):
            assert decode(name, status, NOT_OURS.items(), tunnel=False) is None
    verdict = decode("brightdata", 402, [(b"x-brd-err-code", b"policy_20140")], tunnel=False)
    assert verdict is not None
    assert verdict.rule == "brightdata:policy_20140"


def test_nothing_of_a_header_is_shown_but_known_codes() -> None:
    """A gateway that echoes the credential finds nothing of it in a verdict."""
    echo = b"bob:s3cret client_s3cret Auth failed for s3cret, zone s3cret"
    for name, vendor in providers().items():
        headers = [(header, echo) for rule in vendor.errors for header in rule.headers]
        for status in (400, 403, 407, 502):
            for verdict in (decode(name, status, headers), decode(name, status, headers, tunnel=False)):
                assert "s3cret" not in repr(verdict)


def test_whoever_is_no_vendor_says_nothing() -> None:
    """No provider, an unknown one, and an answer that no rule knows: the verdict is others'."""
    coded = [(b"x-brd-err-code", b"client_10020")]
    assert decode(None, 407, coded) is None
    assert decode("Acme", 407, coded) is None
    assert decode("iproyal", 418, coded) is None


def test_an_error_is_decoded_where_it_was_a_refusal() -> None:
    """The status and headers that the error carries are what is decoded; without them there is nothing."""
    failure = TargetUnreachable("answered CONNECT with 502")
    assert decode_failure("brightdata", failure) is None
    failure.refusal = 502, ((b"x-brd-err-code", b"client_10100"),)
    assert decode_failure(None, failure) is None
    for error in (failure, failure.about("http://203.0.113.7:80")):
        verdict = decode_failure("brightdata", error)
        assert verdict is not None
        assert verdict.blame is Blame.ACCOUNT
    assert str(failure.about("http://203.0.113.7:80")).startswith("http://203.0.113.7:80 answered")
    assert AccountRefused("no").about("x").refusal is None


def test_a_check_asks_the_vendor_at_the_host() -> None:
    """What a gateway answers to a check is decoded by its host; anybody else's answer is not."""
    failure = TargetUnreachable("answered CONNECT with 502")
    assert _told_by_vendor(ProxyURL("http", "brd.superproxy.io", 33335), failure) is None
    failure.refusal = 502, ((b"x-brd-err-code", b"client_10100"),)
    assert _told_by_vendor(ProxyURL("http", "brd.superproxy.io", 33335), failure) is Blame.ACCOUNT
    assert _told_by_vendor(ProxyURL("http", "203.0.113.7", 80), failure) is None
