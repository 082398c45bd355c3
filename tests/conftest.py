"""What holds for every test."""

from __future__ import annotations

import gc

from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # how long an example takes is no contract
settings.load_profile("any machine")


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what was imported and collected: it stays to the end."""
    gc.collect()
    gc.freeze()
