"""`proxywhirl add --sessions`: one line of a vendor is many proxies, for every command and for `serve`."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

Run = Callable[..., Any]
Spawn = Callable[..., Any]

SITE = "http://shop.example/"
LINE = "http://bob:s3cret@geo.iproyal.com:12321"


def test_sessions_are_added_once_and_listed_without_the_account(run: Run) -> None:
    """The vendor is told by the host; adding again adds nothing; what is shown holds no credential."""
    options = ("--sessions", 5, "--country", "de", "--city", "Berlin", "--lifetime", "10m", "--tag", "paid")
    done = run("add", LINE, *options)
    where = "sessions of iproyal at http://geo.iproyal.com:12321\n"
    assert (done.code, done.out) == (0, f"loaded 5, skipped 0 (known already): {where}")
    assert run("add", LINE, *options).out == f"loaded 0, skipped 5 (known already): {where}"
    assert run("add", LINE.replace("s3cret", "fresh"), *options, "--json").json == {
        "proxy_url": "http://geo.iproyal.com:12321",
        "provider": "iproyal",
        "loaded": 5,
        "skipped": 0,
    }
    listed = run("list", "--country", "de", "--tag", "paid")
    assert len(listed.rows) == 5
    assert len({row[0] for row in listed.rows}) == len({row[2] for row in listed.rows}) == 5
    assert all(row[2].startswith("iproyal de berlin s") for row in listed.rows)
    assert "bob" not in listed.out


def test_the_password_may_come_from_stdin_and_the_provider_by_name(run: Run) -> None:
    """A gateway of one's own name, and a password that stands in no command line."""
    done = run("add", "http://127.0.0.1:9999", "--username", "bob-res", "--password-stdin", "--provider", "netnut",
               "--sessions", 3, stdin="s3cret\n")  # fmt: skip
    assert (done.code, done.out.split(":")[0]) == (0, "loaded 3, skipped 0 (known already)")
    lines = [json.loads(line) for line in run("export", "--with-credentials").out.splitlines()]
    assert {line["password"] for line in lines} == {"s3cret"}
    assert {line["attributes"]["provider"] for line in lines} == {"netnut"}


def test_an_export_with_credentials_is_the_same_sessions_again(run: Run, tmp_path: Any) -> None:
    """Importing it back over the store, or after a clear, gives the same keys."""
    run("add", LINE, "--sessions", 8)
    keys = [row[0] for row in run("list").rows]
    file = tmp_path / "all.jsonl"
    assert run("export", "--with-credentials", file).code == 0
    assert run("import", file).out.startswith("loaded 0, skipped 8")
    run("clear", "--yes")
    assert run("import", file).out.startswith("loaded 8")
    assert [row[0] for row in run("list").rows] == keys


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((LINE, LINE, "--sessions", 2), 2, "--sessions go with one URL"),
        ((LINE, "--city", "berlin"), 2, "go with --sessions"),
        ((LINE, "--sessions", 0), 2, "0 is not in the range"),
        ((LINE, "--sessions", 2, "--lifetime", "ten"), 2, "say 90s, 10m or 1h"),
        ((LINE, "--sessions", 2, "--city", "saint-denis"), 2, "a city is written in words"),
        ((LINE, "--sessions", 2, "--lifetime", "8760h"), 1, "iproyal takes a lifetime from 1s to 168h"),
        ((LINE, "--sessions", 2, "--country", "de", "--region", "bayern"), 1, "a region in us alone"),
        (("http://bob:s3cret@203.0.113.7:80", "--sessions", 2), 1, "name the provider, of brightdata"),
        ((LINE, "--sessions", 2, "--provider", "iproyall"), 1, "unknown provider 'iproyall'; known: brightdata"),
        ((LINE, "--provider", "iproyall"), 1, "unknown provider 'iproyall'"),
        (("http://geo.iproyal.com:12321", "--sessions", 2), 1, "the username of an account"),
        (("http://bob%2Ccolour=blue:s3cret@geo.iproyal.com:12321",), 1, "part 1 after the account's name"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_added(
    run: Run, arguments: tuple[object, ...], code: int, words: str
) -> None:
    """The error says what to do, without the credential."""
    done = run("add", *arguments)
    assert (done.code, done.out) == (code, "")
    assert words in done.err
    assert "s3cret" not in done.err
    assert "bob" not in done.err
    assert run("list").rows == []


def test_serve_sends_each_session_its_own_credential_and_again_after_a_restart(
    run: Run, spawn: Spawn, lists: Any
) -> None:
    """A hundred requests through a gateway are a hundred passwords at the vendor, the same in the next process."""
    lists.serve(SITE, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine")
    endpoint = lists.url("").removeprefix("http://")
    assert run("add", f"http://bob:pw@{endpoint}", "--provider", "iproyal", "--sessions", 100).code == 0
    seen = []
    for _ in range(2):
        lists.requests.clear()
        with spawn("serve", "--port", "0") as process:
            address = process.stdout.readline().strip()
            with httpx2.Client(proxy=address, trust_env=False) as client:
                assert {client.get(SITE).text for _ in range(100)} == {"fine"}
        sent = [asked.headers["proxy-authorization"].split()[1] for asked in lists.requests]
        seen.append({base64.b64decode(text).decode() for text in sent})
    assert len(seen[0]) == 100
    assert seen[0] == seen[1]
    assert all(text.startswith("bob:pw_session-s") for text in seen[0])
