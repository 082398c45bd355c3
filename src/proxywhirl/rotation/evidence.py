"""What is known of a response, and what was made of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxywhirl.errors import Blame

__all__ = ["Evidence", "Verdict"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What came back through a proxy.

    Attributes:
        site: Whom the request was for (`Target.site`).
        method: Of the request.
        status: Of the final response.
        headers: Of the final response, names in lower case.
        body: The first bytes of the body, decoded from no coding; `b""` where none were read.
        length: Bytes of the whole body, None where that is not known.
        latency: Seconds to the head of the response.
        at: When the head came, in Unix seconds. None leaves out what is asked for as a moment of our clock.
    """

    site: str
    method: str
    status: int
    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    length: int | None = None
    latency: float | None = None
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who is to blame: None where all is well. `rule` names why, `retry_after` is in seconds."""

    blame: Blame | None = None
    rule: str | None = None
    retry_after: float | None = None
