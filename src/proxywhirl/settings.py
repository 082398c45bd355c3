"""One tree of settings. The only reader of the environment and of settings files.

A value comes from the call, else from the environment (`PROXYWHIRL_<SECTION>_<NAME>`), else from
`settings.toml` in the home, else from its default here. The home comes from the call, else from
`PROXYWHIRL_HOME`, else it is the user's data directory.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Self, get_origin

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as UnreadableSettingError

from proxywhirl.cache.models import CacheConfig, CacheTierConfig
from proxywhirl.errors import SettingsError
from proxywhirl.gateway.options import GatewayOptions
from proxywhirl.health.levels import Level
from proxywhirl.health.policy import Schedule
from proxywhirl.sources.options import FetchOptions
from proxywhirl.state.directory import make_private_directory

__all__ = ["SETTINGS_FILE", "GatewaySettings", "HealthSettings", "PoolSettings", "Settings", "SourcesSettings"]

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
            tls=self.upstream_tls(),
            max_connections=self.max_connections,
        )

    def upstream_tls(self) -> ssl.SSLContext | None:
        """Return what proxies of the scheme https are trusted by; None for the system's authorities.

        Raises:
            SettingsError: the file of authorities cannot be read.
        """
        if self.upstream_ca_file is None:
            return None
        return _trusting(self.upstream_ca_file, "gateway.upstream_ca_file")


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
        return Schedule(self.interval, self.retry, self.dead_retry)


SECTIONS: dict[str, type[BaseModel]] = {
    "cache": CacheConfig,
    "gateway": GatewaySettings,
    "health": HealthSettings,
    "pool": PoolSettings,
    "sources": SourcesSettings,
}


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
    health: HealthSettings = Field(default_factory=HealthSettings)
    sources: SourcesSettings = Field(default_factory=SourcesSettings)

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
        settings = cls._checked(values, path)
        changed = {
            section: _changed(getattr(settings, section), names, section)
            for section, names in (overrides or {}).items()
        }
        return settings.model_copy(update={"home": directory, **changed})

    @classmethod
    def prepare_change(cls, home: str | Path | None, section: str, name: str, value: str) -> Callable[[], bool]:
        """Return what writes a text into the settings file of a home, and tells whether that changed it.

        The rest of the file stays as it is, comments too.

        Raises:
            SettingsError: the file cannot be changed so, or the environment says something else, which wins.
        """
        path = _home(home) / SETTINGS_FILE
        text, changed = _changed_text(path, section, name, value)
        settings = cls._checked(tomllib.loads(changed), path)
        if getattr(getattr(settings, section), name) != value:
            variable = f"PROXYWHIRL_{section}_{name}".upper()
            raise SettingsError(
                f"the environment sets {section}.{name}, which wins over {path}: set {variable} to {value}, or unset it"
            )

        def write() -> bool:
            if changed != text:
                _replace(path, changed)
            return changed != text

        return write

    @classmethod
    def in_memory(cls) -> Self:
        """Return the settings of a store that lives in memory alone: L1 without a bound, no files, no key.

        Raises:
            SettingsError: a value in the environment is impossible.
        """
        off = CacheTierConfig(enabled=False)
        settings = cls._checked({}, None)
        cache = settings.cache.model_copy(
            update={
                "l1_config": CacheTierConfig(),
                "l2_config": off,
                "l3_config": off,
                "encryption_key": None,
                "key_previous": None,
            }
        )
        return settings.model_copy(update={"home": None, "cache": cache})

    @classmethod
    def _checked(cls, values: dict[str, Any], path: Path | None) -> Self:
        try:
            return cls(**values)
        except ValidationError as exc:
            raise SettingsError(_explain(exc, path)) from None  # the cause would repeat the values
        except UnreadableSettingError:
            raise SettingsError(_explain_json()) from None  # as above


def _trusting(path: Path, setting: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(path))
    except OSError as exc:
        raise SettingsError(f"{setting}: {path} cannot be read: {exc}") from exc


def _changed(old: BaseModel, names: dict[str, Any], section: str) -> BaseModel:
    try:
        return type(old).model_validate({**old.model_dump(), **names})
    except ValidationError as exc:
        raise SettingsError(_explain(exc, None, section)) from None  # the cause would repeat the values


def _home(home: str | Path | None) -> Path:
    if home == "":
        raise SettingsError("the home is an empty text, such as a variable that is not set: name a directory, or None")
    chosen = home or os.environ.get("PROXYWHIRL_HOME") or platformdirs.user_data_path("proxywhirl")
    try:
        directory = Path(chosen).expanduser().absolute()
        is_file = directory.exists() and not directory.is_dir()
    except RuntimeError as exc:
        raise SettingsError(f"{chosen}: this user has no home directory; name one with PROXYWHIRL_HOME") from exc
    except OSError as exc:
        raise SettingsError(f"the home {chosen} cannot be used: {exc.strerror}") from exc
    if is_file:
        raise SettingsError(f"the home {directory} is a file: name a directory")
    return directory


def _read(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise SettingsError(f"{path} cannot be read: {reason}") from exc
    for section, names in values.items():
        if section not in SECTIONS:
            raise SettingsError(f"{path}: unknown section {section!r}; known: {', '.join(sorted(SECTIONS))}")
        if not isinstance(names, dict):
            raise SettingsError(f"{path}: {section} must be a table: write [{section}] and its settings below it")
    return values


def _changed_text(path: Path, section: str, name: str, value: str) -> tuple[str, str]:
    """Return the text of a settings file, "" where there is none, and that with a text set in it."""
    values = _read(path)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    line = f"{name} = {json.dumps(value)}"
    header = rf"^[ \t]*\[[ \t]*{section}[ \t]*\][^\n]*\n"
    known = re.compile(
        rf"({header}(?:[ \t]*(?!\[)[^\n]*\n)*?[ \t]*){name}[ \t]*=[ \t]*(?:\"[^\"\n]*\"|'[^'\n]*')", re.MULTILINE
    )
    whole = text if text.endswith("\n") or not text else f"{text}\n"
    changed, found = known.subn(rf"\g<1>{line}", whole, count=1)
    if not found:
        changed, found = re.subn(rf"({header})", rf"\g<1>{line}\n", whole, count=1, flags=re.MULTILINE)
    if not found:
        changed = f"{whole}{chr(10) * bool(whole)}[{section}]\n{line}\n"
    wanted = {**values, section: {**values.get(section, {}), name: value}}
    if values.get(section, {}).get(name) == value:
        return text, text
    if not _says(changed, wanted):
        raise SettingsError(
            f"{path} is written in a way that cannot be changed here: set {section}.{line} in it yourself"
        )
    return text, changed


def _says(text: str, values: dict[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == values
    except tomllib.TOMLDecodeError:
        return False


def _replace(path: Path, text: str) -> None:
    """Write a settings file so that others see the old one or the new one; its mode stays, a new one has 0600."""
    target = path.resolve()
    try:
        make_private_directory(target.parent)
        with tempfile.NamedTemporaryFile("w", dir=target.parent, encoding="utf-8", delete=False) as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            Path(stream.name).chmod(target.stat().st_mode & 0o777)
        Path(stream.name).replace(target)
    except OSError as exc:
        raise SettingsError(f"{path} cannot be written: {exc.strerror or exc}") from exc


def _explain(exc: ValidationError, path: Path | None, *within: str) -> str:
    """Name each wrong setting, where it may stand, and what is wrong, but not its value."""
    parts = []
    for error in exc.errors(include_input=False, include_url=False):
        section, *names = (*within, *(str(part) for part in error["loc"]))
        variable = "_".join(("PROXYWHIRL", section, *names[:1])).upper()
        setting = ".".join((section, *names))
        if error["type"] == "extra_forbidden" and len(names) == 1:
            what = f"there is none of this name; known: {', '.join(sorted(SECTIONS[section].model_fields))}"
        else:
            what = error["msg"].removeprefix("Value error, ")
        parts.append(f"setting {setting} ({variable}{f' or {path}' if path else ''}): {what}")
    return "; ".join(parts)


def _explain_json() -> str:
    """Name the variables that stand for tables and hold no JSON."""
    tables = {
        f"PROXYWHIRL_{section}_{name}".upper()
        for section, model in SECTIONS.items()
        for name, field in model.model_fields.items()
        if field.annotation is CacheTierConfig or get_origin(field.annotation) is dict
    }
    wrong = sorted(name for name in os.environ if name.upper() in tables and not _is_json(os.environ[name]))
    sections = ", ".join(f"PROXYWHIRL_{section}".upper() for section in SECTIONS)
    return f"{', '.join(wrong) or f'one of {sections}'}: a table is written as JSON, such as {{}}"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
