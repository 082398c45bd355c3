"""The sources of a home, and their fetching into its store.

- Which sources there are: those that are known to all, those of the user, and what commands decided. The home's
  `sources.toml` is the user's own and only read. What commands decide is kept in the state, where other processes see
  it at once: definitions, switches, and the record of each source.
- Sources are fetched at once, within the bounds of the settings. Their lists are taken in one after the other, so that
  a limit holds for all together. A source that fails costs the others nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import count, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from proxywhirl.clock import Clock
from proxywhirl.errors import SettingsError, SourceError, UnknownNameError
from proxywhirl.models import Attributes
from proxywhirl.sources.definitions import SOURCES_FILE, built_in, define, plugged_in, with_file
from proxywhirl.sources.fetch_history import SourceRecord
from proxywhirl.sources.fetching.body import NO_VALIDATORS, Validators
from proxywhirl.sources.fetching.bounds import FetchOptions
from proxywhirl.sources.harvest import Harvest, harvest
from proxywhirl.sources.spec import Provenance, SourceSpec
from proxywhirl.state.store import Store
from proxywhirl.urls import ProxyURL

if TYPE_CHECKING:
    from proxywhirl.sources.fetching.fetch import Fetcher

_DEFINITIONS = "source"
_SWITCHES = "source-switch"
_RECORDS = "source-record"
_ON, _OFF = "on", "off"
_BATCH = 50_000  # proxies in one transaction

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
            UnknownNameError: there is none of a name; the message lists the known ones, or the nearest of many.
            SettingsError: as `specs`.
        """
        specs = self.specs()
        wanted = list(dict.fromkeys(names))
        for name in wanted:
            if name not in specs:
                raise UnknownNameError("source", name, list(specs), listed_by="`proxywhirl sources list`")
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
        """Return the sources that commands added. One whose parser is gone is left out with a warning."""
        specs: dict[str, SourceSpec] = {}
        for name, text in self._notes.items(_DEFINITIONS).items():
            try:
                specs[name] = define(name, json.loads(text), "added", Provenance.USER, Path("/"))
            except (SettingsError, ValueError) as exc:
                _log.warning("a source is left out: %s", exc)
        return specs


class SourceOutcome(StrEnum):
    """How a source's part of a fetch ended."""

    FETCHED = "fetched"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    RESTING = "resting"  # it failed before, and is left alone for a while
    SKIPPED = "skipped"  # enough proxies were found without it


@dataclass(frozen=True, slots=True)
class SourceReport:
    """The proxies of one source, each counted once: `new`, `known` before, or `removed` by the user and kept out.

    `rejected` counts wrong lines, `reason` says what is wrong with the first. `error` says why nothing came. `keys`
    are those of the new proxies.
    """

    name: str
    outcome: SourceOutcome
    keys: tuple[str, ...] = ()
    known: int = 0
    removed: int = 0
    rejected: int = 0
    reason: str | None = None
    error: str | None = None

    @property
    def new(self) -> int:
        """How many proxies are new."""
        return len(self.keys)

    @property
    def ok(self) -> bool:
        """Whether the source did what it should, if it was asked."""
        return self.outcome not in (SourceOutcome.FAILED, SourceOutcome.RESTING)


Tell = Callable[[SourceReport], None]
Offer = tuple[ProxyURL, Attributes]
_Answer = tuple[Harvest | None, Validators]


class Supply:
    """The sources of a home, and their fetching.

    Args:
        registry: Which sources there are.
        options: The bounds of fetching.
        known: Tells which of some keys are in the store, served or not, each with its source and whether it never ends.
        blocked: Gives the keys of what the user removed.
        take_in: Merges proxies from a source (its name) that live for so many seconds.
        lifetimes: Seconds that a source's proxies live, by its name; they go before its definition.
        clock: Tells the time.
    """

    def __init__(
        self,
        registry: SourceRegistry,
        options: FetchOptions,
        *,
        known: Callable[[Iterable[str]], Mapping[str, tuple[str, bool]]],
        blocked: Callable[[], Collection[str]],
        take_in: Callable[[list[Offer], str, float], object],
        lifetimes: Mapping[str, int],
        clock: Clock,
    ) -> None:
        self.registry = registry
        self._options = options
        self._known = known
        self._blocked = blocked
        self._take_in = take_in
        self._lifetimes = lifetimes
        self._clock = clock

    def fetch(
        self, names: Iterable[str] = (), *, limit: int | None = None, due: bool = False, tell: Tell | None = None
    ) -> list[SourceReport]:
        """Fetch sources and take in their lists; return the result of each, in the order in which they ended.

        Args:
            names: Which ones, even if they are switched off or rest; all enabled ones where none is named.
            limit: So many new proxies at the most, of all together; sources that are not needed for them are skipped.
            due: Only those whose refresh interval has passed.
            tell: Is given each report as soon as it is known.

        Raises:
            UnknownNameError: there is no source of a name.
            SettingsError: the definitions of the home are wrong.
            CacheError: the store could not take the proxies.
        """
        reports: list[SourceReport] = []

        def told(report: SourceReport) -> None:
            reports.append(report)
            if tell is not None:
                tell(report)

        names = list(names)
        records = self.registry.records()
        now = self._clock.now()
        wanted = []
        for spec in self.registry.find(names) if names else self.registry.specs().values():
            record = records.get(spec.name, SourceRecord())
            if (due and record.due_at(spec) > now) or not (names or spec.enabled):
                continue
            if not names and record.rest_until > now:
                told(SourceReport(spec.name, SourceOutcome.RESTING, error=_rests(record)))
            else:
                wanted.append((spec, record))
        asyncio.run(self._fetch_all(wanted, limit, told))
        return reports

    def examine(self, spec: SourceSpec) -> Harvest:
        """Fetch a source and return its proxies; nothing is taken in, nor remembered.

        Raises:
            SourceError: it gives nothing.
        """
        return asyncio.run(self._examined(spec))

    async def _examined(self, spec: SourceSpec) -> Harvest:
        async with self._fetcher() as fetcher:
            found, _ = await self._ask(fetcher, spec, SourceRecord())
        if found is None:
            raise SourceError("nothing came")
        return found

    def _fetcher(self) -> Fetcher:
        from proxywhirl.sources.fetching.fetch import Fetcher  # noqa: PLC0415  # the HTTP client, which few commands need

        return Fetcher(self._options, clock=self._clock)

    async def _fetch_all(self, wanted: list[tuple[SourceSpec, SourceRecord]], limit: int | None, told: Tell) -> None:
        places = asyncio.Semaphore(self._options.concurrency)
        left = limit
        async with self._fetcher() as fetcher:

            async def ask(spec: SourceSpec, record: SourceRecord) -> _Answer:
                async with places:
                    return await self._ask(fetcher, spec, record)

            tasks = {asyncio.create_task(ask(spec, record)): (spec, record) for spec, record in wanted}
            try:
                while tasks and left != 0:
                    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                    for task in done if left is None else islice(done, 1):
                        spec, record = tasks.pop(task)
                        report = await asyncio.to_thread(self._finish, spec, record, task, left)
                        left = None if left is None else left - report.new
                        told(report)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        for spec, _ in tasks.values():
            told(SourceReport(spec.name, SourceOutcome.SKIPPED))

    async def _ask(self, fetcher: Fetcher, spec: SourceSpec, record: SourceRecord) -> _Answer:
        """Return a source's list, None where nothing has changed, and its validators; or raise `SourceError`."""
        ttl = self._ttl(spec)
        known = record.validators(spec, ttl, self._clock.now(), lambda keys: bool(self._known(keys)))
        try:
            fetched = await fetcher.fetch(spec, known)
            with closing(fetched):
                content = fetched.content
                found = None if content is None else await asyncio.to_thread(self._read, content, spec)
            return found, fetched.validators
        except SourceError:
            raise
        except Exception as exc:  # noqa: BLE001  # a parser is foreign code, and must not cost the other sources
            defect = type(exc).__name__
        _log.warning("source %r met a defect of the format %r: %s", spec.name, spec.format, defect)
        raise SourceError(f"a defect: {defect}")  # the foreign error, which may hold a credential, was left before

    def _read(self, content: IO[bytes], spec: SourceSpec) -> Harvest:
        """Read a list, which may take as long as the fetching of it."""
        end = self._clock.monotonic() + self._options.total_timeout
        return harvest(content, spec, too_long=lambda: self._clock.monotonic() > end)

    def _finish(
        self, spec: SourceSpec, record: SourceRecord, asked: asyncio.Task[_Answer], left: int | None
    ) -> SourceReport:
        """Take in the proxies of a source, and remember how it went."""
        now = self._clock.now()
        try:
            found, validators = asked.result()
        except SourceError as exc:
            record = record.failed(str(exc), exc.retry_after, now)
            report = SourceReport(spec.name, SourceOutcome.FAILED, error=record.error)
        else:
            if found is None:
                record = record.unchanged(now)
                report = SourceReport(spec.name, SourceOutcome.UNCHANGED, known=record.proxies)
            else:
                report, whole = self._take(spec, found, left)
                record = record.taken(spec, validators if whole else NO_VALIDATORS, tuple(found.proxies), now)
        self.registry.remember(spec.name, record)
        return report

    def _take(self, spec: SourceSpec, found: Harvest, left: int | None) -> tuple[SourceReport, bool]:
        """Take in the proxies of a source, as many new ones as are left to take; tell whether that is all of them."""
        blocked = self._blocked()
        offered = [key for key in found.proxies if key not in blocked]
        known = self._known(offered)
        fresh = [key for key in offered if key not in known]
        new = fresh if left is None else fresh[:left]
        ttl = self._ttl(spec)
        kept = {key for key, (source, forever) in known.items() if forever and source != spec.name and ttl < math.inf}
        wanted = {*known, *new} - kept  # a proxy that the user imported to stay must not end since a list has it too
        chosen = (found.proxies[key] for key in offered if key in wanted)
        while batch := list(islice(chosen, _BATCH)):
            self._take_in(batch, spec.name, ttl)
        report = SourceReport(
            spec.name,
            SourceOutcome.FETCHED,
            keys=tuple(new),
            known=len(known),
            removed=len(found.proxies) - len(offered),
            rejected=found.rejected,
            reason=found.reason,
        )
        return report, len(new) == len(fresh)

    def _ttl(self, spec: SourceSpec) -> float:
        return float(self._lifetimes.get(spec.name, spec.ttl))


def _rests(record: SourceRecord) -> str:
    until = datetime.fromtimestamp(record.rest_until, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"it rests until {until} after {record.failures} failures, unless it is named; the last: {record.error}"


def _free_name(wanted: str, taken: set[str]) -> str:
    names = (wanted if number == 1 else f"{wanted}-{number}" for number in count(1))
    return next(name for name in names if name not in taken)
