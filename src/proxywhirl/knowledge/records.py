"""Bans, sites, sessions and holds as they are written down for all processes on a home.

=======  =======================  ====================================  ================================
kind     key                      value                                 when it may be deleted
=======  =======================  ====================================  ================================
ban      proxy ``@`` site         [until, strikes, rule, forget_at,     at `forget_at`
                                  since]; older ones without `since`
site     its name, or ``*``       [limit, lengths, used, {process:      7 days after it was used
                                  [seen, rate, part, uses]}]
session  its id                   [proxy, since, used, moves]           7 days after it was used
hold     proxy                    [token, until]                        an hour after `until`
hold     ``""``                   the last token                        never
=======  =======================  ====================================  ================================

An ended record stays for an hour, for processes that look rarely: a ban whose end has passed, ``null`` for a session,
a hold until 0. Values are short JSON; times are Unix seconds.

Each method of a class is one transaction. The functions raise `ValueError` for a text that cannot be read. The classes
take it for no record: a ban is found out again, a session gets a proxy anew, and a hold is over (the token keeps its
holder out).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar
from urllib.parse import quote, unquote

from proxywhirl.clock import Clock
from proxywhirl.rotation.affinity.ledger import Assignment
from proxywhirl.rotation.sites.bans import Ban, Pair
from proxywhirl.rotation.sites.sharing import Numbers, SiteRecord, SiteUser, Use
from proxywhirl.rotation.sites.sharing import merged as merged_site
from proxywhirl.state.store import Perishable, Store
from proxywhirl.validation import FIRST_MOMENT, LAST_MOMENT

BANS, SITES, SESSIONS, HOLDS = "ban", "site", "session", "hold"
LAST_TOKEN = ""
"""The key under which the last token stands; no proxy has it."""

BATCH = 5_000
"""How many bans are written in one transaction; other processes wait for it."""

LIFTED = "lifted"
"""The rule of a ban that a person lifted."""

LIFE_SECONDS = 7 * 86_400.0
"""A session, or what is known of a site, that was not used for so long is forgotten.

Whether a session has ended is for the pool to judge.
"""

TOLD_FOR_SECONDS = 3600.0
_ENDED = "null"
_PLAIN = re.compile(r"[A-Za-z0-9._:\[\]*-]*")  # nearly all texts are plain: quoting would take longer than all the rest
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)

T = TypeVar("T")
_Changed = dict[str, str | Perishable | None]


class _Records:
    """Records of one kind. Thread-safe.

    Raises:
        TierError: the store cannot be read or written (from every method).
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock


class BanRecords(_Records):
    """The bans of proxies by sites."""

    def save(self, bans: Mapping[Pair, Ban], lifted: Iterable[Pair]) -> dict[str, str]:
        """Write bans down, merged with those of others; the ones of `lifted` replace them.

        Returns the texts, by key, of those that others had no part in.
        """
        now = self._clock.now()
        overruling = {ban_key(pair) for pair in lifted}
        new = {ban_key(pair): ban for pair, ban in bans.items()}
        written: dict[str, str] = {}

        def saved(held: Mapping[str, str]) -> _Changed:
            written.clear()
            records: _Changed = {}
            for key, ban in new.items():
                if key in overruling:
                    stands, ends = ban, max(ban.forget_at, now + TOLD_FOR_SECONDS)
                else:
                    stands = merged(_read(ban_of, held.get(key)), ban, now)
                    ends = stands.forget_at
                text = ban_text(stands)
                if stands == ban:
                    written[key] = text
                records[key] = Perishable(text, ends)
            return records

        self._store.update(BANS, new, saved)
        return written

    def lasting(self) -> dict[Pair, Ban]:
        """Return the bans that hold now."""
        now = self._clock.now()
        found: dict[Pair, Ban] = {}
        for key, text in self._store.lasting(BANS, now).items():
            ban = _read(ban_of, text)
            if ban is not None and ban.until > now and "@" in key:
                found[pair_of(key)] = ban
        return found

    def lift(self, pairs: Iterable[Pair]) -> None:
        """Lift bans: each is replaced by one that is over, and is no strike. A transaction for each `BATCH`."""
        now = self._clock.now()
        over = Ban(until=now, strikes=0, rule=LIFTED, forget_at=now + TOLD_FOR_SECONDS)
        chosen = list(pairs)
        for begin in range(0, len(chosen), BATCH):
            bans = dict.fromkeys(chosen[begin : begin + BATCH], over)
            self.save(bans, bans)

    def forget(self, keys: Iterable[str]) -> None:
        """Lift the bans of proxies that are gone: another process may have them in memory, and one may come back."""
        self.lift(pair_of(key) for key in self._store.below(BANS, map(bans_of, keys)))


class SiteRecords(_Records):
    """What is known of sites as a whole, and which processes use them."""

    def save(self, sites: Mapping[str, SiteRecord]) -> None:
        """Write down what a process has to tell, merged with what others did."""
        now, told = self._clock.now(), {_quoted(site): record for site, record in sites.items()}

        def saved(held: Mapping[str, str]) -> _Changed:
            known = {key: merged_site(_read(site_of, held.get(key)), record, now) for key, record in told.items()}
            return {key: Perishable(site_text(record), record.used + LIFE_SECONDS) for key, record in known.items()}

        self._store.update(SITES, told, saved)


class SessionRecords(_Records):
    """The proxies of sessions, by their ids. An id is no name, which may be a person's address."""

    def assign(self, session: str, propose: Callable[[Assignment | None], Assignment]) -> Assignment:
        """Write down what `propose` makes of the stored assignment, and return it; an exception changes nothing."""
        made: Assignment | None = None

        def assigned(held: Mapping[str, str]) -> _Changed:
            nonlocal made
            known = _read(session_of, held.get(session))
            made = propose(known)
            return {} if made == known else {session: _lasting(made)}

        self._store.update(SESSIONS, [session], assigned)
        if made is None:
            raise RuntimeError("a store ended a change that it did not make")
        return made

    def get(self, session: str) -> Assignment | None:
        """Return what is written down of a session."""
        return _read(session_of, self._store.get_many(SESSIONS, [session]).get(session))

    def restore(self, unsaved: Mapping[str, Assignment]) -> None:
        """Write down what was assigned while the store was sick.

        Assignments that others wrote meanwhile stand, unless the session has had more proxies here.
        """

        def restored(held: Mapping[str, str]) -> _Changed:
            known = {session: _read(session_of, text) for session, text in held.items()}
            return {
                session: _lasting(assignment)
                for session, assignment in unsaved.items()
                if (there := known.get(session)) is None or there.moves < assignment.moves
            }

        self._store.update(SESSIONS, unsaved, restored)

    def touch(self, uses: Mapping[str, float], known: Mapping[str, Assignment]) -> None:
        """Note when sessions were last used (Unix seconds); those that have ended stay so.

        One of which the store has lost the record, with a file that was damaged, is written again as it is `known`.
        """

        def used(held: Mapping[str, str]) -> _Changed:
            touched: _Changed = {}
            for session, use in uses.items():
                there = _read(session_of, held[session]) if session in held else known.get(session)
                if there is not None and (session not in held or there.used < use):
                    touched[session] = _lasting(replace(there, used=use))
            return touched

        self._store.update(SESSIONS, uses, used)

    def end(self, session: str) -> bool:
        """End a session; return whether there was one."""
        ends = self._clock.now() + TOLD_FOR_SECONDS

        def over(held: Mapping[str, str]) -> _Changed:
            there = _read(session_of, held.get(session)) is not None
            return {session: Perishable(session_text(None), ends)} if there else {}

        return bool(self._store.update(SESSIONS, [session], over))

    def all(self) -> dict[str, Assignment]:
        """Return every session that is written down and was not ended."""
        texts = self._store.lasting(SESSIONS, self._clock.now())
        sessions = {session: _read(session_of, text) for session, text in texts.items()}
        return {session: known for session, known in sessions.items() if known is not None}


class HoldRecords(_Records):
    """Who holds which proxy: one at a time, among all processes that share a store.

    The token of a hold is greater than every one before it. It is the time in microseconds, or one more than the last
    one where that is not less: so it grows even where the file with the last one was lost.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        super().__init__(store, clock)
        self._mine: dict[str, int] = {}

    def hold(self, key: str, *, now: float, until: float) -> int | None:
        """See `Ledger`."""

        def taken(held: Mapping[str, str]) -> _Changed:
            last, end = _read(hold_of, held.get(key)) or (0, 0.0)
            if end > now:
                return {}
            counted = held.get(LAST_TOKEN, "")
            spent = int(counted) if counted.isascii() and counted.isdigit() else 0
            token = max(spent + 1, last + 1, int(now * 1e6))
            return {LAST_TOKEN: str(token), key: Perishable(hold_text(token, until), until + TOLD_FOR_SECONDS)}

        written = self._store.update(HOLDS, [LAST_TOKEN, key], taken)
        if not written:
            return None
        token = self._mine[key] = int(str(written[LAST_TOKEN]))
        return token

    def is_mine(self, key: str, token: int) -> bool:
        """Whether the last hold of a proxy that was given here has this token."""
        return self._mine.get(key) == token

    def extend(self, key: str, token: int, *, now: float, until: float) -> bool:
        """See `Ledger`."""
        return self._set(key, token, until, held_after=now, ends=until + TOLD_FOR_SECONDS)

    def free(self, key: str, token: int) -> None:
        """See `Ledger`."""
        self._set(key, token, 0.0, held_after=0.0, ends=self._clock.now() + TOLD_FOR_SECONDS)

    def _set(self, key: str, token: int, until: float, *, held_after: float, ends: float) -> bool:
        """Change the end of a hold that has this token and lasts beyond a moment; return whether there was one."""

        def changed(held: Mapping[str, str]) -> _Changed:
            holder, end = _read(hold_of, held.get(key)) or (0, 0.0)
            found = holder == token and end > held_after
            return {key: Perishable(hold_text(token, until), ends)} if found else {}

        return bool(self._store.update(HOLDS, [key], changed))


def merged(known: Ban | None, new: Ban, now: float) -> Ban:
    """Merge two bans of one pair: the later end, and the more strikes.

    >>> merged(Ban(90.0, 3, "a", 200.0), Ban(99.0, 1, "b", 150.0), now=50.0)
    Ban(until=99.0, strikes=3, rule='b', forget_at=200.0, since=0.0)
    """
    if known is None or known.forget_at <= now:
        return new
    later = known if known.until > new.until else new
    return replace(later, strikes=max(known.strikes, new.strikes), forget_at=max(known.forget_at, new.forget_at))


def bans_of(key: str) -> str:
    """Return the prefix of the keys of a proxy's bans.

    >>> bans_of("6b41c3")
    '6b41c3@'
    """
    return _quoted(key) + "@"


def ban_key(pair: Pair) -> str:
    """Return the key of a ban. What parts proxy and site is in neither of them.

    >>> ban_key(("6b41c3", "[2001:db8::1]:8080"))
    '6b41c3@[2001:db8::1]:8080'
    """
    key, site = pair
    return bans_of(key) + _quoted(site)


def pair_of(text: str) -> Pair:
    """Return proxy and site of the key of a ban."""
    key, parted, site = text.partition("@")
    if not parted:
        raise ValueError("the key of a ban names no site")
    if "%" not in text:
        return key, site
    return unquote(key, errors="surrogatepass"), unquote(site, errors="surrogatepass")


def ban_text(ban: Ban) -> str:
    """Return the text of a ban; JSON has no infinity for one that is for ever."""
    row = (min(ban.until, LAST_MOMENT), ban.strikes, ban.rule, min(ban.forget_at, LAST_MOMENT))
    return _ENCODER.encode((*row, ban.since) if ban.since else row)


def ban_of(text: str) -> Ban:
    """Return the ban of a text."""
    until, strikes, rule, forget_at, *since = _row(text, 4, 5)
    if not isinstance(rule, str):
        raise ValueError("the rule of a ban is no text")  # noqa: TRY004  # the value is wrong, not the caller
    return Ban(_seconds(until), _number(strikes), rule, _seconds(forget_at), *map(_seconds, since))


def site_name(key: str) -> str:
    """Return the site of a key."""
    return unquote(key, errors="surrogatepass") if "%" in key else key


def site_text(record: SiteRecord) -> str:
    """Return the text of what is known of a site."""
    users = {name: (user.seen, user.rate, user.part, user.uses) for name, user in record.users.items()}
    return _ENCODER.encode((record.limit, record.lengths, record.used, users))


def site_of(text: str) -> SiteRecord:
    """Return what is known of a site by its text."""
    limit, lengths, used, users = _row(text, 4)
    if not isinstance(users, dict):
        raise ValueError("the users of a site are no table")  # noqa: TRY004  # the value is wrong, not the caller
    return SiteRecord(
        _numbers(limit), _numbers(lengths), _seconds(used), {name: _user(row) for name, row in users.items()}
    )


def _user(row: object) -> SiteUser:
    seen, rate, part, uses = _of_length(row, 4)
    return SiteUser(_seconds(seen), tuple(map(_use, _of_length(uses))), *_numbers([rate, part]))


def _use(row: object) -> Use:
    key, at, refused = _of_length(row, 3)
    return str(key), _seconds(at), bool(refused)


def _numbers(row: object) -> Numbers:
    values = _of_length(row)
    numbers = tuple(float(value) for value in values if isinstance(value, int | float) and math.isfinite(value))
    if len(numbers) < len(values):
        raise ValueError("not a row of numbers")
    return numbers


def session_text(assignment: Assignment | None) -> str:
    """Return the text of a session, None for one that was ended."""
    if assignment is None:
        return _ENDED
    return _ENCODER.encode((assignment.key, assignment.since, assignment.used, assignment.moves))


def session_of(text: str) -> Assignment | None:
    """Return the session of a text."""
    if text == _ENDED:
        return None
    key, since, used, moves = _row(text, 4)
    if not isinstance(key, str):
        raise ValueError("the proxy of a session is no text")  # noqa: TRY004  # the value is wrong, not the caller
    return Assignment(key, _seconds(since), _seconds(used), _number(moves))


def hold_text(token: int, until: float) -> str:
    """Return the text of a hold."""
    return _ENCODER.encode((token, until))


def hold_of(text: str) -> tuple[int, float]:
    """Return the token of a hold and its end."""
    token, until = _row(text, 2)
    return _number(token), _seconds(until)


def _lasting(assignment: Assignment) -> Perishable:
    return Perishable(session_text(assignment), assignment.used + LIFE_SECONDS)


def _read(decode: Callable[[str], T | None], text: str | None) -> T | None:
    """Return what a text says; None where there is none, or it cannot be read."""
    try:
        return None if text is None else decode(text)
    except ValueError:
        return None


def _quoted(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else quote(text, safe=":[]*", errors="surrogatepass")


def _row(text: str, *lengths: int) -> list[object]:
    try:
        row = json.loads(text)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc
    return _of_length(row, *lengths)


def _of_length(row: object, *lengths: int) -> list[object]:
    if not isinstance(row, list) or (lengths and len(row) not in lengths):
        raise ValueError(f"not a row of {lengths[0] if lengths else 'any number of'} fields")
    return row


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not FIRST_MOMENT <= value <= LAST_MOMENT:
        raise ValueError("a moment is no number of seconds, or out of all time")
    return float(value)


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a count is no whole number")  # noqa: TRY004  # the value is wrong, not the caller
    return value
