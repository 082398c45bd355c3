"""Examine the whole store, and mend what can be mended.

1. Each durable tier examines itself (`Tier.examine`).
2. Changes that wait for the authority, or could not be written to it, are told (hinted handoff).
3. Each window is compared with the authority. Other processes may write meanwhile, so that a difference proves nothing
   by itself. It does where the window has then caught up with the revision at which the authority was read, and still
   holds the very same record.
4. The authority is read once: each URL and count has to be as `put` stores it, and each credential has to open.
5. The keys, and the files around the tiers, are looked at (`files`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from operator import attrgetter

from proxywhirl.cache.coordination.breaker import BreakerTier
from proxywhirl.cache.coordination.replicas import Committed, catch_up
from proxywhirl.cache.coordination.tier_stack import TierStack
from proxywhirl.cache.entries import EntryMapping
from proxywhirl.cache.keys.keyset import examine_keys, missing_keys
from proxywhirl.cache.keys.sealing import sealed_with
from proxywhirl.cache.maintenance.files import look_around
from proxywhirl.cache.manifest import HINTS, REFUSED
from proxywhirl.cache.models import PREVIOUS_VARIABLE, CacheConfig
from proxywhirl.cache.record import COLUMNS, COUNTS, Record, brought_in_range
from proxywhirl.cache.tiers.protocol import REPAIR, Batch, Decision, Finding, pages
from proxywhirl.errors import CacheError, DecryptionError, ProxyURLError
from proxywhirl.urls import is_plain_canonical, parse

PAGE = 1_000
NO_URL = "its URL is no proxy's: nothing can be connected to through it"
ROUNDS = 5
counts_of = attrgetter(*COUNTS)
_COMPARED = tuple(name for name in COLUMNS if name not in {"access_count", "accessed_at"})


Write = Callable[[Collection[str], Decision, Collection[Record]], Committed | None]
"""Keys, a decision on what is stored under them, and records that may come in with plain credentials."""


def inspect(
    config: CacheConfig, stack: TierStack, mapping: EntryMapping, *, write: Write, repair: bool
) -> list[Finding]:
    """Return what is wrong with an open store and its surroundings; with `repair`, what could be mended says so.

    Reads everything. A tier is busy while it examines itself (about a second for a million entries in SQLite, or
    for 50,000 in JSONL), and free in between; hits in L1 go on all the time.
    """
    findings = _tiers(stack, repair=repair)
    if stack.durable:
        named = {finding.where for finding in findings}
        known, ill_kept = examine_keys(config)
        scan = _Scan(stack.authority.name, mapping, write if repair else None)
        for page in _pages(stack.authority):
            scan.read(page)
        known |= examine_keys(config)[0]  # they may have been changed meanwhile
        findings += [found for found in scan.findings if found.where not in named]
        findings += [*ill_kept, *missing_keys(config, known, scan.seals), *scan.lost_credentials()]
        findings += look_around(config, repair=repair, known={each.where.partition(": ")[2] for each in findings})
    named = {finding.where for finding in findings}
    return findings + [_left_out(each) for each in stack.durable if each.sick and each.name not in named]


def _tiers(stack: TierStack, *, repair: bool) -> list[Finding]:
    stack.refresh()
    findings: list[Finding] = []
    for breaker in stack.durable:
        found = breaker.call(lambda tier: tier.examine(repair=repair), None, PAGE * PAGE, waits=True)
        if found is None:
            findings.append(_left_out(breaker))
        else:
            findings += [replace(each, where=f"{breaker.name}: {each.where}") for each in found]
    stack.refresh()
    if waiting := _hints(stack, repair=repair):
        findings += waiting
    elif not stack.authority.degraded:
        for window in stack.tiers[:-1]:
            if not window.degraded:
                findings += _compared(window, stack, repair=repair)
    return findings


def _hints(stack: TierStack, *, repair: bool) -> list[Finding]:
    """Tell of changes that wait for the authority, and of those that it could not take: `repair` tries these again."""
    name = stack.authority.name
    try:
        refused = stack.refused()
        if refused and repair:
            stack.retry_refused()
        waiting, left = stack.waiting(), stack.refused()
    except CacheError as exc:
        what = f"what {name} is owed cannot be told: {exc}"
        return [Finding(f"l2: {HINTS}", what, "let this user read and write it")]
    findings = []
    if waiting:
        advice = f"it is written when tier {name} works; see what else is said of that"
        findings.append(Finding(f"l2: {HINTS}", f"{waiting} changes wait to be written to {name}", advice))
    if refused:
        key, why = next(iter((left or refused).items()))
        what = f"holds {len(left or refused)} changes that {name} could not take, such as that of entry {key}: {why}"
        advice = f"{REPAIR}: it tries again; what stays is to be put anew, and the file then to be deleted"
        findings.append(Finding(f"l2: {REFUSED}", what, advice, repaired=not left))
    return findings


class _Scan:
    """One reading of the authority, page by page: entries unlike those of `put`, and credentials that do not open.

    Earlier releases stored other spellings of a URL than the canonical one, and credentials in it; a count below zero
    is damage. What can be read is written anew, where there is `write`. `seals` counts what each key sealed, by
    fingerprint. No credential is kept.
    """

    def __init__(self, name: str, mapping: EntryMapping, write: Write | None) -> None:
        self.findings: list[Finding] = []
        self.seals: dict[str, int] = {}
        self._lost: list[str] = []
        self._name = name
        self._mapping = mapping
        self._write = write

    def read(self, page: list[Record]) -> None:
        """Look at a page of records."""
        for record in page:
            if record.sealed is not None:
                check = sealed_with(record.sealed)
                self.seals[check] = self.seals.get(check, 0) + 1
                try:
                    self._mapping.credentials(replace(record, plain=None))
                except DecryptionError:
                    self._lost.append(record.key)
        odd = [record for record in page if not is_plain_canonical(record.url) or min(counts_of(record)) < 0]
        named = [(record.key, what) for record in odd if (what := _misspelt(record)) is not None]
        readable = {key for key, what in named if what != NO_URL}
        anew = [_anew(record) for record in odd if record.key in readable]
        repaired = bool(anew) and self._write is not None and self._write(readable, self._decide, anew) is not None
        for key, what in named:
            advice = f"{REPAIR}: it is written anew"
            if key not in readable:
                advice = f"run `proxywhirl remove {key}`, and add the proxy with its right URL"
            self.findings.append(Finding(f"{self._name}: entry {key}", what, advice, repaired and key in readable))

    def lost_credentials(self) -> Iterator[Finding]:
        """Tell of the credentials that cannot be opened."""
        if self._lost:
            what = f"the credentials of {len(self._lost)} entries cannot be read, such as those of {self._lost[0]}"
            advice = f"import them again with their credentials, or set {PREVIOUS_VARIABLE} to the key that sealed them"
            yield Finding(f"{self._name}: credentials", what, advice)

    def _decide(self, present: Mapping[str, Record]) -> Batch:
        """Write the records again that still need it; records removed meanwhile stay removed."""
        held = (record for record in present.values() if _misspelt(record) not in {None, NO_URL})
        return Batch(puts=[self._mapping.sealed(_anew(record)) for record in held])


def _anew(record: Record) -> Record:
    """Return a record with its canonical URL; a credential in that is its own where it has no other."""
    url, record = parse(record.url), brought_in_range(record)
    secret = url.username is not None or url.password is not None
    plain = (url.username, url.password) if secret and not record.has_credentials else record.plain
    return replace(record, url=url.canonical, plain=plain)


def _misspelt(record: Record) -> str | None:
    """Say in what a URL is not as it is stored now; None where it is."""
    try:
        url = parse(record.url)
    except ProxyURLError:
        return NO_URL
    if url.username is not None or url.password is not None:
        return "its URL holds a credential"
    if min(counts_of(record)) < 0:
        return "one of its counts is negative"
    return None if url.canonical == record.url else "its URL is not in the form in which URLs are stored"


def _compared(window: BreakerTier, stack: TierStack, *, repair: bool) -> list[Finding]:
    """Return the proved faults of a window; with `repair` their keys are dropped, to be read from below again."""
    suspects: dict[str, Record] = {}
    is_memory = window.name == "l1"  # there a page costs as much as all
    for page in _pages(window, limit=PAGE * PAGE if is_memory else PAGE):
        differing = _differences(page, _peeked(stack.authority, [record.key for record in page]))
        suspects |= {record.key: record for record in page if record.key in differing}
    wrong: dict[str, str] = {}
    for _ in range(ROUNDS):
        if not suspects:
            break
        suspects = _judged(window, stack, suspects, wrong)
    repaired = False
    if wrong and repair and is_memory:
        stack.near_cache.replace((), list(wrong))
        repaired = True
    elif wrong and repair:
        repaired = window.write(lambda tier: tier.drop(list(wrong)), None, len(wrong)) is not None
    advice = f"{REPAIR}: it is read from below then"
    return [Finding(f"{window.name}: entry {key}", what, advice, repaired) for key, what in wrong.items()]


def _judged(
    window: BreakerTier, stack: TierStack, suspects: Mapping[str, Record], wrong: dict[str, str]
) -> dict[str, Record]:
    """Add proved faults to `wrong`; return the keys that may be changing just now."""
    stack.refresh()  # the authority is read after the suspects
    differing = _differences(suspects.values(), _peeked(stack.authority, suspects))
    reached = stack.authority.call(lambda tier: tier.revision, -1)
    if window in stack.windows:
        catch_up(window, stack.authority)
    else:
        stack.refresh()
    if not 0 <= reached <= window.call(lambda tier: tier.revision, -1):
        return {key: suspects[key] for key in differing}
    held = _peeked(window, differing) or {}
    same = {key for key, record in held.items() if _state(record) == _state(suspects[key])}
    wrong |= {key: what for key, what in differing.items() if key in same}
    return {key: record for key, record in held.items() if key not in same}


def _differences(records: Collection[Record], stored: Mapping[str, Record] | None) -> dict[str, str]:
    """Say by key how records of a window differ from the authority's; nothing where the authority did not answer."""
    if stored is None:
        return {}
    found = {}
    for record in records:
        known = stored.get(record.key)
        if known is None or known.retired:
            found[record.key] = "is held, and the authority does not serve it"
        elif known.revision != record.revision:
            found[record.key] = f"is held in revision {record.revision}; the authority has {known.revision}"
        elif names := [name for name in _COMPARED if getattr(known, name) != getattr(record, name)]:
            found[record.key] = f"differs from what the authority has in {', '.join(names)}"
    return found


def _state(record: Record) -> tuple[object, ...]:
    return tuple(getattr(record, name) for name in _COMPARED)


def _peeked(breaker: BreakerTier, keys: Collection[str]) -> dict[str, Record] | None:
    return breaker.call(lambda tier: {k: found for k in keys if (found := tier.peek(k)) is not None}, None, PAGE)


def _pages(breaker: BreakerTier, limit: int = PAGE) -> Iterator[list[Record]]:
    nothing: list[Record] = []
    return pages(lambda after: breaker.call(lambda tier: tier.scan(after, limit), nothing, limit))


def _left_out(breaker: BreakerTier) -> Finding:
    if breaker.absent is not None:
        what = f"cannot be opened and was left out: {breaker.absent}"
        return Finding(breaker.name, what, "it is tried again by itself")
    what = "is degraded and was left out" if breaker.sick else "has not answered in time and was left out"
    return Finding(breaker.name, what, "see the log for what failed; it is tried again by itself")
