"""The sections of the settings: each is one table of the file, and one prefix of variables.

A section imports the objects that it makes only when it makes them: a command that reads settings loads no gateway.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from proxywhirl.cache.models import CacheConfig
from proxywhirl.errors import SettingsError
from proxywhirl.health.levels import Level

if TYPE_CHECKING:
    import ssl

    from proxywhirl.clock import Clock
    from proxywhirl.gateway.options import GatewayOptions
    from proxywhirl.health.policy import Schedule
    from proxywhirl.rotation.affinity.sessions import SessionPolicy
    from proxywhirl.rotation.proxy_state import Limits
    from proxywhirl.rotation.retries.send_policy import RetryBudget, RetryPolicy
    from proxywhirl.sources.fetching.bounds import FetchOptions

Seconds = Annotated[float, Field(gt=0)]


class PoolSettings(BaseModel):
    """How a proxy is chosen: a strategy, what sessions are like (seconds), and how much one proxy may be used.

    `strategy` is a name, built in or from an entry point, with wishes where it takes some
    (`rotation.selection.pool_options`). The limits are for each proxy; None is no limit: `requests_per_second`,
    `in_flight` at once, and `cooldown` in seconds between two uses on one site. `success_worth` is what a served
    request is worth, in the currency of the prices of proxies.
    """

    model_config = ConfigDict(extra="forbid")

    strategy: str = "bandit"
    session_ttl: Seconds = 3600.0
    session_idle: Seconds = 600.0
    session_hard: bool = False
    requests_per_second: Annotated[float, Field(gt=0)] | None = None
    in_flight: Annotated[int, Field(ge=1)] | None = None
    cooldown: Seconds | None = None
    success_worth: Annotated[float, Field(gt=0)] | None = None

    def limits(self) -> Limits:
        """Return how much one proxy may be used."""
        from proxywhirl.rotation.proxy_state import Limits

        return Limits(self.requests_per_second, self.in_flight, self.cooldown)

    def sessions(self) -> SessionPolicy:
        """Return how long sessions last, and whether they may move."""
        from proxywhirl.rotation.affinity.sessions import SessionPolicy

        return SessionPolicy(self.session_ttl, self.session_idle, self.session_hard)


class GatewaySettings(BaseModel):
    """Where the gateway listens, for whom, and how long it waits (seconds).

    `upstream_ca_file` holds the authorities (PEM) that proxies of the scheme https are trusted by, instead of
    the system's.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8899
    username: str | None = None
    password: SecretStr | None = None
    attempt_timeout: Seconds = 10.0
    total_timeout: Seconds = 60.0
    idle_timeout: Seconds = 300.0
    header_timeout: Seconds = 30.0
    max_connections: Annotated[int, Field(ge=1)] = 1000
    upstream_ca_file: Path | None = None

    def options(self) -> GatewayOptions:
        """Return what the gateway is started with.

        Raises:
            SettingsError: only one of username and password is set, or the authorities cannot be read.
            GatewayError: the address is open to a network and there are no credentials.
        """
        from proxywhirl.gateway.options import GatewayOptions

        if (self.username is None) != (self.password is None):
            missing = "PASSWORD" if self.password is None else "USERNAME"
            raise SettingsError(f"the gateway's credentials are half set: set PROXYWHIRL_GATEWAY_{missing} too")
        credentials = None
        if self.username is not None and self.password is not None:
            credentials = (self.username, self.password.get_secret_value())
        alike = self.model_dump(exclude={"username", "password", "upstream_ca_file"})
        return GatewayOptions(**alike, credentials=credentials, tls=self.upstream_tls())

    def upstream_tls(self) -> ssl.SSLContext | None:
        """Return what proxies of the scheme https are trusted by; None for the system's authorities.

        Raises:
            SettingsError: the file of authorities cannot be read.
        """
        if self.upstream_ca_file is None:
            return None
        return _trusting(self.upstream_ca_file, "gateway.upstream_ca_file")


class RetrySettings(BaseModel):
    """How far a request is pursued through one proxy after another, and what all retries together may cost a target.

    `share` and `floor` bound the retries within the last `window` seconds.
    """

    model_config = ConfigDict(extra="forbid")

    attempts: Annotated[int, Field(ge=1)] = 20
    rounds: Annotated[int, Field(ge=1)] = 1
    share: Annotated[float, Field(ge=0)] = 0.2
    floor: Annotated[int, Field(ge=0)] = 10
    window: Seconds = 10.0
    unsafe: bool = False

    def policy(self) -> RetryPolicy:
        """Return how far a request is pursued."""
        from proxywhirl.rotation.retries.send_policy import RetryPolicy

        return RetryPolicy(attempts=self.attempts, rounds=self.rounds, unsafe=self.unsafe)

    def budget(self, clock: Clock) -> RetryBudget:
        """Return a new budget."""
        from proxywhirl.rotation.retries.send_policy import RetryBudget

        return RetryBudget(share=self.share, floor=self.floor, window=self.window, clock=clock)


class SourcesSettings(BaseModel):
    """Whether the catalogue is known, and what bounds fetching: times in seconds, sizes in bytes."""

    model_config = ConfigDict(extra="forbid")

    catalogue: bool = True
    concurrency: Annotated[int, Field(ge=1, le=256)] = 16
    connect_timeout: Seconds = 10.0
    read_timeout: Seconds = 15.0
    total_timeout: Seconds = 60.0
    max_bytes: Annotated[int, Field(ge=1)] = 16_000_000
    attempts: Annotated[int, Field(ge=1)] = 3

    def options(self) -> FetchOptions:
        """Return what sources are fetched with."""
        from proxywhirl.sources.fetching.bounds import FetchOptions

        return FetchOptions(**self.model_dump(exclude={"catalogue"}))


class HealthSettings(BaseModel):
    """How proxies are checked: when (seconds), how many at once, how deep, and what it may cost (bytes).

    `judges` holds URLs of what `proxywhirl judge` serves, separated by commas; without one nothing is checked while
    serving. `level` None is the deepest that the judges allow, short of `full`. The databases are in MaxMind's format
    (`.mmdb`).
    """

    model_config = ConfigDict(extra="forbid")

    judges: str = ""
    judge_ca_file: Path | None = None
    level: Level | None = None
    timeout: Seconds = 10.0
    concurrency: Annotated[int, Field(ge=1)] = 200
    checks_per_second: Annotated[float, Field(gt=0)] = 50.0
    interval: Seconds = 600.0
    retry: Seconds = 60.0
    dead_retry: Seconds = 86_400.0
    country_database: Path | None = None
    asn_database: Path | None = None
    provider_bytes_per_day: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    monitor: bool = True

    @property
    def judge_urls(self) -> list[str]:
        """The judges, one by one."""
        return [url.strip() for url in self.judges.split(",") if url.strip()]

    def judge_tls(self) -> ssl.SSLContext | None:
        """Return the context that judges with https:// are verified with; None for the system's authorities.

        Raises:
            SettingsError: they cannot be read.
        """
        return None if self.judge_ca_file is None else _trusting(self.judge_ca_file, "health.judge_ca_file")

    def schedule(self) -> Schedule:
        """Return when proxies are checked next."""
        from proxywhirl.health.policy import Schedule

        return Schedule(self.interval, self.retry, self.dead_retry)


SECTIONS: dict[str, type[BaseModel]] = {
    "cache": CacheConfig,
    "gateway": GatewaySettings,
    "health": HealthSettings,
    "pool": PoolSettings,
    "retry": RetrySettings,
    "sources": SourcesSettings,
}


def _trusting(path: Path, setting: str) -> ssl.SSLContext:
    import ssl

    try:
        return ssl.create_default_context(cafile=str(path))
    except OSError as exc:
        raise SettingsError(f"{setting}: {path} cannot be read: {exc}") from exc
