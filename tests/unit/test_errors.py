"""The tree of errors: complete, told in one place, and each failure names whom it blames."""

from __future__ import annotations

import pytest

from proxywhirl import errors
from proxywhirl.errors import (
    AccountRefused,
    Blame,
    ForgedAnswer,
    InterceptedTLS,
    LocalFailure,
    ProxyFailed,
    ProxyWhirlError,
    TargetFailed,
    TargetUnreachable,
    UnknownNameError,
    UpstreamError,
)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Geonod", "nearest: geonode-http, geonode-socks5; `list` lists all 22"),
        ("nowhere", "`list` lists all 22"),
    ],
)
def test_of_many_known_names_the_nearest_are_told(name: str, told: str) -> None:
    """A line that lists a hundred names helps nobody; one that lists twenty does."""
    few = [str(number) for number in range(20)]
    many = [*few, "geonode-http", "geonode-socks5"]
    assert str(UnknownNameError("source", name, many, listed_by="`list`")) == f"unknown source {name!r}; {told}"
    assert str(UnknownNameError("source", name, few, listed_by="`list`")).endswith(f"known: {', '.join(sorted(few))}")


@pytest.mark.parametrize(
    ("kind", "blame"),
    [
        (UpstreamError, Blame.PROXY),
        (ProxyFailed, Blame.PROXY),
        (ForgedAnswer, Blame.PROXY),
        (InterceptedTLS, Blame.PROXY),
        (AccountRefused, Blame.ACCOUNT),
        (TargetUnreachable, Blame.TARGET_THROUGH_PROXY),
        (TargetFailed, Blame.TARGET),
        (LocalFailure, Blame.US),
    ],
)
def test_a_failure_blames_by_its_type(kind: type[UpstreamError], blame: Blame) -> None:
    """With the proxy's name before its words it is the same failure, with all that it knows."""
    failure = kind("hung up")
    failure.cut, failure.refusal, failure.silent = True, (503, ((b"x-error", b"busy"),)), True
    named = failure.about("http://192.0.2.1:80")
    assert (type(named), named.blame, str(named)) == (kind, blame, "http://192.0.2.1:80 hung up")
    assert (named.refusal, named.silent, named.cut) == (failure.refusal, True, True)
    assert isinstance(named, ProxyWhirlError)


def test_a_failure_without_a_word_on_blame_blames_as_its_base_does() -> None:
    """Who refines a failure need not say again whose it is."""

    class QuotaSpent(AccountRefused):
        """An example."""

    assert QuotaSpent.blame is Blame.ACCOUNT


def test_the_tree_that_is_drawn_is_whole() -> None:
    """Every error of the module stands in its docstring, and is caught by the root."""
    assert errors.__doc__ is not None
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ProxyWhirlError)]
    assert len(kinds) > 20
    assert all(kind.__name__ in errors.__doc__ for kind in kinds)
