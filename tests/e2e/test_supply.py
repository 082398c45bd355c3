"""The sources of a home: fetched, merged, remembered, and left alone where they fail."""

from __future__ import annotations

import contextlib
import gzip
import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxywhirl.errors import SettingsError, UnknownNameError
from proxywhirl.models import Attributes
from proxywhirl.runtime import Runtime
from proxywhirl.settings import Settings
from proxywhirl.supply import SourceOutcome, SourceReport
from proxywhirl.urls import parse

LIST = "203.0.113.1:8080\n203.0.113.2:3128\n203.0.113.3:99999\n"
OWN_ALONE = {"sources": {"catalogue": False}}  # no test may ask the internet


class WallClock:
    """A date that stands still until it is moved; calls, of threads too, are measured in real time."""

    def __init__(self) -> None:
        self._now = 1_782_864_000.0

    def now(self) -> float:
        """Return the date."""
        return self._now

    def monotonic(self) -> float:
        """Return the machine's time."""
        return time.monotonic()

    def advance(self, seconds: float) -> None:
        """Move the date forward."""
        self._now += seconds


@pytest.fixture
def clock() -> WallClock:
    """Give a date that stands still."""
    return WallClock()


@pytest.fixture
def open_home(tmp_path: Path, clock: WallClock) -> Iterator[Callable[[], Runtime]]:
    """Give a function that opens a runtime on the test's home, as often as it is called."""
    with contextlib.ExitStack() as opened:
        quick = {
            "sources": {
                "catalogue": False,
                "attempts": 1,
                "read_timeout": 1.0,
                "total_timeout": 3.0,
                "max_bytes": 1_000_000,
            }
        }

        def open_one() -> Runtime:
            settings = Settings.load(tmp_path / "home", overrides=quick)
            return opened.enter_context(Runtime(settings, clock=clock))

        yield open_one


@pytest.fixture
def runtime(open_home: Callable[[], Runtime]) -> Runtime:
    """Open a runtime."""
    return open_home()


def add(runtime: Runtime, url: str, name: str | None = None, **table: Any) -> str:
    """Add a source of the user's own; return its name."""
    (spec,) = runtime.supply.registry.add([(name, {"url": url, **table})], "test", Path("/"))
    return spec.name


def fetch(runtime: Runtime, *names: str, **options: Any) -> dict[str, SourceReport]:
    """Fetch, and return the reports by name."""
    return {report.name: report for report in runtime.supply.fetch(names, **options)}


def urls(runtime: Runtime) -> set[str]:
    """Return what is in the store."""
    return {entry.proxy_url for entry in runtime.cache.scan()}


def test_what_a_source_gives_lives_for_its_time(runtime: Runtime, lists: Any, clock: WallClock) -> None:
    """Its proxies have its name and its time to live; new, known and wrong ones are counted, the new ones by key."""
    add(runtime, lists.put("/l", LIST), "mine", ttl=600)
    report = fetch(runtime)["mine"]
    assert (report.outcome, report.new, report.known, report.rejected) == (SourceOutcome.FETCHED, 2, 0, 1)
    entries = list(runtime.cache.scan())
    assert {entry.key for entry in entries} == set(report.keys)
    assert {(entry.source, entry.ttl_seconds) for entry in entries} == {("mine", 600)}
    clock.advance(601)
    assert urls(runtime) == set()


def test_the_settings_go_before_the_time_of_a_definition(tmp_path: Path, lists: Any) -> None:
    """`cache.per_source_ttl` has the last word, by the name of the source."""
    settings = Settings.load(tmp_path / "home", overrides={"cache": {"per_source_ttl": {"mine": 77}}, **OWN_ALONE})
    with Runtime(settings) as runtime:
        add(runtime, lists.put("/l", LIST), "mine", ttl=600)
        add(runtime, lists.put("/n", "203.0.113.9:1\n"), "other", ttl="never")
        fetch(runtime)
        assert {entry.source: entry.ttl_seconds for entry in runtime.cache.scan()}["mine"] == 77
        never = next(entry for entry in runtime.cache.scan() if entry.source == "other")
        assert never.expires_at.year == 9999


def test_one_broken_source_never_spoils_the_others(runtime: Runtime, lists: Any) -> None:
    """Each has its own report; those that work are taken in."""
    bad = {
        "bomb": lists.put("/bomb", gzip.compress(bytes(50_000_000)), Content_Encoding="gzip"),
        "page": lists.put("/page", "<html><body>502 Bad Gateway</body></html>"),
        "gone": lists.url("/gone"),
        "circle": lists.put("/circle", "", "302 Found", Location="/circle"),
        "cut": lists.serve("/cut", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n203.0.113.77:80\n"),
        "file": "/no/such/file",
    }
    for name, url in bad.items():
        add(runtime, url, name)
    add(runtime, lists.put("/l", LIST), "good")
    reports = fetch(runtime)
    assert reports["good"].new == 2
    assert {name for name, report in reports.items() if report.outcome is SourceOutcome.FAILED} == set(bad)
    assert all(report.error for name, report in reports.items() if name in bad)
    assert urls(runtime) == {"http://203.0.113.1:8080", "http://203.0.113.2:3128"}


def test_what_the_user_removed_stays_removed(runtime: Runtime, lists: Any) -> None:
    """A source that offers it again does not bring it back, and says so."""
    name = add(runtime, lists.put("/l", LIST))
    first = fetch(runtime)[name]
    runtime.remove(first.keys[:1], "test")
    report = fetch(runtime)[name]
    assert (report.new, report.known, report.removed) == (0, 1, 1)
    assert len(urls(runtime)) == 1


def test_what_the_user_imported_to_stay_stays(runtime: Runtime, lists: Any, clock: WallClock) -> None:
    """A list that has it too neither ends its life nor takes it over; what came from a list is renewed by it."""
    runtime.take_in([(parse("bob:one@203.0.113.1:8080"), Attributes())], source="user", ttl=math.inf)
    name = add(runtime, lists.put("/l", "bob:two@203.0.113.1:8080\n203.0.113.2:3128\n"), ttl=600)
    report = fetch(runtime)[name]
    assert (report.new, report.known) == (1, 1)
    clock.advance(500)
    assert fetch(runtime)[name].known == 2
    clock.advance(500)
    entries = {entry.proxy_url: entry for entry in runtime.cache.scan()}
    assert set(entries) == {"http://203.0.113.1:8080", "http://203.0.113.2:3128"}
    own = entries["http://203.0.113.1:8080"]
    assert own.source == "user"
    assert own.password is not None
    assert own.password.get_secret_value() == "one"
    clock.advance(500)
    assert urls(runtime) == {"http://203.0.113.1:8080"}


def test_what_is_out_of_service_is_known(runtime: Runtime, lists: Any) -> None:
    """A proxy that failed is not new each time that a list offers it."""
    name = add(runtime, lists.put("/l", LIST))
    for key in fetch(runtime)[name].keys * 3:
        runtime.cache.invalidate_by_health(key)
    assert urls(runtime) == set()
    assert (fetch(runtime)[name].new, fetch(runtime)[name].known) == (0, 2)


def test_an_unchanged_list_is_not_sent_again_until_its_proxies_would_end(
    runtime: Runtime, lists: Any, clock: WallClock
) -> None:
    """A 304 renews no time to live: the list is asked for whole before what it gave ends."""
    name = add(runtime, lists.put("/l", LIST, ETag='"1"'), refresh=600, ttl=1500)

    def conditional() -> bool:
        report = fetch(runtime)[name]
        assert report.ok
        return "if-none-match" in lists.requests[-1].headers

    assert not conditional()
    lists.put("/l", "", "304 Not Modified")
    clock.advance(600)
    assert conditional()
    record = runtime.supply.registry.records()[name]
    assert (record.proxies, record.fetched_at) == (2, clock.now())
    assert {entry.fetch_time.timestamp() for entry in runtime.cache.scan()} == {clock.now() - 600}
    lists.put("/l", LIST, ETag='"1"')
    clock.advance(600)
    assert not conditional()
    assert {entry.fetch_time.timestamp() for entry in runtime.cache.scan()} == {clock.now()}


def test_a_list_is_asked_for_whole_when_nothing_of_it_is_left(runtime: Runtime, lists: Any) -> None:
    """After `clear` an unchanged list comes back; so it does when its definition changes."""
    url = lists.put("/l", LIST, ETag='"1"')
    name = add(runtime, url)
    fetch(runtime)
    runtime.clear()
    assert fetch(runtime)[name].new == 2
    add(runtime, url, name, scheme="socks5")
    assert fetch(runtime)[name].new == 2
    assert [("if-none-match" in asked.headers) for asked in lists.requests] == [False, False, False]


def test_a_limit_holds_for_all_sources_together(runtime: Runtime, lists: Any) -> None:
    """No more new ones are taken in; what was cut off comes whole the next time; the rest is skipped."""
    for number in range(1, 6):
        proxies = "".join(f"198.51.100.{number}:{port}\n" for port in range(1, 11))
        add(runtime, lists.put(f"/{number}", proxies, ETag='"1"'), f"s{number}")
    reports = fetch(runtime, limit=15)
    assert sum(report.new for report in reports.values()) == 15 == len(urls(runtime))
    outcomes = [report.outcome for report in reports.values()]
    assert outcomes.count(SourceOutcome.SKIPPED) == 3
    assert len(reports) == 5
    assert sum(report.new for report in fetch(runtime).values()) == 35


def test_a_limit_lets_known_ones_be_renewed(runtime: Runtime, lists: Any) -> None:
    """Only new ones are counted against it."""
    name = add(runtime, lists.put("/l", LIST))
    fetch(runtime)
    lists.put("/l", LIST + "203.0.113.4:1\n203.0.113.5:1\n")
    report = fetch(runtime, limit=1)[name]
    assert (report.new, report.known) == (1, 2)


def test_a_source_that_fails_again_rests(
    runtime: Runtime, open_home: Callable[[], Runtime], lists: Any, clock: WallClock
) -> None:
    """From the second failure on, for longer each time, in every process, unless it is named; a success ends it."""
    url = lists.put("/l", "", "404 Not Found")
    name = add(runtime, url)
    assert fetch(runtime)[name].error == "it answers 404"
    assert fetch(runtime)[name].outcome is SourceOutcome.FAILED
    resting = fetch(open_home())[name]
    assert resting.outcome is SourceOutcome.RESTING
    assert "after 2 failures" in str(resting.error)
    assert "it answers 404" in str(resting.error)
    assert len(lists.requests) == 2
    clock.advance(61)
    assert fetch(runtime)[name].outcome is SourceOutcome.FAILED
    clock.advance(61)
    assert fetch(runtime)[name].outcome is SourceOutcome.RESTING
    lists.put("/l", LIST)
    assert fetch(runtime, name)[name].outcome is SourceOutcome.FETCHED
    assert fetch(runtime)[name].ok


def test_a_pause_that_a_source_asks_for_is_kept(runtime: Runtime, lists: Any, clock: WallClock) -> None:
    """429 with Retry-After rests the source at once, for as long as it says."""
    name = add(runtime, lists.put("/l", "", "429 Too Many Requests", Retry_After="300"))
    assert fetch(runtime)[name].outcome is SourceOutcome.FAILED
    clock.advance(299)
    assert fetch(runtime)[name].outcome is SourceOutcome.RESTING
    clock.advance(2)
    assert fetch(runtime)[name].outcome is SourceOutcome.FAILED
    assert len(lists.requests) == 2


def test_only_those_that_are_due_are_asked_on_wish(runtime: Runtime, lists: Any, clock: WallClock) -> None:
    """A source is due when its refresh interval has passed, be it that it failed."""
    add(runtime, lists.put("/l", LIST), "often", refresh=60)
    add(runtime, lists.put("/m", LIST), "seldom", refresh=6000)
    add(runtime, lists.url("/gone"), "gone", refresh=60)
    assert set(fetch(runtime, due=True)) == {"often", "seldom", "gone"}
    assert fetch(runtime, due=True) == {}
    clock.advance(60)
    assert set(fetch(runtime, due=True)) == {"often", "gone"}


def test_switches_hold_for_every_process(runtime: Runtime, open_home: Callable[[], Runtime], lists: Any) -> None:
    """A source that is switched off is not asked unless it is named; adding it again switches it on."""
    url = lists.put("/l", LIST)
    name = add(runtime, url)
    other = open_home()
    runtime.supply.registry.switch([name], enabled=False)
    assert fetch(other) == {}
    assert fetch(other, name)[name].new == 2
    with pytest.raises(UnknownNameError, match=f"known: {name}"):
        runtime.supply.registry.switch([name, "nope"], enabled=True)
    add(other, url)
    assert set(fetch(runtime)) == {name}


def test_what_was_added_can_be_removed(runtime: Runtime, lists: Any, tmp_path: Path) -> None:
    """With what was learned of it; what stands in the user's file is the user's to remove."""
    name = add(runtime, lists.put("/l", LIST))
    fetch(runtime)
    runtime.supply.registry.remove([name])
    assert runtime.supply.registry.specs() == {}
    assert runtime.supply.registry.records() == {}
    (tmp_path / "home" / "sources.toml").write_text('[mine]\nurl = "list.txt"\n')
    with pytest.raises(SettingsError, match="was not added by a command"):
        runtime.supply.registry.remove(["mine"])
    with pytest.raises(SettingsError, match="there is a source 'mine' already"):
        add(runtime, "http://a.example/", "mine")
    with pytest.raises(SettingsError, match="is known as 'mine'"):
        add(runtime, str(tmp_path / "home" / "list.txt"))


def test_names_are_found_and_do_not_collide(runtime: Runtime) -> None:
    """Two lists of the same file name get two names; the same one again keeps its own."""
    assert add(runtime, "http://a.example/x/http.txt") == "a.example-http.txt"
    assert add(runtime, "http://a.example/y/http.txt") == "a.example-http.txt-2"
    assert add(runtime, "http://a.example/x/http.txt", scheme="socks4") == "a.example-http.txt"
    assert len(runtime.supply.registry.specs()) == 2


def test_definitions_are_added_all_or_none(runtime: Runtime) -> None:
    """A wrong one keeps the right ones out."""
    with pytest.raises(SettingsError, match="'b': url"):
        runtime.supply.registry.add([("a", {"url": "http://a.example/"}), ("b", {})], "test", Path("/"))
    assert runtime.supply.registry.specs() == {}


def test_a_damaged_note_costs_no_more_than_itself(
    runtime: Runtime, lists: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A definition that cannot be read any more is left out and told; a record is begun anew."""
    name = add(runtime, lists.put("/l", LIST))
    notes = runtime.supply.registry._notes
    notes.put_many("source", {"broken": '{"url": "http://a.example/", "format": "uninstalled"}', "worse": "{"})
    notes.put_many("source-record", {name: "[]"})
    assert fetch(runtime)[name].new == 2
    assert "'broken'" in caplog.text
    assert "unknown format 'uninstalled'" in caplog.text


def test_a_store_in_memory_has_sources_too(lists: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a home, what is added lives as long as the runtime."""
    monkeypatch.setenv("PROXYWHIRL_SOURCES_CATALOGUE", "false")
    with Runtime(Settings.in_memory()) as runtime:
        name = add(runtime, lists.put("/l", LIST))
        assert fetch(runtime)[name].new == 2
        runtime.supply.registry.remove([name])
        assert runtime.supply.registry.specs() == {}


def test_examining_takes_nothing_in(runtime: Runtime, lists: Any) -> None:
    """What a source would give is shown, and neither stored nor remembered."""
    name = add(runtime, lists.put("/l", LIST))
    found = runtime.supply.examine(runtime.supply.registry.specs()[name])
    assert (len(found.proxies), found.rejected) == (2, 1)
    assert urls(runtime) == set()
    assert runtime.supply.registry.records() == {}


def test_sources_are_asked_at_once_within_a_bound(tmp_path: Path, lists: Any) -> None:
    """As many as the setting says are under way together, and no more."""
    most = now = 0
    lock, together = threading.Lock(), threading.Barrier(3)

    def answer(connection: Any, _: object) -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        together.wait(10)
        with lock:
            now -= 1
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + LIST.encode())

    settings = Settings.load(tmp_path / "home", overrides={"sources": {"concurrency": 3, "catalogue": False}})
    with Runtime(settings) as runtime:
        for number in range(6):
            add(runtime, lists.serve(f"/{number}", answer), f"s{number}")
        assert all(report.ok for report in fetch(runtime).values())
    assert most == 3


def test_never_is_no_end(runtime: Runtime, lists: Any) -> None:
    """A source whose proxies live for ever is asked conditionally for ever."""
    name = add(runtime, lists.put("/l", LIST, ETag='"1"'), ttl="never")
    assert runtime.supply.registry.specs()[name].ttl == math.inf
    fetch(runtime)
    fetch(runtime)
    assert "if-none-match" in lists.requests[-1].headers
