"""Room for sockets, and the lag of the loop."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys

import pytest

from proxywhirl.errors import SettingsError
from proxywhirl.net.capacity import LagMeter, Room, make_room

PROGRAM = """
import resource, sys
from proxywhirl.net.capacity import make_room
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
room = make_room(wanted, in_use=10)
print(room.sockets, resource.getrlimit(resource.RLIMIT_NOFILE)[0], room.note)
"""


def made(soft: int, hard: int, wanted: int) -> list[str]:
    """Make room in a process of its own that has these limits."""
    command = [sys.executable, "-c", PROGRAM, *map(str, (soft, hard, wanted))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip().split(" ", 2)


def test_enough_room_is_left_alone() -> None:
    """A limit that suffices is not changed, and nothing is said."""
    assert made(1024, 2048, 100) == ["100", "1024", "None"]


def test_the_soft_limit_is_raised_as_far_as_needed() -> None:
    """Up to the hard one it is raised, and said so."""
    sockets, soft, note = made(256, 2048, 500)
    assert (sockets, soft) == ("500", str(500 + 10 + 64))
    assert "raised the limit of open files from 256 to 574" in note


def test_beyond_the_hard_limit_there_is_less() -> None:
    """Fewer sockets are offered than the limit has descriptors, and the way out is named."""
    sockets, soft, note = made(256, 512, 2000)
    assert (sockets, soft) == (str(512 - 10 - 64), "512")
    assert "438 at once instead of 2000" in note
    assert "ulimit -n" in note


def test_no_room_at_all_is_an_error() -> None:
    """Without a single descriptor left nothing can be probed."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY:
        with pytest.raises(SettingsError, match="ulimit -n"):
            make_room(1, in_use=hard)
    assert make_room(1) == Room(1)


async def test_a_loop_that_is_held_up_is_noticed() -> None:
    """Time that the loop spends in one callback counts as stalled while it is measured, and only then."""
    meter = LagMeter()
    loop = asyncio.get_running_loop()

    def hold_up(seconds: float) -> None:
        end = loop.time() + seconds
        while loop.time() < end:
            pass

    hold_up(0.05)
    assert meter.stalled() == 0
    with meter.running(), meter.running():
        hold_up(0.1)
        assert 0.07 <= meter.stalled() < 1
        await asyncio.sleep(0)
        before = meter.stalled()
    assert meter.stalled() <= before + 0.05
