"""`proxywhirl demo`: the main job against a local fleet of proxies that fail, offline.

A fleet, its list imported, the gateway, requests, and three proxies that fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import click
import httpx2
from rich.box import SIMPLE_HEAD
from rich.live import Live
from rich.table import Table

from proxywhirl.cli.options import anywhere
from proxywhirl.cli.output import console, is_on, is_terminal, note, print_json
from proxywhirl.cli.serving import told_to_stop
from proxywhirl.errors import CacheError
from proxywhirl.events import AttemptFailed, Event
from proxywhirl.runtime import Runtime
from proxywhirl.settings import Settings
from proxywhirl.testing import Fault, Fleet, FleetSpec, Origin

REQUESTS = 1_000
CONCURRENCY = 20
SLOW_SECONDS = 0.2


@dataclass(slots=True)
class Tally:
    """The requests so far, and the proxies that served them. `troubles`: what the demo did to which proxy."""

    requests: int = 0
    ok: int = 0
    failovers: int = 0
    by_proxy: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    troubles: dict[str, str] = field(default_factory=dict)

    def note_event(self, event: Event) -> None:
        """Count a failed attempt after which another proxy is tried."""
        if isinstance(event, AttemptFailed):
            self.failed[event.proxy.key] += 1
            self.failovers += not event.final


@click.command()
@click.option("--once", is_flag=True, help="End after the requests; else the gateway stays up for you to try.")
@click.option("--json", "as_json", is_flag=True, callback=anywhere, help="Print the summary alone, as JSON, and end.")
def demo(once: bool, as_json: bool) -> int:
    """Run the main job on this machine, offline.

    Eight proxies, their list, the gateway, and 1,000 requests while three of the proxies fail.
    """
    tally = Tally()
    asyncio.run(demonstrate(tally, quiet=as_json, stay=not once and not as_json))
    if as_json:
        print_json(
            {"requests": tally.requests, "ok": tally.ok, "failovers": tally.failovers, "by_proxy": tally.by_proxy}
        )
    return 0 if tally.ok == tally.requests == REQUESTS else 1


def _specs() -> list[FleetSpec]:
    kinds = ("http", "http", "http", "http", "socks5", "socks5", "socks5", "http")
    specs = []
    for place, kind in enumerate(kinds):
        private = place in (3, 6)
        username, password = (f"user{place}", secrets.token_urlsafe(8)) if private else (None, None)
        specs.append(FleetSpec(kind, username, password, name=f"{kind}-{place}", delay=SLOW_SECONDS))
    return specs


async def demonstrate(tally: Tally, *, quiet: bool, stay: bool) -> None:
    """Run it all and count in `tally`; with `stay` the gateway serves until the process is told to stop."""
    with tempfile.TemporaryDirectory(prefix="proxywhirl-demo-") as home:
        async with Fleet.start(_specs()) as fleet, Origin.start(fleet.exits) as origin:
            await _import(fleet, home, quiet=quiet)
            with Runtime(_settings(home)) as runtime, _display(fleet, tally, quiet=quiet):
                runtime.start()
                runtime.events.subscribe(tally.note_event)
                async with contextlib.AsyncExitStack() as stack:
                    gateway = runtime.gateway()
                    host, port = await gateway.start()
                    stack.push_async_callback(gateway.aclose)
                    address = f"http://{host}:{port}"
                    await _send(fleet, origin, address, tally)
                    if stay:
                        told = told_to_stop()
                        note(f"the gateway stays up: curl -x {address} {origin.url}/ (Ctrl-C ends it)")
                        await told.wait()
            if not quiet:
                note(
                    f"{tally.ok} of {tally.requests} requests succeeded; "
                    f"{tally.failovers} times another proxy stepped in; no request left without a proxy"
                )


def _settings(home: str) -> Settings:
    """Keep to the demo's own home, whatever the environment says of the user's."""
    gateway = {"host": "127.0.0.1", "port": 0, "username": None, "password": None}
    cache = {
        "l2_cache_dir": f"{home}/cache",
        "l3_database_path": f"{home}/db/proxywhirl.db",
        "key_file": f"{home}/key",
        "encryption_key": None,
    }
    return Settings.load(home, overrides={"gateway": gateway, "cache": cache})


async def _import(fleet: Fleet, home: str, *, quiet: bool) -> None:
    """Run `proxywhirl import` as a user would, with the fleet's list on its stdin."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxywhirl", "import", "-", "--source", "fleet", "--home", home),
        env={name: value for name, value in os.environ.items() if not name.startswith("PROXYWHIRL_")},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate("\n".join(fleet.urls()).encode())
    if process.returncode:
        raise CacheError(f"the fleet's list could not be imported: {err.decode().strip()}")
    if not quiet:
        note(f"started {len(fleet)} proxies; proxywhirl import: {out.decode().strip()}")


async def _send(fleet: Fleet, origin: Origin, gateway: str, tally: Tally) -> None:
    """Send the requests, and let three proxies fail on the way."""
    plan = iter((REQUESTS * part // 4, place) for part, place in ((1, 0), (2, 4), (3, 1)))
    trouble = next(plan, None)
    limits = httpx2.Limits(max_connections=CONCURRENCY)
    async with httpx2.AsyncClient(proxy=gateway, trust_env=False, timeout=60.0, limits=limits) as client:
        turns = iter(range(REQUESTS))

        async def work() -> None:
            nonlocal trouble
            for turn in turns:
                if trouble is not None and turn >= trouble[0]:
                    _harm(fleet, trouble[1], tally)
                    trouble = next(plan, None)
                tally.requests += 1
                with contextlib.suppress(httpx2.HTTPError):  # counted: it is not ok
                    response = await client.get(f"{origin.url}/{turn}")
                    if response.is_success and (proxy := response.json()["proxy"]) is not None:
                        tally.ok += 1
                        tally.by_proxy[proxy] += 1

        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))


def _harm(fleet: Fleet, place: int, tally: Tally) -> None:
    proxy = fleet[place]
    if not tally.troubles:
        proxy.kill()
        tally.troubles[proxy.name] = "killed"
    elif len(tally.troubles) == 1:
        proxy.fault = Fault.REFUSE
        tally.troubles[proxy.name] = "refuses"
    else:
        proxy.fault = Fault.SLOW
        tally.troubles[proxy.name] = f"slow ({SLOW_SECONDS:g} s)"


@contextlib.contextmanager
def _display(fleet: Fleet, tally: Tally, *, quiet: bool) -> Iterator[None]:
    """Show the table: live on a terminal, once at the end elsewhere."""
    out = console()
    if quiet:
        yield
    elif is_terminal() and not is_on("no_color"):
        with Live(get_renderable=lambda: _table(fleet, tally), console=out, refresh_per_second=8):
            yield
    else:
        try:
            yield
        finally:
            out.print(_table(fleet, tally))


def _table(fleet: Fleet, tally: Tally) -> Table:
    table = Table(
        title=f"{tally.ok} of {REQUESTS} requests ok",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for column in ("PROXY", "ADDRESS", "STATE"):
        table.add_column(column, no_wrap=True)
    for column in ("SERVED", "FAILED"):
        table.add_column(column, justify="right")
    for proxy in fleet:
        state = tally.troubles.get(proxy.name, "well")
        served, failed = tally.by_proxy[proxy.name], tally.failed[proxy.url.key]
        private = " (password)" if proxy.url.username else ""
        table.add_row(proxy.name + private, proxy.url.canonical, state, str(served), str(failed))
    return table
