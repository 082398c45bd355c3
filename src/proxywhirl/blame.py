"""Who made a request fail, and what a failure tells beside its words."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Self

__all__ = ["Blame", "Blamed"]


class Blame(StrEnum):
    """Who made a request fail; only the first two count against a proxy."""

    PROXY = "proxy"
    ACCOUNT = "account"
    TARGET_THROUGH_PROXY = "target-through-proxy"
    TARGET = "target"
    US = "us"


class Blamed(Exception):
    """What all failures of a request through a proxy have; a class names who is at fault as `blame=`.

    `refusal` is the status and the headers with which the proxy refused a tunnel, None for any other failure. They may
    echo a credential: they are there to be decoded, never shown. `silent` says that the proxy was reached and no answer
    came in time.
    """

    blame: ClassVar[Blame] = Blame.PROXY
    refusal: tuple[int, tuple[tuple[bytes, bytes], ...]] | None = None
    silent = False

    def __init_subclass__(cls, *, blame: Blame | None = None) -> None:
        """Keep the one to blame; a class that names nobody blames whom its base does."""
        super().__init_subclass__()
        if blame is not None:
            cls.blame = blame

    def about(self, proxy: str) -> Self:
        """Return the same error with the proxy's URL before its words."""
        named = type(self)(f"{proxy} {self}")
        named.refusal, named.silent = self.refusal, self.silent
        return named
