"""What a probe needs to reach a level: judges, a target, contexts, databases; and what is missing for it."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from proxywhirl.clock import Clock
from proxywhirl.errors import SettingsError
from proxywhirl.health.geo import GeoDatabase
from proxywhirl.health.levels import Level
from proxywhirl.models import Target
from proxywhirl.wire.judge import Judge

_SERVE_ONE = "`proxywhirl judge` serves one"


@dataclass(frozen=True, slots=True)
class Errand:
    """Where one probe goes: the end of its first tunnel, the judge of plain text, and the end of its TLS."""

    tunnel: Target | None = None
    plain: Judge | None = None
    sealed: Target | None = None
    sealed_judge: Judge | None = None  # at `sealed`, where that is a judge to be asked


@dataclass(frozen=True, slots=True)
class Equipment:
    """What all probes of a prober share; see `Prober` for each."""

    judges: Iterable[Judge]
    target: Target | None
    timeout: float
    tls: ssl.SSLContext | None
    proxy_tls: ssl.SSLContext | None
    geo: GeoDatabase | None
    clock: Clock
    rng: Random

    def errand(self, level: Level) -> Errand:
        """Choose where to go for a level, by chance among several judges.

        Raises:
            SettingsError: What the level needs is not there; the message says what.
        """
        if level is Level.TCP:
            return Errand()
        if level is Level.HANDSHAKE:
            return Errand(tunnel=self._any_end())
        plain = self._judge("http")
        if plain is None:
            raise SettingsError(f"a check of level {level.value} needs a judge with an http:// URL: {_SERVE_ONE}")
        if level is Level.HTTP:
            return Errand(plain=plain)
        judge = self._judge("https")
        target = self.target if self.target is not None and self.target.scheme == "https" else None
        if judge is None and target is None:
            raise SettingsError(
                f"a check of level {level.value} needs an https:// target, or a judge with an https:// URL: "
                f"{_SERVE_ONE} with --tls-certificate"
            )
        if judge is None or (level is Level.TLS and target is not None):
            return Errand(plain=plain, sealed=target)
        return Errand(plain=plain, sealed=judge.target, sealed_judge=judge)

    def _any_end(self) -> Target:
        if self.target is not None:
            return self.target
        judge = self._judge("https") or self._judge("http")  # more proxies let a tunnel go to the ports of https
        if judge is None:
            raise SettingsError(f"a check of level handshake needs a target or a judge to ask for: {_SERVE_ONE}")
        return judge.target

    def _judge(self, scheme: str) -> Judge | None:
        fitting = [judge for judge in self.judges if judge.target.scheme == scheme]
        return self.rng.choice(fitting) if fitting else None
