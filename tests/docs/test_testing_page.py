"""The page on the test fleet: its programs run, and its tables name what there is."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from proxywhirl.testing import Fault, FleetSpec, RateLimit

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_program_runs(program: str) -> None:
    """Each program on the page runs as it stands."""
    exec(compile(program, "docs/testing.md", "exec"), {"__name__": "__main__"})


def test_tables_are_complete() -> None:
    """Every fault, and every field of a spec and of a rate limit, is described."""
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", PAGE, re.MULTILINE)) == set(Fault.__members__)
    for described in (FleetSpec, RateLimit):
        table = PAGE.partition(f"| `{described.__name__}` |")[2].partition("\n\n")[0]
        names = {
            name for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"\w+", cell)
        }
        assert names == {field.name for field in fields(described)}
