"""`proxywhirl stats`: what the three tiers hold, and what each process on the store did with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import click

from proxywhirl.cache import CacheConfig, CacheStatistics
from proxywhirl.cache.maintenance.statistics_history import ProcessStatistics, totals
from proxywhirl.cache.opening import L3_TIER
from proxywhirl.cli.options import home_option, json_option, open_runtime
from proxywhirl.cli.output import print_json, print_table

KINDS = {"jsonl": "JSON lines", "sqlite": "SQLite"}  # a plug-in's is shown by its name


@click.command()
@json_option
@home_option
def stats(as_json: bool, home: str | None) -> None:
    """Show what the tiers hold, and what processes did with them.

    Hits, misses and evictions are those of all processes that used the store lately, up to 32; each reports every few
    seconds and when it ends. A process is gone if it ended without a report.
    """
    with open_runtime(home) as runtime:
        processes = runtime.cache.process_statistics()
        total = totals(processes, runtime.cache.get_statistics())
        config = runtime.cache.config
    if as_json:
        listed = [{**process.model_dump(mode="json"), "state": process.state} for process in processes]
        print_json({**total.model_dump(mode="json"), "processes": listed})
        return
    print_table(
        ("TIER", "KIND", "STATE", "BOUND", "ENTRIES", "HITS", "MISSES", "EVICTIONS"), list(_tiers(config, total))
    )
    if processes:
        click.echo()
        columns = ("PROCESS", "STATE", "SINCE", "UPDATED", "REQUESTS", "SERVED", "L1", "L2", "L3")
        rows = [_row(process) for process in processes]
        rows.append(("all", "", "", "", *_rates(total)))
        print_table(columns, rows, expendable=("SINCE", "UPDATED"))


def _tiers(config: CacheConfig, total: CacheStatistics) -> Iterator[Sequence[str]]:
    l2 = config.l2_tier or config.l2_backend.value
    l3 = config.l3_tier or L3_TIER
    for name, kind, tier, figures, degraded in (
        ("L1", "memory", config.l1_config, total.l1_stats, total.l1_degraded),
        ("L2", KINDS.get(l2, l2), config.l2_config, total.l2_stats, total.l2_degraded),
        ("L3", KINDS.get(l3, l3), config.l3_config, total.l3_stats, total.l3_degraded),
    ):
        state = "degraded" if degraded else "ok" if tier.holds_entries else "off"
        bound = "unlimited" if tier.max_entries is None else str(tier.max_entries)
        counts = (figures.current_size, figures.hits, figures.misses, figures.total_evictions)
        yield (name, kind, state, bound, *map(str, counts))


def _row(process: ProcessStatistics) -> tuple[str, ...]:
    moments = (_local(process.began), _local(process.updated))
    return (str(process.pid), process.state, *moments, *_rates(process.statistics))


def _rates(figures: CacheStatistics) -> tuple[str, ...]:
    """Return the requests, which part of them was served, and each tier's hit rate."""
    served = f"{figures.request_hit_rate:.1%}" if figures.requests else "-"
    tiers = (figures.l1_stats, figures.l2_stats, figures.l3_stats)
    return (str(figures.requests), served, *(f"{t.hit_rate:.1%}" if t.hits + t.misses else "-" for t in tiers))


def _local(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
