"""The page on verdicts: its commands say what it shows, its rules and its program work, its tables are complete.

RENEW_PAGES=1 writes the table of the built-in rules anew.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from pathlib import Path

import pytest

from proxywhirl.cli.main import main
from proxywhirl.errors import Blame
from proxywhirl.rotation.verdicts.response import LOOKED_AT, Evidence, Verdict
from proxywhirl.rotation.verdicts.rule_file import CHANGEABLE, Definition, built_in_rules
from proxywhirl.rotation.verdicts.rules import Classifier, Rule
from proxywhirl.settings.files import BAN_RULES_FILE, ban_rules
from proxywhirl.wire.retry_after import LONGEST_WAIT

FILE = Path(__file__).parents[2] / "docs" / "verdicts.md"
PAGE = FILE.read_text(encoding="utf-8")
(CONSOLE,) = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
EXAMPLES = re.findall(r"^\$ proxywhirl (.+)\n(.+)$", CONSOLE, re.MULTILINE)
(PROGRAM,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(RULES,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
BANNED = Blame.TARGET_THROUGH_PROXY


@pytest.mark.parametrize(("line", "shown"), EXAMPLES)
def test_each_command_says_what_is_shown(
    line: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run in a home without rules, beside a page in good order."""
    monkeypatch.setenv("PROXYWHIRL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Path("page.html").write_text("<html><head><title>Goods</title></head><body>Shoes</body></html>")
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(line))
    assert (ended.value.code, capsys.readouterr().out) == (0, f"{shown}\n")


def test_the_program_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """It runs as it stands, and prints the rule that found the page out."""
    exec(compile(PROGRAM, "docs/verdicts.md", "exec"), {})
    assert capsys.readouterr().out == "target-through-proxy block-page\n"


def test_the_rules_of_the_page_do_what_is_said_of_them(tmp_path: Path) -> None:
    """Each finds the response that its comment tells of, and leaves other sites alone."""
    (tmp_path / BAN_RULES_FILE).write_text(RULES, encoding="utf-8")
    judge = Classifier(ban_rules(tmp_path))

    def found(site: str, status: int = 200, body: str = "", latency: float = 1.0) -> Verdict:
        head = ((b"content-type", b"text/html"),)
        return judge.verdict(Evidence(site, "GET", status, head, body.encode(), len(body), latency))

    long = "x" * 2000
    assert found("club.example", 403) == Verdict(rule="members-only")
    assert found("shop.example", body='{"items": []}' + long) == Verdict(BANNED, "shop-shuts-up", 600)
    assert found("shop.example", body=long, latency=0.01) == Verdict(BANNED, "shop-too-fast")
    assert found("www.shop.example", body="x") == Verdict(BANNED, "shop-stub")
    assert found("shop.example", body=long) == Verdict()
    assert found("museum.example", body="<title>Closed on Mondays</title>") == Verdict(Blame.TARGET, "closed")
    assert found("e.com", body="<title>x</title><h1>Access Denied</h1>") == Verdict()
    assert [found(site) for site in ("news.example", "e.com")] == [Verdict(BANNED, "empty-page"), Verdict()]
    assert found("shop.example", 403, long) == Verdict(BANNED, "forbidden", 3600)


def test_the_tables_are_complete() -> None:
    """Each setting of a rule has its line, and each party that a response can be blamed on."""
    assert set(rows("Setting")) == set(Definition.model_fields)
    assert set(rows("Blame")) == {blame.value for blame in Blame} - {Blame.US.value}
    assert "only " + ", ".join(f"`{name}`" for name in CHANGEABLE[:-1]) + f" and `{CHANGEABLE[-1]}`" in PAGE
    assert f"{LONGEST_WAIT:,.0f} seconds (a day)" in PAGE
    assert f"The first {LOOKED_AT:,} bytes" in PAGE


def test_the_built_in_rules_are_those_of_the_package() -> None:
    """Every rule is listed in its place, with whom it blames and what it finds."""
    begin, heading, _ = PAGE.partition("| Rule | Blame | What it finds |\n|---|---|---|\n")
    page = begin + heading + "".join(map(line_of, built_in_rules()))
    if os.environ.get("RENEW_PAGES"):
        FILE.write_text(page, encoding="utf-8")
    assert FILE.read_text(encoding="utf-8") == page


def test_a_verdict_takes_as_long_as_is_said() -> None:
    """A clean page of the whole length takes less than 40 times as long as folding its case; the best runs count."""
    line = b'<p>Words of <a href="/a/b?c=1">every</a> kind &amp; <b>size</b>; window.x = {a: 1}</p>\n'
    page = (b"<!doctype html><html><head><title>A shop</title></head><body><h1>Goods</h1>" + line * 1000)[:LOOKED_AT]
    head = ((b"content-type", b"text/html"), (b"server", b"nginx"), (b"set-cookie", b"a=b"), (b"vary", b"accept"))
    seen = Evidence("shop.example", "GET", 200, head, page, len(page), 0.1)
    judge, times, folds = Classifier(built_in_rules()), [], []
    for _ in range(100):
        began = time.perf_counter()
        assert judge.verdict(seen) == Verdict()
        times.append(time.perf_counter() - began)
        began = time.perf_counter()
        page.decode("latin-1").casefold()
        folds.append(time.perf_counter() - began)
    assert "less than 40 times as long as folding the case" in PAGE
    assert min(times) < 40 * min(folds)


def rows(heading: str) -> list[str]:
    """Return the first cells of the table with a heading."""
    table = PAGE.partition(f"\n| {heading} |")[2].partition("\n\n")[0]
    return re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)


def line_of(rule: Rule) -> str:
    """Return the line of a rule."""
    blame = "nobody" if rule.blame is None else f"`{rule.blame}`"
    return f"| `{rule.name}` | {blame} | {'' if rule.enabled else 'Off by default. '}{rule.about} |\n"
