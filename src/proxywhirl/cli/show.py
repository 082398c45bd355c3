"""`proxywhirl show`: everything that is known of one proxy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import click

from proxywhirl.cache.models import NEVER, CacheEntry
from proxywhirl.cli.options import KEY_OR_PROXY, home_option, json_option, open_runtime
from proxywhirl.cli.output import ago, ahead, label_of, no_proxy, print_json, printable
from proxywhirl.health.outcome_history import HistoryFigures, Sample
from proxywhirl.health.policy import reason
from proxywhirl.runtime import Runtime
from proxywhirl.urls import ProxyURL

BARS = "▁▂▃▄▅▆▇█"
FAILED = "✗"
UNTIMED = "·"


@click.command()
@click.argument("proxy", metavar="KEY|URL", type=KEY_OR_PROXY)
@json_option
@home_option
def show(proxy: str | ProxyURL, as_json: bool, home: str | None) -> None:
    """Show all that is known of a proxy.

    Its fields, how its checks and requests went lately (✗ is a failure), and when it is checked next and why.
    """
    with open_runtime(home) as runtime:
        key = proxy if isinstance(proxy, str) else proxy.key
        entry = runtime.cache.look(key)
        if entry is None:
            raise no_proxy(key)
        samples = runtime.checkups.history.of(key)
        if as_json:
            _print_json(runtime, entry, samples)
            return
        rows = [(name, text) for name, text in _facts(runtime, entry, samples) if text]
        width = max(len(name) for name, _ in rows)
        for name, text in rows:
            click.echo(f"{name:<{width}}  {printable(text)}")


def sparkline(samples: Sequence[Sample]) -> str:
    """Draw latencies, oldest first, from the lowest to the highest of them.

    >>> sparkline([Sample(1, True, 0.1), Sample(2, False, 3.0), Sample(3, True, 0.8), Sample(4, True)])
    '▁✗█·'
    """
    taken = [sample.latency for sample in samples if sample.ok and sample.latency is not None]
    low, high = min(taken, default=0.0), max(taken, default=0.0)
    step = (high - low) / (len(BARS) - 1) or 1.0

    def mark(sample: Sample) -> str:
        if not sample.ok:
            return FAILED
        return UNTIMED if sample.latency is None else BARS[round((sample.latency - low) / step)]

    return "".join(map(mark, samples))


def _facts(runtime: Runtime, entry: CacheEntry, samples: Sequence[Sample]) -> Iterator[tuple[str, str]]:
    known = entry.attributes
    place = ", ".join(filter(None, (known.city, known.region, known.country)))
    yield "key", entry.key
    yield "proxy", entry.proxy_url
    yield "label", label_of(entry)
    yield "source", f"{entry.source}, {ago(entry.fetch_time)}"
    yield "expires", "never" if entry.expires_at >= NEVER else ahead(entry.expires_at)
    yield "place", place + (f" (AS{known.asn})" if known.asn is not None else "")
    yield "anonymity", known.anonymity or ""
    yield "tags", ", ".join(known.tags)
    yield "provider", known.provider or ""
    yield "price", f"{known.price_per_gb:g} per GB" if known.price_per_gb is not None else ""
    yield "used", f"{entry.access_count} times" + (f", last {ago(entry.last_accessed)}" if entry.access_count else "")
    yield "status", entry.health_status.value + ("" if entry.key in runtime.cache else ", out of service")
    yield "checks", _checks(entry)
    yield "error", entry.last_health_error or ""
    yield "next check", _next_check(entry)
    yield "outcomes", _outcomes(HistoryFigures.of(samples, datetime.now(UTC).timestamp()))
    yield "latency", sparkline(samples)


def _checks(entry: CacheEntry) -> str:
    if entry.last_health_check is None:
        return "none yet"
    failed = entry.total_health_check_failures
    return f"{entry.total_health_checks}, {failed} of them failed; last {ago(entry.last_health_check)}"


def _next_check(entry: CacheEntry) -> str:
    why = reason(entry.health_status, entry.consecutive_health_successes, entry.consecutive_health_failures)
    due = entry.next_check_time
    return f"{'due now' if due is None or due <= datetime.now(UTC) else ahead(due)}: {why}"


def _outcomes(summary: HistoryFigures) -> str:
    if not summary.samples or summary.success_rate is None or summary.uptime is None:
        return "none yet"
    text = f"last {summary.samples}: {summary.success_rate:.0%} good, up {summary.uptime:.0%} of the time"
    if summary.latency_p50 is not None and summary.latency_p95 is not None:
        text += f", {summary.latency_p50 * 1000:.0f} ms (median), {summary.latency_p95 * 1000:.0f} ms (95 %)"
    return text


def _print_json(runtime: Runtime, entry: CacheEntry, samples: Sequence[Sample]) -> None:
    summary = HistoryFigures.of(samples, datetime.now(UTC).timestamp())
    why = reason(entry.health_status, entry.consecutive_health_successes, entry.consecutive_health_failures)
    print_json(
        {
            "entry": entry.model_dump(mode="json"),
            "in_service": entry.key in runtime.cache,
            "next_check_reason": why,
            "summary": {name: getattr(summary, name) for name in summary.__slots__},
            "outcomes": [{"at": s.at, "ok": s.ok, "latency": s.latency} for s in samples],
        }
    )
