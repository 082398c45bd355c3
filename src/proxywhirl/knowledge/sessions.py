"""Which proxy each session has, written down for all processes on a home.

A session stands under its id, which is no name: that may be somebody's address. Whether a session has ended is for the
pool to judge; what was not used for `LIFE_SECONDS` is forgotten here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from proxywhirl.clock import Clock
from proxywhirl.knowledge.format import session_of, session_text
from proxywhirl.rotation.affinity.ledger import Assignment
from proxywhirl.state.records import Perishable
from proxywhirl.state.store import Store

KIND = "session"
LIFE_SECONDS = 7 * 86_400.0
TOLD_FOR_SECONDS = 3600.0
"""For how long it stays written down that a session was ended, for those who look rarely."""


class Sessions:
    """The proxies of sessions, by their ids. Thread-safe; each call is one transaction.

    Raises:
        TierError: the store cannot be read or written (from every method).
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def assign(self, session: str, propose: Callable[[Assignment | None], Assignment]) -> Assignment:
        """Write down what `propose` makes of what is written down, and return it; an exception changes nothing."""
        made: Assignment | None = None

        def assigned(held: Mapping[str, str]) -> dict[str, str | Perishable | None]:
            nonlocal made
            known = _session(held.get(session))
            made = propose(known)
            return {} if made == known else {session: _record(made)}

        self._store.update(KIND, [session], assigned)
        if made is None:
            raise RuntimeError("a store ended a change that it did not make")
        return made

    def get(self, session: str) -> Assignment | None:
        """Return what is written down of a session."""
        return _session(self._store.get_many(KIND, [session]).get(session))

    def restore(self, unsaved: Mapping[str, Assignment]) -> None:
        """Write down what was assigned while the store was sick.

        What others wrote there meanwhile stands, unless the session has had more proxies here.
        """

        def restored(held: Mapping[str, str]) -> dict[str, str | Perishable | None]:
            known = {session: _session(held.get(session)) for session in unsaved}
            return {
                session: _record(assignment)
                for session, assignment in unsaved.items()
                if (there := known[session]) is None or there.moves < assignment.moves
            }

        self._store.update(KIND, unsaved, restored)

    def touch(self, uses: Mapping[str, float]) -> None:
        """Note when sessions were last used (Unix seconds); those that have ended stay so."""

        def used(held: Mapping[str, str]) -> dict[str, str | Perishable | None]:
            touched: dict[str, str | Perishable | None] = {}
            for session, text in held.items():
                known = _session(text)
                if known is not None and known.used < uses[session]:
                    touched[session] = _record(
                        Assignment(known.key, known.since, uses[session], known.moves),
                    )
            return touched

        self._store.update(KIND, uses, used)

    def end(self, sessions: Iterable[str]) -> set[str]:
        """End sessions; return those that there were."""
        ended: set[str] = set()
        now = self._clock.now()

        def over(held: Mapping[str, str]) -> dict[str, str | Perishable | None]:
            ended.clear()
            ended.update(session for session, text in held.items() if _session(text) is not None)
            return {session: Perishable(session_text(None), now + TOLD_FOR_SECONDS) for session in ended}

        self._store.update(KIND, list(sessions), over)
        return ended

    def all(self) -> dict[str, Assignment]:
        """Return every session that is written down and was not ended."""
        sessions = {session: _session(text) for session, text in self._store.lasting(KIND, self._clock.now()).items()}
        return {session: known for session, known in sessions.items() if known is not None}


def _record(assignment: Assignment) -> Perishable:
    return Perishable(session_text(assignment), assignment.used + LIFE_SECONDS)


def _session(text: str | None) -> Assignment | None:
    """Return a session; one that cannot be read is none, and gets a proxy anew."""
    try:
        return session_of(text) if text is not None else None
    except ValueError:
        return None
