"""What an httpx2 request wishes of its proxy, and where it goes.

The wishes stand in the request's extension `proxywhirl`, a mapping: `session`, any filter of
`rotation.selection.filters.Wishes`, and `retry_unsafe`, True where the request may be sent again though its method is
not idempotent::

    await client.get(url, extensions={"proxywhirl": {"session": "cart-17", "country": "de"}})

The response has an extension of that name too: the key of the `proxy` that it came through, `why` that one, and
`moved_from`, the key of the one that the request's session had before (None where it has not moved).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx2

from proxywhirl.errors import ProxyURLError
from proxywhirl.models import Target
from proxywhirl.rotation.selection.filters import Wishes
from proxywhirl.rotation.selection.request_options import RequestOptions
from proxywhirl.validation import require

EXTENSION = "proxywhirl"

_SCHEMES = ("http", "https")


def extension(session: str | None, wish: Wishes | None, *, retry_unsafe: bool) -> dict[str, Any]:
    """Return the extensions that carry what a caller wishes, none where nothing is.

    Raises:
        TypeError: `wish` is no mapping.
        ValueError: It holds what is an argument of its own.
    """
    require("wish", {} if wish is None else wish, Mapping, "a mapping such as {'country': 'de'}")
    for name in ("session", "retry_unsafe"):
        if name in (wish or ()):
            raise ValueError(f"{name} is no wish for a proxy but an argument of its own: {name}=…")
    said = {**(wish or {}), "session": session, "retry_unsafe": retry_unsafe or None}
    named = {name: value for name, value in said.items() if value is not None}
    return {EXTENSION: named} if named else {}


def read_wish(request: httpx2.Request) -> tuple[RequestOptions, bool]:
    """Return the wish of a request, and whether it may be sent again whatever its method.

    Raises:
        ValueError: The extension is no mapping, or says something that there is not.
    """
    said = request.extensions.get(EXTENSION, {})
    if not isinstance(said, Mapping):
        raise ValueError(f"the extension {EXTENSION} is a mapping of wishes, not {type(said).__name__}")  # noqa: TRY004
    filters = dict(said)
    unsafe = filters.pop("retry_unsafe", False)
    if not isinstance(unsafe, bool):
        raise ValueError(f"retry_unsafe must be True or False, not {unsafe!r}")  # noqa: TRY004 - as of the others
    return RequestOptions.of(filters.pop("session", None), filters), unsafe


def target_of(request: httpx2.Request) -> Target:
    """Return where a request goes, its host as it is written on the wire.

    Raises:
        httpx2.UnsupportedProtocol: The URL is neither http:// nor https://, or names no host.
    """
    url = request.url
    if url.scheme not in _SCHEMES:
        raise httpx2.UnsupportedProtocol(f"a request must be for an http:// or https:// URL, not {url.scheme!r}://")
    try:
        where = f"{url.scheme}://{url.netloc.decode('ascii')}{url.raw_path.decode('latin-1')}"
        return Target.parse(where, method=request.method)
    except ProxyURLError as exc:
        raise httpx2.UnsupportedProtocol(f"the URL names no target: {exc}") from exc
