"""What a judge sees of us without a proxy: the one request that this program makes directly, for level `full` alone."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

from proxywhirl.errors import TargetFailed, UpstreamError
from proxywhirl.health.requirements import Equipment
from proxywhirl.net.channel import Line
from proxywhirl.wire.judge import Judge, Sighting, question


@dataclass(frozen=True, slots=True)
class _Asked:
    task: asyncio.Task[Sighting]
    at: float


class DirectSightings:
    """Each judge's view of us, asked for once; again only after a failure, and then at most once in each timeout."""

    def __init__(self, equipment: Equipment) -> None:
        self._equipment = equipment
        self._asked: dict[Judge, _Asked] = {}

    async def of(self, judge: Judge) -> Sighting:
        """Return what an http:// judge sees of us.

        Raises:
            TargetFailed: It does not answer, or is no judge: no proxy is to blame for that.
        """
        now = self._equipment.clock.monotonic()
        asked = self._asked.get(judge)
        if asked is None or (_failed(asked.task) and now - asked.at >= self._equipment.timeout):
            asked = self._asked[judge] = _Asked(asyncio.create_task(self._ask(judge)), now)
        return await asyncio.shield(asked.task)  # one probe that is cancelled must not take it from the others

    async def _ask(self, judge: Judge) -> Sighting:
        try:
            async with asyncio.timeout(self._equipment.timeout):
                return await self._ask_first_that_answers(judge)
        except (OSError, EOFError, UnicodeError, UpstreamError) as exc:
            raise TargetFailed(
                f"the judge {judge.url} does not answer this machine itself, so that nobody can tell "
                "a transparent proxy: see that it runs, or choose another"
            ) from exc

    async def _ask_first_that_answers(self, judge: Judge) -> Sighting:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(judge.target.host, judge.target.port, type=socket.SOCK_STREAM)
        refused: OSError | None = None
        for family, _, _, _, address in found:
            line = Line(family)
            try:
                await line.connect(str(address[0]), judge.target.port)
                nonce = f"{self._equipment.rng.getrandbits(64):016x}"
                return await line.drive(question(judge, nonce, absolute=False))
            except OSError as exc:
                refused = exc
            finally:
                line.close()
        raise refused or OSError("no address")


def _failed(task: asyncio.Task[Sighting]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
