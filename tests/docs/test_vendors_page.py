"""The page on vendors: its commands and its program run, and its tables are those of `providers.toml`."""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from proxywhirl.cli.main import main
from proxywhirl.errors import Blame
from proxywhirl.runtime import Runtime
from proxywhirl.settings import Settings
from proxywhirl.vendors.grammar import duration, parse, write
from proxywhirl.vendors.provider import Provider, providers

PAGE = (Path(__file__).parents[2] / "docs" / "vendors.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^proxywhirl (.+)$", PAGE, re.MULTILINE)
(PROGRAM,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(USERNAME,) = re.findall(r"^name,.+$", PAGE, re.MULTILINE)


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table with a heading."""
    table = PAGE.partition(f"| {heading} |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[2:]]


def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One after the other on an empty store; those of the first line come, are listed and go again."""
    for name in [name for name in os.environ if name.startswith("PROXYWHIRL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PROXYWHIRL_HOME", str(tmp_path))
    told = []
    for line in COMMANDS:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"pw\n")))
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(line))
        assert ended.value.code == 0, line
        told.append(capsys.readouterr().out)
    loaded, *_, listed, removed, single = told
    assert loaded == "loaded 100, skipped 0 (known already): sessions of iproyal at http://geo.iproyal.com:12321\n"
    assert listed.count("\tiproyal de s") == 100
    assert removed == "removed 100\n"
    assert single == "added http://geo.iproyal.com:12321 (iproyal de cart0017)\n"
    with Runtime(Settings.load(tmp_path)) as runtime:
        assert len(runtime.cache) == 31


def test_the_program_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """It runs as it stands: a hundred sessions are a hundred identities."""
    exec(compile(PROGRAM, "docs/vendors.md", "exec"), {})
    assert capsys.readouterr().out == "100 identities\n"


def test_the_username_is_in_the_grammar() -> None:
    """It is read, and written as it stands."""
    assert write(*parse(USERNAME)) == USERNAME


def offer(vendor: Provider) -> list[str]:
    """Return the row of a vendor."""
    region = (
        "no" if "region" not in vendor.offers else f"in {', '.join(vendor.regions_of)}" if vendor.regions_of else "yes"
    )
    taken = vendor.lifetimes
    lifetime = "no" if taken is None else f"{duration(taken.shortest)} to {duration(taken.longest)}"
    place = ["yes" if "country" in vendor.offers else "no", region, "yes" if "city" in vendor.offers else "no"]
    return [f"`{vendor.name}`", vendor.title, vendor.into, vendor.names.words, *place, lifetime]


def test_the_table_of_vendors_is_that_of_the_data() -> None:
    """Each vendor has its row, in order, and each cell says what the data says."""
    heading = "Provider | Vendor | Written into | Session | Country | Region | City | Lifetime"
    assert rows(heading) == [offer(vendor) for vendor in providers().values()]


def test_the_tables_of_errors_are_complete() -> None:
    """Every party that a vendor can blame has its row, and every header that is read is named with its vendor."""
    blamed = {rule.blame for vendor in providers().values() for rule in vendor.errors}
    assert {cells[0] for cells in rows("Blame | What the vendor said | What follows")} == {
        f"`{blame}`" for blame in Blame
    }
    assert blamed == set(Blame)
    read = {
        f"`{vendor.name}`": ", ".join(f"`{header.decode()}`" for header in dict.fromkeys(headers))
        for vendor in providers().values()
        if (headers := [header for rule in vendor.errors for header in rule.headers])
    }
    assert dict(rows("Provider | Headers that are read")) == read
