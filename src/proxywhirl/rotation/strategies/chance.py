"""By chance: all alike, or by the weights that proxies were given."""

from __future__ import annotations

import math
from collections.abc import Collection

from proxywhirl.rotation.sites import Site
from proxywhirl.rotation.strategies.urn import Urn, admitted
from proxywhirl.rotation.strategy import Barred, Roster

__all__ = ["RandomChoice", "WeightedChoice"]

_DRAWS = 64


class RandomChoice:
    """Every proxy with the same chance, whatever came before."""

    def __init__(self, roster: Roster) -> None:
        self._urn = Urn(roster.rng)
        self.add = self._urn.add

    def remove(self, key: str) -> None:
        """Take a proxy away."""
        self._urn.remove(key)

    def choose(self, exclude: Collection[str], barred: Barred, site: Site | None) -> str | None:  # noqa: ARG002
        """Draw evenly among those that are admitted."""
        return self._urn.draw(exclude, barred)


class WeightedChoice:
    """Chances in proportion to `Attributes.weight`: 1 where none was given; 0 means never, not even as the last one.

    Keys whose weights are within a factor of two share an urn. An urn is chosen by the most that its keys could weigh
    together, then a key in it, which is taken with the chance that its weight is of that most: at least one half. So
    a draw costs O(number of urns), which are a few, and a change O(1). Source: Y. Matias, J. S. Vitter, W.-C. Ni,
    "Dynamic Generation of Discrete Random Variates", Theory of Computing Systems 36, 2003.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._random = roster.rng.random
        self._urns: dict[int, Urn] = {}
        self._weights: dict[str, float] = {}

    def add(self, keys: Collection[str]) -> None:
        """Give new proxies their share."""
        shares: dict[int, list[str]] = {}
        for key in keys:
            if key in self._weights:
                continue
            weight = self._roster.attributes(key).weight
            weight = 1.0 if weight is None else weight
            if weight > 0:
                self._weights[key] = weight
                shares.setdefault(math.frexp(weight)[1], []).append(key)
        for exponent, members in shares.items():
            self._urns.setdefault(exponent, Urn(self._roster.rng)).add(members)

    def remove(self, key: str) -> None:
        """Take a proxy's share away."""
        weight = self._weights.pop(key, None)
        if weight is not None:
            exponent = math.frexp(weight)[1]
            urn = self._urns[exponent]
            urn.remove(key)
            if not urn:
                del self._urns[exponent]

    def redrawn(self, key: str) -> None:
        """See `ReadsAttributes`: a proxy that had no share, since its weight was 0, may get one now."""
        self.remove(key)
        self.add((key,))

    def choose(self, exclude: Collection[str], barred: Barred, site: Site | None) -> str | None:  # noqa: ARG002
        """Draw by weight among those that are admitted."""
        if not self._weights:
            return None
        draw, urns = self._random, self._urns
        most = [(len(urn) * math.ldexp(1.0, exponent), exponent) for exponent, urn in urns.items()]
        total = sum(bound for bound, _ in most)
        for _ in range(_DRAWS):
            point = draw() * total
            for bound, exponent in most:  # noqa: B007  # the one at which the loop ends
                point -= bound
                if point < 0:
                    break
            members = urns[exponent].keys
            key = members[int(draw() * len(members))]
            if draw() * math.ldexp(1.0, exponent) < self._weights[key] and admitted(key, exclude, barred):
                return key
        return self._counted_out(exclude, barred)

    def _counted_out(self, exclude: Collection[str], barred: Barred) -> str | None:
        rest = [key for key in self._weights if admitted(key, exclude, barred)]
        return self._roster.rng.choices(rest, [self._weights[key] for key in rest])[0] if rest else None
