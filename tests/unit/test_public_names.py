"""What `import proxywhirl` gives, and what it costs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import proxywhirl

NAMES = [
    "AsyncProxyWhirl",
    "Attributes",
    "Blame",
    "CacheConfig",
    "CacheEntry",
    "CacheError",
    "CacheManager",
    "CacheStatistics",
    "CacheTierConfig",
    "CacheTierType",
    "DecryptionError",
    "Gateway",
    "GatewayError",
    "GatewayOptions",
    "HealthCheck",
    "HealthStatus",
    "L2BackendType",
    "Lease",
    "LeaseExpired",
    "Limits",
    "Outcome",
    "Pool",
    "PoolEmpty",
    "Proxy",
    "ProxyURL",
    "ProxyURLError",
    "ProxyWhirl",
    "ProxyWhirlError",
    "SessionLost",
    "SessionPolicy",
    "SettingsError",
    "SiteResting",
    "Target",
    "TierStatistics",
    "UpstreamError",
    "WhirlTransport",
    "Wish",
    "vendor_sessions",
]
ROOT = Path(__file__).parents[2]


def test_the_public_names_are_these() -> None:
    """A name is added or removed on purpose only; each is there, and `dir` tells of it."""
    assert proxywhirl.__all__ == NAMES
    for name in NAMES:
        assert getattr(proxywhirl, name).__name__ == name
    assert set(NAMES) <= set(dir(proxywhirl))


def test_the_version_is_the_same_everywhere() -> None:
    """The package, its project file, the command, the README and the newest part of the changelog name one version."""
    version = proxywhirl.__version__
    assert tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"] == version
    assert re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[0] == version
    assert f"This is {version}, a pre-release" in (ROOT / "README.md").read_text(encoding="utf-8")
    command = [sys.executable, "-m", "proxywhirl", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"proxywhirl, version {version}\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A lazy package refuses what it does not have like any other."""
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = proxywhirl.no_such_name


def test_importing_loads_nothing_heavy() -> None:
    """`import proxywhirl` loads nothing but itself: what its names need comes when they are used."""
    program = "import sys\nbefore = {*sys.modules}\nimport proxywhirl\nprint(*{*sys.modules} - before)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert {name.partition(".")[0] for name in done.stdout.split()} - sys.stdlib_module_names == {"proxywhirl"}


def test_names_are_imported_one_by_one() -> None:
    """A pool in memory needs neither the store nor the network."""
    program = "import sys\nfrom proxywhirl import Pool, Outcome\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert set(done.stdout.split()) & {"apsw", "asyncio", "cryptography", "httpx2", "pydantic", "ssl"} == set()
