"""`proxywhirl stats`: what the three tiers hold."""

from __future__ import annotations

import click

from proxywhirl.cli.options import home_option, json_option, open_runtime
from proxywhirl.cli.render import print_table

__all__ = ["stats"]


@click.command()
@json_option
@home_option
def stats(as_json: bool, home: str | None) -> None:
    """Show what the three tiers hold.

    Hits, misses and evictions are those of this command alone.
    """
    with open_runtime(home) as runtime:
        statistics = runtime.cache.get_statistics()
        config = runtime.cache.config
    if as_json:
        click.echo(statistics.model_dump_json())
        return
    l2 = "JSON lines" if config.l2_backend == "jsonl" else "SQLite"
    rows = []
    for name, kind, tier, figures, degraded in (
        ("L1", "memory", config.l1_config, statistics.l1_stats, statistics.l1_degraded),
        ("L2", l2, config.l2_config, statistics.l2_stats, statistics.l2_degraded),
        ("L3", "SQLite", config.l3_config, statistics.l3_stats, statistics.l3_degraded),
    ):
        state = "degraded" if degraded else "ok" if tier.enabled else "off"
        bound = "unlimited" if tier.max_entries is None else str(tier.max_entries)
        counts = (figures.current_size, figures.hits, figures.misses, figures.total_evictions)
        rows.append((name, kind, state, bound, *map(str, counts)))
    print_table(("TIER", "KIND", "STATE", "BOUND", "ENTRIES", "HITS", "MISSES", "EVICTIONS"), rows)
