"""The sources of a home: those that are known to all, those of the user, and what commands decided.

The home's `sources.toml` is the user's own and only read. What commands decide is kept in the state, where other
processes see it at once: definitions, switches, and the record of each source.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from proxywhirl.errors import SettingsError, UnknownNameError
from proxywhirl.sources.definitions import SOURCES_FILE, built_in, define, plugged_in, with_file
from proxywhirl.sources.fetch_history import SourceRecord
from proxywhirl.sources.spec import Provenance, SourceSpec
from proxywhirl.state.store import Store

_DEFINITIONS = "source"
_SWITCHES = "source-switch"
_RECORDS = "source-record"
_ON, _OFF = "on", "off"

_log = logging.getLogger(__name__)


class SourceRegistry:
    """The sources of a home, read anew each time: other processes and the user's editor change them.

    Args:
        notes: Where what commands decide is kept.
        home: Where the user's file is, if there is one.
        catalogue: Whether the public lists that come with the package are among them.

    Raises:
        TierError: the state cannot be read or written (from every method).
    """

    def __init__(self, notes: Store, home: Path | None, *, catalogue: bool = True) -> None:
        self._notes = notes
        self._home = home
        self._catalogue = catalogue

    def specs(self) -> dict[str, SourceSpec]:
        """Return every source by its name, the user's own behind the others.

        Raises:
            SettingsError: the home's `sources.toml` cannot be read, or what it says is wrong.
        """
        specs = {**plugged_in(), **(built_in() if self._catalogue else {}), **self._added()}
        if self._home is not None:
            specs = with_file(specs, self._home / SOURCES_FILE)
        for name, switch in self._notes.items(_SWITCHES).items():
            if name in specs:
                specs[name] = replace(specs[name], enabled=switch == _ON)
        return specs

    def find(self, names: Iterable[str]) -> list[SourceSpec]:
        """Return the sources of these names, each once.

        Raises:
            UnknownNameError: there is none of a name; the message lists the known ones.
            SettingsError: as `specs`.
        """
        specs = self.specs()
        wanted = list(dict.fromkeys(names))
        for name in wanted:
            if name not in specs:
                raise UnknownNameError("source", name, list(specs))
        return [specs[name] for name in wanted]

    def add(
        self, definitions: Sequence[tuple[str | None, dict[str, Any]]], where: str, folder: Path
    ) -> list[SourceSpec]:
        """Add the user's own sources, all of them or none; one that was added before is defined anew, and switched on.

        A source without a name gets one of its location.

        Raises:
            SettingsError: a definition is wrong, or its name or location is that of a source that is not the user's.
        """
        specs = self.specs()
        added = self._notes.items(_DEFINITIONS)
        names = {spec.location: spec.name for spec in specs.values()}
        new: dict[str, SourceSpec] = {}
        stored: dict[str, str] = {}
        for named, table in definitions:
            spec = define(named or "new", table, where, Provenance.USER, folder)
            known = names.get(spec.location)
            if known is not None and known not in added:
                raise SettingsError(
                    f"{spec.shown} is known as {known!r}: `proxywhirl sources enable {known}` switches it on"
                )
            name = named or known or _free_name(spec.suggested_name, {*specs, *new})
            if name in specs and name not in added:
                raise SettingsError(
                    f"there is a source {name!r} already: give another --name, or change it in {SOURCES_FILE}"
                )
            names[spec.location] = name
            new[name] = replace(spec, name=name)
            stored[name] = json.dumps({**table, "url": spec.location})
        self._notes.delete_many(_SWITCHES, new)
        self._notes.put_many(_DEFINITIONS, stored)
        return list(new.values())

    def remove(self, names: Iterable[str]) -> None:
        """Forget sources that `add` brought, and what was learned of them.

        Raises:
            UnknownNameError: there is none of a name.
            SettingsError: one was not brought by `add`.
        """
        wanted = [spec.name for spec in self.find(names)]
        added = self._notes.items(_DEFINITIONS)
        for name in wanted:
            if name not in added:
                raise SettingsError(
                    f"{name!r} was not added by a command: `proxywhirl sources disable` switches it off"
                )
        for kind in (_DEFINITIONS, _SWITCHES, _RECORDS):
            self._notes.delete_many(kind, wanted)

    def switch(self, names: Iterable[str], *, enabled: bool) -> None:
        """Say whether sources are asked when none is named.

        Raises:
            UnknownNameError: there is none of a name; nothing was changed.
        """
        switch = _ON if enabled else _OFF
        self._notes.put_many(_SWITCHES, {spec.name: switch for spec in self.find(names)})

    def records(self) -> dict[str, SourceRecord]:
        """Return what is remembered of the sources, by name."""
        return {name: SourceRecord.load(text) for name, text in self._notes.items(_RECORDS).items()}

    def remember(self, name: str, record: SourceRecord) -> None:
        """Keep what is known of a source now."""
        self._notes.put_many(_RECORDS, {name: record.dump()})

    def _added(self) -> dict[str, SourceSpec]:
        """Return what commands added. What cannot be read any more, as its parser is gone, is left out and told."""
        specs: dict[str, SourceSpec] = {}
        for name, text in self._notes.items(_DEFINITIONS).items():
            try:
                specs[name] = define(name, json.loads(text), "added", Provenance.USER, Path("/"))
            except (SettingsError, ValueError) as exc:
                _log.warning("a source is left out: %s", exc)
        return specs


def _free_name(wanted: str, taken: set[str]) -> str:
    name = wanted
    number = 1
    while name in taken:
        number += 1
        name = f"{wanted}-{number}"
    return name
