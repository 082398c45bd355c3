"""The settings: sections, the file of a home, and the tree that they make with the environment."""

from __future__ import annotations

from proxywhirl.settings.files import SETTINGS_FILE
from proxywhirl.settings.sections import (
    GatewaySettings,
    HealthSettings,
    PoolSettings,
    RetrySettings,
    SourcesSettings,
)
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
