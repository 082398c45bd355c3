"""`proxywhirl explain`: which proxy a request would get, and what keeps out the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxywhirl.errors import Blame
from proxywhirl.models import Outcome
from proxywhirl.runtime import Runtime
from proxywhirl.settings import Settings

Run = Callable[..., Any]


@pytest.fixture
def filled(run: Run) -> Run:
    """Put three proxies into the home, one in France, one with a password."""
    assert run("add", "http://user:hunter2@192.0.2.1:8080", "--country", "DE").code == 0
    assert run("add", "http://192.0.2.2:8080", "--country", "DE").code == 0
    assert run("add", "http://192.0.2.3:8080", "--country", "FR").code == 0
    return run


def test_the_chosen_and_the_others_are_told(filled: Run) -> None:
    """A line for how many could serve, one for each reason, and one for the chosen and for why."""
    ended = filled("explain", "--target", "https://shop.example/", "--country", "fr", "--strategy", "round_robin")
    assert ended.code == 0
    lines = dict(line.split(None, 1) for line in ended.out.splitlines())
    assert lines["eligible"] == "1 of 3"
    assert lines["excluded"].startswith("2: not country=FR, such as http://192.0.2.")
    assert lines["chosen"].startswith("http://192.0.2.3:8080  ")
    assert lines["why"].startswith("round_robin, one of 3 ready")
    assert "hunter2" not in ended.out


def test_programs_get_json(filled: Run) -> None:
    """One object with the same."""
    told = filled("explain", "--country", "DE", "--session", "cart", "--json").json
    assert (told["pool"], told["eligible"], told["why"]) == (3, 2, "session")
    assert [(e["reason"], e["count"], e["example"]["url"]) for e in told["excluded"]] == [
        ("not country=DE", 1, "http://192.0.2.3:8080")
    ]
    assert told["proxy"] == filled("explain", "--country", "DE", "--session", "cart", "--json").json["proxy"]


def test_where_nobody_can_serve_it_ends_with_1(filled: Run) -> None:
    """The reasons are still printed, and stderr says what stands in the way."""
    ended = filled("explain", "--country", "IT")
    assert ended.code == 1
    assert ended.out.splitlines()[0] == "eligible  0 of 3"
    assert "excluded  3: not country=IT" in ended.out
    assert "none of the 3 proxies of the pool fulfils country=IT" in ended.err
    ended = filled("explain", "--country", "IT", "--json")
    assert (ended.code, ended.json["proxy"], ended.json["eligible"]) == (1, None, 0)


def test_an_empty_home_says_what_to_do(run: Run) -> None:
    """There is nobody to choose from."""
    ended = run("explain")
    assert ended.code == 1
    assert "proxywhirl import FILE" in ended.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--target", "shop.example"), "http"),
        (("--target", "ftp://shop.example/"), "http"),
        (("--country", "Germany"), "country"),
        (("--strategy", "best"), "unknown strategy 'best'; known: "),
        (("--strategy", "geo:planet=mars"), "there is no filter 'planet'"),
        (("--max-price", "-1"), "max-price"),
        (("--session", ""), "a text that is not empty"),
    ],
)
def test_wrong_usage_is_explained(filled: Run, options: tuple[str, ...], words: str) -> None:
    """What is wrong is named, and nothing is printed on stdout."""
    ended = filled("explain", *options)
    assert ended.code != 0
    assert ended.out == ""
    assert words in ended.err


def test_a_price_of_nothing_is_a_wish(filled: Run) -> None:
    """Whoever wants to pay nothing asks for it: a zero is not taken for an option that is not there."""
    assert "max_price=0" in filled("explain", "--max-price", "0", "--json").json["why"]
    assert filled("explain", "--asn", "0").code == 1


def test_what_a_terminal_would_act_on_is_not_printed(run: Run) -> None:
    """A name of half characters and control characters is shown without them, and told to programs as it is."""
    run("add", "http://192.0.2.8:8080")
    ended = run("explain", "--city", "\udcff\x1b[31m")
    assert ended.code == 1
    assert "\x1b" not in ended.out + ended.err
    assert (
        run("explain", "--city", "\udcff\x1b[31m", "--json").json["excluded"][0]["reason"] == "not city=\udcff\x1b[31m"
    )


def test_a_ban_is_told_with_the_users_own_words(run: Run, home: Path) -> None:
    """The rule behind it is named with where it comes from and what it finds, and as switched off where it is."""
    run("add", "http://192.0.2.8:8080")
    rules = home / "ban-rules.toml"
    rules.write_text('[shuts-up]\ndomain = "shop.example"\nstatus = 200\nabout = "It sends an empty list."\n')
    with Runtime(Settings.load(home)) as runtime:
        runtime.feed()
        banned = Outcome(False, blame=Blame.TARGET_THROUGH_PROXY, rule="shuts-up", retry_after=600)
        runtime.pool.acquire("http://shop.example/").report(Outcome(True, status=200))
        runtime.pool.acquire("http://shop.example/").report(banned)
        runtime.feed()
    ended = run("explain", "--target", "http://shop.example/")
    assert (
        "(shuts-up), such as http://192.0.2.8:8080\nrule      shuts-up (user): It sends an empty list.\n" in ended.out
    )
    (excluded,) = run("explain", "--target", "http://shop.example/", "--json").json["excluded"]
    assert (excluded["rule"], excluded["about"]) == ("shuts-up", "It sends an empty list.")
    with rules.open("a") as file:
        file.write("enabled = false\n")
    assert "shuts-up (user, switched off since)" in run("explain", "--target", "http://shop.example/").out


def test_wrong_rules_are_an_error_as_they_are_where_requests_are_sent(run: Run, home: Path) -> None:
    """Nothing could be sent by this home: the answer is what to correct, not a proxy."""
    run("add", "http://192.0.2.8:8080")
    (home / "ban-rules.toml").write_text("[mine]\nstaus = 404\n")
    ended = run("explain")
    assert (ended.code, ended.out) == (1, "")
    assert "rule 'mine': staus" in ended.err
