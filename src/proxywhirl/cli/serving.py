"""`proxywhirl serve`: the gateway, until it is told to stop."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from proxywhirl.cli.checking import checking
from proxywhirl.cli.options import home_option, open_runtime
from proxywhirl.cli.render import note, warn
from proxywhirl.cli.stopping import told_to_stop
from proxywhirl.runtime import Runtime


@click.command()
@click.option("--host", metavar="ADDRESS", help="Where to listen. [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="0 for a free one. [default: 8899]")
@click.option("--strategy", metavar="NAME", help="How a proxy is chosen. [default: the setting pool.strategy]")
@home_option
def serve(host: str | None, port: int | None, strategy: str | None, home: str | None) -> None:
    """Serve the pool as one rotating HTTP proxy.

    Each request goes through a proxy of the pool. Any address but a loopback one needs
    PROXYWHIRL_GATEWAY_USERNAME and PROXYWHIRL_GATEWAY_PASSWORD. With a judge in PROXYWHIRL_HEALTH_JUDGES, proxies are
    checked when they are due. Timeouts, retries, sessions and limits are settings: PROXYWHIRL_RETRY_ATTEMPTS and the
    like, or settings.toml.
    """
    given: dict[str, dict[str, Any]] = {"gateway": {"host": host, "port": port}, "pool": {"strategy": strategy}}
    overrides = {s: {n: v for n, v in names.items() if v is not None} for s, names in given.items()}
    with open_runtime(home, overrides) as runtime:
        asyncio.run(_serve(runtime))


async def _serve(runtime: Runtime) -> None:
    gateway = runtime.gateway()
    monitor = runtime.monitor()
    runtime.start()
    told = told_to_stop()
    host, port = await gateway.start()
    try:
        click.echo(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        if not len(runtime.pool):
            warn(
                "proxywhirl: the pool is empty; requests are refused until `proxywhirl import` or `add` brings proxies"
            )
        else:
            note(f"serving {len(runtime.pool)} proxies; stop with Ctrl-C")
        async with checking(monitor):
            await told.wait()
    finally:
        await gateway.aclose()
