"""By chance: all alike, or by the weights that proxies were given."""

from __future__ import annotations

import math
from collections.abc import Collection

from proxywhirl.rotation.sites.site import Site
from proxywhirl.rotation.strategies.base import Barred, Roster, admitted
from proxywhirl.rotation.strategies.sampling import Sampler, ScoredSampler, draws_worth

_FEW_DRAWS = 8  # tried before barred keys are counted: mostly none weighs much
_SMALL = 32  # keys of a sampler that are worth a look at each
_LIGHTEST, _HEAVIEST = 1e-150, 1e150  # between these, sums and powers of two neither vanish nor overflow


class RandomChoice:
    """Every proxy with the same chance, whatever came before."""

    def __init__(self, roster: Roster) -> None:
        self._random = roster.rng.random
        self._sampler = Sampler(roster.rng)
        self.add = self._sampler.add

    def remove(self, key: str) -> None:
        """Take a proxy away."""
        self._sampler.remove(key)

    def choose(self, exclude: Collection[str], barred: Barred, site: Site | None) -> str | None:  # noqa: ARG002
        """Draw evenly among those that are admitted."""
        keys = self._sampler.keys
        if exclude or barred or not keys:
            return self._sampler.draw(exclude, barred)
        return keys[math.floor(self._random() * len(keys))]


class WeightedChoice:
    """Chances in proportion to `Attributes.weight`: 1 where none was given; 0 means never, not even as the last one.

    Keys whose weights are within a factor of two share a sampler. A sampler is chosen by the most that its keys could
    weigh together, then a key in it, which is taken with the chance that its weight is of that most: at least one half.
    So a draw costs O(number of samplers), which are a few, and a change O(1). Weights below 1e-150 and above 1e150
    count as these. Source: Y. Matias, J. S. Vitter, W.-C. Ni, "Dynamic Generation of Discrete Random Variates",
    Theory of Computing Systems 36, 2003.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._random = roster.rng.random
        self._samplers: dict[int, ScoredSampler] = {}
        self._bounds: list[tuple[float, float, ScoredSampler]] = []
        self._weights: dict[str, float] = {}
        self._total = 0.0

    def add(self, keys: Collection[str]) -> None:
        """Give new proxies their share."""
        shares: dict[int, list[str]] = {}
        for key in keys:
            if key in self._weights:
                continue
            weight = self._weight(key)
            if weight > 0:
                weight = self._weights[key] = min(max(weight, _LIGHTEST), _HEAVIEST)
                shares.setdefault(math.frexp(weight)[1], []).append(key)
        for exponent, members in shares.items():
            sampler = self._samplers.setdefault(exponent, ScoredSampler(self._roster.rng, (0.5, 0.0)))
            sampler.add(members)
            for key in members:
                sampler.score(key, math.frexp(self._weights[key])[0], 0.0)
        self._bounds = []

    def remove(self, key: str) -> None:
        """Take a proxy's share away."""
        weight = self._weights.pop(key, None)
        if weight is not None:
            exponent = math.frexp(weight)[1]
            sampler = self._samplers[exponent]
            sampler.remove(key)
            if not sampler:
                del self._samplers[exponent]
            self._bounds = []

    def redrawn(self, key: str) -> None:
        """See `ReadsAttributes`: a proxy that had no share, since its weight was 0, may get one now."""
        self.remove(key)
        self.add((key,))

    def declines(self, key: str) -> str:
        """See `Declines`."""
        return "" if self._weight(key) > 0 else "of weight 0"

    def choose(self, exclude: Collection[str], barred: Barred, site: Site | None) -> str | None:  # noqa: ARG002
        """Draw by weight among those that are admitted."""
        if not exclude and not barred and self._weights:
            return self._draw_any()
        samplers = [(sampler.keys, exponent) for exponent, sampler in self._samplers.items()]
        key = self._draw(samplers, exclude, barred, _FEW_DRAWS)
        if key is not None:
            return key
        # One that weighs more than all others together, and may not serve, would be drawn again and again.
        samplers = [
            ([key for key in keys if admitted(key, exclude, barred)] if len(keys) <= _SMALL else keys, exponent)
            for keys, exponent in samplers
        ]
        key = self._draw(samplers, exclude, barred, draws_worth(len(self._weights)))
        return key if key is not None else self._counted_out(exclude, barred)

    def _draw_any(self) -> str:
        """Draw by weight among all; there is one.

        One number says it all: in which sampler it falls, at which place there, and by its fraction whether the key at
        that place is taken.
        """
        if not self._bounds:
            tops = ((math.ldexp(1.0, exponent), sampler) for exponent, sampler in self._samplers.items())
            self._bounds = [(len(sampler) * top, top, sampler) for top, sampler in tops]
            self._total = sum(bound for bound, _, _ in self._bounds)
        draw, total, bounds = self._random, self._total, self._bounds
        while True:
            point = draw() * total
            for bound, top, sampler in bounds:  # noqa: B007  # the one at which the loop ends
                if point < bound:
                    break
                point -= bound
            where = point / top
            place = int(where)
            if place < len(sampler) and where - place < sampler.numbers[2 * place]:
                return sampler.keys[place]

    def _draw(
        self, samplers: list[tuple[list[str], int]], exclude: Collection[str], barred: Barred, draws: int
    ) -> str | None:
        """Draw so often at most; None where nobody was admitted."""
        draw = self._random
        most = [(len(keys) * math.ldexp(1.0, exponent), keys, exponent) for keys, exponent in samplers if keys]
        total = sum(bound for bound, _, _ in most)
        for _ in range(draws if most else 0):
            point = draw() * total
            for bound, keys, exponent in most:  # noqa: B007  # the one at which the loop ends
                point -= bound
                if point < 0:
                    break
            key = keys[math.floor(draw() * len(keys))]
            if draw() * math.ldexp(1.0, exponent) < self._weights[key] and admitted(key, exclude, barred):
                return key
        return None

    def _counted_out(self, exclude: Collection[str], barred: Barred) -> str | None:
        rest = [key for key in self._weights if admitted(key, exclude, barred)]
        return self._roster.rng.choices(rest, [self._weights[key] for key in rest])[0] if rest else None

    def _weight(self, key: str) -> float:
        weight = self._roster.attributes(key).weight
        return 1.0 if weight is None else weight
