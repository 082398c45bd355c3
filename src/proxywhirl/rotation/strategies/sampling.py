"""Keys to draw from evenly: draw, put in, take out, each in O(1). Pure."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Collection

from proxywhirl.rotation.strategies.base import Barred, admitted

_LEAST_DRAWS = 32
_KEYS_FOR_A_DRAW = 16
_MOST_SEEN = 1024


def draws_worth(count: int) -> int:
    """Return how often to draw from so many keys before those that are admitted are counted out.

    Where one in p is admitted p draws find it: to look at all keys pays only where hardly anyone is.

    >>> draws_worth(100), draws_worth(100_000)
    (32, 6250)
    """
    return max(_LEAST_DRAWS, count // _KEYS_FOR_A_DRAW)


class Sampler:
    """Keys, each with the same chance. `keys` is in no order, `places` says where each is; they are only read."""

    __slots__ = ("_random", "keys", "places")

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random
        self.keys: list[str] = []
        self.places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, keys: Collection[str]) -> None:
        """Put keys in; one that is in has its chance already."""
        if not self.places.keys().isdisjoint(keys):
            keys = [key for key in keys if key not in self.places]
        self.places.update(zip(keys, range(len(self.keys), len(self.keys) + len(keys)), strict=True))
        self.keys.extend(keys)

    def put(self, key: str) -> None:
        """Put one key in that is not in."""
        self.places[key] = len(self.keys)
        self.keys.append(key)

    def remove(self, key: str) -> bool:
        """Take a key out, and tell whether it was in; the last one of the list fills its place."""
        place = self.places.pop(key, None)
        if place is None:
            return False
        last = self.keys.pop()
        if last != key:
            self.keys[place] = last
            self.places[last] = place
        return True

    def draw(self, exclude: Collection[str], barred: Barred) -> str | None:
        """Draw evenly among those that are admitted; the key stays in. None where there is none.

        Expected O(n / admitted), O(n) where nearly nobody is.
        """
        keys = self.keys
        count = len(keys)
        if not count:
            return None
        draw = self._random
        if not exclude and not barred:
            return keys[math.floor(draw() * count)]
        for _ in range(draws_worth(count)):
            key = keys[math.floor(draw() * count)]
            if admitted(key, exclude, barred):
                return key
        rest = [key for key in keys if admitted(key, exclude, barred)]
        return rest[math.floor(draw() * len(rest))] if rest else None


class ScoredSampler(Sampler):
    """A sampler in which each key has `width` numbers: those of the key at place p begin at p * width of `numbers`.

    They are side by side, and short: at 100,000 keys most of the time of a choice is spent on waiting for memory. For
    the same reason `seen` has the places of those that were chosen of late: a small table in the place of a large one.
    """

    __slots__ = ("_standard", "numbers", "seen", "width")

    def __init__(self, rng: random.Random, standard: tuple[float, ...]) -> None:
        super().__init__(rng)
        self._standard = standard
        self.width = len(standard)
        self.numbers = array("f")
        self.seen: dict[str, int] = {}

    def add(self, keys: Collection[str]) -> None:
        """Put keys in, with the standard numbers."""
        super().add(keys)
        self.numbers.extend(array("f", self._standard) * (len(self.keys) - len(self.numbers) // self.width))

    def remove(self, key: str) -> bool:
        """Take a key out with its numbers."""
        place = self.places.get(key)
        if place is None:
            return False
        super().remove(key)
        numbers, width = self.numbers, self.width
        last = numbers[-width:]
        del numbers[-width:]
        if place < len(self.keys):
            numbers[place * width : (place + 1) * width] = last
        return True

    def score(self, key: str, *others: float) -> None:
        """Give a key other numbers, where it is in: the first ones, and no more than there are."""
        place = self.place(key)
        if place is not None:
            begin = place * self.width
            self.numbers[begin : begin + len(others)] = array("f", others)

    def take(self, place: int) -> str:
        """Return the key at a place, which is soon asked for again."""
        key = self.keys[place]
        if len(self.seen) > _MOST_SEEN:  # some keys are never asked for again
            self.seen.clear()
        self.seen[key] = place
        return key

    def place(self, key: str) -> int | None:
        """Return where a key is, None where it is not in."""
        place = self.seen.pop(key, None)
        if place is not None and place < len(self.keys) and self.keys[place] == key:
            return place
        return self.places.get(key)
