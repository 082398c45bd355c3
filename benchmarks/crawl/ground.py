"""What stands between a crawler and a site: a fleet of good proxies, a home that knows them, a gateway.

The fleet and the crawler share this process's event loop, the gateway is a process of its own, as users have it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

from proxywhirl.testing import Fleet, FleetSpec

__all__ = ["Home", "good_fleet", "home_of"]

_STOPPING = 30.0  # seconds


class Home:
    """A directory with a store of proxies, and the commands that use it."""

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

    async def run(self, *arguments: str, given: str = "") -> str:
        """Run a command to its end and return what it printed.

        Raises:
            RuntimeError: It failed.
        """
        process = await self._start(*arguments)
        printed, said = await process.communicate(given.encode())
        if process.returncode:
            raise RuntimeError(f"proxywhirl {' '.join(arguments)}: {said.decode()}")
        return printed.decode()

    async def health(self) -> Counter[str]:
        """Count the proxies of the store by their health."""
        listed = (await self.run("list", "--json")).splitlines()
        retired = (await self.run("list", "--json", "--retired")).splitlines()
        return Counter(json.loads(line)["health_status"] for line in listed) + Counter(retired=len(retired))

    async def _start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxywhirl", *arguments, env=self.environment,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Run a gateway for the length of a block; give its port. What it learnt is in the store afterwards.

        Raises:
            RuntimeError: It did not start, or did not end well.
        """
        process = await self._start("serve", "--port", "0")
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
        await home.run("import", "-", given="\n".join(proxies))
        yield home


@contextlib.asynccontextmanager
async def good_fleet(count: int) -> AsyncIterator[Fleet]:
    """Run so many proxies that are well, http and socks5 by turns."""
    async with Fleet.start([FleetSpec("socks5h" if number % 2 else "http") for number in range(count)]) as fleet:
        yield fleet
