"""What is wrong with a file of rules: all of it, and which rules can never decide (pure).

A rule never decides where its conditions exclude each other, or where another one that is asked before it holds
whenever it does. Only what is certain is told: a rule of which nothing is said may still never find anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from proxywhirl.errors import SettingsError
from proxywhirl.rotation.verdicts.patterns import Wording
from proxywhirl.rotation.verdicts.response import LONGEST_TITLE, LOOKED_AT
from proxywhirl.rotation.verdicts.rule_file import read_rule, read_tables, rules_with
from proxywhirl.rotation.verdicts.rules import NO_BODY, Rule

_INTERIM = frozenset(range(100, 200))
_WITHOUT_CONTENT = _INTERIM | {204, 205, 304}  # RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5

_CORRECT = "correct it, or take it out: nothing that uses this home sends requests before"
_NEVER = "change it, or take it out: it never decides"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RuleFault:
    """Something that is wrong, and what to do."""

    what: str
    advice: str


def faults_of(text: str, where: str) -> list[RuleFault]:
    """Return all that is wrong with the user's rules; `where` names the file in what is read of it."""
    try:
        tables = read_tables(text, where)
    except SettingsError as exc:
        return [RuleFault(str(exc).removeprefix(f"{where}: "), _CORRECT)]
    wrong = []
    for name, table in tables.items():
        try:
            read_rule(name, table, where)
        except SettingsError as exc:
            wrong.append(RuleFault(str(exc).removeprefix(f"{where}: "), _CORRECT))
    if wrong:
        return wrong
    rules = rules_with(text, where)
    theirs = [(place, rule) for place, rule in enumerate(rules) if rule.name in tables]
    said = ((rule.name, _idle(rule, rules[:place], tables[rule.name])) for place, rule in theirs)
    return [RuleFault(f"rule {name!r} never decides: {why}", _NEVER) for name, why in said if why]


def _idle(rule: Rule, before: Sequence[Rule], table: Collection[str]) -> str:
    """Return why a rule can never decide, nothing where it may, or where the user has switched it off."""
    if not rule.enabled:
        return "" if "enabled" in table else "it is off unless you set enabled = true"
    return next(_impossible(rule), "") or _hidden(rule, before)


def _impossible(rule: Rule) -> Iterator[str]:
    inside = bool(rule.titles or rule.bodies or rule.patterns)
    if rule.methods == {NO_BODY} and (inside or rule.shorter_than is not None):
        yield "it looks at the body, and no response to HEAD has one"
    if rule.statuses and rule.statuses <= _INTERIM:
        yield "a status below 200 comes before the response and is not judged"
    if inside and rule.statuses and rule.statuses <= _WITHOUT_CONTENT:
        yield "it looks at the body, and no response with such a status has one"
    if rule.bodies and all(sum(map(len, wording.parts)) > LOOKED_AT for wording in rule.bodies):
        yield f"its text is longer than the {LOOKED_AT} bytes of a body that are looked at"
    if rule.titles and not any(_may_be_title(wording) for wording in rule.titles):
        yield f"a title is looked at with single spaces, none around it, and up to {LONGEST_TITLE} bytes of it"
    if rule.redirects and all(":" in place.host.rpartition("]")[2] for place in rule.redirects):
        yield "a port in redirect_to: hosts are compared without theirs"


def _may_be_title(wording: Wording) -> bool:
    if sum(map(len, wording.parts)) > LONGEST_TITLE:
        return False
    words = all(b"  " not in part and not any(blank in part for blank in b"\t\r\n\f") for part in wording.parts)
    return words and not wording.parts[0].startswith(b" ") and not wording.parts[-1].endswith(b" ")


def _hidden(rule: Rule, before: Sequence[Rule]) -> str:
    """Return which rules decide before it wherever it holds: those of a longer domain do so on a part of its sites."""
    names: dict[str, None] = {}
    for domain in rule.domains or (None,):
        first = next((other for other in before if _is_for(other, domain) and _covers(other, rule)), None)
        if first is None:
            return ""
        names[first.name] = None
    return f"whenever it holds, so does one that is asked before it ({', '.join(map(repr, names))})"


def _is_for(rule: Rule, domain: str | None) -> bool:
    return rule.enabled and (domain in rule.domains if domain is not None else not rule.domains)


def _covers(first: Rule, rule: Rule) -> bool:
    """Tell whether the first one certainly holds whenever the other does, for a domain that both are for."""
    headers = dict(rule.headers)
    return (
        _all_within(rule.statuses, first.statuses)
        and _all_within(rule.methods, first.methods)
        and all(_implied(headers.get(name, ()), wordings, _found_too) for name, wordings in first.headers)
        and _all_within(rule.redirects, first.redirects)
        and _implied(rule.titles, first.titles, _titled_too)
        and _implied(rule.bodies, first.bodies, _found_too)
        and _all_within(rule.patterns, first.patterns)
        and _at_most(rule.shorter_than, first.shorter_than)
        and _at_most(rule.faster_than, first.faster_than)
    )


def _all_within(asked: Collection[T], wider: Collection[T]) -> bool:
    return not wider or (bool(asked) and all(value in wider for value in asked))


def _at_most(asked: float | None, wider: float | None) -> bool:
    return wider is None or (asked is not None and asked <= wider)


def _implied(
    asked: Collection[Wording], wider: Collection[Wording], follows: Callable[[Wording, Wording], bool]
) -> bool:
    return not wider or (bool(asked) and all(any(follows(text, other) for other in wider) for text in asked))


def _found_too(wording: Wording, other: Wording) -> bool:
    """Whether whatever holds one text holds the other too."""
    if wording.parts == other.parts:
        return True
    return len(other.parts) == 1 and any(other.parts[0] in part for part in wording.parts)


def _titled_too(wording: Wording, other: Wording) -> bool:
    return wording.parts == other.parts or (len(wording.parts) == 1 and other.is_all_of(wording.parts[0]))
