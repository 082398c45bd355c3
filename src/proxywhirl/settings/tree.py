"""One tree of settings. The only reader of the environment and of settings files.

A value comes from the call, else from the environment (`PROXYWHIRL_<SECTION>_<NAME>`), else from
`settings.toml` in the home, else from its default here. The home comes from the call, else from
`PROXYWHIRL_HOME`, else it is the user's data directory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import InitErrorDetails

from proxywhirl.cache.models import CacheConfig, CacheTierConfig
from proxywhirl.errors import SettingsError
from proxywhirl.settings.files import SETTINGS_FILE, changed_text, read_file, write_file
from proxywhirl.settings.sections import (
    SECTIONS,
    GatewaySettings,
    HealthSettings,
    PoolSettings,
    RetrySettings,
    SourcesSettings,
)

PREFIX = "PROXYWHIRL_"


class Settings(BaseModel):
    """Everything that can be set, as one frozen value. Make it with `Settings.load` or `Settings.in_memory`."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    home: Path | None = None
    cache: CacheConfig = Field(default_factory=CacheConfig)
    pool: PoolSettings = Field(default_factory=PoolSettings)
    gateway: GatewaySettings = Field(default_factory=GatewaySettings)
    health: HealthSettings = Field(default_factory=HealthSettings)
    retry: RetrySettings = Field(default_factory=RetrySettings)
    sources: SourcesSettings = Field(default_factory=SourcesSettings)

    @field_validator("cache", mode="before")
    @classmethod
    def _known_names(cls, value: Any) -> Any:
        """Refuse unknown names, of which `CacheConfig` only warns: a mistyped setting would be believed to hold."""
        return _without_unknown(value)

    @classmethod
    def load(cls, home: str | Path | None = None, *, overrides: dict[str, dict[str, Any]] | None = None) -> Self:
        """Read the settings of a home; `overrides` are by section and name and have the last word.

        Raises:
            SettingsError: a value is impossible, or the settings file cannot be read.
        """
        directory = _home(home)
        path = directory / SETTINGS_FILE
        values = read_file(path)
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
        text, changed, values = changed_text(path, section, name, value)
        settings = cls._checked(values, path)
        if getattr(getattr(settings, section), name) != value:
            variable = f"PROXYWHIRL_{section}_{name}".upper()
            raise SettingsError(
                f"the environment sets {section}.{name}, which wins over {path}: set {variable} to {value}, or unset it"
            )

        def write() -> bool:
            if changed != text:
                write_file(path, changed)
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
        tiers = {"l1_config": CacheTierConfig(), "l2_config": off, "l3_config": off}
        cache = settings.cache.model_copy(update={**tiers, "encryption_key": None, "key_previous": None})
        return settings.model_copy(update={"home": None, "cache": cache})

    @classmethod
    def _checked(cls, values: dict[str, Any], path: Path | None) -> Self:
        """Make the settings of a file's values and the environment's, which win."""
        try:
            return cls(**_merged(values, _environment()))
        except ValidationError as exc:
            raise SettingsError(_explain(exc, path)) from None  # the cause would repeat the values


def _environment() -> dict[str, Any]:
    """Return the values of the variables, by section and name; an empty one counts as not set.

    `PROXYWHIRL_POOL_STRATEGY` is a value, where a table is wanted as JSON; `PROXYWHIRL_POOL` a whole section as JSON.
    """
    sections: dict[str, Any] = {}
    wrong = []
    for variable, text in sorted(os.environ.items()):  # a whole section comes before the names in it, which win
        if not (text and variable.upper().startswith(PREFIX)):
            continue
        section, separator, name = variable[len(PREFIX) :].lower().partition("_")
        if section not in SECTIONS:
            continue
        table = not separator or _is_table(section, name)
        try:
            value = json.loads(text) if table else text
        except ValueError:
            value = text
        if value is None and not separator:
            continue  # `null` for a whole section says nothing
        if table and not isinstance(value, dict):
            wrong.append(variable)
        else:
            sections = _merged(sections, {section: {name: value} if separator else value})
    if wrong:
        raise SettingsError(f"{', '.join(wrong)}: a table is written as JSON, such as {{}}")
    return sections


def _is_table(section: str, name: str) -> bool:
    field = SECTIONS[section].model_fields.get(name)
    return field is not None and (field.annotation is CacheTierConfig or get_origin(field.annotation) is dict)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return both together; where both say something, tables are merged, and of other values the one above goes."""
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        merged[name] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _changed(old: BaseModel, names: dict[str, Any], section: str) -> BaseModel:
    try:
        return type(old).model_validate(_without_unknown({**old.model_dump(), **names}, type(old)))
    except ValidationError as exc:
        raise SettingsError(_explain(exc, None, section)) from None  # the cause would repeat the values


def _without_unknown(values: Any, model: type[BaseModel] = CacheConfig) -> Any:
    """Return the values of a section. Raises `ValidationError` where the model, or a table in it, has no such field."""
    if unknown := list(_unknown(values, model)):
        raise ValidationError.from_exception_data(model.__name__, unknown, hide_input=True)
    return values


def _unknown(values: Any, model: type[BaseModel], *within: str) -> Iterator[InitErrorDetails]:
    for name, value in values.items() if isinstance(values, dict) else ():
        if name not in model.model_fields:
            yield InitErrorDetails(type="extra_forbidden", loc=(*within, name), input="***")
        elif model.model_fields[name].annotation is CacheTierConfig:
            yield from _unknown(value, CacheTierConfig, *within, name)


def _home(home: str | Path | None) -> Path:
    if home == "":
        raise SettingsError("the home is an empty text, such as a variable that is not set: name a directory, or None")
    chosen: str | Path | None = home or os.environ.get("PROXYWHIRL_HOME")
    if not chosen:
        import platformdirs

        chosen = platformdirs.user_data_path("proxywhirl")
    try:
        directory = Path(chosen).expanduser().absolute()
        fault = _fault_of(directory)
    except RuntimeError as exc:
        raise SettingsError(f"{chosen}: this user has no home directory; name one with PROXYWHIRL_HOME") from exc
    except OSError as exc:
        raise SettingsError(f"the home {chosen} cannot be used: {exc.strerror}") from exc
    if fault:
        raise SettingsError(f"the home {directory} {fault}")
    return directory


def _fault_of(home: Path) -> str | None:
    """Say why nothing can be opened in a home; None where that may work."""
    name = str(home)
    if "\0" in name or name.encode(errors="ignore").decode() != name:
        return "has a name that is no text in UTF-8, which databases need: name another directory"
    if home.is_dir():
        return None
    if home.is_symlink():
        return "is a link to what is not there, or is no directory: make that, or name another directory"
    return "is a file: name a directory" if home.exists() else None


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
