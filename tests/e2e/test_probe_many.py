"""Many probes at once: every result, bounded memory, and the limit of open files."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from proxywhirl.errors import Blame, SettingsError
from proxywhirl.health.batch import probe_many
from proxywhirl.health.judge_server import JudgeServer
from proxywhirl.health.levels import Level, ProbeResult
from proxywhirl.health.probe import Prober
from proxywhirl.testing import Fault, Fleet, FleetSpec
from proxywhirl.urls import ProxyURL

SPECS = [FleetSpec(), FleetSpec("socks5", "bob", "pw"), FleetSpec(fault=Fault.REFUSE), FleetSpec(fault=Fault.FORGE)]


@pytest.mark.parametrize("concurrency", [1, 7, 1000])
@pytest.mark.parametrize("is_async", [False, True])
async def test_each_of_a_list_is_probed_once(concurrency: int, is_async: bool) -> None:
    """Every entry has one result under its own key, from an iterable of either kind, however many at once."""
    async with Fleet.start(SPECS) as fleet, JudgeServer(port=0) as judge:
        listed = [(f"{number}", fleet[number % 4].url) for number in range(60)]

        async def slowly() -> AsyncIterator[tuple[str, ProxyURL]]:
            for one in listed:
                await asyncio.sleep(0)
                yield one

        results: list[ProbeResult] = []
        summary = await probe_many(
            Prober(judges=judge.urls),
            slowly() if is_async else listed,
            Level.HTTP,
            concurrency=concurrency,
            on_result=results.append,
        )
    assert sorted(int(result.key) for result in results) == list(range(60))
    assert all(result.ok == (int(result.key) % 4 < 2) for result in results)
    assert (summary.probed, summary.ok, summary.failed) == (60, 30, {Blame.PROXY: 30})
    assert (summary.concurrency, summary.note) == (concurrency, None)


async def test_the_next_is_taken_only_when_there_is_room() -> None:
    """A list without end is never more than a slot ahead of the results."""
    taken = 0

    def endless(url: ProxyURL) -> Iterator[tuple[str, ProxyURL]]:
        nonlocal taken
        while True:
            taken += 1
            yield str(taken), url

    ahead: list[int] = []

    def note(_: ProbeResult) -> None:
        ahead.append(taken - len(ahead))
        if len(ahead) == 200:
            raise StopAsyncIteration

    async with Fleet.start([FleetSpec()]) as fleet:
        with pytest.raises(ExceptionGroup):  # what the callback raises ends it all
            await probe_many(Prober(), endless(fleet[0].url), Level.TCP, concurrency=10, on_result=note)
    assert max(ahead) <= 11


async def test_what_cannot_work_is_refused_before_anything_is_taken() -> None:
    """A level that lacks its judge, or no concurrency at all, takes nothing from the list."""
    taken = iter([("k", ProxyURL("http", "127.0.0.1", 9))])
    with pytest.raises(SettingsError, match="judge"):
        await probe_many(Prober(), taken, Level.HTTP, concurrency=1, on_result=print)
    with pytest.raises(SettingsError, match="1 or more"):
        await probe_many(Prober(), taken, Level.TCP, concurrency=0, on_result=print)
    assert next(taken)[0] == "k"


PROGRAM = """
import asyncio, logging, resource, socket, sys
from proxywhirl.health.levels import Level
from proxywhirl.health.batch import probe_many
from proxywhirl.health.probe import Prober
from proxywhirl.urls import ProxyURL
logging.basicConfig(format="%(message)s")
port, thieves = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (150, 150))
stolen = []
def listed():
    for number in range(300):
        while number == 5 and len(stolen) < thieves:  # another part of the program takes them meanwhile
            try:
                stolen.append(socket.socket())
            except OSError:
                break
        yield str(number), ProxyURL("http", "127.0.0.1", port)
blames = set()
def note(result):
    blames.add(result.blame and result.blame.value)
    if len(stolen) > 20:
        stolen.pop().close()
summary = asyncio.run(probe_many(Prober(timeout=0.4), listed(), Level.TCP, concurrency=1000, on_result=note))
print(summary.probed, summary.concurrency, *sorted(map(str, blames)))
"""


@pytest.mark.parametrize("thieves", [0, 1000])
def test_the_limit_of_open_files_never_counts_against_a_proxy(thieves: int) -> None:
    """Under a low limit fewer are probed at once, which is said; descriptors that others take are our lack alone."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as server:
        port = server.getsockname()[1]
        command = [sys.executable, "-c", PROGRAM, str(port), str(thieves)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    probed, concurrency, *blames = done.stdout.split()
    assert probed == "300"
    assert 50 <= int(concurrency) < 90
    assert f"{concurrency} at once instead of 1000" in done.stderr
    assert "None" in blames
    assert set(blames) <= {"None", "us"}


async def test_nothing_is_said_where_there_is_room(caplog: pytest.LogCaptureFixture) -> None:
    """The limit of open files is spoken of only where something had to be changed."""
    with caplog.at_level(logging.INFO):
        await probe_many(Prober(), [], Level.TCP, concurrency=5, on_result=print)
    assert caplog.records == []
