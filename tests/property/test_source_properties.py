"""However a list is packed, wrapped and cut into pieces, the same comes out, or an error."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import itertools
import textwrap
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.errors import ListFormatError, SourceError
from proxywhirl.sources.fetch_history import SourceRecord, rest_after
from proxywhirl.sources.fetching.body import NO_VALIDATORS, ListBody
from proxywhirl.sources.parsing.decode import unwrapped
from proxywhirl.sources.parsing.parse import parse_list, parser_names

PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    """Cut bytes into pieces of these sizes, again and again."""
    stream = io.BytesIO(data)
    return list(itertools.takewhile(bool, (stream.read(size) for size in itertools.cycle(sizes))))


@given(
    st.binary(max_size=5000).filter(lambda content: not content.startswith(b"\x1f\x8b")),
    st.sampled_from(sorted(PACKERS)),
    st.lists(st.integers(1, 700), min_size=1, max_size=5),
)
def test_what_is_packed_comes_out_whole_in_any_pieces(content: bytes, encoding: str, sizes: list[int]) -> None:
    """The content is the same; a byte less allowed than there are is an error."""
    packed = PACKERS[encoding](content)

    def unpacked(limit: int) -> bytes:
        with ListBody(encoding, limit) as body:
            for piece in pieces(packed, sizes):
                body.take(piece)
            fetched = body.whole(NO_VALIDATORS)
        with contextlib.closing(fetched):
            return fetched.content.read() if fetched.content else b""

    assert unpacked(max(len(content), len(packed))) == content
    if content:
        with pytest.raises(SourceError, match="larger than"):
            unpacked(len(content) - 1)


@given(st.binary(min_size=3, max_size=3000), st.integers(1, 100), st.booleans(), st.booleans())
def test_base64_is_unwrapped_wherever_it_is_broken(content: bytes, width: int, padded: bool, url_safe: bool) -> None:
    """In lines of any width, in either alphabet, with padding or without."""
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    text = encode(b"\n" + content).decode().rstrip("" if padded else "=")
    assert b"".join(unwrapped(line + "\n" for line in textwrap.wrap(text, width))) == b"\n" + content


@given(st.binary(max_size=400) | st.text(max_size=400).map(str.encode), st.sampled_from([None, *parser_names()]))
def test_no_content_breaks_a_parser(content: bytes, name: str | None) -> None:
    """Whatever comes under whatever name, it is read or refused."""
    with contextlib.suppress(ListFormatError):
        list(parse_list(io.BytesIO(content), format_name=name, path="a.b" if name == "json" else None))


@given(st.integers(1, 10_000))
def test_rests_grow_up_to_a_day(failures: int) -> None:
    """A source that fails once more never rests for less time."""
    assert 0 <= rest_after(failures) <= rest_after(failures + 1) <= 86_400


@given(st.builds(SourceRecord, sample=st.lists(st.text()).map(tuple), error=st.none() | st.text()))
def test_a_record_is_read_back(record: SourceRecord) -> None:
    """What is written of a source is what is read."""
    assert SourceRecord.load(record.dump()) == record
