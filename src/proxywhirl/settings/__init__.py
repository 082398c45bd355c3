"""The settings: sections, the files of a home, and the tree that they make with the environment.

- `sections`: each table of `settings.toml` as a model, with defaults and bounds. `[cache]` is `cache.CacheConfig`.
- `tree`: where a value comes from. The call goes before the environment, that before the file, that before the default.
- `files`: `settings.toml` and `ban-rules.toml`, as a user writes them.
"""

from __future__ import annotations

from proxywhirl.settings.files import SETTINGS_FILE
from proxywhirl.settings.sections import GatewaySettings, HealthSettings, PoolSettings, RetrySettings, SourcesSettings
from proxywhirl.settings.tree import Settings

__all__ = [
    "SETTINGS_FILE",
    "GatewaySettings",
    "HealthSettings",
    "PoolSettings",
    "RetrySettings",
    "Settings",
    "SourcesSettings",
]
