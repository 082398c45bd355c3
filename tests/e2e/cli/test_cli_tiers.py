"""The command line over other tiers than the usual three: what it says of room, of memory, of a tier that was off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

L3_OFF = {"PROXYWHIRL_CACHE_L3_CONFIG": '{"enabled": false}'}
SMALL_L2 = {"PROXYWHIRL_CACHE_L2_CONFIG": '{"max_entries": 5}', **L3_OFF}


def proxies(number: int) -> str:
    """Write a list."""
    return "".join(f"203.0.113.{n}:8080\n" for n in range(1, number + 1))


@pytest.mark.parametrize("backend", ["jsonl", "sqlite"])
@pytest.mark.parametrize("how", ["remove", "clear"])
def test_what_was_removed_while_l3_was_off_stays_removed(run: Run, backend: str, how: str) -> None:
    """It does not come back with L3, whether it was removed alone or with everything else."""
    settings = {"PROXYWHIRL_CACHE_L2_BACKEND": backend}
    assert run("import", "-", stdin=proxies(3), **settings).code == 0
    arguments = ("remove", "203.0.113.1:8080") if how == "remove" else ("clear", "--yes")
    assert run(*arguments, **settings, **L3_OFF).code == 0
    listed = run("list", **settings)
    assert [row[1] for row in listed.rows if "203.0.113.1:" in row[1]] == []
    assert len(listed.rows) == (2 if how == "remove" else 0)


def test_an_import_beyond_the_bound_of_the_lowest_tier_says_what_was_let_go(run: Run, process: Run) -> None:
    """It names the number, and the log which setting to raise; within the bound nothing is said."""
    assert "let go" not in run("import", "-", stdin=proxies(5), **SMALL_L2).err
    done = process("import", "-", stdin=proxies(12), **SMALL_L2)
    assert done.out.startswith("loaded 7, ")
    assert "7 entries were let go for want of room" in done.err
    assert "tier l2 is the lowest and full, so that 7 entries are gone" in done.err
    assert "cache.l2_config" in done.err
    assert len(run("list", **SMALL_L2).rows) == 5
    done = run("import", "-", "--json", stdin=proxies(20), **SMALL_L2)
    assert done.json["let_go"] == done.json["loaded"]


def test_opening_a_fuller_store_with_a_smaller_bound_says_what_was_let_go(run: Run, process: Run) -> None:
    """What leaves then is gone too."""
    assert run("import", "-", stdin=proxies(9), **L3_OFF).code == 0
    done = process("list", **SMALL_L2)
    assert len(done.rows) == 5
    assert "tier l2 is the lowest and full, so that 4 entries are gone" in done.err
    assert process("list", **SMALL_L2).err == ""


def test_what_leaves_a_window_is_not_lost_and_not_told(run: Run) -> None:
    """The third tier has it."""
    done = run("import", "-", stdin=proxies(9), PROXYWHIRL_CACHE_L2_CONFIG='{"max_entries": 5}')
    assert "want of room" not in done.err
    assert len(run("list").rows) == 9


@pytest.mark.parametrize("arguments", [("import", "-"), ("add", "203.0.113.1:80")])
def test_that_nothing_stays_of_what_goes_into_memory_is_said(run: Run, home: Path, arguments: Any) -> None:
    """With the first tier alone, the proxies are gone when the command ends."""
    memory = {**L3_OFF, "PROXYWHIRL_CACHE_L2_CONFIG": '{"enabled": false}'}
    done = run(*arguments, stdin=proxies(4), **memory)
    assert done.code == 0
    assert "only the first tier is on, which is memory" in done.err
    assert "only the first tier" not in run(*arguments, stdin=proxies(4)).err


def test_damage_that_a_command_met_is_in_the_statistics(process: Run, home: Path) -> None:
    """A command that looks nothing up publishes what it counted as well."""
    assert process("import", "-", stdin=proxies(3)).code == 0
    with (home / "cache" / "shard-04.jsonl").open("ab") as stream:
        stream.write(b"x\n")
    assert process("list").code == 0
    assert process("stats", "--json").json["l2_stats"]["evictions_corruption"] == 1
