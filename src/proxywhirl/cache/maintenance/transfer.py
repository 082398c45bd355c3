"""Entries to a file and back: JSON lines, a JSON array with one entry a line, or CSV. Both directions stream."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from proxywhirl import urls
from proxywhirl.cache.models import NEVER, WITHHELD, CacheEntry
from proxywhirl.errors import CacheError, ListFormatError
from proxywhirl.state.files import replacing

PAGE = 1_000
LINES_TRIED = 10
JSON = (".json", ".jsonl")
WHOLE: Any = object()

_COLUMNS = tuple(CacheEntry.model_fields)
_REQUIRED = {name for name, field in CacheEntry.model_fields.items() if field.is_required()}


def export_entries(
    entries: Iterable[CacheEntry], path: Path, *, with_credentials: bool, suffix: str | None = None
) -> int:
    """Write entries to a file that appears whole or not at all; return how many.

    `suffix` names the format, else the file's own suffix does. A link stays a link. A pipe or a device is written
    through: replacing it would take it away from others.

    Raises:
        CacheError: the file cannot be written.
    """
    form = suffix or path.suffix.lower()
    try:
        if path.exists() and not path.is_file():
            with path.open("w", encoding="utf-8", newline="") as stream:
                return write_entries(entries, stream, form, with_credentials=with_credentials)
        path = path.resolve()
        with replacing(path) as file:
            stream = TextIOWrapper(file, encoding="utf-8", newline="")
            count = write_entries(entries, stream, form, with_credentials=with_credentials)
            stream.detach()
    except OSError as exc:
        raise CacheError(f"{path} cannot be written: {exc.strerror or exc}") from exc
    return count


def write_entries(entries: Iterable[CacheEntry], stream: TextIO, suffix: str, *, with_credentials: bool) -> int:
    """Write entries in the format of a file suffix (`.json`, `.csv`, else JSON lines); return how many."""
    count = 0
    table = csv.DictWriter(stream, _COLUMNS, lineterminator="\n") if suffix == ".csv" else None
    if table is not None:
        table.writeheader()
    for count, entry in enumerate(entries, start=1):
        fields = _fields(entry, with_credentials=with_credentials)
        if table is not None:
            table.writerow({name: _cell(value) for name, value in fields.items()})
        else:
            before = ("[\n" if count == 1 else ",\n") if suffix == ".json" else ""
            stream.write(before + json.dumps(fields, ensure_ascii=False) + ("" if suffix == ".json" else "\n"))
    if suffix == ".json":
        stream.write("\n]\n" if count else "[]\n")
    return count


def _fields(entry: CacheEntry, *, with_credentials: bool) -> dict[str, Any]:
    fields = entry.model_dump(mode="json")
    if with_credentials:
        for name, secret in (("username", entry.username), ("password", entry.password)):
            fields[name] = None if secret is None else secret.get_secret_value()
    return fields


def _cell(value: Any) -> Any:
    """Return what stands in a cell. An empty one is nothing: a text that is empty or may be misread is JSON there."""
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and (not value or value.startswith('"') or not value.isprintable()):
        return json.dumps(value)
    return value


def _text(cell: Any) -> Any:
    """Read back what `_cell` wrote; anything else stays as it is."""
    try:
        return json.loads(cell) if isinstance(cell, str) and cell.startswith('"') else cell
    except ValueError:
        return cell


def read_entries(
    path: Path, counts: dict[str, int], *, now: float, ttl: float | None, lifetime: Callable[[str], float]
) -> Iterator[list[CacheEntry]]:
    """Yield pages of the entries of a file; damaged ones are counted in `failed`, expired ones in `skipped`.

    An item needs no more than a `proxy_url`: its source is the file's name then, it was fetched now, and lives for
    the `lifetime` (seconds) of its source.

    Raises:
        ListFormatError: the file cannot be read as text, is not what its name says, or holds no entry at all.
    """
    page: list[CacheEntry] = []
    seen = failed = 0
    moment = datetime.fromtimestamp(now, UTC)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for fields in _objects(stream, path):
                seen += 1
                try:
                    entry = _entry(_completed(fields, path.name, moment, lifetime), moment, ttl)
                except (ValueError, TypeError, ArithmeticError, RecursionError):
                    failed += 1
                    counts["failed"] += 1
                    continue
                if entry.expires_at <= moment:
                    counts["skipped"] += 1
                    continue
                page.append(entry)
                if len(page) == PAGE:
                    yield page
                    page = []
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise ListFormatError(f"{path} cannot be read: {exc}") from exc
    if seen and failed == seen:
        raise ListFormatError(f"{path} holds no entries as `export` writes them; a list of proxies is for `import`")
    if page:
        yield page


def _objects(stream: TextIO, path: Path) -> Iterator[Any]:
    """Yield the objects of a file of JSON or CSV, by its name or else by its first character.

    What is only a part of one, since something was cut off, is None.
    """
    suffix = path.suffix.lower()
    first = next((line.lstrip()[0] for line in stream if not line.isspace()), "")
    stream.seek(0)
    if suffix == ".csv" or (suffix not in JSON and first and first not in "[{"):
        yield from _rows(stream, path)
    elif suffix == ".json" and not first:
        raise ListFormatError(f"{path} is empty, which is no JSON")
    elif _is_line_by_line(stream):
        yield from _lines(stream)
    else:
        values = _parsed(stream.read())
        yield from values if isinstance(values, list) else [values]


def _rows(stream: TextIO, path: Path) -> Iterator[dict[str, Any] | None]:
    table = csv.DictReader(stream, strict=True)
    if "proxy_url" not in (table.fieldnames or ()):
        raise ListFormatError(f"{path} has no column proxy_url; a list of proxies is for `import`")
    while True:
        try:
            row = next(table)
        except StopIteration:
            return
        except csv.Error:  # the rows after it can be read
            row = {}
        whole = row and None not in row and None not in row.values()  # neither more cells than columns, nor fewer
        yield {name: _text(value) for name, value in row.items() if value != ""} if whole else None


def _lines(stream: TextIO) -> Iterator[Any]:
    open_brackets, last = 0, WHOLE
    for line in stream:
        open_brackets += {"[": 1, "]": -1}.get(line.strip(), 0)
        if _content(line):
            last = _parsed(line)
            yield last
    if open_brackets > 0 and last is not None:
        yield None


def _is_line_by_line(stream: TextIO) -> bool:
    """Whether each entry has its own line, as `export` writes them; other layouts cannot be read in a stream."""
    lines = islice((line for line in stream if _content(line)), LINES_TRIED)
    found = [isinstance(_parsed(line), dict) for line in lines]
    stream.seek(0)
    return any(found) or not found


def _content(line: str) -> str:
    text = line.strip().rstrip(",")
    return "" if text in ("[", "]", "[]") else text


def _parsed(text: str) -> Any:
    try:
        return json.loads(_content(text))
    except (ValueError, RecursionError):
        return None


def _completed(fields: Any, file: str, moment: datetime, lifetime: Callable[[str], float]) -> Any:
    """Give an item what an entry has beside its URL; a credential in that goes where credentials belong."""
    if not isinstance(fields, dict) or (fields.keys() >= _REQUIRED and urls.is_plain_canonical(fields["proxy_url"])):
        return fields
    given = {name: value for name, value in fields.items() if value is not None}
    url = urls.parse(given.get("proxy_url", ""))
    for part, in_url in (("username", url.username), ("password", url.password)):
        if in_url is not None and given.get(part, WITHHELD) == WITHHELD:
            given[part] = in_url
    given["proxy_url"] = url.canonical
    given.setdefault("fetch_time", moment)
    given.setdefault("ttl_seconds", int(lifetime(given.setdefault("source", file))))
    if "key" not in given:
        given["key"] = url.with_credential(given.get("username"), None).key
    return given


def _entry(fields: Any, moment: datetime, ttl: float | None) -> CacheEntry:
    if isinstance(fields, dict) and isinstance(fields.get("attributes"), str):
        fields["attributes"] = json.loads(fields["attributes"])
    entry = CacheEntry.model_validate(fields)
    if ttl is not None:
        entry.fetch_time = moment
        left = (NEVER - moment).total_seconds()
        entry.expires_at = moment + timedelta(seconds=min(ttl, left))
        entry.ttl_seconds = int((entry.expires_at - moment).total_seconds())
    return entry
