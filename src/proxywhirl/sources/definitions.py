"""Definitions of sources as the user writes them: TOML, a table for each source by its name; or a URL on each line.

Messages name the source and the setting, never a URL: it may hold a credential.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from proxywhirl.errors import SettingsError, UnknownNameError
from proxywhirl.sources.parsing.parse import has_parser, parser_names
from proxywhirl.sources.spec import DEFAULT_REFRESH, DEFAULT_TTL, Provenance, SourceSpec
from proxywhirl.urls import SCHEMES
from proxywhirl.validation import what_is_wrong

_NAME = re.compile(r"[^\x00-\x20\x7f,](?:[^\x00-\x1f\x7f,]{0,98}[^\x00-\x20\x7f,])?")


class Definition(BaseModel):
    """What can be said of a source; all but `url` has a default."""

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

    def spec(self, name: str, provenance: Provenance, folder: Path) -> SourceSpec:
        """Return the source; the path of a file is taken from `folder`.

        Raises:
            SettingsError: the URL is none.
        """
        return SourceSpec(
            name=name,
            location=location_of(self.url, folder),
            format=self.format,
            path=self.path,
            scheme=self.scheme,
            refresh=float(self.refresh),
            ttl=math.inf if self.ttl == "never" else float(self.ttl),
            enabled=self.enabled,
            provenance=provenance,
            home_page=self.home_page,
            licence=self.licence,
        )


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
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise SettingsError(f"{where} is not TOML: {exc}") from None  # the cause holds the text
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise SettingsError(f"{where}: {name} must be a table: write [{name}] and its settings below it")
        if not _NAME.fullmatch(name):
            raise SettingsError(f"{where}: a source's name has 1 to 100 printable characters, and no comma")
    return tables


def defined(
    tables: Mapping[str, Mapping[str, Any]], where: str, provenance: Provenance, folder: Path
) -> dict[str, SourceSpec]:
    """Return the sources that the tables define, by name.

    Raises:
        SettingsError: a table is wrong; the message names it.
    """
    specs = {}
    for name, table in tables.items():
        try:
            specs[name] = Definition.model_validate(table).spec(name, provenance, folder)
        except ValidationError as exc:
            raise SettingsError(
                f"{where}: source {name!r}: {what_is_wrong(exc, Definition)}"
            ) from None  # the cause repeats values
        except SettingsError as exc:
            raise SettingsError(f"{where}: source {name!r}: {exc}") from exc
    return specs


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
