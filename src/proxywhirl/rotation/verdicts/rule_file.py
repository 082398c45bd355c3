"""Rules as they are written: TOML, a table for each rule by its name.

Built-in and user rules have the same grammar. The user's rules go before. A user's table with the name of a built-in
rule changes a few settings of that rule in its place, so that a name taken by chance does not replace a rule unseen.

`faults_of` lists all mistakes in a file, and the rules that can never decide: their conditions exclude each other, or a
rule before them holds whenever they do. Only certain faults are listed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, ValidationError
from pydantic import StrictFloat as Real
from pydantic import StrictInt as Whole
from pydantic import StrictStr as Text

from proxywhirl.errors import Blame, ProxyURLError, SettingsError
from proxywhirl.hosts import canonical_host
from proxywhirl.rotation.verdicts.response import LONGEST_TITLE, LOOKED_AT
from proxywhirl.rotation.verdicts.rules import NO_BODY, Pattern, Place, Rule, Wording
from proxywhirl.validation import toml_tables, what_is_wrong
from proxywhirl.wire.retry_after import LONGEST_WAIT

CHANGEABLE = ("enabled", "domain", "retry_after")
"""What a user's table may change of a built-in rule."""

CONDITIONS = {
    *("status", "method", "header", "redirect_to", "title", "body", "body_regex"),
    *("shorter_than", "faster_than"),
}

HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""What names a header: a token, RFC 9110 section 5.6.2."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _several(value: Any) -> Any:
    """Take one value for a list of one."""
    return value if isinstance(value, list) else [value]


def _several_by_name(value: Any) -> Any:
    return {name: _several(texts) for name, texts in value.items()} if isinstance(value, dict) else value


def _host(domain: str) -> str:
    name = domain.removeprefix("*.").removeprefix(".")
    try:
        return canonical_host(name)
    except ProxyURLError:
        raise ValueError(
            f"{domain!r} is no domain: write it such as example.com, without a scheme, a port or a path"
        ) from None


def _must_match(pattern: str, wrong: str) -> AfterValidator:
    """Refuse a text that does not match as a whole; `wrong` says what it is not, and what to write."""
    compiled = re.compile(pattern)

    def check(value: int | str) -> int | str:
        if not compiled.fullmatch(str(value)):
            raise ValueError(f"{value!r} is {wrong}")
        return value

    return AfterValidator(check)


def _place(place: str) -> str:
    if not place.strip("/") or "//" in place or not place.isprintable() or set(" ?#*") & set(place):
        raise ValueError(f"{place!r} is no place: write a path such as /captcha, or a host, or host/path")
    return place


def _wording(text: str) -> str:
    if Wording.of(text).says_nothing:
        raise ValueError("a text is empty, or has nothing but stars: it would be found in every page")
    return text


Status = Annotated[
    Whole | Text, _must_match("[1-9]xx|[1-9][0-9][0-9]", 'no status: write a number from 100 to 999, or such as "5xx"')
]
Method = Annotated[Text, _must_match("[A-Z]+(?:-[A-Z]+)*", "no method: write it in capitals, such as GET")]
Header = Annotated[Text, _must_match(HEADER_NAME.pattern, "no name of a header")]
OneOrMore = (BeforeValidator(_several), Field(min_length=1))
Texts = Annotated[list[Text], *OneOrMore]
Words = Annotated[list[Annotated[Text, AfterValidator(_wording)]], *OneOrMore]
Seconds = Annotated[Whole | Real, Field(gt=0, le=LONGEST_WAIT)]


class Definition(BaseModel):
    """The settings of a rule; one condition at least."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    about: Text = ""
    domain: Annotated[list[Annotated[Text, AfterValidator(_host)]], *OneOrMore] | None = None
    status: Annotated[list[Status], *OneOrMore] | None = None
    method: Annotated[list[Method], *OneOrMore] | None = None
    header: Annotated[dict[Header, list[Text]], BeforeValidator(_several_by_name), Field(min_length=1)] | None = None
    redirect_to: Annotated[list[Annotated[Text, AfterValidator(_place)]], *OneOrMore] | None = None
    title: Words | None = None
    body: Words | None = None
    body_regex: Texts | None = None
    shorter_than: Annotated[Whole, Field(ge=1)] | None = None
    faster_than: Seconds | None = None
    ok: StrictBool = False
    blame: Literal["target-through-proxy", "target", "proxy", "account"] | None = None
    retry_after: Seconds | None = None
    enabled: StrictBool = True

    def rule(self, name: str, *, built_in: bool) -> Rule:
        """Return the rule.

        Raises:
            SettingsError: it asks for nothing, or contradicts itself.
        """
        if not self.model_dump(include=CONDITIONS, exclude_none=True) and not (self.ok and self.domain):
            if self.model_fields_set and self.model_fields_set.issubset(CHANGEABLE):
                raise SettingsError(
                    "no built-in rule has this name, and one of yours needs a condition: "
                    "`proxywhirl verdict --rules` lists the names"
                )
            raise SettingsError("it asks for nothing, so that it would hold of every response: give it a condition")
        if self.ok and (self.blame or self.retry_after):
            raise SettingsError("where all is ok, there is nobody to blame and nothing to wait for: leave those out")
        return Rule(
            name=name,
            blame=None if self.ok else Blame(self.blame or Blame.TARGET_THROUGH_PROXY),
            about=self.about,
            domains=tuple(self.domain or ()),
            statuses=frozenset(code for status in self.status or () for code in _codes(str(status))),
            methods=frozenset(self.method or ()),
            headers=tuple((n.lower().encode(), _wordings(texts)) for n, texts in (self.header or {}).items()),
            redirects=tuple(map(Place.of, self.redirect_to or ())),
            titles=_wordings(self.title or ()),
            bodies=_wordings(self.body or ()),
            patterns=tuple(map(Pattern.of, self.body_regex or ())),
            shorter_than=self.shorter_than,
            faster_than=self.faster_than,
            retry_after=self.retry_after,
            enabled=self.enabled,
            built_in=built_in,
        )


@cache
def built_in_rules() -> tuple[Rule, ...]:
    """Return the rules that come with the package, in their order."""
    text = files("proxywhirl.rotation.verdicts").joinpath("ban_rules.toml").read_text(encoding="utf-8")
    where = "the built-in rules"
    return tuple(_rule(name, table, where, built_in=True) for name, table in read_tables(text, where).items())


def rules_with(text: str, where: str) -> tuple[Rule, ...]:
    """Return the rules of the user's text, and behind them the built-in ones as it leaves them.

    Raises:
        SettingsError: the text is wrong; the message names `where`, the rule, and what to do.
    """
    tables = read_tables(text, where)
    theirs = {name: read_rule(name, table, where) for name, table in tables.items()}
    own = [rule for rule in theirs.values() if not rule.built_in]
    return (*own, *(theirs.get(rule.name, rule) for rule in built_in_rules()))


def read_rule(name: str, table: Mapping[str, Any], where: str) -> Rule:
    """Return the rule of one of the user's tables: their own, or a built-in one as the table leaves it.

    Raises:
        SettingsError: the table is wrong; the message names `where`, the rule, and what to do.
    """
    known = next((rule for rule in built_in_rules() if rule.name == name), None)
    return _rule(name, table, where, built_in=False) if known is None else _changed(known, table, where)


def read_tables(text: str, where: str) -> dict[str, dict[str, Any]]:
    """Return the tables of a file, by the names of their rules.

    Raises:
        SettingsError: the text is not TOML, or what stands in it is no table or has no name of a rule.
    """
    tables = toml_tables(text, where)
    for name in tables:
        if not _NAME.fullmatch(name):
            raise SettingsError(
                f"{where}: {name!r} cannot name a rule: it takes 1 to 64 letters, digits, dots, dashes and underscores"
            )
    return tables


def _definition(name: str, table: Mapping[str, Any], where: str) -> Definition:
    try:
        return Definition.model_validate(table)
    except ValidationError as exc:
        raise SettingsError(
            f"{where}: rule {name!r}: {what_is_wrong(exc, Definition)}"
        ) from None  # the cause repeats values


def _rule(name: str, table: Mapping[str, Any], where: str, *, built_in: bool) -> Rule:
    try:
        return _definition(name, table, where).rule(name, built_in=built_in)
    except SettingsError as exc:
        prefix = f"{where}: rule {name!r}: "
        raise SettingsError(prefix + str(exc).removeprefix(prefix)) from None


def _changed(rule: Rule, table: Mapping[str, Any], where: str) -> Rule:
    """Return a built-in rule with the settings of a table."""
    begin = f"{where}: rule {rule.name!r} is built in"
    for name in table:
        if name not in CHANGEABLE:
            raise SettingsError(f"{begin}: of it only {', '.join(CHANGEABLE)} can be set; give your rule another name")
    definition = _definition(rule.name, table, where)
    if definition.domain and not definition.enabled:
        raise SettingsError(
            f"{begin}: to switch it off for a domain alone, write a rule of another name with the domain and ok = true"
        )
    return replace(
        rule,
        enabled=definition.enabled if "enabled" in table else rule.enabled,
        domains=tuple(definition.domain or ()),
        retry_after=definition.retry_after or rule.retry_after,
    )


def _codes(status: str) -> range:
    if status.endswith("xx"):
        return range(int(status[0]) * 100, int(status[0]) * 100 + 100)
    return range(int(status), int(status) + 1)


def _wordings(texts: list[str] | tuple[()]) -> tuple[Wording, ...]:
    return tuple(map(Wording.of, texts))


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
    """Return all faults of the user's rules; `where` names the file in messages."""
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
    """Return the rules that decide before it wherever it holds; rules of a longer domain do on a part of its sites."""
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
