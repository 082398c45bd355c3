"""`proxywhirl check`: learn now how well proxies work."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import click

from proxywhirl.checkups import CheckPlan
from proxywhirl.cli.options import KEY_OR_PROXY, TARGET, Kind, home_option, json_option, open_runtime
from proxywhirl.cli.output import counting, no_proxy, note, print_json, print_table
from proxywhirl.health.batch import OnResult
from proxywhirl.health.levels import CheckTally, Level, ProbeResult
from proxywhirl.models import Attributes
from proxywhirl.runtime import Runtime
from proxywhirl.urls import ProxyURL
from proxywhirl.wire.judge import Judge


def _judge(url: str) -> str:
    try:
        Judge.parse(url)
    except ValueError as exc:  # the URL may hold a secret
        raise ValueError(f"no judge's URL, such as http://judge.example:8898/: {exc}") from exc
    return url


LEVELS = click.Choice([level.value for level in Level])


@click.command()
@click.argument("proxies", metavar="[KEY|URL]...", nargs=-1, type=KEY_OR_PROXY)
@click.option("--all", "everything", is_flag=True, help="All proxies, whether they are due or not.")
@click.option("--due", is_flag=True, help="Those that are due, as without any of these.")
@click.option("--level", type=LEVELS, help="How deep. [default: the deepest that the judges allow, short of full]")
@click.option("--judge", "judges", type=Kind("URL", _judge), multiple=True, help="A judge to ask; may be repeated.")
@click.option("--target", type=TARGET, help="The end of the tunnel, instead of a judge.")
@click.option("--concurrency", type=click.IntRange(1), help="Checks at once. [default: 200]")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds for each. [default: 10]")
@click.option("--budget-bytes", type=click.IntRange(0), help="Stop before more bytes than these are spent.")
@json_option
@home_option
def check(
    proxies: tuple[str | ProxyURL, ...], everything: bool, due: bool, as_json: bool, home: str | None, **given: Any
) -> int:
    """Check proxies, and remember what was found out.

    --level says how deep: tcp (it takes a connection), handshake (it opens a tunnel), http (a judge answers through
    it), tls (encrypted traffic stays so), full (its exit, and what it tells of you). `proxywhirl judge` serves a judge.
    The exit code is 1 if no checked proxy works.

    --json gives a line for each, and one with the sums.
    """
    if bool(proxies) + everything + due > 1:
        raise click.UsageError("KEY|URL, --all and --due go one at a time.")
    plan = CheckPlan(**given | {"level": Level(given["level"]) if given["level"] else None})
    with open_runtime(home) as runtime:
        keys = _named(runtime, proxies) if proxies else runtime.checkups.keys(due=not everything)
        tally = run_checks(runtime, keys, plan, as_json=as_json)
    return 0 if tally.ok or not tally.checked else 1


def run_checks(runtime: Runtime, keys: Iterable[str], plan: CheckPlan, *, as_json: bool) -> CheckTally:
    """Check proxies with a bar that tells how it goes; print the sums. What was found out before Ctrl-C is kept."""
    began = time.monotonic()
    chosen = list(keys)
    with counting("checking", len(chosen), quiet=as_json) as advance:
        tell: OnResult = _print_result if as_json else lambda result, _endpoint, _known: advance(result.ok)
        tally = asyncio.run(runtime.checkups.check(chosen, plan, tell))
    if as_json:
        print_json({"summary": _as_json(tally)})
    else:
        _print_sums(tally, time.monotonic() - began)
    return tally


def _named(runtime: Runtime, proxies: tuple[str | ProxyURL, ...]) -> list[str]:
    meant = runtime.keys_of(list(proxies))
    keys = list(dict.fromkeys(key for found in meant for key in sorted(found)))
    known = runtime.cache.to_check(keys)
    missing = [
        proxy if isinstance(proxy, str) else proxy.canonical
        for proxy, found in zip(proxies, meant, strict=True)
        if known.keys().isdisjoint(found)
    ]
    if missing:
        raise no_proxy(", ".join(missing))
    return keys


def _print_result(result: ProbeResult, endpoint: ProxyURL, attributes: Attributes) -> None:  # noqa: ARG001  # `OnResult`
    print_json(
        {
            "key": result.key,
            "proxy_url": endpoint.canonical,
            "ok": result.ok,
            "asked": result.asked.value,
            "reached": result.reached.value if result.reached else None,
            "error": result.error,
            "blame": result.blame.value if result.blame else None,
            "exit_ip": result.exit_ip,
            "anonymity": result.anonymity,
            "country": result.country,
            "asn": result.asn,
            "stages": [
                {"level": s.level.value, "seconds": round(s.seconds, 4), "up": s.bytes_up, "down": s.bytes_down}
                for s in result.stages
            ],
        }
    )


def _print_sums(tally: CheckTally, seconds: float) -> None:
    if not tally.checked and not tally.claimed and not tally.refused:
        note("nothing is due: `proxywhirl check --all` checks everything")
        return
    rows = [*_shares("scheme", tally.schemes, tally.working_schemes)]
    rows += _shares("country", tally.countries, tally.working_countries) if set(tally.countries) - {""} else []
    rows.append(("all", "", str(tally.checked), str(tally.ok)))
    print_table(("BY", "NAME", "CHECKED", "WORK"), rows)
    rate = tally.checked / max(seconds, 1e-9)
    spent = f", {tally.bytes:,} bytes" + (f" for {tally.money:.4f}" if tally.money else "")
    note(f"{tally.ok} of {tally.checked} work; {rate:.0f} checks a second{spent}")
    if tally.failures:
        note("failed: " + ", ".join(f"{count} ({who})" for who, count in tally.failures.most_common()))
    for count, what in (
        (tally.untaught, "say nothing of the proxy and are not recorded: the target or this machine was at fault"),
        (tally.claimed, "are being checked by another process"),
        (tally.refused, "were not checked: the budget is spent"),
    ):
        if count:
            note(f"{count} {what}")


def _shares(what: str, all_of: Counter[str], working: Counter[str]) -> Iterator[tuple[str, str, str, str]]:
    for name, count in sorted(all_of.items(), key=lambda item: (-item[1], item[0])):
        yield what, name or "unknown", str(count), str(working[name])


def _as_json(tally: CheckTally) -> dict[str, Any]:
    return {
        "checked": tally.checked,
        "ok": tally.ok,
        "not_recorded": tally.untaught,
        "claimed_elsewhere": tally.claimed,
        "over_budget": tally.refused,
        "bytes": tally.bytes,
        "money": tally.money,
        "failures": dict(tally.failures),
    }
