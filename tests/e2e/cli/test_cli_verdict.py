"""`proxywhirl verdict`: a response is judged as it would be, and the rules are shown."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxywhirl.rotation.verdicts.rule_file import built_in_rules

Run = Callable[..., Any]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Save a page that refuses."""
    path = tmp_path / "page.html"
    path.write_text("<title>Just a moment...</title><script src='/cdn-cgi/challenge-platform/x.js'></script>")
    return path


def test_a_saved_response_is_judged(run: Run, page: Path, home: Path) -> None:
    """The verdict and its rule are a row, and stderr says what the rule finds; no home is made for it."""
    ended = run("verdict", "--status", 403, "--header", "server: cloudflare", "--body", page, "--site", "example.com")
    assert (ended.code, ended.rows) == (0, [["target-through-proxy", "cloudflare-title", "-"]])
    assert ended.err.startswith("cloudflare-title: A title that Cloudflare gives")
    assert not home.exists()


def test_programs_get_json(run: Run, page: Path) -> None:
    """One object, also where all is well; the body may come from stdin."""
    ended = run("verdict", "--status", 429, "--header", "Retry-After: 120", "--json")
    assert ended.json == {
        "ok": False,
        "blame": "target-through-proxy",
        "rule": "too-many-requests",
        "retry_after": 120,
    }
    well = {"ok": True, "blame": None, "rule": None, "retry_after": None}
    assert run("verdict", "--status", 200, "--json").json == well
    ended = run("verdict", "--status", 200, "--body", "-", "--json", stdin=page.read_bytes())
    assert ended.json["rule"] == "cloudflare-title"


def test_each_option_reaches_the_rules(run: Run, home: Path) -> None:
    """Site, method, latency and the body's length are what rules of the home ask for."""
    home.mkdir()
    (home / "ban-rules.toml").write_text(
        '[fast]\ndomain = "shop.example"\nfaster_than = 0.1\n[posted]\nmethod = "POST"\nstatus = 404\n'
        "[short]\nshorter_than = 3\n"
    )

    def rule(*options: object, stdin: str = "") -> str | None:
        found: str | None = run("verdict", *options, "--json", stdin=stdin).json["rule"]
        return found

    assert rule("--status", 200, "--site", "www.shop.example:8080", "--latency", 0.05) == "fast"
    assert rule("--status", 200, "--site", "www.shop.example", "--latency", 0.1) is None
    assert rule("--status", 404, "--method", "POST") == "posted"
    assert rule("--status", 404) is None
    assert rule("--status", 200, "--body", "-", stdin="ab") == "short"
    assert rule("--status", 200, "--body", "-", stdin="abc") is None


def test_the_rules_are_listed_in_their_order(run: Run, home: Path) -> None:
    """The user's come first; both forms say where each comes from, whether it is on, and when it holds."""
    home.mkdir()
    text = (
        '[mine]\nstatus = ["4xx", 503]\nheader = { server = "nginx" }\nretry_after = 5\n[forbidden]\nenabled = false\n'
    )
    (home / "ban-rules.toml").write_text(text)
    rows = run("verdict", "--rules").rows
    assert rows[0] == [
        "mine",
        "user",
        "yes",
        "any",
        "target-through-proxy",
        "status 4xx or 503; header server nginx",
        "",
    ]
    assert [row[0] for row in rows[1:]] == [rule.name for rule in built_in_rules()]
    assert rows[1][5] == "status 403; header server AmazonS3; body <Code>AccessDenied</Code>"
    heading = next(row for row in rows if row[0] == "block-heading")
    assert "; body <h1>access denied</h1> or <h1>access blocked</h1> or 11 more; shorter_than 4096" in heading[5]
    assert {row[0] for row in rows if row[2] == "no"} == {"forbidden", "empty-page"}
    listed = [json.loads(line) for line in run("verdict", "--rules", "--json").out.splitlines()]
    assert listed[0] == {
        "name": "mine",
        "from": "user",
        "enabled": True,
        "domains": [],
        "blame": "target-through-proxy",
        "retry_after": 5,
        "conditions": {"status": ["4xx", "503"], "header server": ["nginx"]},
        "about": "",
    }
    assert len(listed) == len(rows)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ((), 2, "Name the --status of the response, or ask for the --rules."),
        (("--status", "99"), 2, "99 is not in the range"),
        (("--status", "200", "--header", "server"), 2, "'server' is no header: write it as 'server: cloudflare'"),
        (("--status", "200", "--header", "the server: cloudflare"), 2, "is no header"),
        (("--status", "200", "--site", "ftp://example.com/"), 2, "is no site"),
        (("--status", "200", "--site", ""), 2, "is no site"),
        (("--status", "200", "--latency", "nan"), 2, "is not a number of 0 or more"),
        (("--status", "200", "--body", "missing.html"), 2, "missing.html"),
    ],
)
def test_wrong_usage_is_explained(run: Run, options: tuple[str, ...], code: int, words: str) -> None:
    """One line says what is wrong and what to write."""
    ended = run("verdict", *options)
    assert (ended.code, ended.out) == (code, "")
    assert words in ended.err


def test_a_site_is_named_by_a_url_too(run: Run, home: Path) -> None:
    """The rules of a domain are asked for a URL on it."""
    home.mkdir()
    (home / "ban-rules.toml").write_text('[mine]\ndomain = "shop.example"\nstatus = 404\n')
    assert run("verdict", "--status", 404, "--site", "https://shop.example:8443/page", "--json").json["rule"] == "mine"


def test_a_huge_body_is_counted_and_not_held(run: Run, tmp_path: Path) -> None:
    """Its beginning is looked at, its length is that of the whole, and the memory is that of a piece."""
    page = tmp_path / "page"
    with page.open("wb") as file:
        file.truncate(300_000_000)  # a hole
    tracemalloc.start()
    try:
        assert run("verdict", "--status", 200, "--body", page, "--json").json["ok"]
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_a_wrong_rule_is_explained(run: Run, home: Path) -> None:
    """The file, the rule and what to do are in the one line that ends the command."""
    home.mkdir()
    (home / "ban-rules.toml").write_text("[mine]\nstaus = 404\n")
    ended = run("verdict", "--rules")
    assert (ended.code, ended.out) == (1, "")
    assert f"{home / 'ban-rules.toml'}: rule 'mine': staus: there is none of this name" in ended.err
