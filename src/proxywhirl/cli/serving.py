"""`proxywhirl serve`, `monitor` and `judge`: what runs until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click

from proxywhirl.cli.options import TEXT, home_option, open_runtime
from proxywhirl.cli.output import note, warn
from proxywhirl.errors import SettingsError
from proxywhirl.health.judge_server import HTTPS_PORT, MAX_CONNECTIONS, PORT, JudgeServer, server_tls
from proxywhirl.health.monitor import Monitor
from proxywhirl.net.capacity import make_room
from proxywhirl.runtime import NO_JUDGE, Runtime

_PORT = click.IntRange(0, 65535)
_FILE = click.Path(path_type=Path)


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


@click.command()
@home_option
def monitor(home: str | None) -> None:
    """Check proxies when they are due, until told to stop.

    `serve` does so too. Needs a judge in PROXYWHIRL_HEALTH_JUDGES or the settings file; several of them on one store
    share the work.
    """
    with open_runtime(home, {"health": {"monitor": True}}) as runtime:
        watching = runtime.monitor()
        if watching is None:
            raise SettingsError(NO_JUDGE)
        asyncio.run(_watch(watching))


@click.command()
@click.option("--host", metavar="ADDRESS", type=TEXT, default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", type=_PORT, default=PORT, show_default=True, help="For http://; 0 for a free one.")
@click.option("--tls-certificate", metavar="FILE", type=_FILE, help="Serve https:// too, with this PEM file.")
@click.option("--tls-key", metavar="FILE", type=_FILE, help="Its private key, where that is in a file of its own.")
@click.option("--tls-port", type=_PORT, default=HTTPS_PORT, show_default=True, help="For https://; 0 for a free one.")
def judge(host: str, port: int, tls_certificate: Path | None, tls_key: Path | None, tls_port: int) -> None:
    """Serve a judge, which tells each asker how its request arrived.

    Checks through a proxy ask it, so that no third party is needed: run it where the proxies can reach it. It repeats
    no credential and keeps nothing. The URLs to check with are printed, one a line.
    """
    if tls_key is not None and tls_certificate is None:
        raise click.UsageError("--tls-key needs --tls-certificate.")
    tls = server_tls(tls_certificate, tls_key) if tls_certificate is not None else None
    room = make_room(MAX_CONNECTIONS)
    server = JudgeServer(host, port, tls=tls, https_port=tls_port, max_connections=room.sockets)
    asyncio.run(_judge(server))


async def _judge(server: JudgeServer) -> None:
    told = told_to_stop()
    async with server:
        for url in server.urls:
            click.echo(url)
        note("judging; stop with Ctrl-C")
        await told.wait()


async def _watch(watching: Monitor) -> None:
    told = told_to_stop()
    async with checking(watching):
        note("checking what is due; stop with Ctrl-C")
        await told.wait()


@contextlib.asynccontextmanager
async def checking(watching: Monitor | None) -> AsyncIterator[None]:
    """Let a monitor run beside the block; with None nothing does."""
    if watching is None:
        yield
        return
    task = asyncio.create_task(watching.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def told_to_stop() -> asyncio.Event:
    """Return an event that the first SIGINT or SIGTERM sets, instead of ending the running loop."""
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    return told
