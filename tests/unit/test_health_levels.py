"""Levels, and what a level needs."""

from __future__ import annotations

from random import Random

import pytest

from proxywhirl.errors import ProxyURLError, SettingsError
from proxywhirl.health.levels import Level, ProbeResult, Stage
from proxywhirl.health.probe import Prober
from proxywhirl.models import Target

PLAIN, SEALED = "http://judge.example/", "https://judge.example/"
HTTPS = Target.parse("https://shop.example")


def test_each_level_includes_those_before_it() -> None:
    """The order is that of the definition."""
    order = ["tcp", "handshake", "http", "tls", "full"]
    assert [level.value for level in Level] == order
    assert [level.value for level in sorted(Level, key=lambda level: level.rank)] == order
    assert [level for level in Level if Level.HTTP.includes(level)] == [Level.TCP, Level.HANDSHAKE, Level.HTTP]


@pytest.mark.parametrize(
    ("level", "judges", "target", "missing"),
    [
        (Level.TCP, [], None, None),
        (Level.HANDSHAKE, [], None, "target or a judge"),
        (Level.HANDSHAKE, [], HTTPS, None),
        (Level.HANDSHAKE, [SEALED], None, None),
        (Level.HTTP, [], HTTPS, "judge with an http:// URL"),
        (Level.HTTP, [SEALED], None, "judge with an http:// URL"),
        (Level.HTTP, [PLAIN], None, None),
        (Level.TLS, [PLAIN], None, "https:// target, or a judge with an https:// URL"),
        (Level.TLS, [PLAIN], Target.parse("http://shop.example"), "https:// target"),
        (Level.TLS, [PLAIN], HTTPS, None),
        (Level.FULL, [PLAIN], None, "https:// target, or a judge with an https:// URL"),
        (Level.FULL, [PLAIN, SEALED], None, None),
    ],
)
def test_what_a_level_lacks_is_said(
    level: Level, judges: list[str], target: Target | None, missing: str | None
) -> None:
    """A level that cannot be reached for want of a judge or a target is refused before anything is sent."""
    prober = Prober(judges=judges, target=target, rng=Random(0))
    if missing is None:
        prober.require(level)
    else:
        with pytest.raises(SettingsError, match=missing):
            prober.require(level)


def test_impossible_arguments_are_refused() -> None:
    """A timeout is above zero, and a judge a URL."""
    for timeout in (0, -1, float("nan")):
        with pytest.raises(SettingsError, match="above 0 seconds"):
            Prober(timeout=timeout)
    with pytest.raises(ProxyURLError):
        Prober(judges=["judge"])


def test_a_result_adds_up_its_stages() -> None:
    """Seconds and bytes are those of all stages; it is good where it has no error."""
    stages = (Stage(Level.TCP, 0.5, 0, 0), Stage(Level.HANDSHAKE, 1.0, 59, 39))
    good = ProbeResult("k", Level.HANDSHAKE, Level.HANDSHAKE, stages, 1.0)
    assert (good.ok, good.latency, good.bytes_up, good.bytes_down) == (True, 1.5, 59, 39)
    assert not ProbeResult("k", Level.HANDSHAKE, Level.TCP, stages, 1.0, error="http://h:1 said no").ok
