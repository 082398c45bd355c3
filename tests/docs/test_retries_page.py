"""The page on retries: its program runs, and its lists and figures are those of the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx2
import pytest

from benchmarks.cache.table import END
from benchmarks.crawl.__main__ import AT_ONCE, PROXIES, SHARES, cells_asked, parse, scripts_asked
from benchmarks.crawl.cells import FLOORS
from benchmarks.crawl.report import BEGIN, markdown
from proxywhirl.errors import Blame
from proxywhirl.gateway.protocol.messages import RETRY_FIELD
from proxywhirl.gateway.protocol.request import REPLAYED_BODY
from proxywhirl.rotation.retries.send_policy import (
    HELD_RESPONSE,
    IDEMPOTENT_METHODS,
    ROUND_BACKOFF,
    as_forwarded,
    is_repeated,
)
from proxywhirl.rotation.selection.filters import Wishes
from proxywhirl.rotation.selection.request_options import RequestOptions
from proxywhirl.rotation.verdicts.response import Evidence, Verdict, plain_verdict
from proxywhirl.settings import GatewaySettings, RetrySettings, Settings

PAGE = (Path(__file__).parents[2] / "docs" / "retries.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())
CRAWLED = Path(__file__).parents[2] / "benchmarks" / "results" / "crawl.json"


def test_program_runs() -> None:
    """The program on the page runs as it stands."""
    encoding, program = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(program, "docs/retries.md", "exec"), {"__name__": "__main__"})
    said: dict[str, str] = {}
    exec(compile(encoding, "docs/retries.md", "exec"), said)
    login = httpx2.Proxy(said["proxy"]).auth
    assert login is not None
    assert login[0] == said["username"]
    assert RequestOptions.parse(login[0].partition(",")[2]) == RequestOptions(said["name"])


def test_figures_are_those_of_the_code() -> None:
    """Bounds, methods and the name of the field are what they are."""
    retry = RetrySettings()
    assert f"**Attempts**: {retry.attempts} at one request" in TEXT
    assert f"a wait of up to {ROUND_BACKOFF.first:g} seconds" in TEXT
    assert f"after {GatewaySettings().total_timeout:g} seconds" in TEXT
    assert (retry.share, retry.rounds) == (0.2, 1)
    assert f"at most a fifth of the requests of the last {retry.window:g} seconds" in TEXT
    assert f"or {retry.floor} of them" in TEXT
    assert f"holds {REPLAYED_BODY // 1024} KiB of it" in TEXT
    assert f"at most {HELD_RESPONSE // 1024} KiB" in TEXT
    assert f"a page of more than {HELD_RESPONSE // 1024} KiB" in TEXT
    assert f"`{RETRY_FIELD.decode().title()}: unsafe`" in TEXT
    listed = re.search(r"idempotent methods are (.*?) \(RFC", TEXT)
    assert listed is not None
    assert set(re.findall(r"`(\w+)`", listed[1])) == IDEMPOTENT_METHODS


def test_both_ways_to_set_it_mean_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file and the environment of the examples are read, and change the conduct of a home alike."""
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "settings.toml").write_text(text)
    by_file = Settings.load(tmp_path)
    variables = re.findall(r"(PROXYWHIRL_\w+)=(\S+)", PAGE)
    assert len(variables) == 3
    for name, value in variables:
        monkeypatch.setenv(name, value)
    by_environment = Settings.load(tmp_path / "other")
    assert by_environment.retry == by_file.retry != RetrySettings()
    assert by_environment.gateway.total_timeout == by_file.gateway.total_timeout == 20
    assert by_file.retry.policy().attempts == 5


def test_the_bans_without_rules_are_those_that_are_named() -> None:
    """The statuses of the table are exactly those that another proxy is tried for where no rules are given."""
    listed = re.search(r"without rules: ([\d, ]+) \|", TEXT)
    assert listed is not None
    repeated = {status for status in range(200, 600) if is_repeated(plain_verdict(Evidence("t.test", "GET", status)))}
    assert {int(status) for status in listed[1].split(", ")} == repeated


def test_what_a_proxy_forwarded_may_be_its_own_word() -> None:
    """The statuses of gateways that the rules lay on the target are tried elsewhere where the proxy forwarded them."""
    listed = re.search(r"\| (502, 503 or 504) of an HTTP proxy", TEXT)
    assert listed is not None
    failed = Verdict(Blame.TARGET, "server-error")
    weakened = {status for status in range(200, 600) if is_repeated(as_forwarded(failed, status))}
    assert set(map(int, re.findall(r"\d+", listed[1]))) == weakened
    assert as_forwarded(Verdict(), 502) == Verdict()


@pytest.mark.parametrize(("asked", "seconds"), [(b"7", 7.0), (b"Fri, 27 Nov 2026 07:00:00 GMT", None), (b"-1", None)])
def test_a_plain_verdict_honours_a_number_of_seconds(asked: bytes, seconds: float | None) -> None:
    """Retry-After counts where it is a number; a moment needs a clock, which the plain verdict has not."""
    evidence = Evidence("t.test", "GET", 429, ((b"retry-after", asked),))
    assert plain_verdict(evidence) == Verdict(Blame.TARGET_THROUGH_PROXY, "status-429", seconds)


def test_every_key_of_a_wish_is_listed() -> None:
    """The table names each key once, and the usernames of the examples are read."""
    table = PAGE.partition("| key | the proxy |")[2].partition("\n\n")[0]
    keys = [key for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for key in re.findall(r"\w+", cell)]
    assert sorted(keys) == sorted(["session", *Wishes.__annotations__])
    usernames = re.findall(r"curl -x http://(.*?):.*?@", PAGE)
    assert len(usernames) == 2
    assert [RequestOptions.parse(name.partition(",")[2].replace("%7C", "|")) for name in usernames] == [
        RequestOptions.of("cart-17", {"country": "de"}),
        RequestOptions.of(None, {"country": ("de", "fr"), "tags": "fast"}),
    ]


def test_the_crawls_are_those_that_were_measured() -> None:
    """The table is that of the committed results; the floors and the sizes in the words are the benchmark's."""
    crawls: list[dict[str, Any]] = json.loads(CRAWLED.read_text(encoding="utf-8"))["crawls"]
    assert PAGE.partition(BEGIN)[2].partition(END)[0].strip() == markdown(crawls)
    assert f"fewer than {FLOORS['served']:.0%}".replace("%", " %") in TEXT
    assert f"more than {FLOORS['median']:g} times as long" in TEXT
    assert f"or {FLOORS['p95']:g} times at the 95th percentile" in TEXT
    assert f"{FLOORS['tries_good']:g} times for each good page and {FLOORS['tries_failing']:g} times for each" in TEXT
    for numbers, unit in ((SHARES, "%"), (sorted(PROXIES), "good proxies"), (AT_ONCE, "requests at once")):
        *others, last = map(str, numbers)
        assert f"{', '.join(others)} or {last} {unit}" in TEXT


def test_the_commands_of_the_benchmark_choose_what_the_page_says() -> None:
    """Each command is understood: all of it, some crawls, one script."""
    commands = re.findall(r"^python -m benchmarks\.crawl(.*?) +#", PAGE, re.MULTILINE)
    everything, some, one = (parse(command.split()) for command in commands)
    assert len(cells_asked(everything)) > len(cells_asked(some)) == 4
    assert {script.name for script in scripts_asked(one, [])} == {"poison"}
    assert cells_asked(one) == []
