"""All sources that are known: those built in, those of other packages, and those of the user.

What comes later goes before: a plug-in takes over no built-in name, but the user's file does, and what commands
added or switched has the last word. A table of the user's file that names no `url` changes the named settings of
the source of that name.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint
from importlib.resources import files
from pathlib import Path
from typing import Any

from proxywhirl import plugins
from proxywhirl.errors import SettingsError
from proxywhirl.sources.definitions import defined, tables_of
from proxywhirl.sources.spec import Provenance, SourceSpec

ENTRY_POINT_GROUP = "proxywhirl.sources"
SOURCES_FILE = "sources.toml"

_log = logging.getLogger(__name__)


@cache
def _tables() -> dict[str, dict[str, Any]]:
    text = files("proxywhirl.sources").joinpath("catalogue.toml").read_text(encoding="utf-8")
    return tables_of(text, "the catalogue")


def built_in() -> dict[str, SourceSpec]:
    """Return the public lists that come with the package, by name."""
    return defined(_tables(), "the catalogue", Provenance.CATALOGUE, Path("/"))


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
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return dict(specs)
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise SettingsError(f"{path} cannot be read: {reason}") from exc
    tables = tables_of(text, str(path))
    known = {name: table for name, table in tables.items() if "url" not in table and name in specs}
    added = {name: table for name, table in tables.items() if name not in known}
    result = {**specs, **defined(added, str(path), Provenance.USER, path.parent)}
    for name, table in known.items():
        result[name] = _changed(specs[name], table, path)
    return result


def _changed(spec: SourceSpec, table: Mapping[str, Any], path: Path) -> SourceSpec:
    """Return a source with the settings of a table that leaves its location to it."""
    (read,) = defined({spec.name: {"url": spec.location, **table}}, str(path), spec.provenance, path.parent).values()
    return replace(spec, **{name: getattr(read, name) for name in table})


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
