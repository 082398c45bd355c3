"""What tests of a cache share: when they begin, a key, and how a cache on the same files is opened."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from cryptography.fernet import Fernet

from proxywhirl.cache import CacheManager

START = datetime(2025, 1, 1, tzinfo=UTC)
SEALING_KEY = Fernet.generate_key().decode()
Opener = Callable[..., CacheManager]
"""Opens a cache with fields of its configuration."""
