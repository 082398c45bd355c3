"""The page on yield shows what was measured, names every number of a world, and its world can be run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmarks.cache.table import BEGIN, END
from benchmarks.yields.families import FAMILIES
from benchmarks.yields.judge import FLOORS as FAMILY_FLOORS
from benchmarks.yields.judge import JUDGEMENT_BEGIN, judgement_table
from benchmarks.yields.report import FLOORS, markdown, markdown_cells, shortfalls
from benchmarks.yields.world import World
from benchmarks.yields.worlds import STANDARD, WORLDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "yield.md").read_text(encoding="utf-8")
JUDGED: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / "families.json").read_text(encoding="utf-8"))
RESULT: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / "yield.json").read_text(encoding="utf-8"))


def test_the_tables_are_those_of_the_results() -> None:
    """Every world's table is there, as it was measured."""
    shown = PAGE.partition(BEGIN)[2].partition(END)[0]
    assert [result["world"]["name"] for result in RESULT["worlds"]] == [world.name for world in WORLDS]
    for result in RESULT["worlds"]:
        assert f"**{result['world']['name']}**\n\n{markdown(result).strip()}" in shown


def test_the_results_are_those_of_these_worlds() -> None:
    """The committed results were measured in the worlds as they are now."""
    for world, result in zip(WORLDS, RESULT["worlds"], strict=True):
        told: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in result["world"].items()
        }
        assert World(**told) == world


def test_the_floors_were_kept() -> None:
    """With `bandit` nothing was missed in the standard world, and what the page says of the floors is so."""
    assert shortfalls(RESULT["worlds"][0], "bandit") == []
    assert RESULT["floors"] == FLOORS
    assert f"reach {FLOORS['first_of_oracle']} of the oracle's" in PAGE
    assert f"at most {FLOORS['attempts_of_oracle']} times" in PAGE


def test_the_standard_world_is_the_one_described() -> None:
    """The numbers in the words are those of the world."""
    assert f"**{STANDARD.proxies:,} proxies.** {STANDARD.dead:.0%}".replace("%", " %") in PAGE
    assert f"**{STANDARD.sites} sites**" in PAGE
    assert f"**{STANDARD.requests:,} requests**, {STANDARD.rate:g} in a second" in PAGE
    assert f"more than {STANDARD.uses[0]} to {STANDARD.uses[1]} times" in PAGE
    for share, words in (
        (STANDARD.flaky, "are flaky"),
        (STANDARD.fast_failing, "answer at once"),
        (STANDARD.returning, "are good"),
    ):
        assert f"{share:.0%}".replace("%", f" % {words}") in PAGE


def test_every_number_is_explained() -> None:
    """The table has each attribute of a world but its name, and no other."""
    rows = re.findall(r"^\| (`.*?) \| ", PAGE.partition("| number |")[2], re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(field.name for field in fields(World) if field.name != "name")


def test_the_world_of_the_page_runs(tmp_path: Path) -> None:
    """It is read as it stands, everybody runs through it, and the results and the plot's curves are written."""
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.yield", "--world", str(tmp_path / "mine.toml"), "--requests", "400"]
    done = subprocess.run(
        [*command, "--results", str(tmp_path)], check=False, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout.startswith("mine\n")
    (world,) = json.loads((tmp_path / "yield.json").read_text(encoding="utf-8"))["worlds"]
    assert world["world"]["window"] == [30, 30]
    assert all(len(one["curve"]) == 100 for one in world["contestants"].values())


def test_a_bad_world_is_told_in_one_line(tmp_path: Path) -> None:
    """The command says what is wrong with it, and shows no traceback."""
    (tmp_path / "bad.toml").write_text("dead = 2\n", encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.yield", "--world", str(tmp_path / "bad.toml")]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "the world 'bad' is impossible: dead is 2, must be from 0 to 1" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_family_is_described() -> None:
    """The table has each family, and no other."""
    table = PAGE.partition("| family |")[2].partition("\n\n")[0]
    named = [
        name for row in re.findall(r"^\| (`.*?) \| ", table, re.MULTILINE) for name in re.findall(r"`([\w-]+)`", row)
    ]
    assert sorted(named) == sorted(FAMILIES)


def test_the_judgement_is_that_of_the_results() -> None:
    """The table has every family, as it was judged, over the seeds that the page tells of."""
    shown = PAGE.partition(JUDGEMENT_BEGIN)[2].partition(END)[0]
    assert shown.strip() == markdown_cells(judgement_table(JUDGED["judgements"])).strip()
    assert [one["family"] for one in JUDGED["judgements"]] == list(FAMILIES)
    assert JUDGED["floors"] == FAMILY_FLOORS
    assert len(JUDGED["seeds"]) == 20
    assert not set(JUDGED["seeds"]) & set(JUDGED["tuning"])


def test_the_floors_of_families_are_told() -> None:
    """The numbers in the words are those that the command judges by."""
    judged = PAGE.partition("**What is judged**")[2]
    assert f"at least {FAMILY_FLOORS['mean']} of the oracle's in the mean" in judged
    assert f"In the whole run: at least {FAMILY_FLOORS['whole']}" in judged
    assert f"behind by more than {-FAMILY_FLOORS['behind']}" in judged
    assert f"served in the second half: at least {FAMILY_FLOORS['served']} of" in judged
    assert f"at most {FAMILY_FLOORS['recovery']:g} seconds" in judged
    assert f"at least {FAMILY_FLOORS['good pages']} of the good pages" in judged
    assert f"at most {FAMILY_FLOORS['slower 50']} times as long" in judged
    assert f"and {FAMILY_FLOORS['slower 95']:g} times at 95 %" in judged
    assert {FAMILIES[name](1).floor for name in ("dc-90", "pages")} == {0.85}
    assert FAMILIES["dc-90-30min"](1).floor == 0.7
