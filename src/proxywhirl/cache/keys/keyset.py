"""Which key seals and which keys open: where they come from, and which of them the stored credentials need.

The rules of the notes stand in the package's plan.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial

from pydantic import SecretStr

from proxywhirl.cache.keys.keyring import KeyFile, KeyKeeper, OsKeyring, exclusively
from proxywhirl.cache.keys.sealing import Sealer, fingerprint, sealed_with
from proxywhirl.cache.manifest import key_file
from proxywhirl.cache.models import KEY_VARIABLE, PREVIOUS_VARIABLE, CacheConfig
from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.protocol import Batch, Decision, Finding, Tier, TierName, pages
from proxywhirl.cache.tiers.sqlite.schema import SALVAGED
from proxywhirl.errors import CacheError, DecryptionError

_log = logging.getLogger(__name__)

NOTE = "key_check."
PAGE = 1_000
CONFIGURATION = "this process's configuration"

Tiers = Sequence[tuple[TierName, Tier]]


def key_keeper(config: CacheConfig) -> KeyKeeper | None:
    """Return the keeper of the key: the key file, or the system's keyring if it is asked for and there is no file.

    None where the key is configured: then the user alone can change it.
    """
    if config.encryption_key is not None:
        return None
    path = key_file(config)
    return OsKeyring(path) if config.use_keyring and not path.exists() else KeyFile(path)


def origin(config: CacheConfig) -> str:
    """Say where the key comes from."""
    keeper = key_keeper(config)
    return f"encryption_key or {KEY_VARIABLE}" if keeper is None else keeper.origin


def kept_keys(config: CacheConfig) -> list[SecretStr]:
    """Return the keys where a process that starts now reads them, the sealing one first; none where there is none yet.

    Raises:
        CacheError: they cannot be read.
    """
    if config.encryption_key is not None:
        return [config.encryption_key]
    keeper = key_keeper(config)
    return [] if keeper is None else keeper.read()


def open_sealer(config: CacheConfig, tiers: Tiers, *, whole: bool = True) -> Sealer | None:
    """Find the keys and check them against what is stored; None for a cache in memory alone.

    With `whole` false there are other durable tiers, which cannot be read. They may need another key, so none is made:
    the answer is None if there is no key.

    Raises:
        DecryptionError: credentials are stored and a key that they need is missing.
        CacheError: the key cannot be read, or not be made.
    """
    durable = [tier for name, tier in tiers if name != "l1"]
    if not durable:
        return None
    keeper = key_keeper(config)
    kept = _matching(partial(kept_keys, config), config.previous_keys, durable, origin(config))
    if not kept and not whole:
        return None
    if keeper is not None and not kept:
        if keeper.create():
            _log.warning(
                "made an encryption key in %s: keep a copy, credentials cannot be read without it", keeper.origin
            )
        kept = keeper.read()
    sealer = Sealer(kept[0], [*kept[1:], *config.previous_keys], reread=None if keeper is None else keeper.read)
    notes = [noted(tier) for tier in durable]
    for tier, its in zip(durable, notes, strict=True):
        if not its:  # the note was lost with the tier's file
            leave_notes(tier, set().union(*notes))
    return sealer


def leave_notes(tier: Tier, checks: Iterable[str]) -> None:
    """Note that something in a tier may be sealed with these keys."""
    for check in checks:
        tier.set_meta(NOTE + check, check)


def noted(tier: Tier) -> set[str]:
    """Return the fingerprints of the keys that something in a tier may be sealed with."""
    return {name.removeprefix(NOTE) for name in tier.metas(NOTE)}


def forget(tier: Tier, check: str) -> None:
    """Take the note of a key away."""
    tier.set_meta(NOTE + check, None)


def tokens_by_key(tier: Tier) -> dict[str, int]:
    """Count the entries with credentials by the fingerprint that sealed them, reading all; decrypts nothing."""
    counts: dict[str, int] = {}
    for page in pages(lambda after: tier.scan(after, PAGE)):
        for record in page:
            if record.sealed is not None:
                check = sealed_with(record.sealed)
                counts[check] = counts.get(check, 0) + 1
    return counts


class KeyNotes:
    """The notes of the key that seals in this process."""

    def __init__(self, sealer: Sealer, authority: Callable[[], Tier]) -> None:
        self._sealer = sealer
        self._authority = authority
        self._prepared = ""

    def prepare(self, each_durable: Callable[[Callable[[Tier], bool]], bool]) -> None:
        """Leave the note in each durable tier, where it is not there yet: before a transaction that seals.

        `each_durable` does something to each of them and tells whether all answered True.

        Raises:
            DecryptionError: another process has sealed with a key that is unknown here.
        """
        if self._prepared == self._sealer.key_check:
            return
        unknown: set[str] = set()

        def note(tier: Tier) -> bool:
            unknown.update(self._note(tier))
            return not unknown

        if each_durable(note):
            self._prepared = self._sealer.key_check
        if unknown:
            raise _another_key(CONFIGURATION, unknown)

    def _note(self, tier: Tier) -> set[str]:
        """Leave the note in a tier, unless there are notes of unknown keys; return these."""
        while (check := self._sealer.key_check) not in (there := noted(tier)):
            if self._sealer.reload():
                continue
            if unknown := there - self._sealer.known:
                return unknown
            leave_notes(tier, [check])
            if self._sealer.reload():  # a rotation that began meanwhile has not seen this note
                forget(tier, check)
        return set()

    def guard(self, decide: Decision) -> Decision:
        """Return a decision, for a transaction of the authority, that seals only with a key that has its note then.

        Raises, when it runs:
            DecryptionError: the key was changed, and the new one cannot be found by this process.
        """

        def guarded(present: Mapping[str, Record]) -> Batch:
            if not self._is_noted(self._sealer.key_check):
                self._sealer.reload()
                check = next(filter(self._is_noted, self._sealer.kept), None)  # the first of a new rotation is not yet
                if check is None:
                    raise _another_key(CONFIGURATION, noted(self._authority()) - self._sealer.known)
                self._sealer.seal_with(check)
            return decide(present)

        return guarded

    def _is_noted(self, check: str) -> bool:
        return self._authority().get_meta(NOTE + check) is not None


def _matching(
    read: Callable[[], list[SecretStr]], previous: list[SecretStr], durable: list[Tier], place: str
) -> list[SecretStr]:
    """Return the stored keys, if they and the previous ones are all that is needed."""
    kept = read()
    while True:
        known = {fingerprint(key) for key in (*kept, *previous)}
        in_doubt = any(_is_salvaged(tier) for tier in durable)
        unknown = {check for tier in durable for check in noted(tier)} - known
        if not unknown and not in_doubt:
            return kept
        again = read()
        if again == kept:
            break
        kept = again
    sealed = [(tier, set(tokens_by_key(tier)) - {""}) for tier in durable]
    needed = {check for _, checks in sealed for check in checks} - known
    if needed:
        raise _another_key(place, needed) if kept else _missing_key(place, needed)
    for tier, checks in sealed:
        for check in unknown:  # nothing is sealed with them, or damage made their names
            forget(tier, check)
        leave_notes(tier, checks)
        if _is_salvaged(tier):
            tier.set_meta(SALVAGED, None)
    return kept


def _is_salvaged(tier: Tier) -> bool:
    """Whether notes of a tier may have been lost with a damaged file, so that its records are to be asked."""
    return tier.get_meta(SALVAGED) is not None


def _missing_key(place: str, needed: set[str]) -> DecryptionError:
    return DecryptionError(
        f"credentials are stored and there is no key: restore {place}, or set {KEY_VARIABLE} to the key that sealed "
        f"them (its fingerprint is {', '.join(sorted(needed))})"
    )


def _another_key(place: str, needed: set[str]) -> DecryptionError:
    return DecryptionError(
        f"the stored credentials were sealed with another key than the one from {place}: set {KEY_VARIABLE} to the key "
        f"that sealed them (its fingerprint is {', '.join(sorted(needed))}), or {PREVIOUS_VARIABLE}, which only reads"
    )


def examine_keys(config: CacheConfig) -> tuple[set[str], list[Finding]]:
    """Read the keys where a process that starts now would; return their fingerprints, and what is wrong with them."""
    try:
        kept = kept_keys(config)
    except CacheError as exc:
        return set(), [Finding("key", str(exc), f"restore it, or set {KEY_VARIABLE}")]
    checks = {fingerprint(key) for key in (*kept, *config.previous_keys)}
    if len(kept) < 2 or _is_changing(config):  # noqa: PLR2004  # the old one, and the new one
        return checks, []
    what = "a change of the key was begun and is not at its end"
    return checks, [Finding("key", what, "run `proxywhirl keys rotate`: it goes on where it ended")]


def missing_keys(config: CacheConfig, known: Collection[str], seals: Mapping[str, int]) -> Iterator[Finding]:
    """Name keys by which credentials are sealed and that a process that starts now would not find."""
    for check, count in sorted(seals.items()):
        if check and check not in known:
            what = f"the key {check}, which sealed {count} of the stored credentials, is not in {origin(config)}"
            yield Finding("key", what, f"restore it, or set {KEY_VARIABLE} or {PREVIOUS_VARIABLE} to it")


def _is_changing(config: CacheConfig) -> bool:
    """Whether a process is changing the key right now."""
    try:
        with exclusively(key_file(config)):
            return False
    except CacheError:
        return True
