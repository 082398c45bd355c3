"""Nothing is set up that is open to a network without credentials."""

from __future__ import annotations

import pytest

from proxywhirl.errors import GatewayError
from proxywhirl.gateway import GatewayOptions


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "LOCALHOST", "::1", "[::1]"])
def test_loopback_needs_no_credentials(host: str) -> None:
    """Addresses that only this machine reaches are open to it."""
    assert GatewayOptions(host=host).credentials is None


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "", "::", "[::]", "192.168.1.5", "example.com", "::ffff:10.0.0.1", "localhost.evil"]
)
def test_an_open_address_without_credentials_is_refused(host: str) -> None:
    """Any other address asks for credentials, and the error names the variables to set."""
    with pytest.raises(GatewayError, match=r"PROXYWHIRL_GATEWAY_USERNAME and PROXYWHIRL_GATEWAY_PASSWORD"):
        GatewayOptions(host=host)
    assert GatewayOptions(host=host, credentials=("me", "s3cret")).host == host


def test_the_credentials_are_not_shown() -> None:
    """The repr of the options is safe to log."""
    assert "s3cret" not in repr(GatewayOptions(credentials=("me", "s3cret")))


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": -1},
        {"port": 65536},
        {"attempt_timeout": 0},
        {"total_timeout": -1.0},
        {"idle_timeout": float("nan")},
        {"header_timeout": 0},
        {"max_connections": 0},
        {"credentials": ("", "x")},
        {"credentials": ("x", "")},
        {"credentials": ("a:b", "x")},
    ],
)
def test_impossible_values_are_refused(wrong: dict[str, object]) -> None:
    """What cannot work is an error when the options are made, not when the first client comes."""
    with pytest.raises(GatewayError):
        GatewayOptions(**wrong)  # type: ignore[arg-type] # the wrong values are the test
