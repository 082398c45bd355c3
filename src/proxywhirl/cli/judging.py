"""`proxywhirl judge`: a judge of one's own, until it is told to stop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from proxywhirl.cli.options import TEXT
from proxywhirl.cli.render import note
from proxywhirl.cli.stopping import told_to_stop
from proxywhirl.health.judge_server import HTTPS_PORT, MAX_CONNECTIONS, PORT, JudgeServer, server_tls
from proxywhirl.net.capacity import make_room

_PORT = click.IntRange(0, 65535)
_FILE = click.Path(path_type=Path)


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
    asyncio.run(_serve(server))


async def _serve(server: JudgeServer) -> None:
    told = told_to_stop()
    async with server:
        for url in server.urls:
            click.echo(url)
        note("judging; stop with Ctrl-C")
        await told.wait()
