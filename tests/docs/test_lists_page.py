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


@pytest.mark.parametrize(
    "text",
    [
        '{"data": [{"ip": "203.0.113.7", "port": "8080", "protocols": ["http"], "country": "DE"}]}',
        '["http://203.0.113.7:8080"]',
        '{"host": "203.0.113.7", "port": 8080}\n{"host": "203.0.113.7", "port": 8080}',
        "ip;port;protocol\n203.0.113.7;8080;HTTPS\n",
        "203.0.113.7\t8080\tGermany\telite proxy\tyes\n",
        "- ip: 203.0.113.7\n  port: 8080\n",
        "http_proxy=http://203.0.113.7:8080\n",
        "<li>203.0.113.7:8080</li>\n",
        "* `203.0.113.7:8080`,\n",
        "<table>\n<tr><th>IP</th>\n<th>Port</th></tr>\n<tr><td>203.0.113.7</td>\n<td>8080</td></tr></table>",
        "MjAzLjAuMTEzLjc6ODA4MA==",
    ],
)
def test_format_is_read_as_the_page_says(text: str) -> None:
    """Each format that the page names gives the proxy in it."""
    found = {item.url.canonical for item in parse_list(io.BytesIO(text.encode())) if isinstance(item, Candidate)}
    assert found == {"http://203.0.113.7:8080"}
