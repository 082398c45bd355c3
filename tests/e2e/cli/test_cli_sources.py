"""`proxywhirl fetch` and `proxywhirl sources`: what they print, what they keep, how they end."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

LIST = "203.0.113.1:8080\n203.0.113.2:3128\nsocks5://203.0.113.3:1080\n203.0.113.4:99999\n"


@pytest.fixture(autouse=True)
def _own_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the catalogue, so that no test asks the internet; and do not wait between attempts."""
    monkeypatch.setenv("PROXYWHIRL_SOURCES_CATALOGUE", "false")
    monkeypatch.setenv("PROXYWHIRL_SOURCES_ATTEMPTS", "1")


def listed(run: Run, *options: str) -> dict[str, dict[str, Any]]:
    """Return what `sources list --json` tells, by name."""
    entries = map(json.loads, run("sources", "list", "--json", *options).out.splitlines())
    return {entry["name"]: entry for entry in entries}


def test_a_list_in_any_format_is_fetched_from_a_url(run: Run, lists: Any) -> None:
    """The table tells of each source; its proxies are in the store, under its name and with its time to live."""
    run("sources", "add", lists.put("/l", LIST), "--name", "plain", "--ttl", "600")
    run("sources", "add", lists.put("/j", '{"data": ["203.0.113.9:1"], "x": ["203.0.113.8:1"]}'), "--path", "data")
    done = run("fetch")
    assert done.code == 0
    assert sorted(done.rows)[1] == ["plain", "fetched", "3", "0", "1", ""]
    assert done.err.splitlines()[-1] == "proxywhirl: 4 new, 0 known already, from 2 of 2 sources"
    entries = [json.loads(line) for line in run("list", "--json", "--source", "plain").out.splitlines()]
    assert {entry["ttl_seconds"] for entry in entries} == {600}
    assert len(entries) == 3
    assert "203.0.113.8" not in run("list").out


def test_a_broken_source_has_its_error_in_the_table(run: Run, lists: Any) -> None:
    """The others are taken in, and the exit code is 0; it is 1 where every source failed."""
    run("sources", "add", lists.put("/l", LIST), "--name", "good")
    run("sources", "add", lists.put("/p", "<!doctype html><html>oops</html>"), "--name", "page")
    run("sources", "add", lists.put("/z", gzip.compress(bytes(40_000_000)), Content_Encoding="gzip"), "--name", "bomb")
    done = run("fetch", "--json")
    assert done.code == 0
    assert (done.json["new"], done.json["failed"]) == (3, 2)
    errors = {source["name"]: source["error"] for source in done.json["sources"]}
    assert errors["good"] is None
    assert errors["page"] == "a web page came, and there is no proxy in it"
    assert errors["bomb"] == "the list is larger than 16000000 bytes: raise sources.max_bytes to allow it"
    assert listed(run)["page"]["error"] == errors["page"]
    failed = run("fetch", "--source", "page", "--source", "bomb")
    assert failed.code == 1
    assert [row[1] for row in failed.rows] == ["failed", "failed"]


def test_a_limit_stops_the_fetch(run: Run, lists: Any) -> None:
    """`--limit` is of new proxies in all."""
    run("sources", "add", lists.put("/l", LIST))
    assert run("fetch", "--limit", "2", "--json").json["new"] == 2
    assert len(run("list", "--json").out.splitlines()) == 2


def test_an_unchanged_list_is_not_sent_again(run: Run, lists: Any) -> None:
    """The second fetch is conditional, and its answer is no failure."""
    url = lists.put("/l", LIST, ETag='"1"')
    run("sources", "add", url, "--name", "mine")
    run("fetch")
    lists.put("/l", "", "304 Not Modified")
    done = run("fetch")
    assert (done.code, done.rows) == (0, [["mine", "unchanged", "0", "3", "0", ""]])
    assert lists.requests[-1].headers["if-none-match"] == '"1"'


def test_nothing_to_ask_says_so(run: Run, lists: Any) -> None:
    """Without an enabled source a fetch fails; where none is due, there is nothing to do."""
    done = run("fetch")
    assert done.code == 1
    assert "no source is enabled" in done.err
    run("sources", "add", lists.put("/l", LIST))
    assert run("fetch", "--due").code == 0
    done = run("fetch", "--due", "--json")
    assert (done.code, done.json["sources"]) == (0, [])
    assert "no source is due" in done.err


def test_a_file_is_a_source_that_is_read_anew(run: Run, tmp_path: Path) -> None:
    """What is written into it later comes with the next fetch."""
    path = tmp_path / "mine.txt"
    path.write_text("203.0.113.1:1\n")
    assert run("sources", "add", path).out == f"added mine.txt: {path}\n"
    run("fetch")
    path.write_text("203.0.113.1:1\n203.0.113.2:1\n")
    assert run("fetch").rows == [["mine.txt", "fetched", "1", "1", "0", ""]]


def test_definitions_come_from_a_file_and_from_stdin(run: Run, tmp_path: Path) -> None:
    """TOML from both, with the paths of files from its folder; URLs line by line from stdin."""
    (tmp_path / "more.toml").write_text('[a]\nurl = "list.txt"\n[b]\nurl = "http://b.example/"\nenabled = false\n')
    assert run("sources", "add", tmp_path / "more.toml").code == 0
    assert run("sources", "add", "-", stdin='[c]\nurl = "http://c.example/"\n').code == 0
    assert run("sources", "add", "-", stdin="# two\nhttp://d.example/x\nhttp://e.example/y\n").code == 0
    known = listed(run)
    assert set(known) == {"a", "b", "c", "d.example-x", "e.example-y"}
    assert known["a"]["location"] == str(tmp_path / "list.txt")
    assert (known["b"]["enabled"], known["c"]["from"]) == (False, "user")


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "words"),
    [
        (("add", "nowhere.txt"), "", 1, "nowhere.txt is no file, and no URL"),
        (("add", "ftp://a.example/"), "", 1, "a source is an http or https URL with a host, or a file"),
        (("add", "http://a.example/", "--format", "xls"), "", 2, "known: base64, csv, html"),
        (("add", "-", "--scheme", "http"), "http://a.example/", 2, "leave the options out"),
        (("add", "-"), "", 1, "stdin names no source"),
        (("add", "none.toml"), "", 1, "none.toml cannot be read: No such file"),
        (("enable", "nope"), "", 1, "unknown source 'nope'; known:"),
        (("disable", "nope"), "", 1, "unknown source 'nope'; known:"),
        (("remove", "nope"), "", 1, "unknown source 'nope'; known:"),
        (("test", "nope"), "", 1, "unknown source 'nope'; known:"),
    ],
)
def test_wrong_use_says_what_to_do(run: Run, arguments: tuple[str, ...], stdin: str, code: int, words: str) -> None:
    """One line on stderr, nothing on stdout, nothing kept."""
    done = run("sources", *arguments, stdin=stdin)
    assert (done.code, done.out) == (code, "")
    assert words in done.err.splitlines()[-1]
    assert listed(run) == {}


def test_an_unknown_source_is_not_fetched(run: Run, lists: Any) -> None:
    """The names are looked at before anything is asked."""
    run("sources", "add", lists.put("/l", LIST), "--name", "mine")
    done = run("fetch", "--source", "mine", "--source", "nope")
    assert done.code == 1
    assert done.err.splitlines()[-1] == "proxywhirl: unknown source 'nope'; known: mine"
    assert lists.requests == []


def test_sources_are_switched_and_removed(run: Run, lists: Any) -> None:
    """A disabled one is not asked, unless it is named; a removed one is gone."""
    run("sources", "add", lists.put("/l", LIST), "--name", "mine")
    assert run("sources", "disable", "mine").out == "disabled mine\n"
    assert run("fetch").code == 1
    assert list(listed(run, "--enabled")) == []
    assert run("fetch", "--source", "mine").code == 0
    assert run("sources", "enable", "mine").out == "enabled mine\n"
    assert run("fetch").code == 0
    assert run("sources", "remove", "mine").out == "removed mine\n"
    assert listed(run) == {}


def test_a_source_can_be_tested(run: Run, lists: Any, tmp_path: Path) -> None:
    """By name, URL or file: what it would give is shown, nothing is stored; what gives nothing fails."""
    url = lists.put("/l", LIST)
    run("sources", "add", url, "--name", "mine", "--scheme", "socks4")
    done = run("sources", "test", "mine")
    assert done.out.splitlines()[0] == "mine: 3 proxies (2 socks4, 1 socks5), rejected 1"
    assert "line 4" in done.err
    assert run("sources", "test", url, "--json").json["schemes"] == {"http": 2, "socks5": 1}
    (tmp_path / "l.txt").write_text("203.0.113.9:9\n")
    assert run("sources", "test", tmp_path / "l.txt", "--json").json["first"] == ["http://203.0.113.9:9"]
    assert run("list", "--json").out == ""
    failed = run("sources", "test", lists.url("/gone"))
    assert (failed.code, failed.err.splitlines()[-1]) == (1, "proxywhirl: it answers 404")


def test_the_catalogue_is_listed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the setting as it is by default, all public lists are there, with their home pages."""
    monkeypatch.delenv("PROXYWHIRL_SOURCES_CATALOGUE")
    known = listed(run)
    assert len(known) == 119
    assert len(listed(run, "--enabled")) == 70
    assert known["monosans-http"]["home_page"] == "https://github.com/monosans/proxy-list"
    assert len(run("sources", "list").rows) == 119
    done = run("sources", "add", known["monosans-http"]["location"])
    assert "is known as 'monosans-http': `proxywhirl sources enable monosans-http`" in done.err
    near = "nearest: monosans-http, monosans-socks5, monosans-socks4; `proxywhirl sources list` lists all 119"
    assert run("fetch", "--source", "monosans").err.splitlines()[-1] == f"proxywhirl: unknown source 'monosans'; {near}"


def test_no_secret_of_a_source_is_printed(run: Run, lists: Any) -> None:
    """Userinfo, queries and long keys are in no output and no error, nor are the proxies' credentials."""
    lists.put("/Zq7keykeykeykeykeykeykey/l?token=Zq7tok", "bob:Zq7pass@203.0.113.1:80\nbob:Zq7bad@203.0.113.1:0\n")
    url = lists.url("/Zq7keykeykeykeykeykeykey/l?token=Zq7tok").replace("://", "://Zq7user:Zq7word@")
    gone = lists.url("/gone?token=Zq7tok").replace("://", "://Zq7user:Zq7word@")
    said = [run("sources", "add", url, "--name", "mine"), run("sources", "add", gone), run("sources", "test", "mine")]
    said += [run("fetch"), run("fetch", "--json"), run("sources", "list"), run("sources", "list", "--json")]
    said += [
        run("sources", "test", gone),
        run("sources", "add", url, "--json"),
        run("list"),
        run("sources", "add", "http://Zq7@"),
    ]
    assert len(run("list", "--json").out.splitlines()) == 1
    for done in said:
        assert "Zq7" not in done.out + done.err


def test_progress_shows_on_a_terminal_alone(lists: Any, run: Run) -> None:
    """A bar counts the sources on a terminal; a pipe gets none."""
    run("sources", "add", lists.put("/l", LIST))
    assert "fetching" not in run("fetch").err
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen(
        [sys.executable, "-m", "proxywhirl", "fetch"], stderr=child, stdout=subprocess.DEVNULL, env=environment
    )
    os.close(child)
    shown = b""
    try:
        while piece := os.read(parent, 4096):
            shown += piece
    except OSError:  # the other side is closed: that is how a terminal ends
        pass
    os.close(parent)
    assert process.wait(60) == 0
    assert re.search(rb"fetching.*1/1", shown.replace(b"\r", b"").replace(b"\n", b"")), shown


def test_a_line_that_cannot_be_read_to_its_end_is_an_error_of_its_source(run: Run, lists: Any) -> None:
    """A list counts whole or not at all: what a single endless line holds is not taken in half."""
    line = " ".join(f"203.0.{n >> 8}.{n & 255}:80" for n in range(9000))
    run("sources", "add", lists.put("/long", line), "--name", "long")
    done = run("fetch", "--json")
    assert (done.code, done.json["new"]) == (1, 0)
    assert "line 1: the line is longer than 65536 characters" in done.json["sources"][0]["error"]
    assert run("list").rows == []
