"""One tree of settings. The only reader of the environment and of settings files.

A value comes from the call, else from the environment (`PROXYWHIRL_<SECTION>_<NAME>`), else from
`settings.toml` in the home, else from its default here. The home comes from the call, else from
`PROXYWHIRL_HOME`, else it is the user's data directory.
"""

from __future__ import annotations

import os
import ssl
import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as UnreadableSettingError

from proxywhirl.cache.models import CacheConfig, CacheTierConfig
from proxywhirl.errors import SettingsError
from proxywhirl.gateway.options import GatewayOptions

__all__ = ["GatewaySettings", "PoolSettings", "Settings"]

SETTINGS_FILE = "settings.toml"

Seconds = Annotated[float, Field(gt=0)]


class PoolSettings(BaseModel):
    """How a proxy is chosen: the name of a strategy, built in or from an entry point."""

    model_config = ConfigDict(extra="forbid")

    strategy: str = "round_robin"


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
        if (self.username is None) != (self.password is None):
            missing = "PASSWORD" if self.password is None else "USERNAME"
            raise SettingsError(f"the gateway's credentials are half set: set PROXYWHIRL_GATEWAY_{missing} too")
        credentials = None
        if self.username is not None and self.password is not None:
            credentials = (self.username, self.password.get_secret_value())
        return GatewayOptions(
            host=self.host,
            port=self.port,
            credentials=credentials,
            attempt_timeout=self.attempt_timeout,
            total_timeout=self.total_timeout,
            idle_timeout=self.idle_timeout,
            header_timeout=self.header_timeout,
            tls=self._upstream_tls(),
            max_connections=self.max_connections,
        )

    def _upstream_tls(self) -> ssl.SSLContext | None:
        if self.upstream_ca_file is None:
            return None
        try:
            return ssl.create_default_context(cafile=str(self.upstream_ca_file))
        except OSError as exc:
            raise SettingsError(f"gateway.upstream_ca_file: {self.upstream_ca_file} cannot be read: {exc}") from exc


class Settings(BaseSettings):
    """Everything that can be set, as one frozen value. Make it with `Settings.load` or `Settings.in_memory`."""

    model_config = SettingsConfigDict(
        env_prefix="PROXYWHIRL_",
        env_nested_delimiter="_",
        env_nested_max_split=1,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    home: Path | None = None
    cache: CacheConfig = Field(default_factory=CacheConfig)
    pool: PoolSettings = Field(default_factory=PoolSettings)
    gateway: GatewaySettings = Field(default_factory=GatewaySettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  # the framework's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # as above
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment before what `load` passes in, which comes from the settings file."""
        return env_settings, init_settings

    @classmethod
    def load(cls, home: str | Path | None = None, *, overrides: dict[str, dict[str, Any]] | None = None) -> Self:
        """Read the settings of a home; `overrides` are by section and name and have the last word.

        Raises:
            SettingsError: a value is impossible, or the settings file cannot be read.
        """
        directory = _home(home)
        path = directory / SETTINGS_FILE
        values = _read(path)
        cache = values.setdefault("cache", {})
        cache.setdefault("l2_cache_dir", str(directory / "cache"))
        cache.setdefault("l3_database_path", str(directory / "db" / "proxywhirl.db"))
        cache.setdefault("key_file", str(directory / "key"))
        try:
            settings = cls(**values)
            changes: dict[str, Any] = {"home": directory}
            for section, names in (overrides or {}).items():
                old: BaseModel = getattr(settings, section)
                changes[section] = type(old).model_validate({**old.model_dump(), **names})
        except ValidationError as exc:
            raise SettingsError(_explain(exc, path)) from None  # the cause would repeat the values
        except UnreadableSettingError as exc:
            raise SettingsError(f"a PROXYWHIRL_ variable is not the JSON that it must be: {exc}") from None  # as above
        return settings.model_copy(update=changes)

    @classmethod
    def in_memory(cls) -> Self:
        """Return the settings of a store that lives in memory alone: L1 without a bound, no files, no key.

        Raises:
            SettingsError: a value in the environment is impossible.
        """
        off = CacheTierConfig(enabled=False)
        try:
            settings = cls()
        except ValidationError as exc:
            raise SettingsError(_explain(exc, None)) from None  # as above
        cache = settings.cache.model_copy(
            update={"l1_config": CacheTierConfig(), "l2_config": off, "l3_config": off, "encryption_key": None}
        )
        return settings.model_copy(update={"home": None, "cache": cache})


def _home(home: str | Path | None) -> Path:
    chosen = home or os.environ.get("PROXYWHIRL_HOME") or platformdirs.user_data_path("proxywhirl")
    return Path(chosen).expanduser().absolute()


def _read(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise SettingsError(f"{path} cannot be read: {exc}") from exc
    unknown = sorted(set(values) - {"cache", "pool", "gateway"})
    if unknown:
        raise SettingsError(f"{path}: unknown section {unknown[0]!r}; known: cache, gateway, pool")
    return values


def _explain(exc: ValidationError, path: Path | None) -> str:
    """Name each wrong setting, where it may stand, and what is wrong, but not its value."""
    lines = []
    for error in exc.errors(include_input=False, include_url=False):
        names = [str(part) for part in error["loc"]]
        variable = "PROXYWHIRL_" + "_".join(names).upper()
        lines.append(f"setting {'.'.join(names)} ({variable}{f' or {path}' if path else ''}): {error['msg']}")
    return "; ".join(lines)
