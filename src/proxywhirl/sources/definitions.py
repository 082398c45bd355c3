"""Definitions of sources: how one is written, and where the known ones come from.

- A definition is a table of TOML by the source's name. What is piped in may also be a URL on each line.
- Definitions of other packages come first, then the built-in ones (`catalogue.toml`), the ones that commands added, and
  the user's file. Of two with the same name, the later one counts.
- A table of the user's file that names no `url` changes the named settings of the source of that name.
- Messages name the source and the setting, never a URL: it may hold a credential.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from proxywhirl import plugins
from proxywhirl.errors import SettingsError, UnknownNameError
from proxywhirl.sources.parsing.parse import has_parser, parser_names
from proxywhirl.sources.spec import DEFAULT_REFRESH, DEFAULT_TTL, Provenance, SourceSpec
from proxywhirl.urls import SCHEMES
from proxywhirl.validation import toml_tables, user_text, what_is_wrong

ENTRY_POINT_GROUP = "proxywhirl.sources"
SOURCES_FILE = "sources.toml"

_NAME = re.compile(r"[^\x00-\x20\x7f,](?:[^\x00-\x1f\x7f,]{0,98}[^\x00-\x20\x7f,])?")
_log = logging.getLogger(__name__)


class SourceDefinition(BaseModel):
    """The settings of a source; all but `url` have a default."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    url: str
    format: str | None = None
    path: str | None = None
    scheme: str = "http"
    refresh: Annotated[int, Field(ge=60)] = DEFAULT_REFRESH
    ttl: Annotated[int, Field(ge=1)] | Literal["never"] = DEFAULT_TTL
    enabled: bool = True
    home_page: str | None = None
    licence: str | None = None

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str | None) -> str | None:
        if value is not None and not has_parser(value):
            raise ValueError(str(UnknownNameError("format", value, parser_names())))
        return value

    @field_validator("scheme")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        if value not in SCHEMES:
            raise ValueError(str(UnknownNameError("scheme", value, list(SCHEMES))))
        return value


def location_of(text: str, folder: Path) -> str:
    """Return where a source is: a URL as it stands, or the absolute path of a file.

    Raises:
        SettingsError: it is neither.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        if not text.strip():
            raise SettingsError("the URL is empty: name one, or a file")
        return str((folder / Path(text).expanduser()).absolute())
    try:
        parts = urlsplit(text)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if scheme.lower() == "file" and rest.startswith("/"):
        return unquote(rest)
    if scheme.lower() not in ("http", "https") or not usable or not text.isprintable() or " " in text:
        raise SettingsError("a source is an http or https URL with a host, or a file")
    return text


def tables_of(text: str, where: str) -> dict[str, dict[str, Any]]:
    """Return the tables of a TOML document, by their names.

    Raises:
        SettingsError: it is not such a document.
    """
    tables = toml_tables(text, where)
    for name in tables:
        if not _NAME.fullmatch(name):
            raise SettingsError(f"{where}: a source's name has 1 to 100 printable characters, and no comma")
    return tables


def define(name: str, table: Mapping[str, Any], where: str, provenance: Provenance, folder: Path) -> SourceSpec:
    """Return the source that a table defines; the path of a file begins at `folder`.

    Raises:
        SettingsError: the table is wrong; the message names the source.
    """
    try:
        read = SourceDefinition.model_validate(table)
        return SourceSpec(
            name=name,
            location=location_of(read.url, folder),
            refresh=float(read.refresh),
            ttl=math.inf if read.ttl == "never" else float(read.ttl),
            provenance=provenance,
            **read.model_dump(exclude={"url", "refresh", "ttl"}),
        )
    except ValidationError as exc:
        wrong = what_is_wrong(exc, SourceDefinition)
        raise SettingsError(f"{where}: source {name!r}: {wrong}") from None  # the cause repeats values
    except SettingsError as exc:
        raise SettingsError(f"{where}: source {name!r}: {exc}") from exc


def read_definitions(text: str, where: str) -> list[tuple[str | None, dict[str, Any]]]:
    """Read what is piped in: TOML, or a URL or file on each line. Names are None where they are to be found.

    Raises:
        SettingsError: there is nothing in it, or a line is no source.
    """
    lines = [line.strip() for line in text.lstrip("\ufeff").splitlines()]
    wanted = [line for line in lines if line and not line.startswith("#")]
    if not wanted:
        raise SettingsError(f"{where} names no source: write a URL on each line, or TOML")
    if wanted[0].startswith("["):
        return list(tables_of(text, where).items())
    for number, line in enumerate(lines, 1):
        if line in wanted and "://" not in line:
            raise SettingsError(f"{where}: line {number} is no URL: write one on each line, or TOML")
    return [(None, {"url": line}) for line in wanted]


@cache
def built_in() -> Mapping[str, SourceSpec]:
    """Return the public lists that come with the package, by name."""
    where = "the catalogue"
    text = files("proxywhirl.sources").joinpath("catalogue.toml").read_text(encoding="utf-8")
    tables = tables_of(text, where).items()
    return {name: define(name, table, where, Provenance.CATALOGUE, Path("/")) for name, table in tables}


def plugged_in() -> dict[str, SourceSpec]:
    """Return the sources that other packages offer by entry points, by name.

    The object of an entry point is a `SourceSpec`, or a function that returns some. A package that fails is left out
    with a warning: its defect must not cost the other sources.
    """
    specs: dict[str, SourceSpec] = {}
    for entry_point in plugins.offered(ENTRY_POINT_GROUP):
        try:
            offered = _offered(entry_point)
        except Exception as exc:  # noqa: BLE001  # foreign code may fail in any way
            _log.warning("the sources of %r are left out: %s fails: %r", entry_point.name, entry_point.value, exc)
            continue
        for spec in offered:
            specs.setdefault(spec.name, replace(spec, provenance=Provenance.PLUGIN))
    return specs


def with_file(specs: Mapping[str, SourceSpec], path: Path) -> dict[str, SourceSpec]:
    """Return the sources together with those of the user's file, if it is there.

    Raises:
        SettingsError: the file cannot be read, or what it says is wrong.
    """
    text, where = user_text(path), str(path)
    result = dict(specs)
    for name, table in tables_of(text or "", where).items():
        known = None if "url" in table else specs.get(name)
        if known is None:
            result[name] = define(name, table, where, Provenance.USER, path.parent)
        else:
            read = define(name, {"url": known.location, **table}, where, known.provenance, path.parent)
            result[name] = replace(known, **{setting: getattr(read, setting) for setting in table})
    return result


def _offered(entry_point: EntryPoint) -> list[SourceSpec]:
    found = entry_point.load()
    offered: SourceSpec | Iterable[SourceSpec] = found() if callable(found) else found
    specs = [offered] if isinstance(offered, SourceSpec) else list(offered)
    for spec in specs:
        if not isinstance(spec, SourceSpec):
            raise TypeError(f"{type(spec).__name__} is no SourceSpec")
        if spec.is_file:
            raise ValueError(f"source {spec.name!r} is a file: only the user may name one")
    return specs
