"""The page on lists: each spelling that it shows is read as it says."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from proxywhirl.sources import Candidate, parse_list

PAGE = (Path(__file__).parents[2] / "docs" / "lists.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(.+?)` \| `(.+?)`(?:, (\w+), `(.+?)`)? \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("line", "endpoint", "username", "password"), ROWS)
def test_spelling_is_read_as_shown(line: str, endpoint: str, username: str, password: str) -> None:
    """A line of the table gives the endpoint and the credential beside it."""
    (item,) = parse_list(io.BytesIO(line.encode()))
    assert isinstance(item, Candidate)
    assert (item.url.canonical, item.url.username or "", item.url.password or "") == (endpoint, username, password)


def test_the_table_was_found() -> None:
    """The page's table is long enough to be the one that is meant."""
    assert len(ROWS) >= 14
