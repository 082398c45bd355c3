"""Properties of reading lists that hold for every stream of bytes."""

from __future__ import annotations

import io
import json
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.errors import ListFormatError
from proxywhirl.sources import Candidate, Ignored, Item, Rejected, parse_list
from proxywhirl.urls import parse

_PIECES = st.sampled_from(
    [
        *'[]{}":,;|\t\n\r@#',
        "http://",
        "socks5",
        "203.0.113.9",
        ":80",
        '{"ip":"203.0.113.9","port":',
        "ip,port\n",
        "\\u",
        "null",
    ]
)
_LISTS = st.lists(_PIECES.map(str.encode) | st.binary(max_size=3), max_size=30).map(b"".join) | st.binary(max_size=200)
_ENDPOINTS = st.tuples(st.ip_addresses(v=4), st.integers(1, 65535)).map(lambda pair: f"{pair[0]}:{pair[1]}")


def read(data: bytes) -> list[Item]:
    """Read a whole list."""
    return list(parse_list(io.BytesIO(data)))


@given(_LISTS)
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    """Any bytes are a list of items with line numbers inside the list, or a ListFormatError."""
    with suppress(ListFormatError):
        for item in read(data):
            assert 1 <= item.line <= data.count(b"\n") + data.count(b"\r") + 1
            if isinstance(item, Candidate):
                assert parse(item.url.reveal()) == item.url
            elif isinstance(item, Rejected):
                assert item.reason


@given(_LISTS, st.integers(1, 9))
def test_the_pieces_of_a_stream_do_not_matter(data: bytes, size: int) -> None:
    """A stream that gives a few bytes at a time yields what the whole yields, before and up to its damage."""

    class Trickle(io.BytesIO):
        def read(self, _size: int | None = -1, /) -> bytes:
            return super().read(size)

    def outcome(stream: io.BytesIO) -> tuple[list[Item], str]:
        items: list[Item] = []
        try:
            items.extend(parse_list(stream))
        except ListFormatError as exc:
            return items, str(exc)
        return items, ""

    assert outcome(Trickle(data)) == outcome(io.BytesIO(data))


@given(
    st.lists(_ENDPOINTS | st.sampled_from(["", "# comment", "prose here"]), min_size=1, max_size=40),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_every_line_of_a_text_yields_itself(lines: list[str], end: str) -> None:
    """Each line of a text list gives one item with its number: a proxy, or ignored."""
    items = read((end.join(lines) + end).encode())
    assert [item.line for item in items] == list(range(1, len(lines) + 1))
    for line, item in zip(lines, items, strict=True):
        assert isinstance(item, Candidate if ":" in line else Ignored)


@given(st.lists(_ENDPOINTS, min_size=1, max_size=20))
def test_every_format_tells_the_same(endpoints: list[str]) -> None:
    """Text, CSV, JSON, JSON Lines and UTF-16 of the same proxies give the same proxies."""
    rows = [endpoint.split(":") for endpoint in endpoints]
    records = [json.dumps({"ip": host, "port": int(port)}) for host, port in rows]
    forms = [
        "\n".join(endpoints).encode(),
        "\n".join(endpoints).encode("utf-16"),
        "\n".join(["host;port", *(";".join(row) for row in rows)]).encode(),
        "\n".join(",".join(row) for row in rows).encode(),
        "\n".join(records).encode(),
        json.dumps(endpoints).encode(),
        f'{{"data": [{",".join(records)}]}}'.encode(),
    ]
    for form in forms:
        assert [item.url.reveal() for item in read(form) if isinstance(item, Candidate)] == [
            f"http://{endpoint}" for endpoint in endpoints
        ]
