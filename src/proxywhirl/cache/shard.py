"""The file format of the JSONL tier: one shard, one JSON object a line, last line wins.

The first line names format and version. Each line ends in `"crc"`, the CRC-32 of all that stands before
it in eight hex digits, so that a damaged line is known for what it is and costs that line alone.
A last line without its newline is a write that was cut off, and is not there.

Lines by `op`: `put` (a whole record), `del` (removed, at a revision), `evict` (several keys that left the
window), `hit` (uses since the last put line). Pure: bytes in, values out.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from proxywhirl.cache.record import COLUMNS, Record
from proxywhirl.errors import FormatVersionError

__all__ = [
    "FORMAT",
    "VERSION",
    "check_header",
    "decode_line",
    "encode_line",
    "header",
    "put_fields",
    "record_of",
]

FORMAT = "proxywhirl-shard"
VERSION = 1

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_TRAILER = len(',"crc":"00000000"}')
_REQUIRED, _OPTIONAL = COLUMNS[:7], COLUMNS[7:]
_required_values, _optional_values = attrgetter(*_REQUIRED), attrgetter(*_OPTIONAL)
_DEFAULTS = _optional_values(Record("", "", "", 0.0, 0, 0.0, 0.0))


def encode_line(fields: dict[str, Any]) -> bytes:
    """Return the line for an object, with its checksum and newline."""
    body = _encode(fields)[:-1].encode()
    return b'%s,"crc":"%08x"}\n' % (body, zlib.crc32(body))


def decode_line(line: bytes) -> dict[str, Any] | None:
    """Return the object of a line (without its newline), None where it is damaged."""
    body, trailer = line[:-_TRAILER], line[-_TRAILER:]
    if trailer != b',"crc":"%08x"}' % zlib.crc32(body):
        return None
    try:
        fields = json.loads(body + b"}")
    except ValueError:  # a checksum that fits by accident
        return None
    return fields if isinstance(fields, dict) else None


def header(revision: int, floor: int) -> bytes:
    """Return the first line of a shard whose log is whole from `floor` on."""
    return encode_line({"op": "head", "format": FORMAT, "version": VERSION, "revision": revision, "floor": floor})


def check_header(fields: dict[str, Any], path: str) -> None:
    """Refuse a shard of another format or of a newer version.

    Raises:
        FormatVersionError: the message names file, version found and version known.
    """
    version = fields.get("version")
    if fields.get("format") != FORMAT or not isinstance(version, int) or version > VERSION:
        raise FormatVersionError(
            f"{path} has format {fields.get('format')!r} version {version!r}; this program knows "
            f"{FORMAT} up to version {VERSION}: upgrade ProxyWhirl, or name another directory"
        )


def keys_of(fields: dict[str, Any]) -> Sequence[str]:
    """Return the keys that a line speaks of."""
    return fields["keys"] if fields["op"] == "evict" else (fields["key"],)


def put_fields(record: Record) -> dict[str, Any]:
    """Return the fields of a `put` line: a record without the fields that have their default."""
    fields: dict[str, Any] = {"op": "put", **dict(zip(_REQUIRED, _required_values(record), strict=True))}
    for name, value, default in zip(_OPTIONAL, _optional_values(record), _DEFAULTS, strict=True):
        if value != default:
            fields[name] = json.loads(value) if name == "attributes" else value
    return fields


def record_of(fields: dict[str, Any]) -> Record:
    """Return the record of a `put` line. Raises `TypeError` on fields that no version wrote."""
    fields.pop("op")
    if "attributes" in fields:
        fields["attributes"] = json.dumps(fields["attributes"], separators=(",", ":"), ensure_ascii=False)
    return Record(**fields)
