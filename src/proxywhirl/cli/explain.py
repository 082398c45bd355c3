"""`proxywhirl explain`: which proxy a request would get, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

from proxywhirl.cli.options import COUNTRY, home_option, json_option, open_runtime
from proxywhirl.cli.output import print_json, printable
from proxywhirl.errors import PoolEmpty
from proxywhirl.models import ANONYMITIES, Proxy
from proxywhirl.rotation.selection.explain import Explanation
from proxywhirl.rotation.selection.request_options import RequestOptions
from proxywhirl.rotation.verdicts.rules import Rule
from proxywhirl.urls import SCHEMES


@click.command()
@click.option("--target", metavar="URL", help="Where the request goes: who is banned there is not chosen.")
@click.option("--session", metavar="NAME", help="The session that it belongs to.")
@click.option(
    "--within",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="In how many seconds it has to be answered.",
)
@click.option("--strategy", metavar="NAME", help="How a proxy is chosen. [default: the setting pool.strategy]")
@click.option("--scheme", type=click.Choice(list(SCHEMES)), help="Only proxies of this scheme.")
@click.option("--country", type=COUNTRY, metavar="CC", help="Only in this country.")
@click.option("--region", metavar="NAME", help="Only in this region.")
@click.option("--city", metavar="NAME", help="Only in this city.")
@click.option("--asn", type=click.IntRange(0), metavar="NUMBER", help="Only in this autonomous system.")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="Only with this tag; may be repeated.")
@click.option("--source", metavar="NAME", help="Only from this source.")
@click.option("--anonymity", type=click.Choice(ANONYMITIES), help="Only so good or better.")
@click.option("--provider", metavar="NAME", help="Only of this provider.")
@click.option("--connect", is_flag=True, help="Only those that open tunnels.")
@click.option("--max-price", type=click.FloatRange(0), metavar="PRICE", help="Only up to this price per GB.")
@json_option
@home_option
def explain(
    target: str | None,
    session: str | None,
    within: float | None,
    strategy: str | None,
    as_json: bool,
    home: str | None,
    **wishes: Any,
) -> None:
    """Explain which proxy a request would get, and why.

    Tells how many proxies could serve it, why the others cannot, which rule banned them, and why the chosen one is
    chosen. Rules are the built-in ones and the home's ban-rules.toml. Bans, sessions and health are those of this home;
    the last moments of a running process are not in it yet.
    The exit code is 1 if no proxy can serve.
    """
    overrides = {"pool": {"strategy": strategy}} if strategy is not None else None
    with open_runtime(home, overrides) as runtime:
        rules = {rule.name: rule for rule in runtime.classifier.rules}
        runtime.feed()
        asked = {name: wish for name, wish in wishes.items() if not (wish is None or wish is False or wish == ())}
        try:
            RequestOptions.of(session, asked)
            told = runtime.pool.explain(target, session=session, within=within, **asked)
        except ValueError as exc:
            raise click.UsageError(f"{exc}.") from exc
        if as_json:
            print_json(_data(told, rules))
        else:
            for line in _lines(told, rules):
                click.echo(printable(line))
        if told.proxy is None:
            raise PoolEmpty(told.why)


def _lines(told: Explanation, rules: Mapping[str, Rule]) -> list[str]:
    lines = [f"eligible  {told.eligible} of {told.pool}"]
    for e in told.excluded:
        lines.append(f"excluded  {e.count}: {e.reason}, such as {e.example}")
        if e.rule in rules:
            rule = rules[e.rule]
            off = "" if rule.enabled else ", switched off since"
            about = f": {rule.about}" if rule.about else ""
            lines.append(f"rule      {rule.name} ({'built-in' if rule.built_in else 'user'}{off}){about}")
    if told.site:
        lines.append(f"site      {told.site}")
    if told.proxy is None:
        return lines
    lines += [f"chosen    {told.proxy}  {told.proxy.key}", f"why       {told.why}"]
    if told.record is not None:
        r = told.record
        latency = "" if r.latency is None else f", {r.latency * 1000:.0f} ms"
        lines.append(f"record    {r.served} served, {r.failed} failed, {r.chance:.0%} expected to succeed{latency}")
    return lines


def _data(told: Explanation, rules: Mapping[str, Rule]) -> dict[str, Any]:
    return {
        "pool": told.pool,
        "eligible": told.eligible,
        "excluded": [
            {
                "reason": e.reason,
                "count": e.count,
                "example": _proxy(e.example),
                "rule": e.rule or None,
                "about": rules[e.rule].about if e.rule in rules else None,
            }
            for e in told.excluded
        ],
        "site": told.site,
        "proxy": None if told.proxy is None else _proxy(told.proxy),
        "why": told.why,
        "record": None if told.record is None else asdict(told.record),
    }


def _proxy(proxy: Proxy) -> dict[str, str | None]:
    return {"key": proxy.key, "url": proxy.url, "label": proxy.label}
