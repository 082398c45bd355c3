"""`proxywhirl list`, `add`, `remove`, `clear` and `stats`."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proxywhirl.cache.models import CacheStatistics
from proxywhirl.models import HealthCheck, HealthStatus
from proxywhirl.runtime import Runtime
from proxywhirl.settings import Settings

Run = Callable[..., Any]

LIST = """\
203.0.113.1:80
socks5://alice:s3cret@203.0.113.2:1080
socks5://bob:s3cret@203.0.113.2:1080
http://203.0.113.3:3128
"""


@pytest.fixture
def filled(run: Run) -> Run:
    """Import four proxies from two sources and give the runner."""
    run("import", "-", "--source", "shop", "--tag", "fast", "--country", "DE", stdin=LIST)
    run("add", "203.0.113.4:80")
    return run


def urls(run: Run, *filters: object) -> list[str]:
    """Return the sorted URLs that `list` shows."""
    return sorted(row[1] for row in run("list", *filters).rows)


def test_list_is_a_table_of_tabs_in_a_pipe(filled: Run) -> None:
    """A header and a line for each entry, the username replaced by a label."""
    done = filled("list", "--scheme", "socks5")
    header, *rows = (line.split("\t") for line in done.out.splitlines())
    assert header == ["KEY", "PROXY", "LABEL", "STATUS", "CC", "SOURCE", "EXPIRES", "USED"]
    assert [row[1:2] + row[3:] for row in rows] == [
        ["socks5://203.0.113.2:1080", "unknown", "DE", "shop", "never", "0"]
    ] * 2
    assert all(row[2] == f"user-{row[0][:6]}" for row in rows)


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        (("--scheme", "http"), 3),
        (("--source", "user"), 1),
        (("--country", "de"), 4),
        (("--tag", "fast"), 4),
        (("--tag", "slow"), 0),
        (("--status", "healthy"), 0),
        (("--status", "unknown"), 5),
        (("--country", "DE", "--scheme", "http"), 2),
        (("--limit", "2"), 2),
        (("--retired",), 0),
    ],
)
def test_filters_narrow_the_list(filled: Run, filters: tuple[str, ...], count: int) -> None:
    """Each filter, and all of them together, leave what fits."""
    assert len(filled("list", *filters).rows) == count
    assert len(filled("list", "--json", *filters).out.splitlines()) == count


def test_json_lines_hold_no_secret(filled: Run) -> None:
    """Every line is an entry, and a credential in it reads `***`."""
    out = filled("list", "--json").out
    entries = [json.loads(line) for line in out.splitlines()]
    assert {entry["password"] for entry in entries} == {None, "***"}
    assert "s3cret" not in out
    assert "alice" not in out


def test_retired_and_healthy_entries_are_found(filled: Run, home: Path) -> None:
    """What the cache knows of health is what the list shows."""
    healthy, failing = (row[0] for row in filled("list", "--scheme", "socks5").rows)
    with Runtime(Settings.load(home)) as runtime:
        now = datetime.now(UTC).timestamp()
        runtime.cache.record_check(healthy, HealthCheck(ok=True, status=HealthStatus.HEALTHY, at=now))
        for _ in range(3):
            runtime.cache.invalidate_by_health(failing)
    assert [row[0] for row in filled("list", "--status", "healthy").rows] == [healthy]
    (retired,) = filled("list", "--retired").rows
    assert retired[0] == failing
    assert filled("list", "--source", "nobody").err.startswith("none in service; ")
    assert filled("remove", failing).code == 0
    assert filled("list", "--retired").rows == []
    assert filled("list", "--source", "nobody").err == ""
    assert [row[:2] for row in filled("list", "--removed").rows] == [retired[:2]]


def test_what_is_out_of_service_is_said_when_it_is_added_again(run: Run, home: Path) -> None:
    """As it is known it stays so, and stderr says it; a new password renews it and brings it back."""
    run("add", "http://alice:one@203.0.113.1:80")
    (row,) = run("list").rows
    with Runtime(Settings.load(home)) as runtime:
        for _ in range(3):
            runtime.cache.invalidate_by_health(row[0])
    done = run("add", "http://alice:one@203.0.113.1:80")
    assert (done.code, done.out.partition(":")[0]) == (0, "known already")
    assert "http://203.0.113.1:80 is out of service, and tried now and then: see `show" in done.err
    done = run("add", "http://alice:two@203.0.113.1:80")
    assert (done.out.partition(" ")[0], done.err) == ("renewed", "")
    assert [row[0] for row in run("list").rows] == [row[0]]


def test_an_export_has_what_is_out_of_service(run: Run, home: Path, tmp_path: Path) -> None:
    """With its failures: read into another home it serves again, until it fails once more."""
    run("add", "http://alice:one@203.0.113.1:80", "http://203.0.113.2:80")
    key = next(row[0] for row in run("list").rows if row[2])
    with Runtime(Settings.load(home)) as runtime:
        for _ in range(3):
            runtime.cache.invalidate_by_health(key)
    assert run("export", "--with-credentials", tmp_path / "all.jsonl").err == "exported 2\n"
    assert run("import", tmp_path / "all.jsonl", "--home", tmp_path / "other").code == 0
    with Runtime(Settings.load(tmp_path / "other")) as runtime:
        entry = runtime.cache.get(key)
        assert entry is not None
        assert entry.password is not None
        assert (entry.password.get_secret_value(), entry.failure_count) == ("one", 3)
        assert runtime.cache.invalidate_by_health(key)


def test_add_tells_what_it_did(run: Run) -> None:
    """A new proxy is added, a new password renews, the same is known already; --json tells the key."""
    assert run("add", "http://203.0.113.1").out == "added http://203.0.113.1:80\n"
    assert run("add", "http://203.0.113.1:80").out == "known already: http://203.0.113.1:80\n"
    done = run("add", "http://alice:one@203.0.113.1:80", "--label", "seat 1")
    assert done.out == "added http://203.0.113.1:80 (seat 1)\n"
    done = run("add", "http://alice:two@203.0.113.1:80", "--json")
    assert done.json["result"] == "renewed"
    assert done.json["key"] in run("list").out


def test_add_takes_several_proxies_and_their_options(run: Run) -> None:
    """--source, --ttl, --tag and --country hold for each of them."""
    run("add", "203.0.113.1:80", "203.0.113.2:80", "--source", "s", "--ttl", "60", "--tag", "t", "--country", "fr")
    entries = [json.loads(line) for line in run("list", "--json").out.splitlines()]
    assert [(e["source"], e["ttl_seconds"], e["attributes"]["tags"], e["attributes"]["country"]) for e in entries] == [
        ("s", 60, ["t"], "FR")
    ] * 2


def test_weight_and_price_are_what_strategies_read(run: Run) -> None:
    """--weight and --price of add and import are stored; an amount said later replaces that one alone."""
    run("add", "203.0.113.1:80", "--weight", "3", "--price", "0.5", "--tag", "t")
    run("import", "-", "--weight", "0", stdin="203.0.113.2:80\n")
    run("add", "203.0.113.1:80", "--price", "2")
    known = {e["proxy_url"]: e["attributes"] for e in map(json.loads, run("list", "--json").out.splitlines())}
    first, second = known["http://203.0.113.1:80"], known["http://203.0.113.2:80"]
    assert (first["weight"], first["price_per_gb"], first["tags"]) == (3.0, 2.0, ["t"])
    assert (second["weight"], second["price_per_gb"]) == (0.0, None)
    told = run("explain", "--strategy", "weighted", "--json").json
    assert (told["eligible"], told["proxy"]["url"]) == (1, "http://203.0.113.1:80")


def test_a_password_is_read_from_stdin(run: Run) -> None:
    """--password-stdin takes one line, --username the name, as they are."""
    assert run("add", "203.0.113.1:80", "--username", "a b", "--password-stdin", stdin="p%40:@/\nmore\n").code == 0
    exported = json.loads(run("export", "--with-credentials").out)
    assert (exported["username"], exported["password"]) == ("a b", "p%40:@/")


@pytest.mark.parametrize(
    ("arguments", "stdin", "word"),
    [
        (("203.0.113.1:80", "--password-stdin"), "x\n", "needs a username"),
        (("u@203.0.113.1:80", "--password-stdin"), "", "stdin holds no password"),
        (("u@203.0.113.1:80", "--password-stdin"), b"\xff\n", "no text in UTF-8"),
        (("u@203.0.113.1:80", "--password-stdin"), "a\x00b\n", "cannot be used"),
        (("u:p@203.0.113.1:80", "--password-stdin"), "x\n", "has a password already"),
        (("u@203.0.113.1:80", "--username", "v"), "", "has a username already"),
        (("203.0.113.1:80", "203.0.113.2:80", "--username", "v"), "", "go with one URL"),
        (("203.0.113.1:80", "--label", "a\tb"), "", "cannot be printed"),
        (("203.0.113.1:80", "--country", "Germany"), "", "two-letter code"),
        (("203.0.113.1:80", "--weight", "-1"), "", "not a number of 0 or more"),
        (("203.0.113.1:80", "--price", "nan"), "", "not a number of 0 or more"),
        (("203.0.113.1:80", "--ttl", "0"), "", "neither a whole number"),
        (("http://bob:hunter2@203.0.113.1:0",), "", "http://***@203.0.113.1:0"),
        (("hunter2",), "", "***"),
    ],
)
def test_wrong_usage_of_add_is_one_line(
    run: Run, arguments: tuple[str, ...], stdin: str | bytes, word: str, home: Path
) -> None:
    """What cannot be added is refused with exit code 2, before the store is made, without its credential."""
    done = run("add", *arguments, stdin=stdin)
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert word in done.err
    assert "hunter2" not in done.err
    assert not home.exists()


def test_remove_takes_keys_and_urls(filled: Run) -> None:
    """A key is one entry, a URL with a username too; a URL without one is every session of its endpoint."""
    key = filled("list", "--source", "user").rows[0][0]
    assert filled("remove", key).out == "removed 1\n"
    assert filled("remove", "socks5://alice@203.0.113.2:1080").out == "removed 1\n"
    filled("add", "socks5://alice@203.0.113.2:1080")
    done = filled("remove", "socks5://203.0.113.2:1080", "203.0.113.1:80", "--json")
    assert (done.code, done.json) == (0, {"removed": 3, "missing": 0})
    assert urls(filled) == ["http://203.0.113.3:3128"]


def test_what_is_not_there_is_told_and_not_blocked(filled: Run) -> None:
    """A missing proxy is exit code 1, the others are removed, and the missing one may come in later."""
    done = filled("remove", "203.0.113.1:80", "203.0.113.99:80", "deadbeefdeadbeef")
    assert (done.code, done.out) == (1, "removed 1\n")
    assert done.err == "proxywhirl: 2 of 3 not in the store; `proxywhirl list` shows what is\n"
    assert run_loaded(filled, "203.0.113.99:80\n") == 1
    assert filled("remove", "203.0.113.1:80").code == 1
    assert run_loaded(filled, "203.0.113.1:80\n") == 0


def run_loaded(run: Run, text: str) -> int:
    """Import a text and return how many were loaded."""
    loaded: int = run("import", "-", "--json", stdin=text).json["loaded"]
    return loaded


def test_removed_proxies_are_listed_with_the_reason(filled: Run) -> None:
    """`list --removed` shows what is kept out and why, until it is added again."""
    filled("remove", "203.0.113.1:80", "--reason", "too slow")
    (row,) = filled("list", "--removed").rows
    assert row[1:] == ["http://203.0.113.1:80", "too slow"]
    assert filled("list", "--removed", "--json").json["reason"] == "too slow"
    assert filled("list", "--removed", "--tag", "fast").code == 2
    filled("add", "203.0.113.1:80")
    assert filled("list", "--removed").rows == []


def test_clear_asks_unless_told(filled: Run) -> None:
    """Without a terminal --yes is needed; then all is gone, and may come in again."""
    done = filled("clear")
    assert (done.code, len(urls(filled))) == (2, 5)
    assert "say --yes" in done.err
    assert filled("clear", "--yes", "--json").json == {"removed": 5}
    assert filled("clear", "--yes").out == "removed 0\n"
    assert run_loaded(filled, LIST) == 4


def test_stats_show_three_tiers(filled: Run) -> None:
    """Each tier has its row; --json is what the library's model reads."""
    rows = filled("stats").rows
    assert [row[:5] for row in rows] == [
        ["L1", "memory", "ok", "1000", "0"],
        ["L2", "JSON lines", "ok", "5000", "5"],
        ["L3", "SQLite", "ok", "unlimited", "5"],
    ]
    statistics = CacheStatistics.model_validate(filled("stats", "--json").json)
    assert (statistics.l2_stats.current_size, statistics.l3_stats.current_size) == (5, 5)


def test_stats_name_a_tier_that_is_off(filled: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tier that the settings switch off is shown as off."""
    monkeypatch.setenv("PROXYWHIRL_CACHE_L2_CONFIG", '{"enabled": false}')
    assert filled("stats").rows[1][2] == "off"
