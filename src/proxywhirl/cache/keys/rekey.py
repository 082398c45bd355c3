"""Change the key that stored credentials are sealed with, while other processes read and write.

Each step may be the last one before a crash, and each may be done again. A later rotation finds two keys, and goes on.

1. The new key is kept beside the old one, durably, before anything is sealed with it.
2. Each durable tier gets the note of the new key, and each token that has not changed since it was read is sealed anew.
3. The authority loses the notes of the old key. After that no process seals with it (see the package's plan).
4. Tokens that the old key sealed until then are sealed anew.
5. Copies in the windows that are still of the old key are dropped, and then its notes there.
6. The old key is forgotten.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pydantic import SecretStr

from proxywhirl.cache.coordination.tier_stack import TierStack
from proxywhirl.cache.keys import keyset as keys
from proxywhirl.cache.keys.keyring import KeyKeeper, exclusively
from proxywhirl.cache.keys.sealing import Sealer, fingerprint, generate_key
from proxywhirl.cache.manifest import key_file
from proxywhirl.cache.models import KEY_VARIABLE, PREVIOUS_VARIABLE, CacheConfig, check_key
from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.protocol import Batch, Decision, Tier, TierName, pages
from proxywhirl.errors import CacheError, DecryptionError, TierError

SEALED_AT_ONCE = 500
MOST_PASSES = 100
DEGRADED = "a tier is degraded: nothing is lost, both keys are kept; rotate again when it works, to go on"

_log = logging.getLogger(__name__)


Write = Callable[[Collection[str], Decision], object]
"""Lets the authority decide and write, and the windows follow; None where it has not taken it."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """What was done: entries sealed anew, and entries whose credentials are damaged and stay as they are.

    `key_check` is the fingerprint of the key that seals now. `resumed` is True where the rotation was begun before; it
    is always False with a configured key.
    """

    resealed: int
    unreadable: int
    key_check: str
    resumed: bool


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """Where the key comes from, and how many entries each key sealed, by fingerprint and then by tier.

    `current` is the fingerprint of the sealing key, None where there is none yet. `known` are the fingerprints of all
    keys at hand. "" stands for credentials that do not say which key sealed them. `trouble` says why the key cannot be
    read where it is kept, and what to do.
    """

    origin: str
    current: str | None
    known: frozenset[str]
    sealed: Mapping[str, Mapping[TierName, int]]
    unfinished: bool
    trouble: str | None = None


def rotate(
    config: CacheConfig, sealer: Sealer, stack: TierStack, write: Write, new_key: SecretStr | None = None
) -> Rotation:
    """Seal everything with a new key, made or given, or end a rotation that was begun; a configured key is that key.

    Other processes may read and write meanwhile: they read the key again where it is kept. Those with a configured
    key must know the new one already.

    Raises:
        CacheError: a tier is degraded, another rotation is under way, or the key cannot be kept; rotate again later.
        ValueError: a key is given that is none, where it is not kept by us, or while another rotation is unfinished.
    """
    keeper = keys.key_keeper(config)
    with exclusively(key_file(config)):
        work = _Work(sealer, stack, write)
        resumed = _begin(keeper, new_key, work.noted_in_authority() - {fingerprint(k) for k in config.previous_keys})
        sealer.reload()
        work.each_durable(lambda tier, _: keys.leave_notes(tier, [sealer.key_check]))
        resealed, _ = work.reseal()
        work.each_durable(lambda tier, is_authority: work.forget_others(tier) if is_authority else None)
        again, unreadable = work.reseal()
        work.clean_windows()
        if keeper is not None:
            keeper.replace(keeper.read()[:1])
    return Rotation(resealed + again, unreadable, sealer.key_check, resumed)


def key_status(config: CacheConfig, tiers: Sequence[tuple[TierName, Tier]]) -> KeyStatus:
    """Say where the key comes from and which keys sealed what, reading all entries and decrypting none.

    Raises:
        TierError: a tier cannot be read.
    """
    kept, trouble = [], None
    try:
        kept = keys.kept_keys(config)
    except CacheError as exc:
        trouble = str(exc)
    sealed: dict[str, dict[TierName, int]] = {}
    for name, tier in tiers:
        if name != "l1":
            for check, count in keys.tokens_by_key(tier).items():
                sealed.setdefault(check, {})[name] = count
    current = fingerprint(kept[0]) if kept else None
    known = frozenset(fingerprint(key) for key in (*kept, *config.previous_keys))
    unfinished = len(kept) > 1 or bool((sealed.keys() & {*known, ""}) - {current})
    return KeyStatus(keys.origin(config), current, known, sealed, unfinished, trouble)


def _begin(keeper: KeyKeeper | None, new_key: SecretStr | None, needed: set[str]) -> bool:
    """Keep a new key beside the old one; return whether that was done before."""
    if keeper is None:
        if new_key is not None:
            raise ValueError(
                f"the key is configured: set {KEY_VARIABLE} to the new one and {PREVIOUS_VARIABLE} to the old one"
            )
        return False
    if new_key is not None:
        check_key(new_key.get_secret_value(), "what was given")
    kept = keeper.read()
    if not kept or needed - {fingerprint(key) for key in kept}:
        raise CacheError(f"{keeper.origin} does not hold the key of the store any more: restore it first")
    if len(kept) > 1:
        if new_key is not None and new_key != kept[0]:
            raise ValueError("a rotation to another key is unfinished: rotate without naming a key to end it")
        return True
    keeper.replace([new_key or generate_key(), *kept])
    return False


class _Work:
    """The steps of a rotation."""

    def __init__(self, sealer: Sealer, stack: TierStack, write: Write) -> None:
        self._sealer = sealer
        self._stack = stack
        self._write = write

    def each_durable(self, act: Callable[[Tier, bool], object]) -> None:
        """Do something to each durable tier under its lock; it is told whether that is the authority."""

        def done(is_authority: bool, tier: Tier) -> bool:
            act(tier, is_authority)
            return True

        stack = self._stack
        for each in stack.durable:
            if not stack.write(each, partial(done, each is stack.authority), False):
                raise TierError(DEGRADED)

    def noted_in_authority(self) -> set[str]:
        """Return the fingerprints that are noted in the authority."""
        noted: set[str] = set()
        self.each_durable(lambda tier, is_authority: noted.update(keys.noted(tier)) if is_authority else None)
        return noted

    def reseal(self) -> tuple[int, int]:
        """Seal the tokens of other keys anew, until there is none; return how many, and how many are damaged."""
        if not self._stack.replay():  # hints may be sealed with the old key
            raise TierError(DEGRADED)
        resealed = 0
        for _ in range(MOST_PASSES):
            done, missed, damaged = self._reseal_all()
            resealed += done
            if not missed:
                return resealed, damaged
        raise CacheError("entries are changed faster than they are sealed anew; rotate again to go on")

    def _reseal_all(self) -> tuple[int, int, int]:
        """Go through the authority once; return how many were sealed anew, were changed meanwhile, are damaged."""
        done = missed = damaged = 0
        for page in pages(self._stack.page):
            others = [record for record in page if record.sealed and not self._sealer.is_current(record.sealed)]
            for first in range(0, len(others), SEALED_AT_ONCE):
                some = others[first : first + SEALED_AT_ONCE]
                fresh = self._sealed_anew(some)
                same, changed = self._exchange(fresh)
                done, missed, damaged = done + same, missed + changed, damaged + len(some) - len(fresh)
        return done, missed, damaged

    def _sealed_anew(self, records: Sequence[Record]) -> dict[str, tuple[str, str]]:
        """Return old and new token by key, of those that can be opened: outside of any transaction."""
        fresh = {}
        for record in records:
            sealed = record.sealed or ""
            try:
                credentials = self._sealer.open(record.key, sealed)
            except DecryptionError as exc:
                _log.warning("left as it is: %s", exc)
            else:
                fresh[record.key] = (sealed, self._sealer.seal(record.key, credentials))
        return fresh

    def _exchange(self, fresh: Mapping[str, tuple[str, str]]) -> tuple[int, int]:
        """Exchange tokens that have not changed since they were read; return how many, and how many had."""
        same: list[Record] = []
        changed = 0

        def decide(present: Mapping[str, Record]) -> Batch:
            nonlocal same, changed
            same = [record for record in present.values() if record.sealed == fresh[record.key][0]]
            changed = len(present) - len(same)
            return Batch(puts=[replace(record, sealed=fresh[record.key][1], plain=None) for record in same])

        if fresh and self._write(list(fresh), decide) is None:
            raise TierError(DEGRADED)
        return len(same), changed

    def clean_windows(self) -> None:
        """Drop a window's copies with another key, which have not caught up. Then forget the key's notes."""
        after: dict[int, str] = {}
        more = True

        def clean(tier: Tier, is_authority: bool) -> None:
            nonlocal more
            if is_authority:
                return
            page = tier.scan(after.get(id(tier), ""), SEALED_AT_ONCE)
            if not page:
                self.forget_others(tier)
                return
            more, after[id(tier)] = True, page[-1].key
            tier.drop([record.key for record in page if record.sealed and not self._sealer.is_current(record.sealed)])

        while more:
            more = False
            self.each_durable(clean)

    def forget_others(self, tier: Tier) -> None:
        """Take the notes of the other known keys away."""
        for check in keys.noted(tier) & (self._sealer.known - {self._sealer.key_check}):
            keys.forget(tier, check)
