"""The file format of debts: one JSON object a line, last line of a key wins.

The first line names format and version; each further one is a debt (`op` `owe`) with its `change` (`put` with all
fields of the record, or `del`), with the checksum of a shard's lines, and with `left`: how many lines of its batch
follow. A batch without its last line is a write that was cut off, and is not there. What could never be paid has its
reason with it (`why`), in a file of its own. Pure: bytes in, values out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from proxywhirl.cache.policy import Debt
from proxywhirl.cache.record import Record
from proxywhirl.cache.shard import decode_line, encode_line
from proxywhirl.cache.storable import brought_in_range
from proxywhirl.errors import FormatVersionError

__all__ = ["FORMAT", "HEADER", "VERSION", "Found", "encode_batch", "encode_refusal", "parse", "refusals"]

FORMAT = "proxywhirl-debt"
VERSION = 1
HEADER = encode_line({"op": "head", "format": FORMAT, "version": VERSION})


@dataclass(slots=True)
class Found:
    """What a stretch of the file says: debts, damaged lines, and how many bytes belong to whole batches."""

    debts: list[Debt] = field(default_factory=list)
    damaged: list[bytes] = field(default_factory=list)
    whole: int = 0


def parse(data: bytes, path: str) -> Found:
    """Read lines. A batch that lacks its end counts only where damage, not a cut, explains that."""
    found = Found()
    batch: list[Debt] = []
    spoiled: list[bytes] = []
    offset = left = 0
    *lines, last = data.split(b"\n")
    if last and decode_line(last[:-1]) is not None:  # whole, but for its newline: a cut does not leave that
        lines.append(last[:-1])
        spoiled.append(last)
    for line in lines:
        offset += len(line) + 1
        fields = decode_line(line)
        if fields is not None and fields.get("op") == "head":
            _check_header(fields, path)
        elif (debt := _debt_of(fields)) is not None and fields is not None:
            batch.append(debt)
            left = fields["left"]
        else:
            spoiled.append(line)
            left = max(left - 1, 0)
        if left == 0:
            found.debts += batch
            found.damaged += spoiled
            found.whole = offset
            batch, spoiled = [], []
    if spoiled:
        found.debts += batch
        found.damaged += spoiled
        found.whole = offset
    return found


def _check_header(fields: dict[str, Any], path: str) -> None:
    version = fields.get("version")
    if fields.get("format") != FORMAT or not isinstance(version, int) or version > VERSION:
        raise FormatVersionError(
            f"{path} has format {fields.get('format')!r} version {version!r}; this program knows "
            f"{FORMAT} up to version {VERSION}: upgrade ProxyWhirl, or name another directory"
        )


def _debt_of(fields: dict[str, Any] | None) -> Debt | None:
    """Return the debt of a line, None where it is damaged or of no version."""
    if fields is None:
        return None
    try:
        change = fields["change"]
        key = change["key"]
        record = brought_in_range(Record(**change["record"])) if change["op"] == "put" else None
        return Debt(key, record, fields["base"], fields["at"], fields["merge"]) if fields["left"] >= 0 else None
    except (KeyError, TypeError):
        return None


def encode_batch(debts: Sequence[Debt]) -> bytes:
    """Return the lines of a batch."""
    return b"".join(
        encode_line(_fields_of(debt, left)) for left, debt in zip(range(len(debts) - 1, -1, -1), debts, strict=True)
    )


def encode_refusal(debt: Debt, why: str) -> bytes:
    """Return the line of a debt that was set aside, with the reason."""
    return encode_line({**_fields_of(debt, 0), "why": why})


def refusals(data: bytes) -> dict[str, tuple[Debt, str]]:
    """Read what was set aside: the last debt of each key, with the reason. What is damaged is left out."""
    found: dict[str, tuple[Debt, str]] = {}
    for line in data.splitlines():
        fields = decode_line(line)
        if (debt := _debt_of(fields)) is not None and fields is not None:
            found[debt.key] = debt, str(fields.get("why"))
    return found


def _fields_of(debt: Debt, left: int) -> dict[str, Any]:
    change: dict[str, Any] = {"op": "del", "key": debt.key}
    if debt.record is not None:
        change = {"op": "put", "key": debt.key, "record": debt.record.stored()}
    return {"op": "owe", "left": left, "base": debt.base, "at": debt.at, "merge": debt.merge, "change": change}
