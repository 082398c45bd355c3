"""The worlds of the benchmark: the standard one, in which the floors hold, and others that ask for something else."""

from __future__ import annotations

from benchmarks.yields.world import World

__all__ = ["STANDARD", "WORLDS"]

STANDARD = World()

WORLDS: tuple[World, ...] = (
    STANDARD,
    World("few proxies", proxies=30, requests=20_000, rate=1.0),
    World("many dead", proxies=500, dead=0.7, flaky=0.1, fast_failing=0.02, returning=0.03, requests=20_000, rate=10.0),
    World(
        "all ban, slow windows",
        proxies=300,
        banning=20,
        outages=0,
        uses=(5, 20),
        window=(600.0, 1_800.0),
        ban=(600.0, 3_600.0),
        requests=20_000,
        rate=4.0,
    ),
    World(
        "all ban, fast windows",
        proxies=300,
        banning=20,
        outages=0,
        uses=(1, 3),
        window=(5.0, 30.0),
        ban=(30.0, 120.0),
        requests=20_000,
        rate=10.0,
    ),
    World("none ban", proxies=300, banning=0, requests=20_000, rate=10.0),
    World("half walled off", proxies=300, banning=10, walled=0.5, requests=20_000, rate=5.0),
    World("high load", proxies=300, requests=40_000, rate=100.0),
    World("sparse load", proxies=300, requests=5_000, rate=0.05),
    World("all flaky", proxies=300, dead=0.0, flaky=1.0, fast_failing=0.0, returning=0.0, requests=20_000, rate=10.0),
)
