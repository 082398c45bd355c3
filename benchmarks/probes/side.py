"""One side of the comparison, in a process of its own: check a crowd, tell how fast and how well.

It reads from stdin the JSON of the crowd, how many to check at once and the timeout, and prints its figures as JSON.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import percentile

JUDGE = "http://127.0.0.1:8898/"  # nobody is there: the crowd answers in its place
LOOK = 0.01  # seconds between two looks at the loop's lag

Crowd = list[tuple[str, str, int]]
Check = Callable[[Crowd, int, float], Awaitable[list[bool]]]


async def ours(crowd: Crowd, concurrency: int, timeout: float) -> list[bool]:  # noqa: ASYNC109 - handed on
    """Check with the prober."""
    from proxywhirl.health.batch import probe_many  # noqa: PLC0415
    from proxywhirl.health.levels import Level, ProbeResult  # noqa: PLC0415 - the other side must not pay for it
    from proxywhirl.health.probe import Prober  # noqa: PLC0415
    from proxywhirl.urls import ProxyURL  # noqa: PLC0415

    ok = [False] * len(crowd)

    def keep(result: ProbeResult) -> None:
        ok[int(result.key)] = result.ok

    proxies = ((str(number), ProxyURL("http", host, port)) for number, (_, host, port) in enumerate(crowd))
    prober = Prober(judges=[JUDGE], timeout=timeout)
    await probe_many(prober, proxies, Level.HTTP, concurrency=concurrency, on_result=keep)
    return ok


async def with_aiohttp(crowd: Crowd, concurrency: int, timeout: float) -> list[bool]:  # noqa: ASYNC109 - handed on
    """Check with aiohttp: the same request, as many at once, a connection each."""
    import aiohttp  # noqa: PLC0415 - the group bench

    ok = [False] * len(crowd)
    numbers = iter(range(len(crowd)))
    patience = aiohttp.ClientTimeout(total=timeout)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=patience) as session:

        async def work() -> None:
            for number in numbers:
                _, host, port = crowd[number]
                headers = {"Probe-Nonce": str(number), "Accept": "application/json"}
                try:
                    async with session.get(JUDGE, proxy=f"http://{host}:{port}", headers=headers) as response:
                        ok[number] = (await response.json())["nonce"] == str(number)
                except (aiohttp.ClientError, TimeoutError, OSError):
                    continue

        await asyncio.gather(*(work() for _ in range(concurrency)))
    return ok


async def watch(late: list[float]) -> None:
    """Note by how much each look at the loop comes late, in seconds."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LOOK
        await asyncio.sleep(LOOK)
        late.append(loop.time() - due)


async def measure(check: Check, crowd: Crowd, concurrency: int, timeout: float) -> dict[str, Any]:  # noqa: ASYNC109
    """Run one side; return its figures."""
    late: list[float] = []
    watcher = asyncio.create_task(watch(late))
    began, busy = time.perf_counter(), time.process_time()
    ok = await check(crowd, concurrency, timeout)
    seconds = time.perf_counter() - began
    watcher.cancel()
    alive = [kind == "alive" for kind, _, _ in crowd]
    return {
        "seconds": round(seconds, 2),
        "processor_seconds": round(time.process_time() - busy, 2),
        "checks_per_second": round(len(crowd) / seconds),
        "alive": sum(alive),
        "missed": sum(a and not o for a, o in zip(alive, ok, strict=True)),
        "mistaken": sum(o and not a for a, o in zip(alive, ok, strict=True)),
        "lag_p99_ms": round(percentile(late, 0.99) * 1000, 1),
        "lag_max_ms": round(max(late) * 1000, 1),
        "peak_megabytes": round(peak_kilobytes() / 1024),
    }


def peak_kilobytes() -> int:
    """Return this process's largest size so far; `getrusage` may tell that of the process which started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text(encoding="ascii").partition("VmHWM:")[2].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


SIDES: dict[str, Check] = {"ours": ours, "aiohttp": with_aiohttp}


def main() -> None:
    """Measure the side that is named."""
    asked = json.load(sys.stdin)
    figures = asyncio.run(measure(SIDES[sys.argv[1]], asked["crowd"], asked["concurrency"], asked["timeout"]))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
