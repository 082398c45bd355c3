"""`proxywhirl demo`: the main job against a local fleet of proxies that fail, offline."""

from __future__ import annotations

import asyncio

import click

from proxywhirl.cli.options import anywhere
from proxywhirl.cli.render import print_json


@click.command()
@click.option("--once", is_flag=True, help="End after the requests; else the gateway stays up for you to try.")
@click.option("--json", "as_json", is_flag=True, callback=anywhere, help="Print the summary alone, as JSON, and end.")
def demo(once: bool, as_json: bool) -> int:
    """Run the main job on this machine, offline.

    Eight proxies, their list, the gateway, and 1,000 requests while three of the proxies fail.
    """
    from proxywhirl.cli.demonstration import REQUESTS, Tally, demonstrate  # noqa: PLC0415  # no other command needs it

    tally = Tally()
    asyncio.run(demonstrate(tally, quiet=as_json, stay=not once and not as_json))
    if as_json:
        print_json(
            {"requests": tally.requests, "ok": tally.ok, "failovers": tally.failovers, "by_proxy": tally.by_proxy}
        )
    return 0 if tally.ok == tally.requests == REQUESTS else 1
