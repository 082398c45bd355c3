"""Rules as users write them: where they hold, in which order, and what is said of a wrong one."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from proxywhirl.errors import Blame, SettingsError
from proxywhirl.rotation.verdicts.response import LOOKED_AT, Evidence, Verdict
from proxywhirl.rotation.verdicts.rule_file import built_in_rules, rules_with
from proxywhirl.rotation.verdicts.rules import Classifier
from proxywhirl.runtime import Runtime
from proxywhirl.settings import Settings
from proxywhirl.settings.files import BAN_RULES_FILE, ban_rules

BANNED = Blame.TARGET_THROUGH_PROXY


def judged(text: str, site: str = "example.com", status: int = 200, **seen: Any) -> Verdict:
    """Return the verdict on a response, by the rules of a text and the built-in ones."""
    known = {"method": "GET", **seen}
    return Classifier(rules_with(text, "ban-rules.toml")).verdict(Evidence(site, status=status, **known))


@pytest.mark.parametrize(
    "site",
    ["example.com", "shop.example.com", "a.b.example.com:8443", "xn--bcher-kva.example", "127.0.0.1:80", "[::1]:81"],
)
def test_a_domain_covers_its_subdomains_and_ports(site: str) -> None:
    """A rule is for the host that it names and those below it, on every port, in whatever spelling."""
    text = '[mine]\ndomain = ["Example.COM.", "bücher.example", "127.0.0.1", "::1"]\nstatus = 404'
    assert judged(text, site, 404) == Verdict(BANNED, "mine")


@pytest.mark.parametrize("site", ["notexample.com", "example.com.evil", "com", "example.org"])
def test_a_domain_covers_no_other(site: str) -> None:
    """A name that merely ends alike, or goes on behind, is another site."""
    assert judged('[mine]\ndomain = "example.com"\nstatus = 404', site, 404) == Verdict()


def test_a_rule_can_say_what_is_no_ban() -> None:
    """A 403 that is in good order at one site is so there alone; a domain without a condition is all in good order."""
    text = '[theirs]\ndomain = "example.com"\nstatus = 403\nok = true\n[all]\ndomain = "free.example"\nok = true'
    assert judged(text, "example.com", 403) == Verdict(rule="theirs")
    assert judged(text, "example.com", 429).rule == "too-many-requests"
    assert judged(text, "free.example", 429) == Verdict(rule="all")
    assert judged(text, "example.org", 403).rule == "forbidden"


def test_the_longer_domain_goes_first_and_then_the_order_of_the_file() -> None:
    """What is said of a subdomain goes before what is said of all, and that before what holds everywhere."""
    text = """
        [everywhere]
        status = 404
        [second]
        status = 404
        [domain]
        domain = "example.com"
        status = 404
        [host]
        domain = "shop.example.com"
        status = 404
    """
    sites = ("shop.example.com", "www.example.com", "example.org")
    assert [judged(text, site, 404).rule for site in sites] == ["host", "domain", "everywhere"]


def test_a_built_in_rule_can_be_switched_off_narrowed_and_made_to_wait() -> None:
    """By its name, where it stands; one that is off by default is switched on in the same way."""
    assert judged("[forbidden]\nenabled = false", status=403) == Verdict()
    narrowed = '[forbidden]\ndomain = "example.com"'
    assert [judged(narrowed, site, 403).rule for site in ("example.com", "example.org")] == ["forbidden", None]
    waits = "[too-many-requests]\nretry_after = 90"
    assert judged(waits, status=429) == Verdict(BANNED, "too-many-requests", 90)
    assert judged(waits, status=429, headers=((b"retry-after", b"5"),)).retry_after == 5
    head = ((b"content-type", b"text/html"),)
    enabled = '[empty-page]\nenabled = true\ndomain = "example.com"'
    found = [judged(enabled, site, headers=head, length=0).rule for site in ("example.com", "example.org")]
    assert found == ["empty-page", None]


def test_every_condition_must_hold() -> None:
    """A rule with all of them holds of the response that they describe, and of none that lacks one."""
    text = r"""
        [all]
        domain = "example.com"
        status = [302, "4xx"]
        method = "GET"
        header = { server = ["apache", "nginx"], x-cache = "" }
        redirect_to = "/away"
        title = "no * today"
        body = ["come back", "nothing*here"]
        body_regex = '[a-z]+ for you\W'
        shorter_than = 100
        faster_than = 0.5
        blame = "account"
        retry_after = 60
    """
    body = b"<TITLE>No  goods\ntoday</TITLE> There is NOTHING for you. Nothing HERE."
    whole: dict[str, Any] = {
        "status": 404,
        "method": "GET",
        "headers": ((b"server", b"Nginx/1.2"), (b"x-cache", b"miss"), (b"location", b"/away/now")),
        "body": body,
        "length": 99,
        "latency": 0.4,
    }
    assert judged(text, **whole) == Verdict(Blame.ACCOUNT, "all", 60)
    head = whole["headers"]
    for change in (
        {"site": "example.org"},
        {"status": 200},
        {"method": "POST"},
        {"headers": head[1:]},
        {"headers": head[:1] + head[2:]},
        {"headers": (*head[:2], (b"location", b"/awayday"))},
        {"body": body.replace(b"goods", b"")},
        {"body": body.replace(b"HERE", b"")},
        {"body": body.replace(b"you.", b"yours")},
        {"length": 100},
        {"latency": 0.5},
        {"latency": None},
    ):
        assert judged(text, **{**whole, **change}) == Verdict(), change


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[mine\n", "is not TOML"),
        ("mine = 3", "mine must be a table: write [mine]"),
        ('["a b"]\nstatus = 404', "cannot name a rule"),
        ("[mine]\nstaus = 404", "rule 'mine': staus: there is none of this name; known: about, blame, body"),
        ("[mine]", "it asks for nothing"),
        ("[forbiden]\nenabled = false", "no built-in rule has this name"),
        ('[mine]\ndomain = "example.com"', "no built-in rule has this name"),
        ("[mine]\nok = true", "it asks for nothing"),
        ("[mine]\nstatus = 4", "4 is no status"),
        ('[mine]\nstatus = "forbidden"', "'forbidden' is no status"),
        ("[mine]\nstatus = true", "status: "),
        ("[mine]\nstatus = []", "status: "),
        ('[mine]\nmethod = "get"', "write it in capitals"),
        ('[mine]\nheader = { "a b" = "c" }', "is no name of a header"),
        ('[mine]\nheader = "server"', "header: "),
        ('[mine]\nredirect_to = "https://example.com/"', "is no place"),
        ('[mine]\nredirect_to = "/"', "is no place"),
        ('[mine]\nbody = ""', "found in every page"),
        ('[mine]\ntitle = "**"', "found in every page"),
        ('[mine]\ndomain = "https://example.com"\nstatus = 404', "'https://example.com' is no domain"),
        ('[mine]\ndomain = "example.com:80"\nstatus = 404', "is no domain"),
        ('[mine]\nbody_regex = "a(b"', "'a(b' is no regular expression of RE2: missing )"),
        ("[mine]\nbody_regex = '(?=a)b'", "is no regular expression of RE2: invalid perl operator: (?="),
        ("[mine]\nshorter_than = 0", "shorter_than: "),
        ("[mine]\nfaster_than = -1", "faster_than: "),
        ("[mine]\nstatus = 404\nretry_after = 100000", "retry_after: "),
        ('[mine]\nstatus = 404\nblame = "me"', "blame: "),
        ('[mine]\nstatus = 404\nok = true\nblame = "target"', "nobody to blame"),
        ("[forbidden]\nstatus = 401", "'forbidden' is built in: of it only enabled, domain, retry_after"),
        (
            '[forbidden]\nenabled = false\ndomain = "example.com"',
            "a rule of another name with the domain and ok = true",
        ),
    ],
)
def test_a_wrong_rule_is_refused_with_what_to_do(text: str, words: str) -> None:
    """The message names the file, the rule and what is wrong."""
    with pytest.raises(SettingsError) as raised:
        rules_with(text, "/home/me/ban-rules.toml")
    assert str(raised.value).startswith("/home/me/ban-rules.toml")
    assert words in str(raised.value)


def test_the_runtime_judges_by_the_file_of_its_home(tmp_path: Path) -> None:
    """What stands in ban-rules.toml holds for the home; without the file the built-in rules hold."""
    with Runtime(Settings.load(tmp_path)) as runtime:
        assert runtime.classifier.rules == built_in_rules()
    (tmp_path / BAN_RULES_FILE).write_text("[mine]\nstatus = 404\n")
    with Runtime(Settings.load(tmp_path)) as runtime:
        assert runtime.classifier.verdict(Evidence("e.com", "GET", 404)) == Verdict(BANNED, "mine")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A folder in its place, and what is no text, are errors with the path."""
    path = tmp_path / BAN_RULES_FILE
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=f"{path} cannot be read"):
        ban_rules(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(SettingsError, match=f"{path} cannot be read"):
        ban_rules(tmp_path)


def test_the_built_in_rules_explain_themselves() -> None:
    """Each says what it finds, in a sentence, and none has a domain: those would go before all others."""
    for rule in built_in_rules():
        assert rule.about.endswith("."), rule.name
        assert not rule.domains, rule.name
        assert rule.built_in


def test_a_packaged_file_is_written_as_a_users_is() -> None:
    """The package's rules keep to the grammar: taken as a user's under other names, they say the same."""
    folder = Path(__file__).parents[2] / "src" / "proxywhirl" / "rotation" / "verdicts"
    text = (folder / "ban_rules.toml").read_text(encoding="utf-8")
    renamed = text
    for name in tomllib.loads(text):
        renamed = renamed.replace(f"[{name}]", f"[my-{name}]")
    own = [rule for rule in rules_with(renamed, "mine") if not rule.built_in]
    assert [rule.name for rule in own] == [f"my-{rule.name}" for rule in built_in_rules()]
    assert [rule.bodies for rule in own] == [rule.bodies for rule in built_in_rules()]


def test_no_expression_runs_away() -> None:
    """An expression that is a classic of endless searching is through a whole page of its worst text at once."""
    text = "[evil]\nbody_regex = ['(a+)+b.*c.*d', '(a|aa)+$']"
    assert judged(text, body=b"a" * LOOKED_AT + b"!").rule == "evil"  # by the second, up to the bound
    assert judged(text, body=b"a" * 4000 + b"!") == Verdict()


def test_an_expression_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library a rule with one is refused with the command that installs it; the other rules do without."""
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(SettingsError, match=r"rule 'mine': .*pip install 'proxywhirl\[patterns\]'"):
        rules_with('[mine]\nbody_regex = "a"', "here")
    assert judged("[mine]\nstatus = 404", status=404).rule == "mine"
