"""Look through the whole store for what is not as it should be, and mend what can be mended.

Each durable tier looks at itself (`Tier.examine`); here the windows are compared with the authority, its URLs are read,
each credential is opened, and the keys are looked at. What surrounds the tiers is in `surroundings`.

Other processes may write meanwhile, so that a difference proves nothing by itself. It does where the window has then
been brought up to the revision at which the authority was read, and still holds the very same record.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from operator import attrgetter

from proxywhirl.cache.coordination.breaker import BreakerTier
from proxywhirl.cache.coordination.replicas import Committed, catch_up
from proxywhirl.cache.coordination.tier_stack import TierStack
from proxywhirl.cache.entries import EntryMapping
from proxywhirl.cache.keys.sealing import sealed_with
from proxywhirl.cache.maintenance.files import ask_keys, look_around, missing_keys
from proxywhirl.cache.manifest import HINTS, REFUSED
from proxywhirl.cache.models import CacheConfig
from proxywhirl.cache.record import COLUMNS, COUNTS, Record, brought_in_range
from proxywhirl.cache.tiers.protocol import REPAIR, Batch, Decision, Finding, Tier
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
        spelt = _Spelling(mapping, write if repair else None)
        findings += [found for found in spelt.findings(stack.authority) if found.where not in named]
        known, ill_kept = ask_keys(config)
        unreadable, seals = _credentials(stack.authority, mapping)
        known |= ask_keys(config)[0]  # they may have been changed meanwhile
        findings += [*ill_kept, *missing_keys(config, known, seals), *unreadable]
        findings += look_around(config, repair=repair, known={each.where.partition(": ")[2] for each in findings})
    named = {finding.where for finding in findings}
    return findings + [_left_out(each) for each in stack.durable if each.sick and each.name not in named]


def _tiers(stack: TierStack, *, repair: bool) -> list[Finding]:
    stack.refresh()
    findings: list[Finding] = []
    for breaker in stack.durable:
        found = breaker.call(lambda tier: tier.examine(repair=repair), None, PAGE * PAGE, waits=True)
        findings += [_left_out(breaker)] if found is None else [_of(breaker, each) for each in found]
    stack.refresh()
    if owed := _owed(stack, repair=repair):
        findings += owed
    elif not stack.authority.degraded:
        for window in stack.tiers[:-1]:
            if not window.degraded:
                findings += _Comparison(window, stack).findings(repair=repair)
    return findings


def _owed(stack: TierStack, *, repair: bool) -> list[Finding]:
    """Tell of changes that wait for the authority, and of those that it could not take: `repair` tries these again."""
    name = stack.authority.name
    try:
        refused = stack.refused()
        if refused and repair:
            stack.retry_refused()
        owed, left = stack.owed(), stack.refused()
    except CacheError as exc:
        return [
            Finding(f"l2: {HINTS}", f"what {name} is owed cannot be told: {exc}", "let this user read and write it")
        ]
    findings = []
    if owed:
        advice = f"it is written when tier {name} works; see what else is said of that"
        findings.append(Finding(f"l2: {HINTS}", f"{owed} changes wait to be written to {name}", advice))
    if refused:
        key, why = next(iter((left or refused).items()))
        what = f"holds {len(left or refused)} changes that {name} could not take, such as that of entry {key}: {why}"
        advice = f"{REPAIR}: it tries again; what stays is to be put anew, and the file then to be deleted"
        findings.append(Finding(f"l2: {REFUSED}", what, advice, repaired=not left))
    return findings


def _credentials(authority: BreakerTier, mapping: EntryMapping) -> tuple[list[Finding], dict[str, int]]:
    """Open every credential, keeping none; return what is wrong with them.

    Returns as well how many each key sealed, by fingerprint.
    """
    lost: list[str] = []
    seals: dict[str, int] = {}
    for page in _pages(authority):
        for record in page:
            if record.sealed is not None:
                check = sealed_with(record.sealed)
                seals[check] = seals.get(check, 0) + 1
                try:
                    mapping.credentials(replace(record, plain=None))
                except DecryptionError:
                    lost.append(record.key)
    if not lost:
        return [], seals
    what = f"the credentials of {len(lost)} entries cannot be read, such as those of {lost[0]}"
    advice = (
        "import them again with their credentials, or set PROXYWHIRL_CACHE_KEY_PREVIOUS to the key that sealed them"
    )
    return [Finding(f"{authority.name}: credentials", what, advice)], seals


class _Spelling:
    """The values of the authority that are stored otherwise now, or by nobody.

    Earlier releases stored other spellings of a URL than the canonical one, and credentials in it; a count below zero
    is damage.
    """

    def __init__(self, mapping: EntryMapping, write: Write | None) -> None:
        self._mapping = mapping
        self._write = write

    def findings(self, authority: BreakerTier) -> Iterator[Finding]:
        """Yield what is not as `put` would store it; what can be read is written so, where there is `write`."""
        for page in _pages(authority):
            odd = [record for record in page if not is_plain_canonical(record.url) or min(counts_of(record)) < 0]
            named = [(record.key, what) for record in odd if (what := _misspelt(record)) is not None]
            readable = {key for key, what in named if what != NO_URL}
            anew = [self._anew(record) for record in odd if record.key in readable]
            repaired = bool(anew) and self._write is not None and self._write(readable, self._decide, anew) is not None
            for key, what in named:
                if key in readable:
                    yield Finding(f"{authority.name}: entry {key}", what, f"{REPAIR}: it is written anew", repaired)
                else:
                    advice = f"run `proxywhirl remove {key}`, and add the proxy with its right URL"
                    yield Finding(f"{authority.name}: entry {key}", what, advice)

    def _decide(self, present: Mapping[str, Record]) -> Batch:
        """Write those anew of which it still holds; what is removed meanwhile stays so."""
        held = (record for record in present.values() if _misspelt(record) not in {None, NO_URL})
        return Batch(puts=[self._mapping.sealed(self._anew(record)) for record in held])

    @staticmethod
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


class _Comparison:
    """A window against the authority."""

    def __init__(self, window: BreakerTier, stack: TierStack) -> None:
        self._window = window
        self._stack = stack
        self._authority = stack.authority

    def findings(self, *, repair: bool) -> list[Finding]:
        """Return what is proved to be wrong; with `repair` it is dropped, to be read from below again."""
        wrong = self._wrong()
        if not wrong:
            return []
        repaired = repair and self._drop(list(wrong))
        advice = f"{REPAIR}: it is read from below then"
        where = self._window.name
        return [Finding(f"{where}: entry {key}", what, advice, repaired) for key, what in wrong.items()]

    def _wrong(self) -> dict[str, str]:
        suspects: dict[str, Record] = {}
        for page in self._held_pages():
            differing = _differences(page, self._stored([record.key for record in page]))
            suspects |= {record.key: record for record in page if record.key in differing}
        wrong: dict[str, str] = {}
        for _ in range(ROUNDS):
            if not suspects:
                break
            suspects = self._judge(suspects, wrong)
        return wrong

    def _judge(self, suspects: Mapping[str, Record], wrong: dict[str, str]) -> dict[str, Record]:
        """Add what is proved to `wrong`; return what may be a change under way."""
        self._stack.refresh()  # what the authority is known to hold is later than the suspects
        differing = _differences(suspects.values(), self._stored(suspects))
        reached = self._authority.call(lambda tier: tier.revision, -1)
        if self._window in self._stack.windows:
            catch_up(self._window, self._authority)
        else:
            self._stack.refresh()
        if not 0 <= reached <= self._window.call(lambda tier: tier.revision, -1):
            return {key: suspects[key] for key in differing}
        held = {record.key: record for record in _peeked(self._window, differing) or ()}
        same = {key for key, record in held.items() if _state(record) == _state(suspects[key])}
        wrong |= {key: what for key, what in differing.items() if key in same}
        return {key: record for key, record in held.items() if key not in same}

    def _stored(self, keys: Collection[str]) -> dict[str, Record] | None:
        answer = _peeked(self._authority, keys)
        return None if answer is None else {record.key: record for record in answer}

    def _held_pages(self) -> Iterator[list[Record]]:
        if self._window.name == "l1":  # in memory a page costs as much as all
            yield self._window.call(lambda tier: tier.scan("", max(len(tier), PAGE)), [], PAGE * PAGE)
        else:
            yield from _pages(self._window)

    def _drop(self, keys: list[str]) -> bool:
        if self._window.name == "l1":
            self._stack.near_cache.replace((), keys)
            return True
        return self._window.write(lambda tier: tier.drop(keys), None, len(keys)) is not None


def _differences(records: Collection[Record], stored: Mapping[str, Record] | None) -> dict[str, str]:
    """Say by key in what the records of a window are unlike those of the authority; nothing where that is unknown."""
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


def _peeked(breaker: BreakerTier, keys: Collection[str]) -> list[Record] | None:
    return breaker.call(lambda tier: [r for key in keys if (r := tier.peek(key)) is not None], None, PAGE)


def _pages(breaker: BreakerTier) -> Iterator[list[Record]]:
    after = ""
    while page := _page(breaker, after):
        yield page
        after = page[-1].key


def _page(breaker: BreakerTier, after: str) -> list[Record]:
    nothing: list[Record] = []

    def ask(tier: Tier) -> list[Record]:
        return tier.scan(after, PAGE)

    return breaker.call(ask, nothing, PAGE)


def _of(breaker: BreakerTier, finding: Finding) -> Finding:
    return replace(finding, where=f"{breaker.name}: {finding.where}")


def _left_out(breaker: BreakerTier) -> Finding:
    if breaker.absent is not None:
        return Finding(
            breaker.name, f"cannot be opened and was left out: {breaker.absent}", "it is tried again by itself"
        )
    what = "is degraded and was left out" if breaker.sick else "has not answered in time and was left out"
    return Finding(breaker.name, what, "see the log for what failed; it is tried again by itself")
