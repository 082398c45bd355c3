"""The entry mapping: records become `CacheEntry` values and back; credentials are sealed and decrypted.

Only a rotation decrypts and seals by itself (`keys.rekey`).
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, SecretStr

from proxywhirl import urls
from proxywhirl.cache.keys.sealing import LazyPassword, LazyUsername, Sealer
from proxywhirl.cache.models import NEVER, WITHHELD, CacheEntry
from proxywhirl.cache.record import (
    NEVER_TIMESTAMP,
    UNREADABLE,
    Credentials,
    Record,
    UnsoundError,
    check_storable,
    decode_attributes,
    encode_attributes,
)
from proxywhirl.errors import CacheError, DecryptionError
from proxywhirl.models import Attributes, HealthStatus
from proxywhirl.urls import ProxyURL
from proxywhirl.validation import require

_STATUSES = {status.value: status for status in HealthStatus}
_ALL_FIELDS = set(CacheEntry.model_fields)  # one set for all snapshots: assigning a field adds nothing to it
_SNAPSHOTS_KEPT = 4_096
MOMENT_SECONDS = 0.001

_new_entry = CacheEntry.__new__
_new_username = LazyUsername.__new__
_new_password = LazyPassword.__new__
_set_dict = BaseModel.__dict__["__dict__"].__set__
_set_fields = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_set_extra = BaseModel.__dict__["__pydantic_extra__"].__set__
_set_private = BaseModel.__dict__["__pydantic_private__"].__set__
_from_timestamp = datetime.fromtimestamp
_BEGINNING = datetime.fromtimestamp(0.0, UTC)

_UNCHECKED: dict[str, Any] = {
    **dict(CacheEntry(key="-", proxy_url="http://192.0.2.1:80", source="-", fetch_time=_BEGINNING, ttl_seconds=0)),
    "expires_at": NEVER,
}
_KINDS: dict[str, tuple[type, ...]] = {
    **{name: (type(value),) for name, value in _UNCHECKED.items()},
    **dict.fromkeys(("username", "password"), (type(None), SecretStr, LazyUsername, LazyPassword)),
    **dict.fromkeys(("last_health_check", "next_check_time"), (type(None), datetime)),
    "last_health_error": (type(None), str),
}
_NO_CREDENTIALS: Credentials = (None, None)


class EntryMapping:
    """Turns records into entries and back, with the sealer of the cache (None: a cache in memory alone).

    `renew` returns the record that is stored under a key now. `refusal` says why credentials cannot be sealed, if so.

    Records were validated when they came in, so an entry is made without validating it again: its values are copied
    from a template that hot records keep. A damaged record that makes no sense is an `UnsoundError`.
    """

    def __init__(self, sealer: Sealer | None) -> None:
        self._sealer = sealer
        self.refusal: str | None = None
        self.renew: Callable[[str], Record | None] = _nothing_stored
        self._reveal = self.credentials
        self._templates: deque[Record] = deque()
        self._moment = (0.0, _BEGINNING)

    def entry(self, record: Record) -> CacheEntry:
        """Return a snapshot of a record. Credentials are decrypted when they are first read."""
        try:
            return _entry_of(self._values(record, _moment(record.accessed_at)))
        except UNREADABLE as exc:
            raise UnsoundError(record.key) from exc

    def used(self, record: Record, now: float, *, evicted_from_l1: bool) -> CacheEntry:
        """Return a snapshot of a record that is used now, to the millisecond."""
        since, moment = self._moment
        if not 0.0 <= now - since < MOMENT_SECONDS:
            since, moment = self._moment = (now, _from_timestamp(now, UTC))
        record.accessed_at = since
        try:
            values = self._values(record, moment)
        except UNREADABLE as exc:
            raise UnsoundError(record.key) from exc
        if evicted_from_l1:
            values["evicted_from_l1"] = True
        return _entry_of(values)

    def used_many(
        self, records: Iterable[Record], now: float, *, evicted_from_l1: Collection[str]
    ) -> dict[str, CacheEntry]:
        """Do as `used` for several records, those of some keys being back in L1; return the snapshots by key."""
        self._moment = since, moment = now, _from_timestamp(now, UTC)
        entries: dict[str, CacheEntry] = {}
        key = ""
        try:  # around all of them: sound records cost no check
            for record in records:
                key = record.key
                record.accessed_at = since
                values = self._values(record, moment)
                if key in evicted_from_l1:
                    values["evicted_from_l1"] = True
                entries[key] = _entry_of(values)
        except UNREADABLE as exc:
            raise UnsoundError(key) from exc
        return entries

    def snapshot(self, record: Record, now: float) -> CacheEntry:
        """Return a snapshot of a record in L1 that is used now, to the millisecond, and is likely to be used again."""
        since, moment = self._moment
        if not 0.0 <= now - since < MOMENT_SECONDS:  # making a datetime costs more than the rest
            since, moment = self._moment = (now, _from_timestamp(now, UTC))
        record.accessed_at = since
        values = (record.snapshot or self._keep(record)).copy()
        values["access_count"] = record.access_count
        values["last_accessed"] = moment
        entry = _new_entry(CacheEntry)
        _set_dict(entry, values)
        _set_fields(entry, _ALL_FIELDS)
        _set_extra(entry, None)
        _set_private(entry, None)
        return entry

    def _keep(self, record: Record) -> dict[str, Any]:
        """Make the template of a record; the oldest one of all goes for it where there are many."""
        try:
            record.snapshot = template = self._values(record, _BEGINNING)
        except UNREADABLE as exc:
            raise UnsoundError(record.key) from exc
        self._templates.append(record)
        if len(self._templates) > _SNAPSHOTS_KEPT:
            with contextlib.suppress(IndexError):  # other threads keep and let go as well
                self._templates.popleft().snapshot = None
        return template

    def _values(self, record: Record, last_accessed: datetime) -> dict[str, Any]:
        values = _UNCHECKED.copy()  # and a field at a time: a display of all of them takes twice as long
        values["key"] = record.key
        values["proxy_url"] = record.url
        plain, sealed = record.plain, record.sealed
        if plain is not None:
            values["username"], values["password"] = _secret(plain[0]), _secret(plain[1])
        elif sealed is not None:
            if sealed[:1] == "u":
                values["username"] = username = _new_username(LazyUsername)  # `__init__` would be half the cost
                username.reveal, username.record = self._reveal, record
            if "p" in sealed[:2]:
                values["password"] = password = _new_password(LazyPassword)
                password.reveal, password.record = self._reveal, record
        values["source"] = record.source
        values["fetch_time"] = _shared_moment(record.fetched_at)
        values["ttl_seconds"] = record.ttl
        values["last_accessed"] = last_accessed
        if record.expires_at < NEVER_TIMESTAMP:
            values["expires_at"] = _shared_moment(record.expires_at)
        values["access_count"] = record.access_count
        if record.attributes:
            values["attributes"] = decode_attributes(record.attributes)
        if (
            record.checks
            or record.failure_count
            or record.check_failures
            or record.check_successes
            or record.failed_checks
            or record.recovery_attempt
            or record.status != "unknown"
            or record.last_check_at is not None
            or record.next_check_at is not None
            or record.error is not None
        ):
            self._add_health(record, values)
        return values

    @staticmethod
    def _add_health(record: Record, values: dict[str, Any]) -> None:
        checked, due = record.last_check_at, record.next_check_at
        values["health_status"] = _STATUSES[record.status]
        values["failure_count"] = record.failure_count
        values["last_health_check"] = None if checked is None else _moment(checked)
        values["consecutive_health_failures"] = record.check_failures
        values["consecutive_health_successes"] = record.check_successes
        values["recovery_attempt"] = record.recovery_attempt
        values["next_check_time"] = None if due is None else _moment(due)
        values["last_health_error"] = record.error
        values["total_health_checks"] = record.checks
        values["total_health_check_failures"] = record.failed_checks

    def record(self, entry: CacheEntry) -> Record:
        """Return the record of an entry that a caller made or changed.

        It is validated again unless it is plainly unchanged.

        Raises:
            TypeError, ValueError: it would not pass its model's validation, or no tier could hold it: see
                `check_storable`.
        """
        entry = _validated(entry)
        username, password = entry.username, entry.password
        plain = None
        if username is not None or password is not None:
            plain = (text_of("username", username), text_of("password", password))
        checked, due = entry.last_health_check, entry.next_check_time
        record = Record(  # by place: of so many, names cost as much as the rest
            entry.key,
            entry.proxy_url,
            entry.source,
            min(entry.fetch_time.timestamp(), NEVER_TIMESTAMP),  # a float rounds the last microsecond of 9999 up
            entry.ttl_seconds,
            min(entry.expires_at.timestamp(), NEVER_TIMESTAMP),
            min(entry.last_accessed.timestamp(), NEVER_TIMESTAMP),
            entry.access_count,
            entry.health_status.value,
            entry.failure_count,
            checked if checked is None else min(checked.timestamp(), NEVER_TIMESTAMP),
            entry.consecutive_health_failures,
            entry.consecutive_health_successes,
            entry.recovery_attempt,
            due if due is None else min(due.timestamp(), NEVER_TIMESTAMP),
            entry.last_health_error,
            entry.total_health_checks,
            entry.total_health_check_failures,
            encode_attributes(entry.attributes),
            plain=plain,
        )
        return check_storable(record)

    def newcomer(
        self, url: ProxyURL, *, source: str, ttl: float, now: float, attributes: Attributes | None = None
    ) -> Record:
        """Return the record of a proxy that is seen now and lives for `ttl` seconds (infinity: for ever).

        Raises:
            ProxyURLError: the URL is none.
            TypeError, ValueError: no tier could hold it: see `check_storable`.
        """
        if not urls.is_plain_canonical(url.canonical):  # a `ProxyURL` can be made by hand
            url = urls.parse(url.canonical).with_credential(url.username, url.password)
        expires_at = NEVER_TIMESTAMP if ttl >= NEVER_TIMESTAMP - now else now + ttl
        plain = None if url.username is None and url.password is None else (url.username, url.password)
        record = Record(
            url.key,
            url.canonical,
            source,
            now,
            int(expires_at - now),
            expires_at,
            now,
            attributes=encode_attributes(attributes) if attributes is not None else "",
            plain=plain,
        )
        return check_storable(record)

    def sealed(self, record: Record) -> Record:
        """Return the record with its credentials sealed, ready for a durable tier.

        Credentials of an earlier key are sealed again if they are at hand in the clear: they may have been sealed
        before the transaction that looked at the key.

        Raises:
            CacheError: there are credentials, and no key to seal them with.
        """
        if record.plain is not None and self.refusal is not None:
            raise CacheError(f"the credentials of entry {record.key} are not taken: {self.refusal}")
        if (
            self._sealer is not None
            and record.plain is not None
            and (record.sealed is None or not self._sealer.is_current(record.sealed))
        ):
            record.sealed = self._sealer.seal(record.key, record.plain)
        return record

    def seal_with(self, sealer: Sealer | None) -> None:
        """Use a key that was found or made later."""
        self._sealer, self.refusal = sealer, None

    def restored(self, record: Record, stored: Record | None) -> Record:
        """Return the record with the stored credentials in the place of those that were withheld from it.

        Raises:
            ValueError: there are none.
            DecryptionError: they cannot be read.
        """
        if not is_withheld(record):
            return record
        known = (self.credentials(stored) if stored is not None else None) or _NO_CREDENTIALS
        given = record.plain or _NO_CREDENTIALS
        username, password = (old if new == WITHHELD else new for new, old in zip(given, known, strict=True))
        for name, new, kept in zip(("username", "password"), given, (username, password), strict=True):
            if new == WITHHELD and kept is None:
                raise ValueError(
                    f"the {name} of entry {record.key} reads {WITHHELD!r}, which stands for one that was withheld, and "
                    "none is stored: give the real one, or None"
                )
        return replace(record, plain=(username, password), sealed=None)

    def credentials(self, record: Record) -> Credentials | None:
        """Return username and password in the clear, decrypting them once; None where there are none.

        Raises:
            DecryptionError: they were sealed with another key, or are damaged.
        """
        if record.plain is None and record.sealed is not None:
            if self._sealer is None:
                raise DecryptionError(f"entry {record.key} has sealed credentials and this cache has no key")
            try:
                record.plain = self._sealer.open(record.key, record.sealed)
            except DecryptionError:
                renewed = self.renew(record.key)  # the key was rotated since it was read, perhaps more than once
                if (
                    renewed is None
                    or renewed.generation != record.generation
                    or renewed.sealed is None
                    or renewed.sealed == record.sealed
                ):
                    raise
                record.plain, record.sealed = self._sealer.open(renewed.key, renewed.sealed), renewed.sealed
        return record.plain

    def password_changed(self, old: Record, new: Record) -> bool:
        """Whether a newcomer's credentials differ from the known ones; without a password it keeps the known one.

        A known credential that cannot be read differs from any.
        """
        username, password = self.credentials(new) or (None, None)
        try:
            known = self.credentials(old)
        except DecryptionError:
            return password is not None
        if known is not None and password is None:
            password = known[1]
        return known != (username, password)


def _entry_of(values: dict[str, Any]) -> CacheEntry:
    entry = _new_entry(CacheEntry)
    _set_dict(entry, values)
    _set_fields(entry, _ALL_FIELDS)
    _set_extra(entry, None)
    _set_private(entry, None)
    return entry


def is_withheld(record: Record) -> bool:
    """Whether a credential of an incoming record reads as one that was withheld, and so is none."""
    return record.plain is not None and WITHHELD in record.plain


def _validated(entry: CacheEntry) -> CacheEntry:
    """Return a validated entry; by kinds, time zones and a plain URL it is told whether it is valid already."""
    values = entry.__dict__
    if (
        _are_of_fields(tuple(values), tuple(map(type, values.values())))
        and values["key"]
        and urls.is_plain_canonical(values["proxy_url"])
        and values["fetch_time"].tzinfo is UTC
        and values["last_accessed"].tzinfo is UTC
        and values["expires_at"].tzinfo is UTC
        and ((checked := values["last_health_check"]) is None or checked.tzinfo is UTC)
        and ((due := values["next_check_time"]) is None or due.tzinfo is UTC)
    ):
        return entry
    return CacheEntry.model_validate({name: value for name, value in values.items() if name in _ALL_FIELDS})


@lru_cache(maxsize=1024)
def _are_of_fields(names: tuple[str, ...], kinds: tuple[type, ...]) -> bool:
    """Whether each field of an entry is there, with a value of a kind that needs no validation."""
    found = dict(zip(names, kinds, strict=True))
    return all(found.get(name) in allowed for name, allowed in _KINDS.items())


def _nothing_stored(key: str) -> Record | None:  # noqa: ARG001  # stands for the stack until there is one
    return None


def _secret(value: str | None) -> SecretStr | None:
    return None if value is None else SecretStr(value)


def text_of(name: str, secret: str | SecretStr | None) -> str | None:
    """Return the text of a credential that may be given as a secret.

    Raises:
        TypeError: it is none.
    """
    text = secret.get_secret_value() if isinstance(secret, SecretStr) else secret
    if text is not None and type(text) is not str:  # a `SecretStr` takes whatever it is given
        require(name, text, str, "a text, a SecretStr of one, or None")
    return text


def _moment(timestamp: float) -> datetime:
    return _from_timestamp(timestamp, UTC)


_shared_moment = lru_cache(maxsize=1024)(_moment)
"""For times that many entries share: the entries of a batch are fetched, and expire, together."""
