"""What stands between a crawler and a site: a fleet of good proxies, a home that knows them, a gateway.

The fleet and the crawler share this process's event loop, the gateway is a process of its own, as users have it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

from proxywhirl.models import Attributes
from proxywhirl.runtime import Runtime
from proxywhirl.settings import Settings
from proxywhirl.testing import Fleet, FleetSpec
from proxywhirl.urls import parse

__all__ = ["Home", "good_fleet", "home_of"]

_STOPPING = 30.0  # seconds


class Home:
    """A directory with a store of proxies, and the gateway over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        inherited = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        self.environment = {**inherited, "PROXYWHIRL_HOME": str(folder)}

    def write(self, sections: Mapping[str, Mapping[str, float]]) -> None:
        """Write the home's settings."""
        lines = []
        for section, values in sections.items():
            lines += [f"[{section}]", *(f"{name} = {value}" for name, value in values.items())]
        (self.folder / "settings.toml").write_text("\n".join(lines), encoding="utf-8")

    def fill(self, proxies: Iterable[str]) -> None:
        """Take proxies in."""
        with Runtime(Settings.load(self.folder)) as runtime:
            runtime.take_in([(parse(proxy), Attributes()) for proxy in proxies], source="user", ttl=math.inf)

    def health(self) -> Counter[str]:
        """Count the proxies of the store by their health, those that were retired apart."""
        with Runtime(Settings.load(self.folder)) as runtime:
            counts = Counter(entry.health_status.value for entry in runtime.cache.scan())
            retired = sum(1 for _ in runtime.cache.scan(retired=True))
        return counts + Counter(retired=retired)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Run a gateway for the length of a block; give its port. What it learnt is in the store afterwards.

        Raises:
            RuntimeError: It did not start, or did not end well.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxywhirl", "serve", "--port", "0", env=self.environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        address = (await process.stdout.readline()).decode().strip()
        try:
            if not address:
                raise RuntimeError((await process.communicate())[1].decode())
            yield int(address.rpartition(":")[2])
        finally:
            if process.returncode is None:
                process.terminate()
            async with asyncio.timeout(_STOPPING):
                _, said = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"the gateway ended with {process.returncode}: {said.decode()}")


@contextlib.asynccontextmanager
async def home_of(proxies: Iterable[str], gateway: Mapping[str, float] | None = None) -> AsyncIterator[Home]:
    """Make a home that has these proxies, for the length of a block; `gateway` are settings of that section."""
    with tempfile.TemporaryDirectory(prefix="crawl-") as folder:
        home = Home(Path(folder))
        home.write({"gateway": gateway or {}})
        home.fill(proxies)
        yield home


@contextlib.asynccontextmanager
async def good_fleet(count: int) -> AsyncIterator[Fleet]:
    """Run so many proxies that are well, http and socks5 by turns."""
    async with Fleet.start([FleetSpec("socks5h" if number % 2 else "http") for number in range(count)]) as fleet:
        yield fleet
