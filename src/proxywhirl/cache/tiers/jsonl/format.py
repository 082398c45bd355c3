"""The format of a shard file, in pure functions: one JSON object a line, the last line of a key counts.

The first line of a shard names format and version. Each line ends in `"crc"`, the CRC-32 of all that stands
before it in eight hex digits, so that a damaged line is known for what it is. A last line without its newline is a
write that was cut off, and is not there.

========  ========================================================================  ==========
`op`      what the line says                                                        `Change`
========  ========================================================================  ==========
`put`     a whole record, with what eviction goes by                                `Put`
`del`     a key was removed, at a revision                                          `Gone`
`evict`   keys left the window                                                      `Gone`
`hit`     uses of a key since its last `put`                                        `Hit`
`pass`    keys that the hand of `sieve` spared                                      `Passed`
`head`    the first line
`mark`    where the writers stand: a line of fixed length in a file of its own
========  ========================================================================  ==========
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from json.encoder import encode_basestring, encode_basestring_ascii
from math import inf, isfinite
from operator import attrgetter
from typing import Any, NamedTuple

from proxywhirl.cache.record import COLUMNS, VALUE_FAULTS, Record, brought_in_range, refused
from proxywhirl.cache.tiers.eviction import Standing
from proxywhirl.cache.tiers.protocol import Access
from proxywhirl.errors import FormatVersionError
from proxywhirl.validation import LARGEST

FORMAT = "proxywhirl-shard"
VERSION = 2  # 1: without what eviction goes by
MARK_BYTES = 192

_TRAILER = len(',"crc":"00000000"}')
_ATTRIBUTES = ',"attributes":'
_APART = ("attributes", "revision", "generation")
_STANDING = ("arrived", "used", "passed", "lap")
_REQUIRED, _OPTIONAL = COLUMNS[:7], tuple(name for name in COLUMNS[7:] if name not in _APART)
_FLOATS = frozenset({"last_check_at", "next_check_at"})
_required_values, _optional_values = attrgetter(*_REQUIRED), attrgetter(*_OPTIONAL)
_DEFAULTS = _optional_values(Record("", "", "", 0.0, 0, 0.0, 0.0))
_NO_JSON = re.compile(r'("(?:last_check_at|next_check_at|recovery_attempt)":)(-?inf|nan)\b')
"""What an earlier release wrote of an endless number; in a text there would be a backslash before the second quote."""
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode  # `json.dumps` makes one each time
_parse = json.JSONDecoder().raw_decode  # `json.loads` would look for blanks around the object first


class Mark(NamedTuple):
    """The position of the writers of a directory.

    `writes` differs from one write to the next; `busy` means that one began and did not end.
    """

    revision: int = 0
    floor: int = 0
    writes: int = 0
    busy: bool = False


def _sealed(body: bytes) -> bytes:
    return b'%s,"crc":"%08x"}\n' % (body, zlib.crc32(body))


def encode_line(fields: dict[str, Any]) -> bytes:
    """Return the line for an object, with its checksum and newline."""
    return _sealed(_encode(fields)[:-1].encode())


def decode_line(line: bytes) -> dict[str, Any] | None:
    """Return the object of a line (with or without its newline), None where it is damaged."""
    body = _checked(line)
    try:
        fields = None if body is None else _object(body)
    except ValueError:  # a checksum that fits by accident
        return None
    return fields if isinstance(fields, dict) else None


def _checked(line: bytes) -> str | None:
    """Return the part of a line that its checksum covers, None where it does not fit."""
    end = len(line) - _TRAILER - line.endswith(b"\n")
    body = line[:end]
    if line[end : end + _TRAILER] != b',"crc":"%08x"}' % zlib.crc32(body):
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:  # a checksum that fits by accident
        return None


def _object(body: str) -> Any:
    """Return the object of a line without its checksum and brace. Raises `ValueError`."""
    try:
        return _parse(f"{body}}}")[0]
    except ValueError:
        if _NO_JSON.search(body) is None:
            raise
        return _parse(f"{_NO_JSON.sub(_as_json, body)}}}")[0]


def _as_json(found: re.Match[str]) -> str:
    return f"{found[1]}{'NaN' if found[2] == 'nan' else found[2].replace('inf', 'Infinity')}"


def is_whole(line: bytes) -> bool:
    """Whether a line is what was written."""
    return _checked(line) is not None


def header(revision: int, floor: int) -> bytes:
    """Return the first line of a shard that is whole at a revision, and its log from `floor` on."""
    return encode_line({"op": "head", "format": FORMAT, "version": VERSION, "revision": revision, "floor": floor})


def check_header(fields: dict[str, Any], path: str, known: str = FORMAT, newest: int = VERSION) -> None:
    """Refuse a file of another format than is `known`, or of a newer version than the `newest`.

    Raises:
        FormatVersionError: the message names file, version found and version known.
    """
    version = fields.get("version")
    if fields.get("format") != known or not isinstance(version, int) or version > newest:
        raise FormatVersionError(
            f"{path} has format {fields.get('format')!r} version {version!r}; this program knows "
            f"{known} up to version {newest}: upgrade ProxyWhirl, or name another directory"
        )


def encode_mark(mark: Mark) -> bytes:
    """Return the line of a mark, filled up with blanks to `MARK_BYTES`."""
    body = b'{"op":"mark","format":"%s","version":%d,"revision":%d,"floor":%d,"writes":%d,"busy":%s'
    busy = b"true" if mark.busy else b"false"
    line = _sealed(body % (FORMAT.encode(), VERSION, mark.revision, mark.floor, mark.writes, busy))
    return line[:-1].ljust(MARK_BYTES - 1) + b"\n"


def decode_mark(line: bytes, path: str) -> Mark | None:
    """Return the mark of a line, None where it is damaged or there is none.

    Raises:
        FormatVersionError: a newer version wrote it.
    """
    fields = decode_line(line.rstrip())
    if fields is None or fields.get("op") != "mark":
        return None
    check_header(fields, path)
    return Mark(fields["revision"], fields["floor"], fields["writes"], fields["busy"])


class Put(NamedTuple):
    """What the index knows of a record that a line holds."""

    keys: tuple[str]
    revision: int
    expires_at: float
    retired: bool
    standing: Standing


class Hit(NamedTuple):
    """Some uses of a key, and what a rewrite said of its standing besides."""

    keys: tuple[str]
    generation: int
    uses: int
    at: float
    said: Mapping[str, Any] = {}


class Passed(NamedTuple):
    """Keys that the hand has passed at a tick."""

    keys: Sequence[str]
    at: float


class Gone(NamedTuple):
    """Keys that were removed at a revision, or left the window: then no revision is later."""

    keys: Sequence[str]
    revision: float = inf


Change = Put | Hit | Passed | Gone
"""What a line says."""


def change_of(fields: Mapping[str, Any]) -> Change | None:
    """Return the change in the fields of a line; None for another kind. May raise `KeyError`, `TypeError`."""
    op = fields["op"]
    if op == "put":
        revision, retired = fields["revision"], fields.get("retired", False)
        return Put((fields["key"],), revision, fields["expires_at"], retired, standing_in(fields))
    if op == "hit":
        said = {name: fields[name] for name in _STANDING if name in fields}
        return Hit((fields["key"],), fields["generation"], fields["count"], fields["at"], said)
    if op == "pass":
        return Passed(fields["keys"], fields["at"])
    if op == "del":
        return Gone((fields["key"],), fields.get("revision", inf))
    return Gone(fields["keys"]) if op == "evict" else None


def encode_record(record: Record, standing: Standing | None = None) -> bytes:
    """Return the `put` line of a record: without the fields that have their default, attributes last.

    Raises:
        UnstorableValue: it has a value that would not be read back as it is.
    """
    try:
        try:
            body = _record_body(record, standing, encode_basestring).encode()
        except UnicodeEncodeError:  # half of a surrogate pair, which UTF-8 cannot hold
            body = _record_body(record, standing, encode_basestring_ascii).encode()
    except VALUE_FAULTS as exc:
        raise refused([record], exc) from None  # without its text, which might show a secret
    return _sealed(body)


def _record_body(record: Record, standing: Standing | None, quote: Callable[[str], str]) -> str:
    """Spell a record out; five times as fast as `json.dumps` of a dictionary made for it."""
    key, url, source, fetched_at, ttl, expires_at, accessed_at = _required_values(record)
    if not (isfinite(fetched_at + expires_at + accessed_at) and ttl <= LARGEST):
        raise ValueError("it would not be read back")
    times = f'"fetched_at":{fetched_at!r},"ttl":{ttl!r},"expires_at":{expires_at!r},"accessed_at":{accessed_at!r}'
    parts = [f'{{"op":"put","key":{quote(key)},"url":{quote(url)},"source":{quote(source)},{times}']
    values = _optional_values(record)
    if values != _DEFAULTS:
        for name, value, default in zip(_OPTIONAL, values, _DEFAULTS, strict=True):
            if value != default:
                text = quote(value) if isinstance(value, str) else "true" if value is True else _number(name, value)
                parts.append(f',"{name}":{text}')
    if record.revision:
        parts.append(f',"revision":{record.revision!r}')
    if record.generation:
        parts.append(f',"generation":{record.generation!r}')
    if standing is not None:
        parts.append(_standing_fields(standing))
    if record.attributes:
        plain = quote is encode_basestring
        parts += (_ATTRIBUTES, record.attributes if plain else json.dumps(json.loads(record.attributes)))
    return "".join(parts)


def _number(name: str, value: float) -> str:
    if type(value) is not int and name not in _FLOATS:
        raise TypeError("it would not be read back")
    if not -LARGEST <= value <= LARGEST:
        raise ValueError("it would not be read back")
    return repr(value)


def _standing_fields(standing: Standing) -> str:
    """Spell a standing out, without what a newcomer's arrival says already."""
    arrived, _, used, _, _, passed, lap = standing
    fields = f',"arrived":{arrived!r}'
    if used != arrived:
        fields += f',"used":{used!r}'
    return fields if passed == arrived and not lap else f'{fields},"passed":{passed!r},"lap":{lap!r}'


def decode_record(line: bytes, key: str) -> Record | None:
    """Return the record of the `put` line of a key, None where the line is damaged or another one."""
    body = _checked(line)
    if body is None:
        return None
    body, _, attributes = body.partition(_ATTRIBUTES)  # no string holds this: it would have its quotes escaped
    try:
        try:
            fields = _parse(f"{body}}}")[0]
        except ValueError:
            fields = _object(body)
        if fields.pop("op") != "put" or fields["key"] != key:
            return None
        is_checked = "arrived" in fields  # lines of version 2 were checked when written
        for name in _STANDING:
            fields.pop(name, None)
        record = Record(attributes=attributes, **fields)
        return record if is_checked else brought_in_range(record)
    except (ValueError, TypeError, KeyError, AttributeError):  # a checksum that fits by accident
        return None


def standing_in(fields: Mapping[str, Any]) -> Standing:
    """Return the standing in a `put` line. Version 1 has no arrival: the generation stands for it."""
    generation, at = fields.get("generation", 0), fields["accessed_at"]
    arrived = fields.get("arrived")
    if arrived is None:
        return Standing(float(generation), generation, 0.0, at, fields.get("access_count", 0))
    used, passed, lap = fields.get("used", arrived), fields.get("passed", arrived), fields.get("lap", 0)
    return Standing(arrived, generation, used, at, fields.get("access_count", 0), passed, lap)


def encode_removal(key: str, revision: int) -> bytes:
    """Return the line of a removal that is in the log."""
    return encode_line({"op": "del", "key": key, "revision": revision})


def encode_evictions(keys: Iterable[str]) -> bytes:
    """Return the line of keys that left the window."""
    return encode_line({"op": "evict", "keys": list(keys)})


def encode_passes(keys: Iterable[str], at: float) -> bytes:
    """Return the line of keys that the hand has passed at a tick: each has its next turn a lap later."""
    return encode_line({"op": "pass", "keys": list(keys), "at": at})


def encode_hit(access: Access, standing: Standing | None = None) -> bytes:
    """Return the line of some uses of a key, with what its standing has become by these and by passes."""
    fields = {"op": "hit", "key": access.key, "generation": access.generation, "count": access.count, "at": access.at}
    if standing is not None:
        fields |= {name: getattr(standing, name) for name in _STANDING}
    return encode_line(fields)


_START = re.compile(rb'\{"op":"')
_END = re.compile(rb',"crc":"[0-9a-f]{8}"\}')
_END_LENGTH = len(b',"crc":"00000000"}')
STARTS_TRIED = 4

# The CRC-32 of one byte, without what its start and end add; the highest byte of each is unlike all others.
_TABLE = [zlib.crc32(bytes([n])) ^ zlib.crc32(b"\0") for n in range(256)]
_BY_HIGHEST = {value >> 24: n for n, value in enumerate(_TABLE)}


def whole_lines(text: bytes) -> list[tuple[int, int]]:
    """Return where whole lines stand in a text without newlines, as (start, end)."""
    found: list[tuple[int, int]] = []
    starts = [match.start() for match in _START.finditer(text)]
    for match in _END.finditer(text):
        after = found[-1][1] if found else 0
        before = [start for start in starts if after <= start < match.start()]
        for start in before[: -STARTS_TRIED - 1 : -1]:
            if decode_line(text[start : match.end()]) is not None:
                found.append((start, match.end()))
                break
    return found


def removal_in(text: bytes) -> dict[str, Any] | None:
    """Return the fields of a removal in which one byte is wrong; None where it is none, or more is wrong."""
    mended = _mend(text)
    fields = None if mended is None else decode_line(mended)
    return fields if fields is not None and fields.get("op") in {"del", "evict"} else None


def _mend(text: bytes) -> bytes | None:
    """Correct the one byte that makes the checksum not fit."""
    body, end = text[:-_END_LENGTH], text[-_END_LENGTH:]
    right_end = b',"crc":"%08x"}' % zlib.crc32(body)
    if len(end) == _END_LENGTH and sum(a != b for a, b in zip(end, right_end, strict=True)) == 1:
        return body + right_end
    if not _END.fullmatch(end):
        return None
    difference = zlib.crc32(body) ^ int(end[8:16], 16)
    for place in range(len(body) - 1, -1, -1):  # the difference that the wrong byte made right after it
        n = _BY_HIGHEST[difference >> 24]
        if _TABLE[n] == difference:
            return b"%s%c%s" % (body[:place], body[place] ^ n, body[place + 1 :]) + end
        difference = ((difference ^ _TABLE[n]) << 8 | n) & 0xFFFFFFFF
    return None
