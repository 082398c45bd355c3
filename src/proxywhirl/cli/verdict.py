"""`proxywhirl verdict`: what would be made of a response, and by which rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import click

from proxywhirl.cli.options import AMOUNT, SITE, TEXT, Kind, home_option, json_option
from proxywhirl.cli.output import note, print_found, print_json, print_table
from proxywhirl.clock import SYSTEM_CLOCK
from proxywhirl.errors import Blame
from proxywhirl.rotation.verdicts.response import LOOKED_AT, Evidence, Verdict
from proxywhirl.rotation.verdicts.rule_file import HEADER_NAME
from proxywhirl.rotation.verdicts.rules import Classifier, Rule
from proxywhirl.settings import Settings
from proxywhirl.settings.files import ban_rules

COLUMNS = ("NAME", "FROM", "ENABLED", "DOMAIN", "BLAME", "HOLDS WHERE", "ABOUT")
SHOWN = 2  # alternatives of a condition that the table shows; --json has all
EXPENDABLE = ("ABOUT", "FROM", "DOMAIN")  # the conditions fold


def _header(line: str) -> tuple[bytes, bytes]:
    """Return the name, in lower case, and the value of a line of a response's head."""
    name, colon, value = line.partition(":")
    if not colon or not HEADER_NAME.fullmatch(name.strip()) or not line.isprintable():
        raise ValueError(f"{line!r} is no header: write it as 'server: cloudflare'")
    return name.strip().lower().encode(), value.strip().encode()


@click.command()
@click.option("--status", type=click.IntRange(100, 999), metavar="CODE", help="Of the response.")
@click.option(
    "--header", "headers", type=Kind("NAME: VALUE", _header), multiple=True, help="Of the response; may be repeated."
)
@click.option("--body", type=click.File("rb"), metavar="FILE", help="The body of the response; - for stdin.")
@click.option("--site", type=SITE, metavar="SITE|URL", default="example.com", show_default=True, help="Who was asked.")
@click.option("--method", metavar="NAME", type=TEXT, default="GET", show_default=True, help="Of the request.")
@click.option("--latency", type=AMOUNT, metavar="SECONDS", help="How long the response took to begin.")
@click.option("--rules", "listing", is_flag=True, help="List the rules instead, in the order in which they are asked.")
@json_option
@home_option
def verdict(listing: bool, as_json: bool, home: str | None, status: int | None, **seen: Any) -> None:
    """Tell who is to blame for a response, and by which rule.

    The rules are the built-in ones and those of the home's ban-rules.toml. `curl -so body.html URL` saves a body to
    look at. With --rules, --json gives JSON lines.
    """
    rules = ban_rules(Settings.load(home).home)
    if listing:
        print_found(COLUMNS, rules, _listed, _as_json, as_json=as_json, expendable=EXPENDABLE)
        return
    if status is None:
        raise click.UsageError("Name the --status of the response, or ask for the --rules.")
    evidence = _evidence(status, **seen)
    found = Classifier(rules).verdict(evidence)
    if as_json:
        blame = None if found.blame is None else found.blame.value
        print_json({"ok": found.blame is None, "blame": blame, "rule": found.rule, "retry_after": found.retry_after})
        return
    print_table(("VERDICT", "RULE", "RETRY AFTER"), [_row(found)])
    about = next((rule.about for rule in rules if rule.name == found.rule), "")
    if about:
        note(f"{found.rule}: {about}")


def _evidence(
    status: int,
    headers: tuple[tuple[bytes, bytes], ...],
    body: BinaryIO | None,
    site: str,
    method: str,
    latency: float | None,
) -> Evidence:
    content = b"" if body is None else body.read(LOOKED_AT)
    return Evidence(
        site=site,
        method=method,
        status=status,
        headers=headers,
        body=content,
        length=None if body is None else len(content) + _left(body),
        latency=latency,
        at=SYSTEM_CLOCK.now(),
    )


def _left(body: BinaryIO) -> int:
    """Count the rest of a body: only its length matters."""
    return sum(map(len, iter(lambda: body.read(1 << 20), b"")))


def _row(found: Verdict) -> tuple[str, ...]:
    wait = "-" if found.retry_after is None else f"{found.retry_after:g} s"
    return (_blamed(found.blame), found.rule or "-", wait)


def _blamed(blame: Blame | None) -> str:
    return "ok" if blame is None else blame.value


def _listed(rule: Rule) -> tuple[str, ...]:
    conditions = "; ".join(f"{name} {_alternatives(values)}".strip() for name, values in _conditions(rule))
    return (
        rule.name,
        "built-in" if rule.built_in else "user",
        "yes" if rule.enabled else "no",
        ", ".join(rule.domains) or "any",
        _blamed(rule.blame),
        conditions,
        rule.about,
    )


def _alternatives(values: list[str]) -> str:
    left = len(values) - SHOWN
    return " or ".join(values if left <= 1 else [*values[:SHOWN], f"{left} more"])


def _as_json(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "from": "built-in" if rule.built_in else "user",
        "enabled": rule.enabled,
        "domains": rule.domains,
        "blame": None if rule.blame is None else rule.blame.value,
        "retry_after": rule.retry_after,
        "conditions": dict(_conditions(rule)),
        "about": rule.about,
    }


def _conditions(rule: Rule) -> Iterator[tuple[str, list[str]]]:
    """Yield what must hold, as it is written in a file of rules."""
    if rule.statuses:
        yield "status", list(_spans(sorted(rule.statuses)))
    if rule.methods:
        yield "method", sorted(rule.methods)
    for header, wordings in rule.headers:
        yield f"header {header.decode()}", [wording.text for wording in wordings]
    for name, texts in (
        ("redirect_to", [str(place) for place in rule.redirects]),
        ("title", [wording.text for wording in rule.titles]),
        ("body", [wording.text for wording in rule.bodies]),
        ("body_regex", [pattern.text for pattern in rule.patterns]),
        ("shorter_than", [] if rule.shorter_than is None else [str(rule.shorter_than)]),
        ("faster_than", [] if rule.faster_than is None else [f"{rule.faster_than:g}"]),
    ):
        if texts:
            yield name, texts


def _spans(codes: list[int]) -> Iterator[str]:
    """Yield codes one by one, and each whole hundred as one."""
    known = set(codes)
    hundreds = {first for first in known if first % 100 == 0 and known.issuperset(range(first, first + 100))}
    for code in codes:
        if code in hundreds:
            yield f"{code // 100}xx"
        elif code // 100 * 100 not in hundreds:
            yield str(code)
