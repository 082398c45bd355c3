"""`proxywhirl show`: the whole story of one proxy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxywhirl.models import Attributes, Outcome
from proxywhirl.runtime import Runtime
from proxywhirl.settings import Settings
from proxywhirl.urls import parse

Run = Callable[..., Any]

URL = "http://alice:s3cret@192.0.2.7:8080"
KEY = parse(URL).key


def use(home: Path, *outcomes: Outcome) -> None:
    """Have a program use the proxy with these outcomes."""
    with Runtime(Settings.load(home)) as runtime:
        known = Attributes(country="DE", city="Berlin", asn=64500, price_per_gb=2.5, provider="acme")
        runtime.take_in([(parse(URL), known)], source="mine", ttl=1e9)
        runtime.start()
        for outcome in outcomes:
            with runtime.pool.acquire() as lease:
                lease.report(outcome)


def rows(text: str) -> dict[str, str]:
    """Return what was printed, by name."""
    pairs = (line.split("  ", 1) for line in text.splitlines())
    return {name.strip(): value.strip() for name, value in pairs}


def test_a_proxy_tells_its_story(run: Run, home: Path) -> None:
    """What it is, how it did, and when it is checked next and why; never its credential."""
    use(home, Outcome(True, latency=0.1), Outcome(True, latency=0.8), Outcome(False, latency=3.0, error="timed out"))
    ended = run("show", KEY)
    shown = rows(ended.out)
    assert ended.code == 0
    assert (shown["key"], shown["proxy"]) == (KEY, "http://192.0.2.7:8080")
    assert shown["place"] == "Berlin, DE (AS64500)"
    assert (shown["provider"], shown["price"]) == ("acme", "2.5 per GB")
    assert shown["status"] == "degraded"
    assert shown["checks"].startswith("3, 1 of them failed; last 0:00:0")
    assert shown["error"] == "timed out"
    assert shown["next check"].endswith("it failed once, and the back-off doubles with each")
    assert shown["outcomes"].startswith("last 3: 67% good")
    assert shown["latency"] == "▁█✗"
    assert "s3cret" not in ended.out + ended.err
    assert "alice" not in ended.out + ended.err


def test_it_is_found_by_its_url_and_told_to_programs(run: Run, home: Path) -> None:
    """JSON has the entry, the outcomes and their figures."""
    use(home, Outcome(True, latency=0.25))
    told = run("show", URL, "--json").json
    assert told["entry"]["key"] == KEY
    assert told["entry"]["password"] == "***"
    assert told["in_service"] is True
    assert told["summary"]["latency_p50"] == 0.25
    assert [(outcome["ok"], outcome["latency"]) for outcome in told["outcomes"]] == [(True, 0.25)]


def test_one_that_was_never_used_has_little_to_tell(run: Run) -> None:
    """What is not known takes no line, and looking is no use."""
    run("add", URL)
    for _ in range(2):
        shown = rows(run("show", KEY).out)
    assert shown["used"] == "0 times"
    assert shown["checks"] == "none yet"
    assert shown["next check"] == "due now: it was never checked"
    assert not {"place", "latency", "error", "price"} & set(shown)


def test_one_out_of_service_is_shown_and_said_so(run: Run, home: Path) -> None:
    """What was retired is still there with its history."""
    run("add", URL)
    with Runtime(Settings.load(home)) as runtime:
        for _ in range(3):
            runtime.cache.invalidate_by_health(KEY)
    assert rows(run("show", KEY).out)["status"].endswith("out of service")


def test_one_that_is_not_there_is_an_error(run: Run) -> None:
    """The message says where keys are to be found."""
    for key in ("0123456789abcdef", "nope"):
        ended = run("show", key)
        assert ended.code == 1
        assert f"there is no proxy {key}: `proxywhirl list` shows the keys" in ended.err


def test_what_is_removed_takes_its_history_along(run: Run, home: Path) -> None:
    """Added again, it begins anew."""
    use(home, Outcome(True, latency=0.25))
    run("remove", URL)
    run("add", URL)
    assert rows(run("show", KEY).out)["outcomes"] == "none yet"
