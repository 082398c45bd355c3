"""The policy SIEVE: a queue, a hand, and a mark for what was used."""

from __future__ import annotations

from proxywhirl.cache.order import EvictionOrder, nothing_to_evict

__all__ = ["Sieve"]


class _Place:
    """A key's place in the queue of `Sieve`, and whether the key was used since the hand was here."""

    __slots__ = ("key", "newer", "older", "used")

    def __init__(self, key: str) -> None:
        self.key = key
        self.used = False
        self.older = self.newer = self


class Sieve(EvictionOrder):
    """The oldest key that was not used since the hand last passed it goes first.

    SIEVE (Zhang et al., NSDI 2024): a queue in the order of first writes and a hand that moves from the
    oldest key to the newest and begins anew behind it. A use only marks its key; the hand spares a marked
    key and takes the mark away. A key that is never used again leaves soon, so that a scan does not wash out
    what is in use.

    The places form a ring, closed by one without a key: its `newer` is the oldest key, its `older` the newest.
    The hand stands on the place that is looked at next. Only `victim` moves it, at most once around: amortised
    one step for each use, however busily other threads set marks meanwhile.
    """

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}
        self._end = self._hand = _Place("")

    def add(self, key: str) -> None:
        """See `EvictionOrder`."""
        known = self._places.get(key)
        if known is not None:
            known.used = True
            return
        self._places[key] = place = _Place(key)
        end = self._end
        place.newer, place.older = end, end.older
        end.older.newer = end.older = place

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def touch(self, key: str) -> None:
        """See `EvictionOrder`. A mark on a place that another thread takes out just now changes nothing."""
        place = self._places.get(key)
        if place is not None:
            place.used = True

    def settle(self, key: str, uses: int, used_at: float) -> None:
        """See `EvictionOrder`: that there was a use is all that counts."""

    def discard(self, key: str) -> None:
        """See `EvictionOrder`."""
        place = self._places.pop(key, None)
        if place is None:
            return
        if self._hand is place:
            self._hand = place.newer
        place.older.newer, place.newer.older = place.newer, place.older

    def victim(self) -> str:
        """See `EvictionOrder`."""
        if not self._places:
            return nothing_to_evict()
        place = self._hand if self._hand is not self._end else self._end.newer
        for _ in range(len(self._places)):
            if not place.used:
                break
            place.used = False
            place = place.newer if place.newer is not self._end else self._end.newer
        self._hand = place
        return place.key
