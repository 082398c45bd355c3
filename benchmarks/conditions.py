"""What a figure was measured under: written beside it, since the machine is half of it."""

from __future__ import annotations

import os
import platform

from proxywhirl import __version__

__all__ = ["conditions"]


def conditions(load_before: float) -> dict[str, str | int | float | None]:
    """Return the conditions by name; `load_before` is the load average (one minute) before the first measurement."""
    return {
        "version": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "load_average_before": round(load_before, 1),
    }
