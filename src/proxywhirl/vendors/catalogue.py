"""The vendors that are known: those of `providers.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from proxywhirl.errors import UnknownNameError
from proxywhirl.vendors.provider import Provider


@cache
def providers() -> Mapping[str, Provider]:
    """Return the vendors by name."""
    text = files("proxywhirl.vendors").joinpath("providers.toml").read_text(encoding="utf-8")
    return {name: Provider.of(name, table) for name, table in tomllib.loads(text).items()}


def provider(name: str) -> Provider:
    """Return a vendor.

    Raises:
        UnknownNameError: There is none of this name; the message lists those that there are.
    """
    known = providers()
    if name not in known:
        raise UnknownNameError("provider", name, list(known))
    return known[name]


def guess(host: str, port: int) -> Provider | None:
    """Return the vendor at whose gateways' addresses a host and port are; None where it is nobody's."""
    return next((known for known in providers().values() if known.is_at(host, port)), None)
