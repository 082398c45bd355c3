"""What a client asks of the gateway itself, beside its request: who it is, which proxy it wishes, what may be repeated.

None of it travels on: `Proxy-Authorization` and `Proxywhirl-Retry` end at the gateway.
"""

from __future__ import annotations

from dataclasses import dataclass

import h11

from proxywhirl.gateway.authentication import CHALLENGE, Credentials, admitted
from proxywhirl.gateway.messages import RETRY_FIELD, Refusal
from proxywhirl.rotation.wish import NO_WISH, Wish

__all__ = ["Asked", "read_asked"]

_UNAUTHORIZED = Refusal(407, "This proxy asks for a username and a password, and got none or wrong ones.", (CHALLENGE,))
_UNSAFE = b"unsafe"


@dataclass(frozen=True, slots=True)
class Asked:
    """The wish for a proxy, and whether the request may be sent again whatever its method."""

    wish: Wish = NO_WISH
    unsafe: bool = False


def read_asked(head: h11.Request, credentials: Credentials | None) -> Asked | Refusal:
    """Read it from a request's head; a client that may not use the gateway, or asks the impossible, is refused."""
    try:
        rest = admitted(head.headers, credentials)
    except ValueError as exc:
        return Refusal(400, f"{exc}.")
    if rest is None:
        return _UNAUTHORIZED
    try:
        wish = Wish.decode(rest) if rest else NO_WISH
    except ValueError as exc:
        return Refusal(400, f"The username in Proxy-Authorization says NAME,KEY=VALUE,... and is wrong: {exc}.")
    retry = [value.lower() for name, value in head.headers if name == RETRY_FIELD]
    if retry not in ([], [_UNSAFE]):
        return Refusal(
            400, "Proxywhirl-Retry has one value, unsafe: this request may be sent again though not idempotent."
        )
    return Asked(wish, bool(retry))
