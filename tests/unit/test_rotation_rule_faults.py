"""What is found wrong with a file of rules, and what is not."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.rotation.verdicts.response import Evidence
from proxywhirl.rotation.verdicts.rule_file import built_in_rules, faults_of, rules_with
from proxywhirl.rotation.verdicts.rules import Classifier

WHERE = "ban-rules.toml"


def found(text: str) -> list[str]:
    """Return what is wrong with a text."""
    return [fault.what for fault in faults_of(text, WHERE)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[mine", "not TOML"),
        ("[mine]\nstaus = 404", "rule 'mine': staus: there is none of this name; known: about"),
        ('[mine]\nbody_regex = "("', "rule 'mine': '(' is no regular expression of RE2"),
        ('[forbidden]\nbody = "x"', "rule 'forbidden' is built in: of it only enabled, domain, retry_after"),
        ("[mine]\nabout = 'x'", "rule 'mine': it asks for nothing"),
    ],
)
def test_what_is_wrong_is_told_with_the_rule(text: str, words: str) -> None:
    """Syntax, unknown settings, expressions that do not compile; what to do says that nothing runs before."""
    (fault,) = faults_of(text, WHERE)
    assert words in fault.what
    assert "before" in fault.advice


def test_every_wrong_rule_is_told() -> None:
    """The first one does not hide the others."""
    text = "[one]\nstaus = 404\n[two]\nstatus = 404\n[three]\nstatus = 99"
    assert [what.split("'")[1] for what in found(text)] == ["one", "three"]


def test_an_expression_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where RE2 is not there, that is what is wrong with the rule."""
    monkeypatch.setitem(sys.modules, "re2", None)
    (what,) = found('[mine]\nbody_regex = "a+"')
    assert "pip install 'proxywhirl[patterns]'" in what


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[mine]\nmethod = "HEAD"\nbody = "x"', "no response to HEAD"),
        ('[mine]\nmethod = "HEAD"\nshorter_than = 9', "no response to HEAD"),
        ("[mine]\nstatus = '1xx'", "a status below 200"),
        ('[mine]\nstatus = [204, 304]\ntitle = "x"', "no response with such a status"),
        (f'[mine]\nbody = "{"x" * 65_537}"', "longer than the 65536 bytes"),
        ('[mine]\ntitle = "Access  denied"', "single spaces"),
        ('[mine]\ntitle = " denied"', "single spaces"),
        ('[mine]\nredirect_to = "example.com:8080/captcha"', "a port in redirect_to"),
        ('[empty-page]\ndomain = "example.com"', "off unless you set enabled = true"),
    ],
)
def test_conditions_that_exclude_each_other_are_told(text: str, why: str) -> None:
    """Such a rule never holds, of whatever response."""
    (what,) = found(text)
    assert what.startswith(f"rule {text[1 : text.index(']')]!r} never decides: ")
    assert why in what


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("status = 404", "status = 404"),
        ('status = "4xx"', 'status = [404, 410]\nbody = "x"'),
        ('body = "denied"', 'body = "access denied*bob"'),
        ('title = "access*"', 'title = "Access denied"'),
        ('header = { server = "" }', 'header = { server = "nginx", via = "x" }'),
        ("shorter_than = 100", "shorter_than = 99\nfaster_than = 1"),
        ('redirect_to = ["/a", "/b"]', 'redirect_to = "/b"'),
        ('domain = "a.example"\nstatus = 404', 'domain = "a.example"\nstatus = 404'),
        ('method = ["GET", "POST"]', 'method = "GET"'),
    ],
)
def test_a_rule_behind_a_wider_one_is_told(first: str, second: str) -> None:
    """Where another one decides before it whenever it holds, it is never asked."""
    (what,) = found(f"[wide]\n{first}\n[narrow]\n{second}")
    assert what == "rule 'narrow' never decides: whenever it holds, so does one that is asked before it ('wide')"
    assert not found(f"[wide]\nenabled = false\n{first}\n[narrow]\n{second}")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('domain = "a.example"\nstatus = 404', "status = 404"),
        ("status = 404", 'domain = "a.example"\nstatus = 404'),
        ('domain = "b.a.example"\nstatus = 404', 'domain = "a.example"\nstatus = 404'),
        ('domain = "a.example"\nstatus = 404', 'domain = ["a.example", "b.example"]\nstatus = 404'),
        ("status = 404", 'status = "4xx"'),
        ('body = "access denied"', 'body = "denied"'),
        ('body = "a*b"', 'body = "ab"'),
        ('header = { server = "nginx" }', "status = 404"),
        ('title = "denied"', 'title = "denied*"'),
        ("faster_than = 1", "faster_than = 2"),
    ],
)
def test_a_rule_that_may_decide_is_not_told(first: str, second: str) -> None:
    """Nothing is said of a rule that some response reaches, nor of one that the user has switched off."""
    assert found(f"[first]\n{first}\n[second]\n{second}\n[off]\nenabled = false\nstatus = 404") == []


def test_two_rules_can_hide_a_third_together() -> None:
    """Each domain of a rule may be another one's."""
    one, two = (f'[{name}]\ndomain = "{name}.example"\nstatus = 404\n' for name in "ab")
    (what,) = found(f'{one}{two}[both]\ndomain = ["a.example", "b.example"]\nstatus = 404')
    assert what.endswith("asked before it ('a', 'b')")


RULE = st.fixed_dictionaries(
    {},
    optional={
        "domain": st.lists(st.sampled_from(["a.example", "b.a.example"]), min_size=1, max_size=2),
        "status": st.lists(st.sampled_from([200, 204, 403]), min_size=1, max_size=2),
        "method": st.lists(st.sampled_from(["GET", "HEAD"]), min_size=1, max_size=2),
        "body": st.lists(st.sampled_from(["x", "xy", "x*y"]), min_size=1, max_size=2),
        "title": st.lists(st.sampled_from(["x", "xy", "x*", " x"]), min_size=1, max_size=2),
        "shorter_than": st.sampled_from([5, 50]),
    },
).filter(lambda rule: rule.keys() - {"domain"})

EVIDENCE = st.builds(
    Evidence,
    st.sampled_from(["a.example", "b.a.example", "c.example"]),
    st.sampled_from(["GET", "HEAD"]),
    st.sampled_from([200, 204, 403]),
    body=st.sampled_from([b"", b"<title>x</title>", b"<title>xy</title>xy", b"x-y"]),
    length=st.sampled_from([None, 0, 4, 49, 51]),
).filter(lambda seen: not seen.body or (seen.method == "GET" and seen.status != 204))


@given(st.lists(RULE, min_size=1, max_size=4), st.lists(EVIDENCE, min_size=1))
def test_what_is_told_to_never_decide_never_does(rules: list[dict[str, object]], seen: list[Evidence]) -> None:
    """Whatever the rules and the responses: none of the latter is decided by one that was told of."""
    text = "".join(
        f"[r{place}]\n" + "".join(f"{name} = {value!r}\n" for name, value in rule.items())
        for place, rule in enumerate(rules)
    )
    idle = {what.split("'")[1] for what in found(text)}
    judge = Classifier(rules_with(text, WHERE))
    assert idle.isdisjoint(judge.verdict(evidence).rule for evidence in seen)


def test_the_built_in_rules_can_all_decide() -> None:
    """Written as a user would write them for a site of their own, none of them hides another."""
    tables = {rule.name for rule in built_in_rules() if rule.enabled}
    text = "".join(f'[{name}]\ndomain = "a.example"\n' for name in sorted(tables))
    assert found(text) == []
